import IOMMUFormats

extension WritableTableFormat {
  /// Maps memory where nothing is mapped, the first page at `iova` and the others after it.
  ///
  /// All or nothing: what was stored before an error is taken back, and tables that were made for it are
  /// given back. No unit is told of anything: what it has cached is the caller's affair.
  ///
  /// - Parameters:
  ///   - range: Half-open; both ends at multiples of 4 KiB.
  ///   - iova: A multiple of 4 KiB.
  ///   - permissions: What requests may do to each page.
  ///   - attributes: What entries say beside that; `nil` for what drivers write.
  ///   - sizes: Which pages are used.
  ///   - root: The uppermost table, of ``TableFormat/levels`` levels; a multiple of 4 KiB.
  ///   - memory: Memory that holds the tables, and takes the new ones.
  ///   - release: Told of each table that nothing leads to any more, once: empty ones in the place of
  ///     larger pages, and new ones after an error. Units may have cached what led there.
  ///   - allocateTable: Gives a page of zeros for a new table, or `nil` when there is none left. It is
  ///     asked when a table is missing, from the root down, in ascending order of address.
  /// - Throws: `TableMappingError`.
  /// - Complexity: O(entries looked at and written), with a way down from the root for each run of pages
  ///   in one table.
  ///
  /// Specification: Intel VT-d 3.6, 3.7, 9.7, 9.8; AMD IOMMU 2.2.3, 2.2.6.
  public func map<Memory: WritableMemory>(
    _ range: Range<PhysicalAddress>, at iova: IOVA, _ permissions: Permissions,
    attributes: PageAttributes? = nil, sizes: PageSizes = .smallest, root: PhysicalAddress,
    in memory: Memory, release: (PhysicalAddress) -> Void = { _ in },
    allocateTable: () -> PhysicalAddress?
  ) throws(TableMappingError) {
    let editor = TableEditor(format: self, memory: memory, root: root)
    let attributes = attributes ?? usualAttributes(for: permissions)
    guard
      let last = try editor.check(range, at: iova, permissions, attributes, sizes)
    else { return }
    if let mapped = try editor.firstMapped(iova.rawValue...last) {
      throw .alreadyMapped(IOVA(mapped))
    }
    do throws(TableMappingError) {
      try editor.write(
        range, at: iova, permissions, attributes, sizes, partly: .refused, release: release,
        allocateTable: allocateTable)
    } catch {
      // Nothing was mapped there before. What cannot be reached now could not be reached before.
      try? editor.clear(
        iova.rawValue...last, partly: .dropped, release: release, allocateTable: { nil })
      throw error
    }
  }

  /// Maps memory over whatever is mapped there, the first page at `iova` and the others after it.
  ///
  /// Pages that are mapped already are mapped anew, and a damaged entry on the way gives way to a table. A
  /// table in whose place a large page comes is released, with all below it. After an error, what lies
  /// below the address that the error names is mapped. Otherwise as
  /// ``map(_:at:_:attributes:sizes:root:in:release:allocateTable:)``.
  /// `partly` says what becomes of a larger page of which the range is only a part.
  @inlinable
  public func remap<Memory: WritableMemory>(
    _ range: Range<PhysicalAddress>, at iova: IOVA, _ permissions: Permissions,
    attributes: PageAttributes? = nil, sizes: PageSizes = .smallest,
    partly: PartlyChangedPage = .split, root: PhysicalAddress, in memory: Memory,
    release: (PhysicalAddress) -> Void = { _ in }, allocateTable: () -> PhysicalAddress?
  ) throws(TableMappingError) {
    let editor = TableEditor(format: self, memory: memory, root: root)
    let attributes = attributes ?? usualAttributes(for: permissions)
    guard let last = try editor.check(range, at: iova, permissions, attributes, sizes) else {
      return
    }
    if partly == .refused { try editor.refusePartly(iova.rawValue...last) }
    try editor.write(
      range, at: iova, permissions, attributes, sizes, partly: partly, release: release,
      allocateTable: allocateTable)
  }

