import IOMMUFormats

extension TableFormat {
  /// Goes through every entry of the tree at `root`, below `limit` bytes of address.
  ///
  /// Entries are read where they lie when the memory has them in place, else in copies of a page
  /// each; where a page is not all there, one by one.
  ///
  /// - Parameters:
  ///   - root: The uppermost table's first byte.
  ///   - memory: Memory that holds the tables.
  ///   - limit: Addresses at and above it are left out; `nil` for the whole tree.
  ///   - budget: What may still be entered and told; less by what was, also when it is exhausted.
  ///   - visitor: Told of every table, leaf and obstacle.
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
  /// The tables from the root to the one that is looked at.
  private var path: [PhysicalAddress] = []
  private let copies: PageCopies

  init(
    _ memory: any PhysicalMemory, root: PhysicalAddress, levels: Int, limit: UInt64,
    budget: EnumerationBudget
  ) {
    self.memory = memory
    self.root = root
    self.limit = limit
    self.budget = budget
    path.reserveCapacity(levels)
    copies = PageCopies(levels: levels)
  }

  /// Tables after which what was looked at is forgotten; a look brings 64 KiB into the process.
  private static var forgottenTables: UInt64 { 256 }

  private static var pageByteCount: Int { Int(PageCount.pageByteCount) }

  /// Ends it: what is left of the budget.
  consuming func finish() -> EnumerationBudget { budget }

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
    guard !visitor.knows(table: table, level: level) else { return }
    // Only a root may lie anywhere else than at a multiple of 4 KiB; no entry leads to it then.
    guard !budget.isExhausted,
      !table.isAligned(to: 4096)
        || reaches.add(page: table.pageNumber) <= EnumerationBudget.reachesPerTable
    else {
      throw EnumerationExhausted(root: root, table: table, level: level, address: address)
    }
    budget.remainingTables -= 1
    if budget.remainingTables % Self.forgottenTables == 0 { memory.forgetLooks() }
    path.append(table)
    defer { path.removeLast() }
    let size = Format.Entry.byteCount
    let count = format.entryCount(level: level)
    visitor.enter(
      table: table, byteCount: count * UInt64(size), level: level, address: address,
      permissions: permissions)
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
          cause: .unreadable,
          entryAddress: PhysicalAddress(table.rawValue &+ first &* UInt64(size)), level: level,
          address: address &+ first &<< span, byteCount: (index - first) &<< span))
    }
    while index < end {
      let start = PhysicalAddress(table.rawValue &+ index &* UInt64(size))
      // Safe: bytes in place are there as long as the memory, copies as long as the tour.
      if let bytes = unsafe entries(at: start, upTo: end - index, size: size, level: level) {
        tellMissing()
        try unsafe visit(bytes, from: &index, of: format, at: place, visitor: &visitor)
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
    // Safe: `bytes` are whole entries, and a part of them without some rows still is.
    var rest = unsafe bytes
    while rest.count > 0 {
      let row = unsafe format.row(in: rest, level: place.level)
      let byteCount = row.count * Format.Entry.byteCount
      unsafe rest = UnsafeRawBufferPointer(
        start: rest.baseAddress! + byteCount, count: rest.count - byteCount)
      if place.level == 2, rest.count > 0 { unsafe prefetchTable(rest, of: format) }
      try take(row, index, of: format, at: place, visitor: &visitor)
      index += UInt64(row.count)
    }
  }

  /// Asks for the first lines of the last-level table that the first of `entries` leads to: tables
  /// lie in no order that the processor could guess, and once in one it sees where it goes on.
  private func prefetchTable<Format: TableFormat>(
    _ entries: UnsafeRawBufferPointer, of format: Format
  ) {
    // Safe: `entries` are whole ones, and what lies in place is there as long as the memory.
    let entry = unsafe Format.Entry(low: EntryWords(entries, of: Format.Entry.self)[0], high: 0)
    guard case .table(let table, _) = format.kind(of: entry, level: 2),
      let bytes = unsafe memory.bytesInPlace(from: table)
    else { return }
    unsafe EntryWords.prefetch(UnsafeRawBufferPointer(rebasing: bytes.prefix(512)))
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
    func obstacle(_ cause: Obstacle.Cause) -> Obstacle {
      Obstacle(
        cause: cause, entryAddress: entryAddress, level: place.level, address: address,
        byteCount: 1 &<< UInt64(format.sizeLog2(level: place.level)))
    }
    switch row.kind {
    case .empty: break
    case .table(let lower, let level) where format.leads(from: place.level, to: level):
      guard !path.contains(lower) else {
        budget.remainingRuns &-= 1
        visitor.obstacle(obstacle(.loop(TableLoop(from: place.table, to: lower))))
        return
      }
      // A table that skips levels is for the first addresses of its entry's: others end there.
      try visit(
        lower, of: format, level: level, address: address, permissions: permissions,
        visitor: &visitor)
    case .malformed, .table: visitor.obstacle(obstacle(.malformed))
    case .page(let page, let sizeLog2, let spanLog2):
      budget.remainingRuns &-= 1
      let offset = address & (1 &<< UInt64(sizeLog2) &- 1 &<< UInt64(spanLog2))
      visitor.leaves(
        LeafRun(
          first: Leaf(
            address: address, sizeLog2: spanLog2, pageSizeLog2: sizeLog2,
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
    // Wider entries are read in several pieces, and in order.
    guard size <= 8 else { return nil }
    // No overflow: tables have at most 8 MiB.
    let wanted = Int(count) * size
    // Safe: no more is made of the bytes than there are.
    if let bytes = unsafe memory.bytesInPlace(from: start), bytes.count >= size,
      UInt(bitPattern: bytes.baseAddress) % UInt(size) == 0
    {
      return unsafe UnsafeRawBufferPointer(
        rebasing: bytes.prefix(min(bytes.count / size * size, wanted)))
    }
    let inPage = min(wanted, (Self.pageByteCount - Int(start.offsetInPage)) / size * size)
    guard inPage > 0 else { return nil }
    let copy = unsafe UnsafeMutableRawBufferPointer(rebasing: copies.page(level)[..<inPage])
    return unsafe memory.copyBytes(from: start, to: copy) == inPage
      ? UnsafeRawBufferPointer(copy) : nil
  }
}

/// A page for each level of a tour, to copy entries into: those of a table are still being looked at
/// while the tables below it are.
@safe
private final class PageCopies {
  private let bytes: UnsafeMutableRawBufferPointer
  private let levels: Int

  init(levels: Int) {
    self.levels = levels
    // Safe: memory of its own, that is given back in deinit. Zeros, so that there is always
    // something to read.
    unsafe bytes = .allocate(
      byteCount: levels * Int(PageCount.pageByteCount), alignment: 8)
    unsafe bytes.initializeMemory(as: UInt8.self, repeating: 0)
  }

  deinit { unsafe bytes.deallocate() }

  /// The page of a level, from 1 on; there as long as the copies are.
  @unsafe
  func page(_ level: Int) -> UnsafeMutableRawBufferPointer {
    precondition(1...levels ~= level, "there is a page for each level")
    let start = (level - 1) * Int(PageCount.pageByteCount)
    return unsafe UnsafeMutableRawBufferPointer(
      rebasing: bytes[start..<(start + Int(PageCount.pageByteCount))])
  }
}
