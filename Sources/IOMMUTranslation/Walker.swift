import IOMMUFormats

/// Sees each entry that a walk reads. The empty one, ``Unobserved``, costs nothing.
public protocol WalkObserver {
  mutating func read(_ entry: some TableEntry, at address: PhysicalAddress, level: Int)
}

/// Watches nothing.
@frozen
public struct Unobserved: WalkObserver {
  @inlinable public init() {}
  @inlinable @inline(__always)
  public mutating func read(_: some TableEntry, at _: PhysicalAddress, level _: Int) {}
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
    /// At an address where no memory answers.
    case unreadable
  }

  public var end: End
  /// The level of the last entry.
  public var level: Int
  /// Where the last entry lies.
  public var entryAddress: PhysicalAddress
  /// The last entry's first quadword; 0 when it could not be read.
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

  /// The one walker: follows `address` from the table at `root` to a page or to what stops it.
  ///
  /// Reads at most `levels` entries, each checked; never reads outside `memory`. Permissions are
  /// collected, not judged.
  @inlinable
  public func walk(
    _ address: UInt64, from root: PhysicalAddress, in memory: some PhysicalMemory,
    observer: inout some WalkObserver
  ) -> Walk {
    var table = root
    var level = levels
    var permissions = Permissions.readWrite
    while true {
      let place = entryAddress(of: address, in: table, level: level)
      guard let entry = Entry(from: memory, at: place) else {
        return Walk(
          .unreadable, level: level, entryAddress: place, entry: 0, permissions: permissions)
      }
      observer.read(entry, at: place, level: level)
      permissions.formIntersection(self.permissions(of: entry, level: level))
      switch kind(of: entry, level: level) {
      case .empty:
        return Walk(
          .empty, level: level, entryAddress: place, entry: entry.low, permissions: permissions)
      case .table(let next) where level > 1:
        table = next
        level &-= 1
      case .malformed, .table:
        return Walk(
          .malformed, level: level, entryAddress: place, entry: entry.low, permissions: permissions)
      case .page(let page, let sizeLog2):
        return Walk(
          .page, level: level, entryAddress: place, entry: entry.low, permissions: permissions,
          page: page, sizeLog2: sizeLog2)
      }
    }
  }
}