  /// Maps each page of `range` to itself, for reading and writing, over whatever is mapped there.
  ///
  /// What the primary kernel does with its crash kernel ranges, so that the kdump kernel's own addresses
  /// mean themselves. Otherwise as
  /// ``remap(_:at:_:attributes:sizes:partly:root:in:release:allocateTable:)``.
  ///
  /// Background: the Kdump IO Rule, case 5 (docs/kdump-rule.md).
  @inlinable
  public func mapIdentity<Memory: WritableMemory>(
    _ range: Range<PhysicalAddress>, sizes: PageSizes = .smallest,
    partly: PartlyChangedPage = .split, root: PhysicalAddress, in memory: Memory,
    release: (PhysicalAddress) -> Void = { _ in }, allocateTable: () -> PhysicalAddress?
  ) throws(TableMappingError) {
    try remap(
      range, at: IOVA(range.lowerBound.rawValue), .readWrite, sizes: sizes, partly: partly,
      root: root, in: memory, release: release, allocateTable: allocateTable)
  }

  /// Takes mappings away: entries are cleared whole, and what nothing is mapped in goes.
  ///
  /// Addresses at which nothing is mapped are passed over.
  ///
  /// - Parameters:
  ///   - range: Half-open; both ends at multiples of 4 KiB.
  ///   - partly: What becomes of a larger page of which the range is only a part. To split one takes tables.
  ///   - keepingTables: Tables without a mapping stay where they are, and none is released.
  ///   - root: The uppermost table, which stays.
  ///   - memory: Memory that holds the tables.
  ///   - release: Told of each table that nothing leads to any more, once. Units may have cached what led
  ///     there.
  ///   - allocateTable: Gives a page of zeros for a new table, or `nil` when there is none left.
  /// - Throws: `TableMappingError`. What lies below the address that an error names is unmapped.
  /// - Complexity: O(entries of the tables that the range reaches into).
  public func unmap<Memory: WritableMemory>(
    _ range: Range<IOVA>, partly: PartlyChangedPage = .split, keepingTables: Bool = false,
    root: PhysicalAddress, in memory: Memory, release: (PhysicalAddress) -> Void = { _ in },
    allocateTable: () -> PhysicalAddress? = { nil }
  ) throws(TableMappingError) {
    let editor = TableEditor(format: self, memory: memory, root: root)
    guard let last = try editor.check(range) else { return }
    let addresses = range.lowerBound.rawValue...last
    if partly == .refused { try editor.refusePartly(addresses) }
    try editor.clear(
      addresses, partly: partly, keepingTables: keepingTables, release: release,
      allocateTable: allocateTable)
  }

  /// The table whose entries of `level` are for `iova`; made, with those above it, where it is missing.
  ///
  /// - Parameters:
  ///   - level: 1 to ``TableFormat/levels``; the uppermost one is the root itself.
  ///   - iova: Any address that the tables have entries for.
  ///   - partly: What becomes of a larger page on the way.
  ///   - root: The uppermost table; a multiple of 4 KiB.
  ///   - memory: Memory that holds the tables, and takes the new ones.
  ///   - allocateTable: As for ``map(_:at:_:attributes:sizes:root:in:release:allocateTable:)``.
  /// - Throws: `TableMappingError`.
  @inlinable
  public func table<Memory: WritableMemory>(
    ofLevel level: Int, for iova: IOVA, partly: PartlyChangedPage = .split, root: PhysicalAddress,
    in memory: Memory, allocateTable: () -> PhysicalAddress?
  ) throws(TableMappingError) -> PhysicalAddress {
    try TableEditor(format: self, memory: memory, root: root).table(
      ofLevel: level, for: iova.rawValue, partly: partly, release: { _ in },
      allocateTable: allocateTable
    ).table
  }
}

/// One tree of tables while it is written.
@frozen
@usableFromInline
struct TableEditor<Format: WritableTableFormat, Memory: WritableMemory> {
  @usableFromInline typealias Entry = Format.Entry

  @usableFromInline let format: Format
  @usableFromInline let memory: Memory
  @usableFromInline let root: PhysicalAddress

