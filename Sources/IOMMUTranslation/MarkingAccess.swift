import IOMMUFormats

/// Which bits hardware sets in the entries of a stage that it uses.
@frozen
public struct StageMarks: Hashable, Sendable {
  /// Set in every entry used; 0 when the stage keeps no marks.
  public var accessed: UInt64
  /// Set in the leaf by a write.
  public var dirty: UInt64
  /// A walk that does not snoop the processors' caches must not set anything.
  public var isSnooped: Bool

  @inlinable
  public init(accessed: UInt64, dirty: UInt64, isSnooped: Bool) {
    self.accessed = accessed
    self.dirty = dirty
    self.isSnooped = isSnooped
  }

  @inlinable
  public static var none: StageMarks { StageMarks(accessed: 0, dirty: 0, isSnooped: true) }

  @inlinable public var isNone: Bool { accessed == 0 }
}

/// Tables lie where their pointers say; accessed and dirty bits are set on the way.
@frozen
public struct MarkingAccess<Marker: EntryMarker, Reason>: TableAccess {
  public let marks: StageMarks
  /// What the entries have to allow together before D is set; `nil` when nothing is written.
  public let dirtyNeeds: Permissions?
  public let marker: Marker
  /// Why an update must not be made; `nil` in tables whose walks are always snooped.
  public let notSnooped: Reason?
  /// Why an update cannot be made.
  public let failed: Reason
  /// Why the walk was refused.
  public var refusal: Reason?
  @usableFromInline var attemptsLeft = 1000

  @inlinable
  public init(
    _ marks: StageMarks, dirtyNeeds: Permissions?, marker: Marker,
    notSnooped: Reason? = nil, failed: Reason
  ) {
    self.marks = marks
    self.dirtyNeeds = dirtyNeeds
    self.marker = marker
    self.notSnooped = notSnooped
    self.failed = failed
  }

  @inlinable @inline(__always)
  public mutating func locate(
    _ place: PhysicalAddress, level _: Int, observer _: inout some WalkObserver
  ) -> PhysicalAddress? { place }

  @inlinable
  public mutating func use(
    _ entry: UInt64, _ use: EntryUse, observer _: inout some WalkObserver
  ) -> UseOutcome {
    let bits = marks.missing(in: entry, use, dirtyNeeds: dirtyNeeds)
    guard bits != 0 else { return .proceed(entry) }
    guard marks.isSnooped else { return refuse(notSnooped ?? failed) }
    switch marker.set(bits, in: entry, at: use.host) {
    case .done: return .proceed(entry | bits)
    case .failed: return refuse(failed)
    case .changed:
      // Another thread got in between, and made progress; one that does nothing else is a fault.
      attemptsLeft -= 1
      return attemptsLeft > 0 ? .again : refuse(failed)
    }
  }

  @usableFromInline
  mutating func refuse(_ reason: Reason) -> UseOutcome {
    refusal = reason
    return .refused
  }
}

extension StageMarks {
  /// The bits that using an entry sets and that are not set yet.
  @inlinable
  func missing(in entry: UInt64, _ use: EntryUse, dirtyNeeds: Permissions?) -> UInt64 {
    var bits = accessed
    if case .page = use.kind, let dirtyNeeds, use.permissions.isSuperset(of: dirtyNeeds) {
      bits |= dirty
    }
    return bits & ~entry
  }
}
