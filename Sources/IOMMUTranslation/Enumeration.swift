import IOMMUFormats

/// One leaf entry met while going through all of a table.
public struct Leaf: Sendable {
  /// The first address that the entry maps, relative to the table's start.
  public var address: UInt64
  /// The entry maps 2^`sizeLog2` bytes.
  public var sizeLog2: Int
  public var page: PhysicalAddress
  /// What all entries from the root allow together; empty when no access gets through.
  public var permissions: Permissions
  public var entryAddress: PhysicalAddress
  public var level: Int
}

/// Sees the tables and leaves of a whole tree, in ascending order of address.
public protocol TableVisitor {
  /// A table of `level` at `table`, reached for addresses from `address` on. Called before its
  /// entries.
  mutating func enter(table: PhysicalAddress, byteCount: UInt64, level: Int, address: UInt64)
  /// An entry that maps a page.
  mutating func leaf(_ leaf: Leaf)
  /// An entry that no walk gets past: a reserved bit, or no memory answers where the entry is. Of
  /// entries missing in a row, the first.
  mutating func obstacle(
    _ end: Walk.End, entryAddress: PhysicalAddress, level: Int, address: UInt64)
}

extension TableVisitor {
  public mutating func enter(
    table _: PhysicalAddress, byteCount _: UInt64, level _: Int, address _: UInt64
  ) {}
  public mutating func obstacle(
    _: Walk.End, entryAddress _: PhysicalAddress, level _: Int, address _: UInt64
  ) {}
}

/// How many tables an enumeration may still enter.
///
/// Tables from a broken or hostile dump may point at each other and at themselves: a walk of one
/// address always ends, but going through all of them would take 512^5 steps. An honest tree
/// enters few tables more than there are pages, so a bound in proportion to the memory ends the
/// other kind.
///
/// That bound alone is hours of work, so one tree may also not reach the same table again and
/// again: an honest one reaches each once, and a page of garbage may hold one pointer 512 times.
public struct EnumerationBudget: Sendable {
  /// How often one tree may reach one table.
  public static let reachesPerTable = 1024

  public var remainingTables: UInt64

  public init(remainingTables: UInt64) { self.remainingTables = remainingTables }

  /// 16,384 tables, and 4 for every page that may hold one: devices that share tables reach them
  /// once each, and of all pages few hold tables.
  public init(for memory: some PhysicalMemory) {
    // Safe: there are fewer than 2^52 pages.
    remainingTables = 16_384 + 4 * memory.storedPageCount
  }
}

/// The tables of one root refer to each other more often than any real ones do.
public struct EnumerationExhausted: Error, Equatable, CustomStringConvertible {
  public var root: PhysicalAddress
  public var table: PhysicalAddress
  public var level: Int
  public var description: String {
    "tables from root \(root): the table at \(table) (level \(level)) is reached too often; "
      + "they point at each other"
  }
}

extension TableFormat {
  /// Goes through every entry of the tree at `root`, below `limit` bytes of address.
  ///
  /// - Parameter limit: Addresses at and above it are left out; `nil` for the whole tree.
  /// - Complexity: O(entries of all tables reached).
  public func forEachEntry(
    from root: PhysicalAddress, in memory: some PhysicalMemory, below limit: UInt64? = nil,
    budget: inout EnumerationBudget, visitor: inout some TableVisitor
  ) throws(EnumerationExhausted) {
    var reaches: [PhysicalAddress: Int] = [:]
    try visit(
      table: root, root: root, level: levels, address: 0, permissions: .readWrite, memory: memory,
      limit: limit ?? .max, budget: &budget, reaches: &reaches, visitor: &visitor)
  }

  private func visit(
    table: PhysicalAddress, root: PhysicalAddress, level: Int, address: UInt64,
    permissions: Permissions, memory: some PhysicalMemory, limit: UInt64,
    budget: inout EnumerationBudget, reaches: inout [PhysicalAddress: Int],
    visitor: inout some TableVisitor
  ) throws(EnumerationExhausted) {
    reaches[table, default: 0] += 1
    guard budget.remainingTables > 0, reaches[table]! <= EnumerationBudget.reachesPerTable else {
      throw EnumerationExhausted(root: root, table: table, level: level)
    }
    budget.remainingTables -= 1
    let count = entryCount(level: level)
    let byteCount = UInt64(Entry.byteCount)
    visitor.enter(table: table, byteCount: count * byteCount, level: level, address: address)
    let step = UInt64(sizeLog2(level: level))
    var isAbsent = false
    for index in 0..<count {
      let place = PhysicalAddress(table.rawValue &+ index &* byteCount)
      let start = address &+ index &<< step
      guard start < limit else { return }
      guard let entry = Entry(from: memory, at: place) else {
        // One obstacle for all entries that are missing in a row: a table may be a million of them.
        if !isAbsent {
          visitor.obstacle(.unreadable, entryAddress: place, level: level, address: start)
        }
        isAbsent = true
        continue
      }
      isAbsent = false
      let allowed = permissions.intersection(self.permissions(of: entry, level: level))
      switch kind(of: entry, level: level) {
      case .empty: continue
      case .malformed:
        visitor.obstacle(.malformed, entryAddress: place, level: level, address: start)
      case .page(let page, let sizeLog2):
        visitor.leaf(
          Leaf(
            address: start, sizeLog2: sizeLog2, page: page, permissions: allowed,
            entryAddress: place, level: level))
      case .table(let lower):
        try visit(
          table: lower, root: root, level: level - 1, address: start, permissions: allowed,
          memory: memory, limit: limit, budget: &budget, reaches: &reaches, visitor: &visitor)
      }
    }
  }
}