  @inlinable
  init(format: Format, memory: Memory, root: PhysicalAddress) {
    self.format = format
    self.memory = memory
    self.root = root
  }

  // MARK: Arguments

  /// The last byte's address; `nil` for a range without pages.
  @usableFromInline
  func check(
    _ range: Range<PhysicalAddress>, at iova: IOVA, _ permissions: Permissions,
    _ attributes: PageAttributes, _ sizes: PageSizes
  ) throws(TableMappingError) -> UInt64? {
    try checkAlignment([
      ("the range's start", range.lowerBound.rawValue),
      ("the range's end", range.upperBound.rawValue), ("the IOVA", iova.rawValue),
    ])
    guard format.expresses(permissions) else {
      throw .permissionsNotExpressible(permissions, tables: Format.tableName)
    }
    let foreign = attributes.subtracting(format.expressibleAttributes)
    guard foreign.isEmpty else {
      throw .attributesNotExpressible(foreign, tables: Format.tableName)
    }
    guard sizes.isLenient || format.hasPages(ofSizeLog2: sizes.largestLog2) else {
      throw .pageSizeMissing(sizeLog2: sizes.largestLog2)
    }
    guard range.upperBound.rawValue <= format.physicalLimit else {
      throw .physicalBeyondEntries(range, limit: format.physicalLimit)
    }
    return try last(of: iova.rawValue, byteCount: range.byteCount)
  }

  /// The last byte's address; `nil` for a range without pages.
  func check(_ range: Range<IOVA>) throws(TableMappingError) -> UInt64? {
    try checkAlignment([
      ("the range's start", range.lowerBound.rawValue),
      ("the range's end", range.upperBound.rawValue),
    ])
    return try last(of: range.lowerBound.rawValue, byteCount: range.byteCount)
  }

  private func checkAlignment(
    _ arguments: [(name: String, value: UInt64)]
  ) throws(TableMappingError) {
    for argument in arguments + [("the root", root.rawValue)] where argument.value % 4096 != 0 {
      throw .unaligned(argument: argument.name, argument.value)
    }
  }

  private func last(of first: UInt64, byteCount: UInt64) throws(TableMappingError) -> UInt64? {
    guard byteCount > 0 else { return nil }
    let (last, wraps) = first.addingReportingOverflow(byteCount - 1)
    guard !wraps, format.addresses.contains(where: { $0.contains(first) && $0.contains(last) })
    else {
      let end = first.addingReportingOverflow(byteCount)
      throw .beyondTable(
        IOVA(first)..<(end.overflow ? IOVA(.max) : IOVA(end.partialValue)), reach: format.reach)
    }
    return last
  }

  // MARK: Entries

  /// The entry that is about to be changed.
  @inlinable
  func entry(at place: PhysicalAddress, for address: UInt64) throws(TableMappingError) -> Entry {
    guard let entry = Entry(from: memory, at: place),
      memory.isWritable(at: place.alignedDown(to: 8))
    else { throw .tableNotWritable(place, for: IOVA(address)) }
    return entry
  }

  /// Stores entries in a row, from that for `address` on.
  ///
  /// - Parameter step: What each adds to the one before; of entries of 64 bits alone.
  @inlinable
  func store(
    _ entry: Entry, step: UInt64, count: UInt64, at address: UInt64, in table: PhysicalAddress,
    level: Int
  ) throws(TableMappingError) {
    let entryByteCount = UInt64(Entry.byteCount)
    var place = format.entryAddress(of: address, in: table, level: level)
    var word = entry.low
    var remaining = count
    while remaining > 0 {
      // A page of the table at a time: a flat one may lie in several pieces of memory.
      let run = min(remaining, (4096 - place.offsetInPage) / entryByteCount)
      let end = PhysicalAddress(place.rawValue &+ run * entryByteCount)
      guard memory.isWritable(at: place.alignedDown(to: 8)),
        memory.isWritable(at: PhysicalAddress((end.rawValue &- 1) & ~7))
      else {
        throw .tableNotWritable(
          place,
          for: IOVA(address + (count - remaining) << UInt64(format.sizeLog2(level: level))))
      }
      if Entry.bitCount == 64 {
        memory.storeSeries(
          from: word, step: step, count: Int(run), isBigEndian: Entry.isBigEndian, at: place)
      } else {
        for index in 0..<run {
          Entry(low: word &+ step &* index, high: 0)
            .store(to: memory, at: PhysicalAddress(place.rawValue &+ index * entryByteCount))
        }
      }
      word &+= step &* run
      remaining -= run
      place = end
    }
  }

