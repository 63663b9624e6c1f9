import IOMMUFormats

/// One leaf entry met while going through all of a table.
public struct Leaf: Sendable {
  /// The first address that the entry maps, relative to the table's start.
  public var address: UInt64
  /// The entry maps 2^`sizeLog2` bytes: all of a page, or its share where several entries in a row
  /// name one page.
  public var sizeLog2: Int
  /// The page has 2^`pageSizeLog2` bytes: ``sizeLog2``, or more where several entries name it.
  public var pageSizeLog2: Int
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

/// An entry that going through all of a table does not get past.
public struct Obstacle: Hashable, Sendable {
  public enum Cause: Hashable, Sendable {
    /// A reserved bit is set, or it points to a table that is none of the next: walks end there.
    case malformed
    /// No memory answers where the entry lies: walks end there.
    case unreadable
    /// The table leads to itself, or back to one that it was reached from. Walks go on, level by level
    /// down to the last; all of their ends together are as many as 512^4, and say nothing.
    case loop(TableLoop)
  }

  public var cause: Cause
  /// Where the entry lies; of entries missing in a row, the first.
  public var entryAddress: PhysicalAddress
  public var level: Int
  /// The first address that the entry is for, relative to the table's start.
  public var address: UInt64
  /// Bytes of address from there on that depend on it: those of all entries missing in a row.
  public var byteCount: UInt64
}

/// A table with an entry that leads back to a table above it, or to itself.
///
/// A table that is shared, reached from several places, is none: only one on the way from the root to
/// its own entry.
public struct TableLoop: Hashable, Sendable {
  /// The table that has the entry.
  public var table: PhysicalAddress
  /// The table that the entry leads to.
  public var target: PhysicalAddress

  public init(from table: PhysicalAddress, to target: PhysicalAddress) {
    self.table = table
    self.target = target
  }
}

/// Sees the tables and leaves of a whole tree, in ascending order of address.
public protocol TableVisitor {
  /// Whether a table that is about to be entered would say nothing new: it is passed by then, with all
  /// that lies below, and costs nothing. Tables that lead to each other in more ways than anybody can go
  /// are bounded by their number for who knows them again. No table is known to who does not say so.
  mutating func knows(table: PhysicalAddress, level: Int) -> Bool
  /// A table of `level` at `table`, reached for addresses from `address` on. Called before its
  /// entries.
  mutating func enter(table: PhysicalAddress, byteCount: UInt64, level: Int, address: UInt64)
  /// The same, with what all entries above the table allow together. Who does not ask need not say what
  /// becomes of it.
  mutating func enter(
    table: PhysicalAddress, byteCount: UInt64, level: Int, address: UInt64,
    permissions: Permissions)
  /// An entry that maps a page.
  mutating func leaf(_ leaf: Leaf)
  /// Entries next to each other of which each maps the page after the one before. Who is only told
  /// of single leaves need not say what becomes of a run.
  mutating func leaves(_ run: LeafRun)
  /// An entry that is not gone past: a reserved bit, no memory where the entry is, or a loop.
  mutating func obstacle(_ obstacle: Obstacle)
}

extension TableVisitor {
  public mutating func knows(table _: PhysicalAddress, level _: Int) -> Bool { false }
  public mutating func enter(
    table _: PhysicalAddress, byteCount _: UInt64, level _: Int, address _: UInt64
  ) {}
  public mutating func enter(
    table: PhysicalAddress, byteCount: UInt64, level: Int, address: UInt64,
    permissions _: Permissions
  ) {
    enter(table: table, byteCount: byteCount, level: level, address: address)
  }
  public mutating func leaves(_ run: LeafRun) {
    for index in 0..<run.count { leaf(run[index]) }
  }
  public mutating func obstacle(_: Obstacle) {}
}

/// How much an enumeration may still go through.
///
/// Tables from a broken or hostile dump may lead to each other in more ways than anybody can go. A
/// table that leads to itself is seen (``TableLoop``), but a chain of five tables, each of which
/// points to the next with all entries, is no loop and would take 512^4 steps. An honest tree
/// enters few tables more than there are pages, so a bound in proportion to the memory ends the
/// other kind.
///
/// One tree may also not reach the same table again and again. Honest ones share tables: a process
/// has a page of stacks behind thousands of entries.
public struct EnumerationBudget: Sendable {
  /// How often one tree may reach one table.
  public static let reachesPerTable = 8192

  public var remainingTables: UInt64
  /// Runs of leaves that may still be told: what they are kept in must not outgrow the memory. Below
  /// zero when the last table had more of them.
  public var remainingRuns: Int64

