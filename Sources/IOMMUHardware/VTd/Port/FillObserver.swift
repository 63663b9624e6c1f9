import IOMMUFormats
import IOMMUTranslation

/// Fills a port's paging-structure cache and counts entries while a walk is on its way.
struct FillObserver<Outer: WalkObserver>: WalkObserver {
  var outer: Outer
  private let caches: Pinned<PortCaches>.Reference
  private var domainID: UInt16 = 0
  private var pasid = PASID(0)
  private var firstStageRoot = PhysicalAddress(0)
  private var secondStageRoot = PhysicalAddress(0)

  init(outer: Outer, caches: Pinned<PortCaches>.Reference) {
    self.outer = outer
    self.caches = caches
  }

  /// A walk through these tables begins.
  mutating func enter(_ table: Table, of space: AddressSpace) {
    domainID = space.domainID
    pasid = space.pasid
    switch table {
    case .secondStage(let table): secondStageRoot = table.root
    case .firstStage(let table): firstStageRoot = table.root
    case .nested(let tables):
      firstStageRoot = tables.firstStage.root
      secondStageRoot = tables.secondStage.root
    default: break
    }
  }

  mutating func read<Entry: TableEntry>(
    _ entry: Entry, at address: PhysicalAddress, in place: TablePlace, index: UInt64,
    as variant: @autoclosure () -> Entry.Variant
  ) {
    caches.value.entriesRead.count(place, isFirstStage: Entry.self == VTd.FirstStageEntry.self)
    outer.read(entry, at: address, in: place, index: index, as: variant())
  }

  mutating func descend<Entry: TableEntry>(
    to start: WalkStart, for address: UInt64, through type: Entry.Type
  ) {
    let isFirstStage = type == VTd.FirstStageEntry.self
    caches.value.keep(
      start, for: address, in: isFirstStage ? firstStageRoot : secondStageRoot,
      domainID: domainID, pasid: isFirstStage ? pasid : nil)
    outer.descend(to: start, for: address, through: type)
  }
}
