import IOMMUFormats
import IOMMUTranslation

/// Pages of the address space that asked last, as packed words: from the IOTLB, and where that does not
/// know, from the tables on the short way; one by one and in blocks.
///
/// Counts by itself, and puts the numbers among the caches' others by ``settleCounters()``.
struct PortPages {
  private let caches: Pinned<PortCaches>.Reference
  /// Which requests the space is for; 0 while none is answered from here.
  private var key: UInt64 = 0
  /// The space's in the IOTLB.
  private var number: UInt64 = 0
  /// Of its tables in the paging-structure cache.
  private var structureNumber: UInt64 = .max
  private var rules = VTd.Rules()
  /// The ways to its pages, while its tables have some that the port can go.
  private var ways: Ways?
  private var usesFirstStage = false
  /// Of the tables that requests meet first, and of a second stage under a first, otherwise 0.
  private var levels = 0
  private var hostLevels = 0
  /// A paging-structure cache is to be asked.
  private let keepsStructures: Bool
  /// That of the last block.
  private var blockWay: PageWay?
  /// By the number of a space in the IOTLB: its tables as they were when they were last asked.
  private var readers: [UInt64: (table: Table, reader: PageReader)] = [:]
  private var notes = PageNotes()
  private var counts = PageCounts()

  private struct Ways {
    var read: PageWay
    var write: PageWay
  }

  /// More than this are made again when they are wanted again.
  private static var readerLimit: Int { 64 }

  init(_ caches: Pinned<PortCaches>.Reference) {
    self.caches = caches
    keepsStructures = caches.value.structures.keepsEntries
  }

  /// Takes up the space of a binding.
  mutating func serve(_ binding: PortBinding, key: UInt64, in memory: FlatMemory) {
    settleCounters()
    self.key = key
    number = binding.number
    structureNumber = binding.structures.outer
    rules = binding.rules
    usesFirstStage = binding.space.usesFirstStage
    if let reader = reader(of: binding, in: memory) {
      ways = Ways(read: reader.way(for: .read), write: reader.way(for: .write))
    } else {
      ways = nil
    }
    levels = ways?.read.levels ?? 0
    hostLevels = ways?.read.hostLevels ?? 0
  }

  private mutating func reader(of binding: PortBinding, in memory: FlatMemory) -> PageReader? {
    guard caches.value.iotlb.keepsEntries, number != .max, case .table(let table) = binding.route
    else { return nil }
    // A walk of two stages begins in more than one place.
    if case .nested = table, keepsStructures { return nil }
    if let known = readers[number], known.table == table { return known.reader }
    guard let reader = PageReader(table, in: memory) else { return nil }
    if readers.count >= Self.readerLimit { readers = [:] }
    readers[number] = (table, reader)
    blockWay = nil
    return reader
  }

  /// Answers nothing until there is a space again.
  mutating func forget() {
    settleCounters()
    key = 0
    ways = nil
  }

  /// Puts what was counted here among the counters of the caches.
  mutating func settleCounters() {
    guard counts.isAny else { return }
    caches.value.settle(
      counts, isScalable: rules.isScalable, usesFirstStage: usesFirstStage, levels: levels,
      hostLevels: hostLevels)
    counts = PageCounts()
  }

  // MARK: One request

  /// The answer to a request of the device and the PASID that asked last; `nil` for anything else, and
  /// for what needs all steps.
  @inline(__always)
  mutating func answer(_ request: VTd.Request, byteCount: UInt64) -> Translation? {
    guard request.spaceKey == key else { return nil }
    let page = caches.value.iotlb.smallPage(number, request.address)
    guard likely(page.allows(request.operation.needs)) else {
      return answerByTables(request, byteCount: byteCount, known: page)
    }
    counts.hits &+= 1
    return .mapped(
      page.translation(of: IOVA(request.address)).physical!,
      byteCount: min(byteCount, 0x1000 - request.address & 0xfff))
  }

  @inline(never)
  private mutating func answerByTables(
    _ request: VTd.Request, byteCount: UInt64, known: PackedPage
  ) -> Translation? {
    let access: Access
    switch request.operation {
    case .read: access = .read
    case .write: access = .write
    case .atomic, .zeroLengthRead: return nil
    }
    let page = read(IOVA(request.address), access, known: known)
    guard page != .unknown else { return nil }
    return MappedPage(page).translation(
      of: request.address, byteCount: byteCount, for: request.operation, under: rules)
  }

  /// What the IOTLB knows of the page of a plain DMA without PASID.
  @inline(__always)
  func smallPage(_ iova: IOVA, of requester: Requester) -> PackedPage {
    // Interrupt addresses have no page in the IOTLB without a PASID.
    isServing(requester) ? caches.value.iotlb.smallPage(number, iova.rawValue) : .unknown
  }

  /// Counts a request that ``smallPage(_:of:)`` answered.
  @inline(__always)
  mutating func countHit() { counts.hits &+= 1 }

