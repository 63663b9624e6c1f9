import IOMMUFormats

/// Why a table does not take a mapping.
public enum TableMappingError: Error, Equatable, CustomStringConvertible {
  /// The range ends beyond the `reach` bytes of address that the table has entries for. Nothing was
  /// stored.
  case beyondTable(Range<IOVA>, reach: UInt64)
  /// No page is left for a table on the way to this address. What lies below it is mapped.
  case noPageForTable(IOVA)

  public var description: String {
    switch self {
    case .beyondTable(let range, let reach):
      "\(range.text) ends beyond the \(hexadecimal(reach)) bytes that the table covers: "
        + "use a table with more levels"
    case .noPageForTable(let iova):
      "no page is left for a table on the way to \(iova): give more memory for tables"
    }
  }
}

extension VTd.SecondStageFormat {
  /// Bytes of address that the table has entries for.
  public var reach: UInt64 { 1 << UInt64(VTd.Paging.addressWidth(levels: levels)) }

  /// Maps each page of `range` to itself, for reading and writing, in pages of 4 KiB.
  ///
  /// What the primary kernel does with its crash kernel ranges, so that the kdump kernel's own
  /// addresses mean themselves. Otherwise as ``map(_:at:_:root:in:allocateTable:)``.
  ///
  /// Background: the Kdump IO Rule, case 5 (docs/kdump-rule.md).
  public func mapIdentity(
    _ range: Range<PhysicalAddress>, root: PhysicalAddress, in memory: FlatMemory,
    allocateTable: () -> PhysicalAddress?
  ) throws(TableMappingError) {
    try map(
      range, at: IOVA(range.lowerBound.rawValue), .readWrite, root: root, in: memory,
      allocateTable: allocateTable)
  }

  /// Maps memory in pages of 4 KiB, the first page at `iova` and the others after it.
  ///
  /// A page that is mapped already is mapped anew; a large page or a damaged entry on the way gives
  /// way to a table. No unit is told: what it has cached of the table is the caller's affair.
  ///
  /// - Parameters:
  ///   - range: Half-open; both ends at multiples of 4 KiB.
  ///   - iova: A multiple of 4 KiB.
  ///   - permissions: What requests may do to each page.
  ///   - root: The uppermost table, of ``levels`` levels.
  ///   - memory: RAM that holds the tables, and takes the new ones.
  ///   - allocateTable: Gives a page of zeros for a new table, or `nil` when there is none left. It
  ///     is asked when a table is missing, from the root down, in ascending order of address.
  /// - Throws: `TableMappingError`.
  /// - Precondition: The root and the tables that hang below it lie in RAM.
  /// - Complexity: O(pages), with one way down from the root for each 2 MiB.
  ///
  /// Specification: Intel VT-d 3.7, 9.8.
  public func map(
    _ range: Range<PhysicalAddress>, at iova: IOVA, _ permissions: Permissions,
    root: PhysicalAddress, in memory: FlatMemory, allocateTable: () -> PhysicalAddress?
  ) throws(TableMappingError) {
    precondition(
      range.lowerBound.isAligned(to: 4096) && range.upperBound.isAligned(to: 4096)
        && iova.isAligned(to: 4096), "pages are mapped whole")
    let (end, wraps) = iova.rawValue.addingReportingOverflow(range.byteCount)
    guard !wraps, end <= reach else {
      throw .beyondTable(iova..<(wraps ? IOVA(.max) : IOVA(end)), reach: reach)
    }
    var address = iova.rawValue
    var page = range.lowerBound
    while address < end {
      let table = try table(
        ofLevel: 1, for: IOVA(address), root: root, in: memory, allocateTable: allocateTable)
      let byteCount =
        min(end, (address | (1 << UInt64(VTd.Paging.sizeLog2(level: 2)) - 1)) + 1) - address
      memory.storeSeries(
        from: Entry(page: page, level: 1, permissions: permissions).rawValue,
        step: PageCount.pageByteCount, count: Int(byteCount / PageCount.pageByteCount),
        isBigEndian: Entry.isBigEndian, at: entryAddress(of: address, in: table, level: 1))
      address += byteCount
      page = PhysicalAddress(page.rawValue + byteCount)
    }
  }

  /// The table whose entries of `level` are for `iova`; made, with those above it, where it is
  /// missing.
  ///
  /// - Parameters:
  ///   - level: 1 to ``levels``; the uppermost one is the root itself.
  ///   - iova: Any address below the table's reach.
  ///   - root: The uppermost table, of ``levels`` levels.
  ///   - memory: RAM that holds the tables, and takes the new ones.
  ///   - allocateTable: As for ``map(_:at:_:root:in:allocateTable:)``.
  /// - Throws: `TableMappingError.noPageForTable`.
  /// - Precondition: The root and the tables that hang below it lie in RAM.
  public func table(
    ofLevel level: Int, for iova: IOVA, root: PhysicalAddress, in memory: FlatMemory,
    allocateTable: () -> PhysicalAddress?
  ) throws(TableMappingError) -> PhysicalAddress {
    var table = root
    for above in stride(from: levels, to: level, by: -1) {
      let place = entryAddress(of: iova.rawValue, in: table, level: above)
      guard let entry = Entry(from: memory, at: place) else {
        preconditionFailure("a table that is written lies in RAM")
      }
      if case .table(let next, _) = kind(of: entry, level: above) {
        table = next
      } else {
        guard let new = allocateTable() else { throw .noPageForTable(iova) }
        Entry(table: new).store(to: memory, at: place)
        table = new
      }
    }
    return table
  }
}
