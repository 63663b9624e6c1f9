import IOMMUFormats

/// One leaf entry met while going through all of a table.
public struct Leaf: Sendable {
  /// The first address that the entry maps, relative to the table's start.
  public var address: UInt64
  /// The entry maps 2^`sizeLog2` bytes: all of a page, or its share where several entries in a row
  /// name one page.
  public var sizeLog2: Int
  /// Where the first of these bytes lies.
  public var page: PhysicalAddress
  /// What all entries from the root allow together; empty when no access gets through.
  public var permissions: Permissions
  public var entryAddress: PhysicalAddress
  public var level: Int
}

/// Leaves next to each other in one table: address and page both go on, with the same permissions.
public struct LeafRun: Sendable {
  public var first: Leaf
  /// At least 1.
  public var count: UInt64
  /// Bytes from one entry to the next.
  public var entryByteCount: UInt64

  /// One of the leaves, from 0.
  ///
  /// - Precondition: `index` is below ``count``.
  public subscript(index: UInt64) -> Leaf {
    precondition(index < count, "a run has no more leaves than it counts")
    var leaf = first
    // Safe: the entries lie in one table, and their pages below 2^52.
    leaf.address &+= index &<< UInt64(first.sizeLog2)
    leaf.page = PhysicalAddress(first.page.rawValue &+ index &<< UInt64(first.sizeLog2))
    leaf.entryAddress = PhysicalAddress(first.entryAddress.rawValue &+ index &* entryByteCount)
    return leaf
  }

  /// Bytes that all leaves map together.
  public var byteCount: UInt64 { count &<< UInt64(first.sizeLog2) }
}

/// What no walk gets past, met while going through all of a table.
public struct Obstacle: Hashable, Sendable {
  /// Why walks end there: `malformed` or `unreadable`.
  public var end: Walk.End
  /// Where the entry lies; of entries missing in a row, the first.
  public var entryAddress: PhysicalAddress
  public var level: Int
  /// The first address that the entry is for, relative to the table's start.
  public var address: UInt64
  /// Bytes of address from there on that walks end there for: those of all entries missing in a row.
  public var byteCount: UInt64
}

/// Sees the tables and leaves of a whole tree, in ascending order of address.
public protocol TableVisitor {
  /// A table of `level` at `table`, reached for addresses from `address` on. Called before its
  /// entries.
  mutating func enter(table: PhysicalAddress, byteCount: UInt64, level: Int, address: UInt64)
  /// An entry that maps a page.
  mutating func leaf(_ leaf: Leaf)
  /// Entries next to each other of which each maps the page after the one before. Who is only told
  /// of single leaves need not say what becomes of a run.
  mutating func leaves(_ run: LeafRun)
  /// An entry that no walk gets past: a reserved bit, or no memory answers where the entry is.
  mutating func obstacle(_ obstacle: Obstacle)
}

extension TableVisitor {
  public mutating func enter(
    table _: PhysicalAddress, byteCount _: UInt64, level _: Int, address _: UInt64
  ) {}
  public mutating func leaves(_ run: LeafRun) {
    for index in 0..<run.count { leaf(run[index]) }
  }
  public mutating func obstacle(_: Obstacle) {}
}

/// How many tables an enumeration may still enter.
///
/// Tables from a broken or hostile dump may point at each other and at themselves: a walk of one
/// address always ends, but going through all of them would take 512^5 steps. An honest tree
/// enters few tables more than there are pages, so a bound in proportion to the memory ends the
/// other kind.
///
/// One tree may also not reach the same table again and again. Honest ones share tables: a process
/// has a page of stacks behind thousands of entries.
public struct EnumerationBudget: Sendable {
  /// How often one tree may reach one table.
  public static let reachesPerTable = 8192

  public var remainingTables: UInt64

  public init(remainingTables: UInt64) { self.remainingTables = remainingTables }

  /// A million tables, and 4 for every page that may hold one: devices that share tables reach them
  /// once each, and of all pages few hold tables.
  public init(for memory: some PhysicalMemory) {
    // Safe: there are fewer than 2^52 pages.
    remainingTables = 1 << 20 + 4 * memory.storedPageCount
  }
}

/// The tables of one root refer to each other more often than any real ones do.
public struct EnumerationExhausted: Error, Hashable, CustomStringConvertible {
  public var root: PhysicalAddress
  public var table: PhysicalAddress
  public var level: Int
  public var description: String {
    "tables from root \(root): the table at \(table) (level \(level)) is reached too often; "
      + "they point at each other"
  }
}