  /// Whether plain DMAs of a device are answered from here now.
  @inline(__always)
  func isServing(_ requester: Requester) -> Bool { key == requester.spaceKey }

  /// The page of an address that the IOTLB has no plain 4 KiB page of, by a larger one in the IOTLB or
  /// by the tables; what it learns goes into the caches. Unknown for what needs all steps.
  ///
  /// - Parameter known: What the IOTLB has of the 4 KiB page.
  /// - Precondition: A space is served, and the address is of it.
  @inline(__always)
  mutating func read(_ iova: IOVA, _ access: Access, known: PackedPage) -> PackedPage {
    guard let ways, likely(known == .unknown), likely(iova.rawValue &>> 57 == 0) else {
      return .unknown
    }
    let way = access == .read ? ways.read : ways.write
    guard likely(!keepsStructures), likely(!caches.value.iotlb.hasLargePages) else {
      return readByCaches(iova, access, way)
    }
    return readAll(iova, access, way)
  }

  /// By a walk through all levels.
  @inline(__always)
  private mutating func readAll(_ iova: IOVA, _ access: Access, _ way: PageWay) -> PackedPage {
    let page = way.page(of: iova, &notes)
    guard likely(page.allows(access.permission)) else { return .unknown }
    guard likely(page.leafLevel == 1), likely(hostLevels == 0) else {
      keep(page, of: iova)
      return page
    }
    caches.value.iotlb.insertAbsentSmall(page, of: iova.rawValue, number)
    counts.plainMisses &+= 1
    return page
  }

  /// Keeps a large page, or one of nested tables.
  @inline(never)
  private mutating func keep(_ page: PackedPage, of iova: IOVA) {
    caches.value.iotlb.insertAbsent(page, of: iova.rawValue, number)
    counts.add(page, notes, isNested: hostLevels > 0)
  }

  /// By a larger page, and by a walk from the lowest table that is known.
  @inline(never)
  private mutating func readByCaches(
    _ iova: IOVA, _ access: Access, _ way: PageWay
  ) -> PackedPage {
    let address = iova.rawValue
    if caches.value.iotlb.hasLargePages {
      let page = caches.value.iotlb.largePage(number, address)
      if page != .unknown {
        guard page.allows(access.permission), !VTd.isInterruptAddress(address) else {
          return .unknown
        }
        counts.hits &+= 1
        return page
      }
    }
    guard keepsStructures else { return readAll(iova, access, way) }
    let known = caches.value.structures.lowestTable(
      for: address, structureNumber, below: levels)
    let level = known?.level ?? levels
    let page = way.page(of: iova, from: known?.table ?? way.root, level: level, &notes)
    // If not, all steps ask the cache themselves.
    guard likely(page.allows(access.permission)) else { return .unknown }
    var lower = level &- 1
    while lower >= page.leafLevel {
      caches.value.structures.insert(
        PackedTable(rawValue: notes.tables[lower]), level: lower, for: address, structureNumber)
      lower &-= 1
    }
    caches.value.iotlb.insertAbsent(page, of: address, number)
    counts.add(page, from: level, isKnown: known != nil)
    return page
  }

  // MARK: Rows

  /// Answers pages in a row, from the IOTLB and by tables whose upper levels are read once a region; what
  /// it learns goes into the IOTLB.
  ///
  /// - Parameters:
  ///   - first: The first byte of the first page.
  ///   - count: Of pages, and of answers; the last page ends at 2^64 or below.
  /// - Returns: How many are answered; the next one needs another way.
  /// - Precondition: The device is served.
  @inline(never)
  mutating func answerRow(
    _ first: UInt64, count: Int, _ access: Access,
    into answers: UnsafeMutablePointer<PackedTranslation>
  ) -> Int {
    guard let ways, caches.value.hasPlainWalks, hostLevels == 0 else { return 0 }
    let way = access == .read ? ways.read : ways.write
    let needed = PackedPage.needed(access.permission)
    var (row, region) = (PageRow.unknown, UInt64.max)
    var misses: UInt64 = 0
    var index = 0
    while index < count {
      let iova = IOVA(first &+ UInt64(truncatingIfNeeded: index) &<< 12)
      var page = caches.value.iotlb.smallPage(number, iova.rawValue)
      if page.lacks(needed) != 0 {
        guard page == .unknown else { break }
        if iova.rawValue &>> 21 != region {
          (row, region) = (way.row(of: iova), iova.rawValue &>> 21)
        }
        guard row.isKnown else { break }
        page = way.page(of: iova, in: row)
        guard page.lacks(needed) == 0 else { break }
        caches.value.iotlb.insertAbsentSmall(page, of: iova.rawValue, number)
        misses &+= 1
      }
      // Safe: there is an answer for each page.
      unsafe answers[index] = page.translation(of: iova)
      index &+= 1
    }
    counts.plainMisses &+= misses
    counts.hits &+= UInt64(index) &- misses
    return index
  }