  /// Stores what maps pages of one size, in all of the entries that they span.
  @inlinable
  func storePages(
    _ page: PhysicalAddress, sizeLog2: Int, count: UInt64, _ permissions: Permissions,
    _ attributes: PageAttributes, at address: UInt64, in table: PhysicalAddress, level: Int
  ) throws(TableMappingError) {
    let spanned: UInt64 = 1 << UInt64(sizeLog2 - format.sizeLog2(level: level))
    let size: UInt64 = 1 << UInt64(sizeLog2)
    if spanned == 1, Entry.bitCount == 64 {
      try store(
        format.entry(toPage: page, sizeLog2: sizeLog2, permissions, attributes), step: size,
        count: count, at: address, in: table, level: level)
      return
    }
    for index in 0..<count {
      try store(
        format.entry(
          toPage: PhysicalAddress(page.rawValue + index * size), sizeLog2: sizeLog2, permissions,
          attributes),
        step: 0, count: spanned, at: address + index * size, in: table, level: level)
    }
  }

  /// Clears the entries that all of a page spans.
  @usableFromInline
  func clearPage(
    of address: UInt64, sizeLog2: Int, in table: PhysicalAddress, level: Int
  ) throws(TableMappingError) {
    try store(
      format.clearedEntry, step: 0,
      count: 1 << UInt64(sizeLog2 - format.sizeLog2(level: level)),
      at: address & ~(1 << UInt64(sizeLog2) - 1), in: table, level: level)
  }

  /// Nothing is mapped by this entry.
  func isFree(_ entry: Entry, level: Int) -> Bool {
    entry.low == format.clearedEntry.low || format.kind(of: entry, level: level) == .empty
  }

  // MARK: The way down

  /// The table of `level` for an address, and whether it was made for it.
  @inlinable
  func table(
    ofLevel target: Int, for address: UInt64, partly: PartlyChangedPage,
    release: (PhysicalAddress) -> Void, allocateTable: () -> PhysicalAddress?
  ) throws(TableMappingError) -> (table: PhysicalAddress, isNew: Bool) {
    var (table, level, isNew) = (root, format.levels, false)
    while level > target {
      let place = format.entryAddress(of: address, in: table, level: level)
      let entry = try entry(at: place, for: address)
      switch format.kind(of: entry, level: level) {
      case .table(let next, let lower) where format.leads(from: level, to: lower):
        if lower >= target, address & format.skippedBits(from: level, to: lower) == 0 {
          (table, level) = (next, lower)
          continue
        }
        // Levels that the entry skips are needed now.
        let new = try newTable(for: address, allocateTable)
        format.entry(toTable: next, level: lower).store(to: memory, at: new)
        format.entry(toTable: new, level: level - 1).store(to: memory, at: place)
        (table, level) = (new, level - 1)
        continue
      case .page(_, let sizeLog2, let spanLog2):
        switch partly {
        case .refused: throw .partOfLargerPage(IOVA(address), sizeLog2: sizeLog2)
        case .split:
          try split(
            entry, sizeLog2: sizeLog2, at: address, in: table, level: level, release: release,
            allocateTable: allocateTable)
          continue
        case .dropped:
          if sizeLog2 > spanLog2 {
            try clearPage(of: address, sizeLog2: sizeLog2, in: table, level: level)
          }
        }
      case .empty, .malformed, .table: break
      }
      let new = try newTable(for: address, allocateTable)
      format.entry(toTable: new, level: level - 1).store(to: memory, at: place)
      (table, level, isNew) = (new, level - 1, true)
    }
    return (table, isNew)
  }