  public init(remainingTables: UInt64, remainingRuns: Int64 = .max) {
    self.remainingTables = remainingTables
    self.remainingRuns = remainingRuns
  }

  /// A million tables, and 4 for every page that may hold one: devices that share tables reach them
  /// once each, and of all pages few hold tables. A million runs, and as many more as those pages have
  /// entries: what they are kept in takes no more than some times the dump's own size.
  public init(for memory: some PhysicalMemory) {
    // Safe: there are fewer than 2^52 pages.
    let pages = memory.storedPageBound
    remainingTables = 1 << 20 + 4 * pages
    remainingRuns = Int64(1 << 20 + 512 * min(pages, 1 << 50))
  }

  var isExhausted: Bool { remainingTables == 0 || remainingRuns <= 0 }
}

/// A budget that several trees draw on, so that one that uses up what there is leaves the others
/// what they need.
///
/// Half of the budget is shared out evenly, the other half is for whoever needs more. Of trees so many
/// that a share is less than a small tree has, those that need it get as much from a reserve, while that
/// lasts.
public struct EnumerationShares: Sendable {
  private let assured: EnumerationBudget
  private var pool: EnumerationBudget
  private var reserve = EnumerationBudget(remainingTables: 1 << 20, remainingRuns: 1 << 20)
  /// What a tree has with the reserve: never less than ``assured``.
  private let least: EnumerationBudget
  /// What is left of all, of which no share is kept back for anybody any more.
  public private(set) var rest: EnumerationBudget

  /// What a small tree has; its runs are as many as those tables have entries.
  private static let leastTables: UInt64 = 64

  public init(_ budget: EnumerationBudget, treeCount: Int) {
    rest = budget
    let count = UInt64(max(1, treeCount))
    let tables = budget.remainingTables
    let runs = max(0, budget.remainingRuns)
    // One tree may have it all, and a budget that is smaller than a share is given to the first.
    guard count > 1 else {
      assured = EnumerationBudget(remainingTables: 0, remainingRuns: 0)
      least = assured
      pool = EnumerationBudget(remainingTables: tables, remainingRuns: runs)
      return
    }
    let small = min(Self.leastTables, tables)
    assured = EnumerationBudget(
      remainingTables: tables / 2 / count, remainingRuns: runs / 2 / Int64(count))
    least = EnumerationBudget(
      remainingTables: max(small, assured.remainingTables),
      remainingRuns: min(runs, max(Int64(small) * 512, assured.remainingRuns)))
    pool = EnumerationBudget(remainingTables: tables / 2, remainingRuns: runs / 2)
  }

  /// Goes through one tree, within its own share and what others have left of the common half.
  public mutating func spend<Result>(
    _ body: (_ budget: inout EnumerationBudget) throws -> Result
  ) rethrows -> Result {
    let own = EnumerationBudget(
      remainingTables: min(
        least.remainingTables, assured.remainingTables + reserve.remainingTables),
      remainingRuns: min(least.remainingRuns, assured.remainingRuns + reserve.remainingRuns))
    let start = EnumerationBudget(
      remainingTables: own.remainingTables + pool.remainingTables,
      remainingRuns: own.remainingRuns + pool.remainingRuns)
    var budget = start
    defer {
      // Its own first, then what is for all; of its own what is assured, then the reserve.
      let ownTables = min(own.remainingTables, start.remainingTables - budget.remainingTables)
      let ownRuns = min(own.remainingRuns, start.remainingRuns - max(0, budget.remainingRuns))
      reserve.remainingTables -=
        ownTables > assured.remainingTables ? ownTables - assured.remainingTables : 0
      reserve.remainingRuns -= max(0, ownRuns - assured.remainingRuns)
      pool.remainingTables = min(pool.remainingTables, budget.remainingTables)
      pool.remainingRuns = min(pool.remainingRuns, max(0, budget.remainingRuns))
      let tables = start.remainingTables - budget.remainingTables
      rest.remainingTables -= min(rest.remainingTables, tables)
      rest.remainingRuns =
        rest.remainingRuns
        .subtractingReportingOverflow(start.remainingRuns &- budget.remainingRuns).partialValue
    }
    return try body(&budget)
  }
}

/// The tables of one root lead to each other in more ways than any real ones do.
public struct EnumerationExhausted: Error, Hashable, CustomStringConvertible {
  public var root: PhysicalAddress
  public var table: PhysicalAddress
  public var level: Int
  /// The first address, relative to the start, that was not gone through.
  public var address: UInt64
  public var description: String {
    "tables from root \(root): the table at \(table) (level \(level)) is reached too often; "
      + "they point at each other"
  }
}