  // MARK: Blocks

  /// Looks up where the requests of a block go, all at once, in the IOTLB as it is.
  ///
  /// - Parameters:
  ///   - answers: Those that the IOTLB knows; the others are left without a meaning.
  ///   - misses: The numbers of those others, in order.
  /// - Returns: How many those are.
  /// - Precondition: The device is served; there are `count` addresses, answers and numbers of misses.
  @inline(never)
  mutating func lookUp(
    _ addresses: UnsafePointer<IOVA>, count: Int, _ access: Access,
    into answers: UnsafeMutablePointer<PackedTranslation>, misses: UnsafeMutablePointer<Int>
  ) -> Int {
    let missCount = unsafe caches.value.iotlb.lookUp(
      addresses, count: count, number, access.permission, into: answers, misses: misses)
    counts.hits &+= UInt64(count &- missCount)
    return missCount
  }

  /// The pages of a block's misses, all read at once; `false` when their tables have no such way, or
  /// other caches have to be asked one by one.
  mutating func read(_ block: BatchBlock, count: Int, _ access: Access) -> Bool {
    guard caches.value.hasPlainWalks, let ways, hostLevels == 0 else { return false }
    let way = access == .read ? ways.read : ways.write
    if blockWay?.isSame(as: way) != true {
      block.forgetRegions()
      blockWay = way
    }
    // Safe: a block has room for as many as it can miss.
    let addresses = unsafe UnsafeBufferPointer(start: block.addresses, count: count)
    let found = unsafe UnsafeMutableBufferPointer(start: block.pages, count: count)
    if let regions = block.regions {
      var store = regions.regions(for: access, keepingLowBits: true)
      unsafe way.pages(of: addresses, into: found, remembering: &store)
    } else {
      var none = NoRegions()
      unsafe way.pages(of: addresses, into: found, remembering: &none)
    }
    return true
  }

  /// Answers misses of a block in their order by pages that were read for them; what it learns goes
  /// into the IOTLB.
  ///
  /// - Parameter next: The number of the first of the misses to answer; afterwards that of one that
  ///   needs another way, or of one behind the last.
  /// - Precondition: The device is served, and the block's requests have as many answers.
  @inline(never)
  mutating func fill(
    _ block: BatchBlock, next: inout Int, count: Int, _ access: Access,
    into answers: UnsafeMutablePointer<PackedTranslation>
  ) {
    let done = unsafe caches.value.iotlb.fill(
      block, next: &next, count: count, number, access.permission, into: answers)
    counts.hits &+= done.hits
    counts.plainMisses &+= done.fills
  }
}

/// What was answered by packed words and is in no counter yet.
struct PageCounts {
  /// By pages that the IOTLB had.
  var hits: UInt64 = 0
  /// By pages of 4 KiB, read through all levels of tables that are not nested.
  var plainMisses: UInt64 = 0
  /// By other pages that were read from tables.
  private var otherMisses: UInt64 = 0
  /// By tables that the paging-structure cache knew.
  private(set) var structureHits: UInt64 = 0
  /// Those other walks by the level that they began at, and by that of their leaf.
  private var begun = Quadwords<8>()
  private var ended = Quadwords<8>()
  /// Second-stage walks of nested ones, by the level of their leaf.
  private var hostEnded = Quadwords<4>()

  /// Pages that were read from tables.
  var misses: UInt64 { plainMisses &+ otherMisses }
  var isAny: Bool { hits | misses != 0 }

  /// A walk through all levels to a page that is not plain.
  mutating func add(_ page: PackedPage, _ notes: PageNotes, isNested: Bool) {
    otherMisses &+= 1
    ended[isNested ? notes.lowestTable : page.leafLevel] &+= 1
    guard isNested else { return }
    for level in 1...3 { hostEnded[level] &+= notes.hostLeaves[level] }
  }

  /// A walk that began at `level`, where a table was known or at the root.
  @inline(__always)
  mutating func add(_ page: PackedPage, from level: Int, isKnown: Bool) {
    otherMisses &+= 1
    ended[page.leafLevel] &+= 1
    guard isKnown else { return }
    structureHits &+= 1
    begun[level] &+= 1
  }

  /// Entries of `level` that were read, of the stage that requests meet first and that has so many
  /// levels.
  func entries(level: Int, of levels: Int) -> UInt64 {
    guard level <= levels else { return 0 }
    var count = plainMisses
    for leaf in 1...level { count &+= ended[leaf] }
    for start in 1..<level { count &-= begun[start] }
    return count
  }

  /// Entries of `level` that were read of a second stage of `levels` under a first.
  func hostEntries(level: Int, of levels: Int) -> UInt64 {
    level > levels ? 0 : (1...3).reduce(0) { $0 + ($1 <= level ? hostEnded[$1] : 0) }
  }
}
