import IOMMUFormats

/// Reaches first-stage entries through the second stage, and sets their accessed and dirty bits
/// where the second stage lets them be written.
@frozen
public struct NestedAccess<Memory: PhysicalMemory, Marker: EntryMarker>: TableAccess {
  public let tables: VTd.NestedTables
  public let memory: Memory
  public let marker: Marker
  /// Why the walk was refused.
  public var refusal: VTd.FaultReason?
  /// What the second stage says of the page that holds the entry located last.
  @usableFromInline var entryPage: MappedPage?
  /// The entry used last: the leaf, when the walk has ended at a page.
  @usableFromInline var lastUse: EntryUse?
  @usableFromInline var attemptsLeft = 1000

  @inlinable
  public init(_ tables: VTd.NestedTables, memory: Memory, marker: Marker) {
    self.tables = tables
    self.memory = memory
    self.marker = marker
  }

  @inlinable
  public mutating func locate(
    _ place: PhysicalAddress, level: Int, observer: inout some WalkObserver
  ) -> PhysicalAddress? {
    let table = tables.secondStage
    switch table.page(
      of: place.rawValue, for: .read, writes: false, in: memory, marker: marker,
      observer: &observer)
    {
    case .fault(let reason):
      refusal = reason
      return nil
    case .page(let page):
      entryPage = page
      // Under SSADE every access to a first-stage entry counts as a write (assumed: with the fault
      // numbers of the read).
      let needs: Permissions = table.marks.isNone ? .read : .readWrite
      guard page.secondStage.isSuperset(of: needs) else {
        refusal =
          page.secondStage.isDisjoint(with: .readWrite)
          ? .secondStageEntryNotPresent
          : level == tables.firstStage.format.levels
            ? .firstStageRootNotPermitted : .firstStageTableNotPermitted
        return nil
      }
      return IOMMUTranslation.place(place.rawValue, in: page.page, sizeLog2: page.sizeLog2)
    }
  }

  @inlinable
  public mutating func use(
    _ entry: UInt64, _ use: EntryUse, observer: inout some WalkObserver
  ) -> UseOutcome {
    let address: PhysicalAddress
    switch use.kind {
    case .table(let table, _): address = table
    case .page(let page, _, _): address = page
    case .empty, .malformed: return .refused
    }
    guard tables.secondStage.reaches(address.rawValue) else {
      refusal = .guestAddressBeyondWidth
      return .refused
    }
    lastUse = use
    return set(
      tables.firstStage.marks.missing(in: entry, use, dirtyNeeds: nil), in: entry, use,
      observer: &observer)
  }

  /// Sets D in the leaf that `walk` ended at.
  @inlinable
  mutating func markDirty(_ walk: Walk, observer: inout some WalkObserver) -> UseOutcome {
    guard let lastUse else { return .refused }
    return set(
      tables.firstStage.marks.dirty & ~walk.entry, in: walk.entry, lastUse, observer: &observer)
  }

  @inlinable
  mutating func set(
    _ bits: UInt64, in entry: UInt64, _ use: EntryUse, observer: inout some WalkObserver
  ) -> UseOutcome {
    guard bits != 0 else { return .proceed(entry) }
    guard tables.firstStage.marks.isSnooped else {
      refusal = .firstStageUpdateNotSnooped
      return .refused
    }
    guard let entryPage, entryPage.secondStage.isSuperset(of: .readWrite) else {
      refusal = .firstStageUpdateNotPermitted
      return .refused
    }
    if !entryPage.isDirty {
      let table = tables.secondStage
      let outcome = table.page(
        of: use.place.rawValue, for: .write, writes: true, in: memory, marker: marker,
        observer: &observer)
      if case .fault(let reason) = outcome {
        refusal = reason
        return .refused
      }
    }
    switch marker.set(bits, in: entry, at: use.host) {
    case .done: return .proceed(entry | bits)
    case .changed where attemptsLeft > 0:
      attemptsLeft -= 1
      return .again
    case .changed, .failed:
      refusal = .firstStageUpdateFailed
      return .refused
    }
  }
}
