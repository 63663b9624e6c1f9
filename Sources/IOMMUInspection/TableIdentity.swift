import IOMMUFormats
import IOMMUTranslation

/// What makes two tables the same mappings: devices with equal identities need one look, not two.
enum TableIdentity: Hashable {
  case tce(Calgary.TCETable)
  case gatt(GART.Window)
  case secondStage(SecondStage)
  case firstStage(root: PhysicalAddress, levels: Int)
  case nested(root: PhysicalAddress, levels: Int, SecondStage)

  struct SecondStage: Hashable {
    var root: PhysicalAddress
    var levels: Int
    var addressWidth: Int

    init(_ table: VTd.SecondStageTable) {
      root = table.root
      levels = table.format.levels
      addressWidth = table.addressWidth
    }
  }

  /// `nil` for a pass-through device, which has no table.
  init?(_ table: DMATable) {
    switch table.content {
    case .tce(let table): self = .tce(table)
    case .gatt(let window): self = .gatt(window)
    case .secondStage(let table): self = .secondStage(SecondStage(table))
    case .firstStage(let table):
      self = .firstStage(root: table.root, levels: table.format.levels)
    case .nested(let tables):
      self = .nested(
        root: tables.firstStage.root, levels: tables.firstStage.format.levels,
        SecondStage(tables.secondStage))
    case .passThrough: return nil
    }
  }
}