  @inlinable
  func newTable(
    for address: UInt64, _ allocateTable: () -> PhysicalAddress?
  ) throws(TableMappingError) -> PhysicalAddress {
    guard let new = allocateTable() else { throw .noPageForTable(IOVA(address)) }
    guard new.isAligned(to: 4096) else {
      throw .unaligned(argument: "the new table", new.rawValue)
    }
    guard memory.isWritable(new, byteCount: 4096), new.rawValue < format.physicalLimit else {
      throw .tableNotWritable(new, for: IOVA(address))
    }
    return new
  }

  /// Puts smaller pages in the place of one that is in the way: of one that spans several entries a page
  /// in each, else a table of pages.
  @usableFromInline
  func split(
    _ entry: Entry, sizeLog2: Int, at address: UInt64, in table: PhysicalAddress, level: Int,
    release: (PhysicalAddress) -> Void, allocateTable: () -> PhysicalAddress?
  ) throws(TableMappingError) {
    guard case .page(let page, _, let spanLog2) = format.kind(of: entry, level: level) else {
      return
    }
    let permissions = format.permissions(of: entry, level: level)
    let attributes = format.attributes(of: entry, level: level)
    guard sizeLog2 == spanLog2 else {
      try storePages(
        page, sizeLog2: spanLog2, count: 1 << UInt64(sizeLog2 - spanLog2), permissions, attributes,
        at: address & ~(1 << UInt64(sizeLog2) - 1), in: table, level: level)
      return
    }
    let new = try filledTable(
      page, level: level - 1, permissions, attributes, for: address, release: release,
      allocateTable: allocateTable)
    format.entry(toTable: new, level: level - 1)
      .store(to: memory, at: format.entryAddress(of: address, in: table, level: level))
  }

  /// A table that maps what one entry of the level above did.
  private func filledTable(
    _ page: PhysicalAddress, level: Int, _ permissions: Permissions, _ attributes: PageAttributes,
    for address: UInt64, release: (PhysicalAddress) -> Void,
    allocateTable: () -> PhysicalAddress?
  ) throws(TableMappingError) -> PhysicalAddress {
    let new = try newTable(for: address, allocateTable)
    let (own, count) = (format.sizeLog2(level: level), format.entryCount(level: level))
    guard !format.hasPages(ofSizeLog2: own) else {
      try storePages(
        page, sizeLog2: own, count: count, permissions, attributes, at: 0, in: new, level: level)
      return new
    }
    do throws(TableMappingError) {
      for index in 0..<count {
        let lower = try filledTable(
          PhysicalAddress(page.rawValue + index << UInt64(own)), level: level - 1, permissions,
          attributes, for: address, release: release, allocateTable: allocateTable)
        format.entry(toTable: lower, level: level - 1)
          .store(
            to: memory, at: format.entryAddress(of: index << UInt64(own), in: new, level: level))
      }
    } catch {
      var known: Set<PhysicalAddress> = []
      for table in tables(from: new, level: level, known: &known) { release(table) }
      throw error
    }
    return new
  }

  // MARK: Mapping

  /// - Precondition: `check` has passed.
  @inlinable
  func write(
    _ range: Range<PhysicalAddress>, at iova: IOVA, _ permissions: Permissions,
    _ attributes: PageAttributes, _ sizes: PageSizes, partly: PartlyChangedPage,
    release: (PhysicalAddress) -> Void, allocateTable: () -> PhysicalAddress?
  ) throws(TableMappingError) {
    var (address, page, remaining) = (iova.rawValue, range.lowerBound.rawValue, range.byteCount)
    // Of tables that several entries lead to, each goes once.
    var released: Set<PhysicalAddress> = []
    while remaining > 0 {
      let size = sizeLog2(at: address, page, remaining, sizes)
      let level = format.level(ofPageSizeLog2: size)
      let (table, isNew) = try self.table(
        ofLevel: level, for: address, partly: partly, release: release,
        allocateTable: allocateTable)
      let run = run(at: address, page, remaining, sizeLog2: size, level: level, sizes)
      let displaced =
        isNew
        ? []
        : try displacedTables(
          address...(address + (run - 1)), in: table, level: level, partly: partly,
          known: &released)
      try storePages(
        PhysicalAddress(page), sizeLog2: size, count: run >> UInt64(size), permissions, attributes,
        at: address, in: table, level: level)
      for table in displaced { release(table) }
      address &+= run
      page += run
      remaining -= run
    }
  }

