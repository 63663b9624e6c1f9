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

  mutating func read(_ entry: some TableEntry, at address: PhysicalAddress, level: Int) {
    caches.pointee.entriesRead.count(
      level: level, isFirstStage: entry is VTd.FirstStageEntry)
    outer.read(entry, at: address, level: level)
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
