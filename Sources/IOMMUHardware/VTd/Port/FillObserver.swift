import IOMMUFormats
import IOMMUTranslation

/// Fills a port's paging-structure cache and counts entries while a walk is on its way.
struct FillObserver<Outer: WalkObserver>: WalkObserver {
  var outer: Outer
  private let caches: Pinned<PortCaches>.Reference
  private var numbers = StructureNumbers()

  init(outer: Outer, caches: Pinned<PortCaches>.Reference) {
    self.outer = outer
    self.caches = caches
  }

  /// A walk through the tables of a binding begins.
  mutating func enter(_ binding: PortBinding) { numbers = binding.structures }

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
    let number = type == VTd.FirstStageEntry.self ? numbers.outer : numbers.secondStage
    caches.value.structures.insert(PackedTable(start), level: start.level, for: address, number)
    outer.descend(to: start, for: address, through: type)
  }
}