  /// The largest page at both addresses.
  @inlinable
  func sizeLog2(
    at address: UInt64, _ page: UInt64, _ remaining: UInt64, _ sizes: PageSizes
  ) -> Int {
    guard sizes.largestLog2 > 12 else { return 12 }
    var size = min(
      sizes.largestLog2, format.largestPageSizeLog2, (address | page).trailingZeroBitCount,
      63 - remaining.leadingZeroBitCount)
    while size > 12 {
      if isAvailable(size), !sizes.keepsTables || !meetsTable(at: address, sizeLog2: size) {
        return size
      }
      size -= 1
    }
    return 12
  }

  @inlinable
  func isAvailable(_ sizeLog2: Int) -> Bool {
    format.hasPages(ofSizeLog2: sizeLog2)
      && format.level(ofPageSizeLog2: sizeLog2) <= format.levels
  }

  /// Bytes that follow in pages of this size, in this table, before a larger page is possible.
  @inlinable
  func run(
    at address: UInt64, _ page: UInt64, _ remaining: UInt64, sizeLog2: Int, level: Int,
    _ sizes: PageSizes
  ) -> UInt64 {
    let size: UInt64 = 1 << UInt64(sizeLog2)
    if sizes.keepsTables, sizeLog2 > 12 { return size }
    var run = remaining
    if level < format.levels {
      let covered: UInt64 = 1 << UInt64(format.sizeLog2(level: level + 1))
      run = min(run, covered - address & (covered - 1))
    }
    var larger = sizeLog2 + 1
    while larger <= sizes.largestLog2, larger <= format.largestPageSizeLog2 {
      if isAvailable(larger) {
        let mask: UInt64 = 1 << UInt64(larger) - 1
        if (address ^ page) & mask == 0, address & mask != 0 {
          run = min(run, mask + 1 - address & mask)
        }
        break
      }
      larger += 1
    }
    return run & ~(size - 1)
  }

  /// Whether a page there would take the place of a table.
  @usableFromInline
  func meetsTable(at address: UInt64, sizeLog2: Int) -> Bool {
    let target = format.level(ofPageSizeLog2: sizeLog2)
    var (table, level) = (root, format.levels)
    while level > target {
      guard
        let entry = Entry(
          from: memory, at: format.entryAddress(of: address, in: table, level: level)),
        case .table(let next, let lower) = format.kind(of: entry, level: level),
        format.leads(from: level, to: lower),
        address & format.skippedBits(from: level, to: lower) == 0
      else { return false }
      guard lower >= target else { return true }
      (table, level) = (next, lower)
    }
    let own = format.sizeLog2(level: level)
    for index in 0..<(1 as UInt64) << UInt64(sizeLog2 - own) {
      let place = format.entryAddress(of: address + index << UInt64(own), in: table, level: level)
      if let entry = Entry(from: memory, at: place),
        case .table = format.kind(of: entry, level: level)
      {
        return true
      }
    }
    return false
  }

