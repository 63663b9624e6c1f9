import IOMMUFormats

extension TableFormat {
  /// Goes through every entry of the tree at `root`, below `limit` bytes of address.
  ///
  /// Entries are read where they lie when the memory has them in place, else in copies of a page
  /// each; where a page is not all there, one by one.
  ///
  /// - Parameter limit: Addresses at and above it are left out; `nil` for the whole tree.
  /// - Complexity: O(entries of all tables reached).
  @inline(__always)
  public func forEachEntry(
    from root: PhysicalAddress, in memory: some PhysicalMemory, below limit: UInt64? = nil,
    budget: inout EnumerationBudget, visitor: inout some TableVisitor
  ) throws(EnumerationExhausted) {
    var tour = TableTour(
      memory, root: root, levels: levels, limit: limit ?? .max, budget: budget)
    defer { budget = tour.finish() }
    try tour.visit(
      root, of: self, level: levels, address: 0, permissions: unrestricted, visitor: &visitor)
  }
}

/// An enumeration under way.
///
/// It knows the memory by its protocol alone and asks it for a page or more at a time, so that what
/// is done for each entry is compiled for one format and one visitor.
struct TableTour {
  private let memory: any PhysicalMemory
  private let root: PhysicalAddress
  private let limit: UInt64
  private var budget: EnumerationBudget
  private var reaches = ReachCounts()
  /// A page for each level, to copy entries into: those of a table are still being looked at while
  /// the tables below it are.
  private let copies: UnsafeMutableRawBufferPointer

  init(
    _ memory: any PhysicalMemory, root: PhysicalAddress, levels: Int, limit: UInt64,
    budget: EnumerationBudget
  ) {
    self.memory = memory
    self.root = root
    self.limit = limit
    self.budget = budget
    copies = .allocate(byteCount: levels * Self.pageByteCount, alignment: 8)
  }

  private static var pageByteCount: Int { Int(PageCount.pageByteCount) }

  /// Ends it: what is left of the budget.
  consuming func finish() -> EnumerationBudget {
    copies.deallocate()
    return budget
  }

  /// Where a table stands in the tree.
  private struct Place {
    var table: PhysicalAddress
    var level: Int
    /// The first address that it is for, and what the entries above allow together.
    var address: UInt64
    var permissions: Permissions
  }

  mutating func visit<Format: TableFormat>(
    _ table: PhysicalAddress, of format: Format, level: Int, address: UInt64,
    permissions: Permissions, visitor: inout some TableVisitor
  ) throws(EnumerationExhausted) {
    // Only a root may lie anywhere else than at a multiple of 4 KiB; no entry leads to it then.
    guard budget.remainingTables > 0,
      !table.isAligned(to: 4096)
        || reaches.add(page: table.pageNumber) <= EnumerationBudget.reachesPerTable
    else { throw EnumerationExhausted(root: root, table: table, level: level) }
    budget.remainingTables -= 1
    let size = Format.Entry.byteCount
    let count = format.entryCount(level: level)
    visitor.enter(table: table, byteCount: count * UInt64(size), level: level, address: address)
    guard address < limit else { return }
    let end = min(count, (limit - 1 - address) >> UInt64(format.sizeLog2(level: level)) + 1)
    let place = Place(table: table, level: level, address: address, permissions: permissions)
    var index: UInt64 = 0
    // One obstacle for all entries that are missing in a row: a table may be a million.
    var firstMissing: UInt64?
    func tellMissing() {
      guard let first = firstMissing else { return }
      firstMissing = nil
      let span = UInt64(format.sizeLog2(level: level))
      visitor.obstacle(
        Obstacle(
          end: .unreadable,
          entryAddress: PhysicalAddress(table.rawValue &+ first &* UInt64(size)), level: level,
          address: address &+ first &<< span, byteCount: (index - first) &<< span))
    }
    while index < end {
      let start = PhysicalAddress(table.rawValue &+ index &* UInt64(size))
      if let bytes = entries(at: start, upTo: end - index, size: size, level: level) {
        tellMissing()
        try visit(bytes, from: &index, of: format, at: place, visitor: &visitor)
        continue
      }
      // One by one to the end of the page.
      let pageEnd = index + max(1, (PageCount.pageByteCount - start.offsetInPage) / UInt64(size))
      while index < min(end, pageEnd) {
        let start = PhysicalAddress(table.rawValue &+ index &* UInt64(size))
        if let entry = Format.Entry(from: memory, at: start) {
          tellMissing()
          try take(
            format.row(of: entry, level: level), index, of: format, at: place, visitor: &visitor)
        } else if firstMissing == nil {
          firstMissing = index
        }
        index += 1
      }
    }
    tellMissing()
  }

