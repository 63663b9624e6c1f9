import IOMMUFormats
import IOMMUTranslation

/// What makes two tables the same mappings: devices with equal identities need one look, not two.
enum TableIdentity: Hashable {
  case tce(TCETable)
  case gatt(GARTWindow)
  case secondStage(root: PhysicalAddress, levels: Int, addressWidth: Int)

  /// `nil` for a pass-through device, which has no table.
  init?(_ table: DMATable) {
    switch table.content {
    case .tce(let table): self = .tce(table)
    case .gatt(let window): self = .gatt(window)
    case .secondStage(let table):
      self = .secondStage(
        root: table.root, levels: table.format.levels, addressWidth: table.addressWidth)
    case .passThrough: return nil
    }
  }
}