  /// The tables that pages over these addresses of one table take the place of; and what of larger pages
  /// lies outside of them is set right.
  @usableFromInline
  func displacedTables(
    _ addresses: ClosedRange<UInt64>, in table: PhysicalAddress, level: Int,
    partly: PartlyChangedPage, known: inout Set<PhysicalAddress>
  ) throws(TableMappingError) -> [PhysicalAddress] {
    // A page that is only a part of what is changed crosses one of the ends.
    for edge in [addresses.lowerBound, addresses.upperBound] {
      let place = format.entryAddress(of: edge, in: table, level: level)
      let entry = try entry(at: place, for: edge)
      guard case .page(_, let sizeLog2, let spanLog2) = format.kind(of: entry, level: level),
        sizeLog2 > spanLog2
      else { continue }
      let first = edge & ~(1 << UInt64(sizeLog2) - 1)
      guard
        first < addresses.lowerBound
          || first + (1 << UInt64(sizeLog2) - 1) > addresses.upperBound
      else { continue }
      switch partly {
      case .refused: throw .partOfLargerPage(IOVA(edge), sizeLog2: sizeLog2)
      case .dropped: try clearPage(of: edge, sizeLog2: sizeLog2, in: table, level: level)
      case .split:
        try split(
          entry, sizeLog2: sizeLog2, at: edge, in: table, level: level, release: { _ in },
          allocateTable: { nil })
      }
    }
    guard level > 1 else { return [] }
    var displaced: [PhysicalAddress] = []
    let own = UInt64(format.sizeLog2(level: level))
    for number in addresses.lowerBound >> own...addresses.upperBound >> own {
      let place = format.entryAddress(of: number << own, in: table, level: level)
      if let entry = Entry(from: memory, at: place),
        case .table(let next, let lower) = format.kind(of: entry, level: level),
        format.leads(from: level, to: lower)
      {
        displaced += tables(from: next, level: lower, known: &known)
      }
    }
    return displaced
  }

  /// A table and all that hang below it, each once, however they lead to each other; none that is known.
  private func tables(
    from table: PhysicalAddress, level: Int, known: inout Set<PhysicalAddress>
  ) -> [PhysicalAddress] {
    guard known.insert(table).inserted else { return [] }
    var found = [table]
    var places = [(table, level)]
    while let (table, level) = places.popLast() {
      guard level > 1 else { continue }
      for index in 0..<format.entryCount(level: level) {
        let address = index << UInt64(format.sizeLog2(level: level))
        guard
          let entry = Entry(
            from: memory, at: format.entryAddress(of: address, in: table, level: level)),
          case .table(let next, let lower) = format.kind(of: entry, level: level),
          format.leads(from: level, to: lower), known.insert(next).inserted
        else { continue }
        found.append(next)
        places.append((next, lower))
      }
    }
    return found
  }

  // MARK: Unmapping

  /// - Precondition: `check` has passed.
  func clear(
    _ addresses: ClosedRange<UInt64>, partly: PartlyChangedPage, keepingTables: Bool = false,
    release: (PhysicalAddress) -> Void, allocateTable: () -> PhysicalAddress?
  ) throws(TableMappingError) {
    // Of tables that several entries lead to, each goes once.
    var done: Set<PhysicalAddress> = [root]
    try clear(
      addresses, in: root, level: format.levels, partly: partly, keepingTables: keepingTables,
      done: &done, release: release, allocateTable: allocateTable)
  }

  private func clear(
    _ addresses: ClosedRange<UInt64>, in table: PhysicalAddress, level: Int,
    partly: PartlyChangedPage, keepingTables: Bool, done: inout Set<PhysicalAddress>,
    release: (PhysicalAddress) -> Void, allocateTable: () -> PhysicalAddress?
  ) throws(TableMappingError) {
    let mask: UInt64 = 1 << UInt64(format.sizeLog2(level: level)) - 1
    var address = addresses.lowerBound
    while true {
      let place = format.entryAddress(of: address, in: table, level: level)
      let entry = try entry(at: place, for: address)
      // The last address that is dealt with in this round.
      var last = min(addresses.upperBound, address | mask)
      switch format.kind(of: entry, level: level) {
      case .table(let next, let lower) where format.leads(from: level, to: lower):
        let first = address & ~mask
        let covered = first | (1 << UInt64(format.sizeLog2(level: lower + 1)) - 1)
        guard address <= covered else { break }
        let isWhole = address == first && last >= covered
        if isWhole, !keepingTables {
          let all = tables(from: next, level: lower, known: &done)
          format.clearedEntry.store(to: memory, at: place)
          for table in all { release(table) }
        } else {
          guard !isWhole || done.insert(next).inserted else { break }
          try clear(
            address...min(last, covered), in: next, level: lower, partly: partly,
            keepingTables: keepingTables, done: &done, release: release,
            allocateTable: allocateTable)
          if !keepingTables, isFree(next, level: lower) {
            format.clearedEntry.store(to: memory, at: place)
            if done.insert(next).inserted { release(next) }
          }
        }
      case .page(_, let sizeLog2, _) where entry.low != format.clearedEntry.low:
        let first = address & ~(1 << UInt64(sizeLog2) - 1)
        let end = first + (1 << UInt64(sizeLog2) - 1)
        if first < addresses.lowerBound || end > addresses.upperBound {
          switch partly {
          case .refused: throw .partOfLargerPage(IOVA(address), sizeLog2: sizeLog2)
          case .split:
            try split(
              entry, sizeLog2: sizeLog2, at: address, in: table, level: level, release: release,
              allocateTable: allocateTable)
            continue
          case .dropped: break
          }
        }
        try clearPage(of: address, sizeLog2: sizeLog2, in: table, level: level)
        last = min(addresses.upperBound, end)
      case .page, .empty, .malformed, .table: break
      }
      guard last < addresses.upperBound else { return }
      address = last + 1
    }
  }