  /// Goes through entries that lie together in this process, row by row.
  @inline(__always)
  private mutating func visit<Format: TableFormat>(
    _ bytes: UnsafeRawBufferPointer, from index: inout UInt64, of format: Format, at place: Place,
    visitor: inout some TableVisitor
  ) throws(EnumerationExhausted) {
    var rest = bytes
    while !rest.isEmpty {
      let row = format.row(in: rest, level: place.level)
      rest = UnsafeRawBufferPointer(
        start: rest.baseAddress! + row.count * Format.Entry.byteCount,
        count: rest.count - row.count * Format.Entry.byteCount)
      if place.level == 2, !rest.isEmpty { prefetchTable(rest, of: format) }
      try take(row, index, of: format, at: place, visitor: &visitor)
      index += UInt64(row.count)
    }
  }

  /// Asks for the first lines of the last-level table that the first of `entries` leads to: tables
  /// lie in no order that the processor could guess, and once in one it sees where it goes on.
  private func prefetchTable<Format: TableFormat>(
    _ entries: UnsafeRawBufferPointer, of format: Format
  ) {
    let entry = Format.Entry(low: EntryWords(entries, of: Format.Entry.self)[0], high: 0)
    guard case .table(let table, _) = format.kind(of: entry, level: 2),
      let bytes = memory.bytesInPlace(from: table)
    else { return }
    EntryWords.prefetch(UnsafeRawBufferPointer(rebasing: bytes.prefix(512)))
  }

  /// Tells the visitor of entries from `index` on.
  @inline(__always)
  private mutating func take<Format: TableFormat>(
    _ row: EntryRow, _ index: UInt64, of format: Format, at place: Place,
    visitor: inout some TableVisitor
  ) throws(EnumerationExhausted) {
    let size = UInt64(Format.Entry.byteCount)
    let entryAddress = PhysicalAddress(place.table.rawValue &+ index &* size)
    let address = place.address &+ index &<< UInt64(format.sizeLog2(level: place.level))
    let permissions = place.permissions.intersection(row.permissions)
    switch row.kind {
    case .empty: break
    case .table(let lower, let level) where format.leads(from: place.level, to: level):
      // A table that skips levels is for the first addresses of its entry's: others end there.
      try visit(
        lower, of: format, level: level, address: address, permissions: permissions,
        visitor: &visitor)
    case .malformed, .table:
      visitor.obstacle(
        Obstacle(
          end: .malformed, entryAddress: entryAddress, level: place.level, address: address,
          byteCount: 1 &<< UInt64(format.sizeLog2(level: place.level))))
    case .page(let page, let sizeLog2, let spanLog2):
      let offset = address & (1 &<< UInt64(sizeLog2) &- 1 &<< UInt64(spanLog2))
      visitor.leaves(
        LeafRun(
          first: Leaf(
            address: address, sizeLog2: spanLog2,
            page: PhysicalAddress(page.rawValue | offset), permissions: permissions,
            entryAddress: entryAddress, level: place.level), count: UInt64(row.count),
          entryByteCount: size))
    }
  }

  /// Up to `count` entries from `start` on, whole and at multiples of their size in this process:
  /// those that lie in place, or a copy of those in this page; `nil` where some are missing.
  private func entries(
    at start: PhysicalAddress, upTo count: UInt64, size: Int, level: Int
  ) -> UnsafeRawBufferPointer? {
    // Wider entries are read in several pieces, and in order. Safe: tables have at most 8 MiB.
    guard size <= 8 else { return nil }
    let wanted = Int(count) * size
    if let bytes = memory.bytesInPlace(from: start), bytes.count >= size,
      UInt(bitPattern: bytes.baseAddress) % UInt(size) == 0
    {
      return UnsafeRawBufferPointer(
        start: bytes.baseAddress, count: min(bytes.count / size * size, wanted))
    }
    let inPage = min(wanted, (Self.pageByteCount - Int(start.offsetInPage)) / size * size)
    let copy = UnsafeMutableRawBufferPointer(
      start: copies.baseAddress! + (level - 1) * Self.pageByteCount, count: inPage)
    guard inPage > 0, memory.read(at: start, into: copy) == inPage else { return nil }
    return UnsafeRawBufferPointer(copy)
  }
}
