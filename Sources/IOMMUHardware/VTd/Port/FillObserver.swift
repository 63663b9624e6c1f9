import IOMMUFormats
import IOMMUTranslation

/// Fills a port's paging-structure cache and counts entries while a walk is on its way.
struct FillObserver<Outer: WalkObserver>: WalkObserver {
  var outer: Outer
  let caches: UnsafeMutablePointer<PortCaches>
  var domainID: UInt16 = 0
  var pasid = PASID(0)
  var firstStageRoot = PhysicalAddress(0)
  var secondStageRoot = PhysicalAddress(0)

  mutating func read<Entry: TableEntry>(
    _ entry: Entry, at address: PhysicalAddress, in place: TablePlace, index: UInt64,
    as variant: @autoclosure () -> Entry.Variant
  ) {
    caches.pointee.entriesRead.count(place, isFirstStage: Entry.self == VTd.FirstStageEntry.self)
    outer.read(entry, at: address, in: place, index: index, as: variant())
  }

  mutating func descend<Entry: TableEntry>(
    to start: WalkStart, for address: UInt64, through type: Entry.Type
  ) {
    let isFirstStage = type == VTd.FirstStageEntry.self
    caches.pointee.keep(
      start, for: address, in: isFirstStage ? firstStageRoot : secondStageRoot,
      domainID: domainID, pasid: isFirstStage ? pasid : nil)
    outer.descend(to: start, for: address, through: type)
  }
}
