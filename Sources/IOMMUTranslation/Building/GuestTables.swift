import IOMMUFormats

/// Tables that are a guest's: they lie in pages of its own, which its host's tables map.
final class GuestTables<Memory: WritableMemory> {
  private let store: TableStore<Memory>
  private let pages: GuestTablePages<Memory>
  /// The next page of the guest's for a table; `nil` for the number that each page has in the host.
  private var next: PhysicalAddress?
  /// Why the last table could not be had.
  private var failure: TablesError?
  /// Lets the host's tables map a page at a guest's address, and forget it.
  private let mapPage: (Range<PhysicalAddress>, IOVA) throws(TablesError) -> Void
  private let unmapPage: (Range<IOVA>) -> Void

  init(
    _ store: TableStore<Memory>, from next: PhysicalAddress?,
    mapPage: @escaping (Range<PhysicalAddress>, IOVA) throws(TablesError) -> Void,
    unmapPage: @escaping (Range<IOVA>) -> Void
  ) {
    self.store = store
    self.next = next
    self.mapPage = mapPage
    self.unmapPage = unmapPage
    pages = GuestTablePages(store.memory)
  }

  /// A table of zeros; a guest's address.
  func allocate(_ what: String) throws(TablesError) -> PhysicalAddress {
    if let next, !next.isAligned(to: 4096) {
      throw .mapping(.unaligned(argument: "the guest's tables", next.rawValue))
    }
    let page = try store.allocate(what)
    let place = next ?? page
    do throws(TablesError) {
      try mapPage(page..<PhysicalAddress(page.rawValue + 4096), IOVA(place.rawValue))
    } catch {
      store.free(page)
      throw error
    }
    pages.insert(place, at: page)
    next = next.map { PhysicalAddress($0.rawValue + 4096) }
    return place
  }

  func release(_ place: PhysicalAddress) {
    guard let page = pages.remove(place) else { return }
    unmapPage(IOVA(place.rawValue)..<IOVA(place.rawValue + 4096))
    store.free(page)
  }

  func releaseAll() {
    for place in pages.backedRanges.map(\.lowerBound) { release(place) }
  }

  func map<Format: WritableTableFormat>(
    _ range: Range<PhysicalAddress>, at iova: IOVA, _ permissions: Permissions,
    _ attributes: PageAttributes?, _ sizes: PageSizes, isOver: Bool, in tree: TableTree<Format>
  ) throws(TablesError) {
    try telling { () throws(TablesError) in
      try store.map(
        range, at: iova, permissions, attributes, sizes, isOver: isOver, in: tree, within: pages,
        release: release, allocateTable: { self.table(Format.tableName) })
    }
  }

  func unmap<Format: WritableTableFormat>(
    _ range: Range<IOVA>, partly: PartlyChangedPage, in tree: TableTree<Format>
  ) throws(TablesError) {
    try telling { () throws(TablesError) in
      try inTables { () throws(TableMappingError) in
        try tree.format.unmap(
          range, partly: partly, root: tree.root, in: pages, release: release,
          allocateTable: { self.table(Format.tableName) })
      }
    }
  }

  private func table(_ name: String) -> PhysicalAddress? {
    do throws(TablesError) {
      return try allocate(name)
    } catch {
      failure = error
      return nil
    }
  }

  /// Where a new table does not go into the host's tables, that is the error.
  private func telling(_ body: () throws(TablesError) -> Void) throws(TablesError) {
    failure = nil
    do throws(TablesError) { try body() } catch { throw failure ?? error }
  }
}

/// Pages of a guest's that hold its page tables, as the guest sees them; no other page of it answers.
///
/// A builder knows them by itself, so that nothing goes through the host's tables.
final class GuestTablePages<Memory: WritableMemory>: WritableMemory {
  private let memory: Memory
  /// Where pages lie in the host, by their numbers.
  private(set) var hosts: [UInt64: PhysicalAddress] = [:]

  init(_ memory: Memory) { self.memory = memory }

  func insert(_ page: PhysicalAddress, at host: PhysicalAddress) {
    hosts[page.pageNumber] = host
  }

  /// Where the page lay.
  func remove(_ page: PhysicalAddress) -> PhysicalAddress? {
    hosts.removeValue(forKey: page.pageNumber)
  }

  private func host(_ address: PhysicalAddress) -> PhysicalAddress? {
    hosts[address.pageNumber].map { PhysicalAddress($0.rawValue | address.offsetInPage) }
  }

  // Entries are whole and aligned, so that no word crosses the end of a page.
  func quadword(at address: PhysicalAddress) -> UInt64? {
    host(address).flatMap { memory.quadword(at: $0) }
  }
  func doubleword(at address: PhysicalAddress) -> UInt32? {
    host(address).flatMap { memory.doubleword(at: $0) }
  }
  func read(at address: PhysicalAddress, into buffer: UnsafeMutableRawBufferPointer) -> Int {
    guard let place = host(address) else { return 0 }
    let count = min(buffer.count, Int(4096 - address.offsetInPage))
    // Safe: the first part of the caller's buffer.
    return unsafe memory.read(
      at: place, into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<count]))
  }
  var backedRanges: [Range<PhysicalAddress>] {
    hosts.keys.sorted().map { PhysicalAddress($0 << 12)..<PhysicalAddress(($0 + 1) << 12) }
  }
  func isWritable(at address: PhysicalAddress) -> Bool {
    host(address).map { memory.isWritable(at: $0) } ?? false
  }
  func compareExchange(
    at address: PhysicalAddress, expected: UInt64, desired: UInt64
  ) -> UInt64? {
    guard let place = host(address) else {
      preconditionFailure("no page of the guest's tables where a word is to be exchanged")
    }
    return memory.compareExchange(at: place, expected: expected, desired: desired)
  }
}
