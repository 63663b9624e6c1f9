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
  /// The device whose requests without PASID those are, where the IOTLB has four ways; otherwise none.
  private var requesterOfFour = UInt32.max
  /// The space's in the IOTLB.
  private var number: UInt64 = 0
  /// Of its tables in the paging-structure cache.
  private var structureNumber: UInt64 = .max
  private var rules = VTd.Rules()
  /// The ways to its pages, while its tables have some that the port can go.
  private var ways: Ways?
  /// The same where a page is found by reading tables of one stage from their root, and nothing else.
  private var plainWays: Ways?
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
    let requester = Requester(rawValue: UInt16(truncatingIfNeeded: key))
    requesterOfFour =
      key == requester.spaceKey && caches.value.iotlb.ways == 4
      ? UInt32(requester.rawValue) : .max
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
    plainWays = keepsStructures || hostLevels > 0 ? nil : ways
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
    requesterOfFour = .max
    ways = nil
    plainWays = nil
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

  // Interrupt addresses have no page in the IOTLB without a PASID.

  /// What the IOTLB knows of the page of a plain DMA without PASID.
  ///
  /// - Precondition: The device is served.
  @inline(__always)
  func smallPage(_ iova: IOVA) -> PackedPage { caches.value.iotlb.smallPage(number, iova.rawValue) }

  /// Whether plain DMAs of a device are answered from here now, and by an IOTLB of four ways, as most have:
  /// it is looked up with fewer steps.
  @inline(__always)
  func isServingByFour(_ requester: Requester) -> Bool {
    requesterOfFour == UInt32(requester.rawValue)
  }

  /// Where the page of a plain DMA belongs; those of 2^57 and more have the places of others.
  ///
  /// - Precondition: ``isServingByFour(_:)``.
  @inline(__always)
  func place(of iova: IOVA) -> WordPlace { caches.value.iotlb.placeInFour(number, iova.rawValue) }

  /// What the IOTLB has there.
  @inline(__always)
  func page(at place: WordPlace) -> PackedPage? { caches.value.iotlb.page(at: place) }

  /// Counts a request that ``smallPage(_:)`` answered.
  @inline(__always)
  mutating func countHit() { counts.hits &+= 1 }

  /// Whether plain DMAs of a device are answered from here now.
  @inline(__always)
  func isServing(_ requester: Requester) -> Bool { key == requester.spaceKey }

  /// The page of 4 KiB of an address that the IOTLB does not know, by a walk through all levels of one
  /// stage; it goes into the IOTLB. Unknown for what is not so plain, which ``read(_:_:known:)`` knows of.
  ///
  /// - Precondition: ``isServingByFour(_:)`` holds of the requester.
  @inline(__always)
  mutating func readPlain(_ iova: IOVA, _ access: Access, at place: WordPlace) -> PackedPage {
    guard let ways = plainWays, likely(!caches.value.iotlb.hasLargePages),
      likely(caches.value.iotlb.isFull)
    else { return .unknown }
    let way = access == .read ? ways.read : ways.write
    let page = way.smallPage(of: iova)
    guard likely(page != .unknown) else { return .unknown }
    caches.value.iotlb.insertAbsentSmall(page, at: place)
    counts.plainMisses &+= 1
    return page
  }

  /// A page is found by reading tables of one stage from their root, and nothing else.
  @inline(__always)
  var walksPlainly: Bool { plainWays != nil }

  /// The same through tables of two stages, or from the lowest table that is known.
  @inline(__always)
  mutating func readOther(_ iova: IOVA, _ access: Access, at place: WordPlace) -> PackedPage {
    guard let ways, likely(!caches.value.iotlb.hasLargePages),
      likely(caches.value.iotlb.isFull), likely(iova.rawValue &>> 57 == 0)
    else { return .unknown }
    let way = access == .read ? ways.read : ways.write
    var start: Int?
    var page: PackedPage
    if hostLevels > 0 {
      page = way.nestedPage(of: iova.rawValue, &notes)
    } else {
      (page, start) = pageByStructures(iova, way)
    }
    guard likely(page.allows(access.permission)), likely(page.leafLevel == 1) else {
      return .unknown
    }
    if hostLevels > 0 {
      counts.add(page, notes, isNested: true)
    } else {
      keepStructures(of: iova, page, from: start)
    }
    caches.value.iotlb.insertAbsentSmall(page, at: place)
    return page
  }

  /// The page of an address that the IOTLB has no plain 4 KiB page of, by a larger one in the IOTLB or
  /// by the tables; what it learns goes into the caches. Unknown for what needs all steps.
  ///
  /// - Parameter known: What the IOTLB has of the 4 KiB page.
  /// - Precondition: A space is served, and the address is of it.
  mutating func read(_ iova: IOVA, _ access: Access, known: PackedPage) -> PackedPage {
    guard let ways, known == .unknown, iova.rawValue &>> 57 == 0 else { return .unknown }
    let way = access == .read ? ways.read : ways.write
    guard !keepsStructures, !caches.value.iotlb.hasLargePages else {
      return readByCaches(iova, access, way)
    }
    return readAll(iova, access, way)
  }

  /// By a walk through all levels.
  private mutating func readAll(_ iova: IOVA, _ access: Access, _ way: PageWay) -> PackedPage {
    let page = way.page(of: iova, &notes)
    guard page.allows(access.permission) else { return .unknown }
    keep(page, of: iova)
    return page
  }

  /// Keeps a page.
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
    guard address &>> 57 == 0 else { return .unknown }
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
    let (page, start) = pageByStructures(iova, way)
    // If not, all steps ask the cache themselves.
    guard page.allows(access.permission) else { return .unknown }
    keepStructures(of: iova, page, from: start)
    caches.value.iotlb.insertAbsent(page, of: address, number)
    return page
  }

  /// What tables say from the lowest one on that the paging-structure cache knows.
  ///
  /// - Returns: The page, and the level of that table; `nil` for the root.
  @inline(__always)
  private mutating func pageByStructures(
    _ iova: IOVA, _ way: PageWay
  ) -> (page: PackedPage, start: Int?) {
    let known = caches.value.structures.lowestTable(
      for: iova.rawValue, structureNumber, below: levels)
    let page = way.page(
      of: iova, from: known?.table ?? way.root, level: known?.level ?? levels, &notes)
    return (page, known?.level)
  }

  /// Keeps the tables that the walk to a page went down to, and counts it.
  @inline(__always)
  private mutating func keepStructures(of iova: IOVA, _ page: PackedPage, from start: Int?) {
    // None of them is there, for the lowest was looked for.
    var lower = (start ?? levels) &- 1
    while lower >= page.leafLevel, structureNumber != .max {
      caches.value.structures.insertAbsent(
        PackedTable(rawValue: notes.tables[lower]), level: lower, for: iova.rawValue,
        structureNumber)
      lower &-= 1
    }
    counts.add(page, from: start ?? levels, isKnown: start != nil)
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
    guard let ways, !caches.value.iotlb.hasLargePages, hostLevels == 0, first &>> 57 == 0 else {
      return 0
    }
    let way = access == .read ? ways.read : ways.write
    // Pages of 2^57 and more have other tags.
    let count = min(count, Int((1 << 57 &- first) &>> 12))
    var (done, fills) = (0, 0)
    while done < count {
      let start = first &+ UInt64(truncatingIfNeeded: done) &<< 12
      let offset = Int(truncatingIfNeeded: start &>> 12) & (RowHints.pageCount &- 1)
      // Safe: there is an answer for each page.
      let row = unsafe IOTLB.Row(
        first: start, count: min(count &- done, RowHints.pageCount &- offset), number: number,
        needed: PackedPage.needed(access.permission), answers: answers + done)
      var answered = caches.value.iotlb.answerKnown(row, from: 0)
      if answered < row.count { (answered, fills) = answerRest(row, answered, way, fills) }
      done &+= answered
      guard answered == row.count else { break }
    }
    counts.hits &+= UInt64(truncatingIfNeeded: done &- fills)
    if keepsStructures {
      counts.addKnownRows(UInt64(truncatingIfNeeded: fills))
    } else {
      counts.plainMisses &+= UInt64(truncatingIfNeeded: fills)
    }
    return done
  }

  /// Answers what is left of a row: pages that are not where they were, and new ones.
  ///
  /// - Parameters:
  ///   - start: The number of the first of them.
  ///   - fills: Pages that have come in for this request.
  /// - Returns: How many pages of the row are answered, and how many have come in then.
  @inline(never)
  private mutating func answerRest(
    _ row: IOTLB.Row, _ start: Int, _ way: PageWay, _ fills: Int
  ) -> (answered: Int, fills: Int) {
    var (index, fills) = (start, fills)
    var table = PageRow.unknown
    while index < row.count {
      if caches.value.iotlb.answerElsewhere(row, index) {
        index = caches.value.iotlb.answerKnown(row, from: index &+ 1)
        continue
      }
      if !table.isKnown { table = self.table(of: IOVA(row.address(index)), way) }
      guard table.isKnown else { break }
      let next = caches.value.iotlb.answerNew(row, from: index, way, in: table)
      guard next > index else { break }
      fills &+= next &- index
      index = caches.value.iotlb.answerKnown(row, from: next)
    }
    return (index, fills)
  }

  /// The table that a page's row lies in: what the paging-structure cache knows, where there is one.
  ///
  /// Mutating, so that nothing is copied for it.
  private mutating func table(of iova: IOVA, _ way: PageWay) -> PageRow {
    guard keepsStructures else { return way.row(of: iova) }
    let known = caches.value.structures.lowestTable(
      for: iova.rawValue, structureNumber, below: levels)
    guard let known, known.level == 1 else { return .unknown }
    return way.row(of: iova, in: known.table)
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

  /// Walks that began at tables of level 1, which were known.
  @inline(__always)
  mutating func addKnownRows(_ pages: UInt64) {
    otherMisses &+= pages
    ended[1] &+= pages
    structureHits &+= pages
    begun[1] &+= pages
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
