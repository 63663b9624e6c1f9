import IOMMUFormats

/// Sees what a walk does. The empty one, ``Unobserved``, costs nothing.
///
/// A cache is filled by an observer: `read` counts entries and hands out root, context and PASID
/// entries, each with what its bits mean there; `descend` says from which lower table, with which
/// permissions, a later walk of a neighbouring address may start (``WalkStart``).
public protocol WalkObserver {
  /// An entry was read from memory.
  ///
  /// - Parameters:
  ///   - entry: What was read, before a bit is set in it.
  ///   - address: Where the entry lies in memory.
  ///   - place: The level in the page tables, or which table above them.
  ///   - index: The entry's number in its table, from 0.
  ///   - variant: What the bits of this entry mean, for whoever wants to know.
  mutating func read<Entry: TableEntry>(
    _ entry: Entry, at address: PhysicalAddress, in place: TablePlace, index: UInt64,
    as variant: @autoclosure () -> Entry.Variant)

  /// The walk of `address` goes on in a lower table.
  ///
  /// `start` is where a walk of another address that differs only in the bits below the table may
  /// start: the table, its level and what the entries above it allow together. `Entry` is the type
  /// of the tables' entries.
  mutating func descend<Entry: TableEntry>(
    to start: WalkStart, for address: UInt64, through _: Entry.Type)
}

extension WalkObserver {
  /// Does nothing.
  @inlinable @inline(__always)
  public mutating func descend<Entry: TableEntry>(
    to _: WalkStart, for _: UInt64, through _: Entry.Type
  ) {}
}

/// Watches nothing.
@frozen
public struct Unobserved: WalkObserver {
  // A byte, so that each has a place of its own: ThreadSanitizer takes what two threads hand on of an
  // empty value for one variable.
  @usableFromInline let place: UInt8 = 0

  @inlinable public init() {}
  /// Does nothing.
  @inlinable @inline(__always)
  public mutating func read<Entry: TableEntry>(
    _: Entry, at _: PhysicalAddress, in _: TablePlace, index _: UInt64,
    as _: @autoclosure () -> Entry.Variant
  ) {}
}

/// Where a walk ended.
@frozen
public struct Walk: Equatable, Sendable {
  @frozen
  public enum End: Sendable {
    /// At an entry that maps a page.
    case page
    /// At an entry that maps nothing.
    case empty
    /// At an entry with a reserved bit set.
    case malformed
    /// At an entry that skips levels whose bits of the address are not all zero.
    case skippedBits
    /// At an address where no memory answers.
    case unreadable
    /// Where the ``TableAccess`` did not let it go on; that knows why.
    case refused
  }

  public var end: End
  /// The level of the last entry.
  public var level: Int
  /// Where the last entry lies.
  public var entryAddress: PhysicalAddress
  /// The last entry's first quadword, with the bits that the walk set in it; 0 when it could not
  /// be read.
  public var entry: UInt64
  /// The page's first byte; 0 unless the walk ended at a page.
  public var page: PhysicalAddress
  /// The page has 2^`sizeLog2` bytes.
  public var sizeLog2: Int
  /// What all entries on the way allow together.
  public var permissions: Permissions

  @inlinable @inline(__always)
  init(
    _ end: End, level: Int, entryAddress: PhysicalAddress, entry: UInt64,
    permissions: Permissions, page: PhysicalAddress = PhysicalAddress(0), sizeLog2: Int = 0
  ) {
    self.end = end
    self.level = level
    self.entryAddress = entryAddress
    self.entry = entry
    self.page = page
    self.sizeLog2 = sizeLog2
    self.permissions = permissions
  }
}

extension TableFormat {
  /// Where the entry for `address` lies in the table at `table`.
  @inlinable @inline(__always)
  public func entryAddress(
    of address: UInt64, in table: PhysicalAddress, level: Int
  ) -> PhysicalAddress {
    // Tables lie below 2^52 and are at most 8 MiB long, so the sum cannot wrap.
    PhysicalAddress(
      table.rawValue &+ index(of: address, level: level)
        &* UInt64(truncatingIfNeeded: Entry.byteCount))
  }