  private func isFree(_ table: PhysicalAddress, level: Int) -> Bool {
    (0..<format.entryCount(level: level)).allSatisfy { index in
      let address = index << UInt64(format.sizeLog2(level: level))
      let place = format.entryAddress(of: address, in: table, level: level)
      return Entry(from: memory, at: place).map { isFree($0, level: level) } ?? false
    }
  }

  // MARK: Looking

  /// Refuses a change in which a larger page would take part only with a part of it.
  @usableFromInline
  func refusePartly(_ addresses: ClosedRange<UInt64>) throws(TableMappingError) {
    for edge in [addresses.lowerBound, addresses.upperBound] {
      var observer = Unobserved()
      let walk = format.walk(edge, from: root, in: memory, observer: &observer)
      guard walk.end == .page, walk.entry != format.clearedEntry.low else { continue }
      let first = edge & ~(1 << UInt64(walk.sizeLog2) - 1)
      guard first >= addresses.lowerBound,
        first + (1 << UInt64(walk.sizeLog2) - 1) <= addresses.upperBound
      else { throw .partOfLargerPage(IOVA(edge), sizeLog2: walk.sizeLog2) }
    }
  }

  /// The first of these addresses at which something is mapped, or stands in an entry that is damaged.
  func firstMapped(_ addresses: ClosedRange<UInt64>) throws(TableMappingError) -> UInt64? {
    var free: Set<PhysicalAddress> = []
    return try firstMapped(addresses, in: root, level: format.levels, knownFree: &free)
  }

  private func firstMapped(
    _ addresses: ClosedRange<UInt64>, in table: PhysicalAddress, level: Int,
    knownFree: inout Set<PhysicalAddress>
  ) throws(TableMappingError) -> UInt64? {
    let mask: UInt64 = 1 << UInt64(format.sizeLog2(level: level)) - 1
    var address = addresses.lowerBound
    while true {
      let entry = try entry(
        at: format.entryAddress(of: address, in: table, level: level), for: address)
      let last = min(addresses.upperBound, address | mask)
      switch format.kind(of: entry, level: level) {
      case .table(let next, let lower) where format.leads(from: level, to: lower):
        let first = address & ~mask
        let covered = first | (1 << UInt64(format.sizeLog2(level: lower + 1)) - 1)
        guard address <= covered, !knownFree.contains(next) else { break }
        if let found = try firstMapped(
          address...min(last, covered), in: next, level: lower, knownFree: &knownFree)
        {
          return found
        }
        if address == first, last >= covered { knownFree.insert(next) }
      case .empty: break
      case .page, .malformed, .table:
        if entry.low != format.clearedEntry.low { return address }
      }
      guard last < addresses.upperBound else { return nil }
      address = last + 1
    }
  }
}

extension TableEditor {
  /// Clears every entry for these addresses, whatever it is of.
  func clearAll(_ addresses: ClosedRange<UInt64>, release: (PhysicalAddress) -> Void) {
    // Nothing is split, so that nothing is missing; a table that takes no stores is given up.
    try? clear(addresses, partly: .dropped, release: release, allocateTable: { nil })
  }
}
