import IOMMUFormats

/// A tree of page tables: where it begins, and how it is laid out.
struct TableTree<Format: WritableTableFormat> {
  var format: Format
  var root: PhysicalAddress
}

/// What builders of all units have in common: memory, the pages that tables lie in, and the one way to change
/// page tables.
final class TableStore<Memory: WritableMemory> {
  let memory: Memory
  private let allocator: any TableAllocator
  /// The allocator where it is the store's own: it keeps away from what devices reach.
  private let pool: TablePool?
  /// Pages that tables lie in, by their numbers.
  private(set) var tablePages: Set<UInt64> = []
  /// Devices may reach tables.
  var allowsMappingTables = false

  /// - Parameter limit: Tables lie below this address; of the store's own pages alone.
  init(
    _ memory: Memory, _ allocator: (any TableAllocator)?, below limit: PhysicalAddress
  ) {
    self.memory = memory
    pool = allocator == nil ? TablePool(memory.backedRanges, below: limit) : nil
    self.allocator = allocator ?? pool!
  }

  /// A table of zeros.
  func allocate(
    _ what: String, byteCount: UInt64 = 4096, alignment: UInt64 = 4096
  ) throws(TablesError) -> PhysicalAddress {
    guard let table = allocator.allocate(byteCount: byteCount, alignment: alignment) else {
      throw .noRoom(what: what, byteCount: byteCount)
    }
    guard table.isAligned(to: alignment), memory.isWritable(table, byteCount: byteCount) else {
      throw .badAllocation(table, what: what)
    }
    memory.zero(at: table, byteCount: byteCount)
    for page in 0..<byteCount / 4096 { tablePages.insert(table.pageNumber + page) }
    return table
  }

  /// Where an entry of a table lies that another entry leads to. Memory is not the builder's alone, and what an
  /// entry says may not be what it said.
  ///
  /// - Parameters:
  ///   - entry: The entry's first byte; entries lie in one page.
  ///   - what: What the table is.
  /// - Returns: `entry`.
  func checked(_ entry: PhysicalAddress, of what: String) throws(TablesError) -> PhysicalAddress {
    guard tablePages.contains(entry.pageNumber) else { throw .changedTable(entry, what: what) }
    return entry
  }

  func free(_ table: PhysicalAddress, byteCount: UInt64 = 4096) {
    for page in 0..<byteCount / 4096 { tablePages.remove(table.pageNumber + page) }
    allocator.free(table..<PhysicalAddress(table.rawValue + byteCount))
  }

  func makeTree<Format: WritableTableFormat>(
    _ format: Format
  ) throws(TablesError) -> TableTree<Format> {
    TableTree(format: format, root: try allocate(Format.tableName))
  }

  /// Lets no table lie in what devices are about to reach.
  func keepClear(of range: Range<PhysicalAddress>) throws(TablesError) {
    guard !allowsMappingTables else { return }
    guard !holdsTables(range) else { throw .holdsTables(range) }
    pool?.avoid(range)
  }

  /// Maps memory of the machine's.
  ///
  /// - Parameter isOver: Also where something is mapped.
  func map<Format: WritableTableFormat>(
    _ range: Range<PhysicalAddress>, at iova: IOVA, _ permissions: Permissions,
    _ attributes: PageAttributes?, _ sizes: PageSizes, isOver: Bool, in tree: TableTree<Format>
  ) throws(TablesError) {
    try keepClear(of: range)
    try map(
      range, at: iova, permissions, attributes, sizes, isOver: isOver, in: tree, within: memory,
      release: { self.free($0) }, allocateTable: { try? self.allocate(Format.tableName) })
  }

  /// Maps a page that holds a guest's table: no memory of its devices', and reached by hardware this way.
  func map<Format: WritableTableFormat>(
    tablePage: Range<PhysicalAddress>, at iova: IOVA, in tree: TableTree<Format>
  ) throws(TablesError) {
    try map(
      tablePage, at: iova, .readWrite, nil, .smallest, isOver: false, in: tree, within: memory,
      release: { self.free($0) }, allocateTable: { try? self.allocate(Format.tableName) })
  }

  /// Maps what `range` means in `memory`, which holds the tables: a guest's or the machine's.
  func map<Format: WritableTableFormat, Tables: WritableMemory>(
    _ range: Range<PhysicalAddress>, at iova: IOVA, _ permissions: Permissions,
    _ attributes: PageAttributes?, _ sizes: PageSizes, isOver: Bool, in tree: TableTree<Format>,
    within memory: Tables, release: (PhysicalAddress) -> Void,
    allocateTable: () -> PhysicalAddress?
  ) throws(TablesError) {
    guard !permissions.isDisjoint(with: .readWrite) else {
      throw .mapping(.permissionsNotExpressible(permissions, tables: Format.tableName))
    }
    try inTables { () throws(TableMappingError) in
      if isOver {
        try tree.format.remap(
          range, at: iova, permissions, attributes: attributes, sizes: sizes, root: tree.root,
          in: memory, release: release, allocateTable: allocateTable)
      } else {
        try tree.format.map(
          range, at: iova, permissions, attributes: attributes, sizes: sizes, root: tree.root,
          in: memory, release: release, allocateTable: allocateTable)
      }
    }
  }

  func unmap<Format: WritableTableFormat>(
    _ range: Range<IOVA>, partly: PartlyChangedPage, in tree: TableTree<Format>
  ) throws(TablesError) {
    try inTables { () throws(TableMappingError) in
      try tree.format.unmap(
        range, partly: partly, root: tree.root, in: memory, release: { self.free($0) },
        allocateTable: { try? self.allocate(Format.tableName) })
    }
  }

  /// Gives all tables of a tree back.
  func free<Format: WritableTableFormat>(_ tree: TableTree<Format>) {
    for addresses in tree.format.addresses {
      TableEditor(format: tree.format, memory: memory, root: tree.root)
        .clearAll(addresses, release: { self.free($0) })
    }
    free(tree.root)
  }

  private func holdsTables(_ range: Range<PhysicalAddress>) -> Bool {
    // Nobody has looked at the range yet: it may end anywhere.
    guard !range.isEmpty else { return false }
    let pages = range.lowerBound.pageNumber...(range.upperBound.rawValue - 1) >> 12
    guard pages.count > tablePages.count else { return pages.contains(where: tablePages.contains) }
    return tablePages.contains(where: pages.contains)
  }
}