  /// Follows `address` from the table at `root` to a page or to what stops it, and leaves no mark.
  ///
  /// Reads at most `levels` entries, each checked; never reads outside `memory`. Permissions are
  /// collected, not judged.
  @inlinable
  public func walk(
    _ address: UInt64, from root: PhysicalAddress, in memory: some PhysicalMemory,
    observer: inout some WalkObserver
  ) -> Walk {
    var access = PlainAccess()
    return walk(
      address, from: start(at: root), in: memory, through: &access, observer: &observer)
  }

  /// Where every walk from `root` starts.
  @inlinable @inline(__always)
  public func start(at root: PhysicalAddress) -> WalkStart {
    WalkStart(table: root, level: levels, permissions: unrestricted)
  }

  /// The one walker: follows `address` from a table to a page or to what stops it.
  ///
  /// - Parameters:
  ///   - address: What is looked up; that the table is for it, the unit has seen before.
  ///   - start: The root, or a lower table that a paging-structure cache remembers.
  ///   - memory: Memory that holds the tables.
  ///   - access: How entries are reached and what is set in them; ``PlainAccess`` does nothing.
  ///   - observer: Shown every entry read, and every table that the walk goes down to.
  /// - Returns: Where the walk ended. Permissions are those of `start` and of all entries read
  ///   together; they are collected, not judged.
  /// - Complexity: At most `start.level` entries read, and those again that software changes just
  ///   when a bit is to be set in them; how often, `access` bounds.
  @inlinable
  public func walk<Access: TableAccess>(
    _ address: UInt64, from start: WalkStart, in memory: some PhysicalMemory,
    through access: inout Access, observer: inout some WalkObserver
  ) -> Walk {
    var table = start.table
    var level = start.level
    var permissions = start.permissions
    while true {
      let place = entryAddress(of: address, in: table, level: level)
      guard let host = access.locate(place, level: level, observer: &observer) else {
        return Walk(.refused, level: level, entryAddress: place, entry: 0, permissions: permissions)
      }
      guard let entry = Entry(from: memory, at: host) else {
        return Walk(
          .unreadable, level: level, entryAddress: host, entry: 0, permissions: permissions)
      }
      observer.read(
        entry, at: host, in: .level(level), index: index(of: address, level: level),
        as: variant(of: entry, level: level))
      let allowed = permissions.intersection(self.permissions(of: entry, level: level))
      func ended(_ end: Walk.End) -> Walk {
        Walk(end, level: level, entryAddress: host, entry: entry.low, permissions: allowed)
      }
      let kind = self.kind(of: entry, level: level)
      let use = EntryUse(place: place, host: host, level: level, kind: kind, permissions: allowed)
      switch kind {
      case .empty:
        return ended(.empty)
      case .table(let next, let lower) where leads(from: level, to: lower):
        guard address & skippedBits(from: level, to: lower) == 0 else {
          return ended(.skippedBits)
        }
        switch access.use(entry.low, use, observer: &observer) {
        case .again: continue
        case .refused: return ended(.refused)
        case .proceed: break
        }
        table = next
        level = lower
        permissions = allowed
        observer.descend(
          to: WalkStart(table: next, level: level, permissions: allowed), for: address,
          through: Entry.self)
      case .malformed, .table:
        return ended(.malformed)
      case .page(let page, let sizeLog2, _):
        switch access.use(entry.low, use, observer: &observer) {
        case .again: continue
        case .refused: return ended(.refused)
        case .proceed(let marked):
          return Walk(
            .page, level: level, entryAddress: host, entry: marked, permissions: allowed,
            page: page, sizeLog2: sizeLog2)
        }
      }
    }
  }
}
