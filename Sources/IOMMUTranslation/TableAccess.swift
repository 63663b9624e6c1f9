import IOMMUFormats

/// Where a walk starts: the root of a tree, or a table further down that a cache remembers.
@frozen
public struct WalkStart: Hashable, Sendable {
  public var table: PhysicalAddress
  /// The level of the table's entries.
  public var level: Int
  /// What the entries above the table allow together.
  public var permissions: Permissions

  @inlinable
  public init(table: PhysicalAddress, level: Int, permissions: Permissions) {
    self.table = table
    self.level = level
    self.permissions = permissions
  }
}

/// An entry that a walk is about to use: one that leads to a table or to a page.
@frozen
public struct EntryUse: Sendable {
  /// Where the tables above say that the entry lies; a guest address when the walk is nested.
  public var place: PhysicalAddress
  /// Where it lies in memory.
  public var host: PhysicalAddress
  public var level: Int
  /// A table or a page.
  public var kind: EntryKind
  /// What all entries up to this one allow together.
  public var permissions: Permissions

  @inlinable @inline(__always)
  init(
    place: PhysicalAddress, host: PhysicalAddress, level: Int, kind: EntryKind,
    permissions: Permissions
  ) {
    self.place = place
    self.host = host
    self.level = level
    self.kind = kind
    self.permissions = permissions
  }
}

/// Whether a walk goes on with an entry.
@frozen
public enum UseOutcome: Sendable {
  /// It does; the entry's first quadword is now this one.
  case proceed(UInt64)
  /// The entry changed meanwhile: it is read again.
  case again
  /// It does not; the ``TableAccess`` knows why.
  case refused
}

/// How a walk reaches the entries of its tables, and what it sets in them.
///
/// The walker asks it twice for each entry: where it lies, and, once it is known to lead on,
/// whether it may be used. First-stage tables of a nested translation are reached through the
/// second stage here, and accessed and dirty bits are set here. A unit with caches of its own may
/// bring its own.
public protocol TableAccess {
  /// Where the entry at `place` lies in memory; `nil` refuses the walk.
  mutating func locate(
    _ place: PhysicalAddress, level: Int, observer: inout some WalkObserver
  ) -> PhysicalAddress?

  /// Whether the walk may use `entry`, after setting in it what is to be set.
  mutating func use(
    _ entry: UInt64, _ use: EntryUse, observer: inout some WalkObserver
  ) -> UseOutcome
}

/// Tables lie where their pointers say, and nothing is set in them.
@frozen
public struct PlainAccess: TableAccess {
  // As in ``Unobserved``.
  @usableFromInline let place: UInt8 = 0

  @inlinable public init() {}

  @inlinable @inline(__always)
  public mutating func locate(
    _ place: PhysicalAddress, level _: Int, observer _: inout some WalkObserver
  ) -> PhysicalAddress? { place }

  @inlinable @inline(__always)
  public mutating func use(
    _ entry: UInt64, _: EntryUse, observer _: inout some WalkObserver
  ) -> UseOutcome { .proceed(entry) }
}

/// What came of setting bits in an entry.
@frozen
public enum Marking: Sendable {
  case done
  /// Software changed the entry meanwhile.
  case changed
  /// The memory takes no stores.
  case failed
}

/// Sets accessed and dirty bits in entries, or leaves the tables as they are.
public protocol EntryMarker {
  /// Sets `bits` in the quadword at `address` when it still holds `entry`.
  func set(_ bits: UInt64, in entry: UInt64, at address: PhysicalAddress) -> Marking
}

/// Leaves no mark, as if it had: for reading dumps, and for looking without touching.
@frozen
public struct NoMarks: EntryMarker {
  @inlinable public init() {}
  @inlinable @inline(__always)
  public func set(_: UInt64, in _: UInt64, at _: PhysicalAddress) -> Marking { .done }
}

/// Sets the bits in memory, atomically: a store of software's to the same entry is never lost.
@frozen
public struct AtomicMarks<Memory: WritableMemory>: EntryMarker {
  @usableFromInline let memory: Memory
  @inlinable public init(in memory: Memory) { self.memory = memory }

  @inlinable
  public func set(_ bits: UInt64, in entry: UInt64, at address: PhysicalAddress) -> Marking {
    // Entries lie at multiples of eight in tables at multiples of 4 KiB.
    guard memory.isWritable(at: address) else { return .failed }
    let found = memory.compareExchange(at: address, expected: entry, desired: entry | bits)
    return found == nil ? .done : .changed
  }
}
