import IOMMUFormats
import IOMMUTranslation

/// A page in the IOTLB, with what invalidations ask for.
struct IOTLBEntry: Hashable {
  /// First stage or nested; otherwise second stage.
  var usesFirstStage: Bool
  /// The first address that the page serves, and how many bits of address.
  var address: UInt64
  var sizeLog2: Int
  var space: IOTLBSpace
}

/// Whose pages: an IOTLB's tag without the address. Specification: Intel VT-d 6.2.4.
struct IOTLBSpace: Hashable {
  var requester: Requester
  var domainID: UInt16
  /// RID_PASID for requests without PASID; 0 in legacy mode.
  var pasid: PASID
  var hasPASID: Bool
  var isScalable: Bool
}

/// The pages that a port remembers, as ``PackedPage`` words.
struct IOTLB: ~Copyable {
  var cache: WordCache<IOTLBSpace>
  /// Where pages in a row were last.
  var rowHints = RowHints()
  /// Pages larger than 4 KiB that were ever kept: only their sizes are looked up.
  private(set) var hasLargePages = false

  init(_ geometry: CacheConfiguration.Geometry) { cache = WordCache(geometry) }

  var counters: CacheCounters { cache.counters }
  /// Whether the IOTLB keeps anything at all.
  var keepsEntries: Bool { cache.keepsEntries }
  @inline(__always)
  var ways: Int { cache.sets.ways }
  /// Nothing is free: each new page takes the place of another.
  @inline(__always)
  var isFull: Bool { cache.isFull }

  // MARK: Tags

  /// The number that tags have for a space.
  mutating func number(of space: IOTLBSpace) -> UInt64 { cache.number(of: space) }

  /// The tag of the page of 2^`sizeLog2` bytes that an address lies in. Bits 63:19 are bits 56:12 of
  /// the page's first address; bits 18:3 the space's number; bit 2 is one of bits 63:57 of the
  /// address, all alike in what tables translate; bits 1:0 tell 4 KiB, 2 MiB and 1 GiB as 1, 2 and 3.
  ///
  /// `nil` for other addresses.
  @inline(__always)
  private static func tag(_ number: UInt64, _ address: UInt64, sizeLog2: Int) -> UInt64? {
    let size = UInt64(truncatingIfNeeded: sizeLog2)
    let upper = address &>> 57
    guard upper == 0 || upper == 0x7f else { return nil }
    return (address &>> size) &<< (size &+ 7) | number | upper & 4 | (size &- 3) / 9
  }

  /// The tag of the 4 KiB page of an address below 2^57.
  @inline(__always)
  static func smallPageTag(_ number: UInt64, _ address: UInt64) -> UInt64 {
    (address &>> 12) &<< 19 | number | 1
  }

  private static func sizeLog2(of tag: UInt64) -> Int { VTd.Paging.sizeLog2(level: Int(tag & 3)) }

  // MARK: Look-ups

  /// What is known of the 4 KiB page of an address; counts nothing.
  @inline(__always)
  func smallPage(_ number: UInt64, _ address: UInt64) -> PackedPage {
    let word = cache.word(of: Self.smallPageTag(number, address))
    return PackedPage(rawValue: address &>> 57 == 0 ? word : 0)
  }

  /// Where the 4 KiB page of an address below 2^57 belongs, in an IOTLB of four ways.
  @inline(__always)
  func placeInFour(_ number: UInt64, _ address: UInt64) -> WordPlace {
    let tag = Self.smallPageTag(number, address)
    return WordPlace(tag: tag, first: cache.sets.firstSlot(of: tag, ways: 4))
  }

  /// The page that belongs there; `nil` when it is not known.
  @inline(__always)
  func page(at place: WordPlace) -> PackedPage? {
    let slot = cache.sets.candidate(for: place.tag, inFour: place.first)
    guard likely(cache.sets.hold(place.tag, in: slot)) else { return nil }
    return PackedPage(rawValue: cache.sets.value(in: slot))
  }

  /// The larger page of an address, where one is known; counts nothing.
  func largePage(_ number: UInt64, _ address: UInt64) -> PackedPage {
    for sizeLog2 in [21, 30] {
      guard let tag = Self.tag(number, address, sizeLog2: sizeLog2) else { return .unknown }
      let word = cache.word(of: tag)
      if word != 0 { return PackedPage(rawValue: word) }
    }
    return .unknown
  }

  /// The page of an address, whatever its size; counts one hit or miss.
  mutating func page(_ number: UInt64, _ address: UInt64) -> MappedPage? {
    var page = PackedPage.unknown
    if let tag = Self.tag(number, address, sizeLog2: 12) {
      page = PackedPage(rawValue: cache.word(of: tag))
    }
    if hasLargePages, page == .unknown { page = largePage(number, address) }
    count(hit: page != .unknown)
    return page == .unknown ? nil : MappedPage(page)
  }

  /// Looks up all requests of a block in the IOTLB as it is; counts nothing.
  ///
  /// - Parameters:
  ///   - addresses: Below 2^57.
  ///   - answers: Those that are known; the others are left without a meaning.
  ///   - misses: The numbers of those others, in order.
  /// - Returns: How many those are.
  func lookUp(
    _ addresses: UnsafePointer<IOVA>, count: Int, _ number: UInt64, _ needs: Permissions,
    into answers: UnsafeMutablePointer<PackedTranslation>, misses: UnsafeMutablePointer<Int>
  ) -> Int {
    let sets = cache.sets
    return unsafe sets.ways == 4
      ? Self.lookUp(addresses, count, number, needs, sets, ways: 4, answers, misses)
      : Self.lookUp(addresses, count, number, needs, sets, ways: sets.ways, answers, misses)
  }

  @inline(__always)
  private static func lookUp(
    _ addresses: UnsafePointer<IOVA>, _ count: Int, _ number: UInt64, _ needs: Permissions,
    _ sets: WordSets, ways: Int, _ answers: UnsafeMutablePointer<PackedTranslation>,
    _ misses: UnsafeMutablePointer<Int>
  ) -> Int {
    let needed = PackedPage.needed(needs)
    var missCount = 0
    var index = 0
    // Safe: indices are below `count`, and there is at most one miss for each of them.
    while index < count {
      let address = unsafe addresses[index]
      let tag = smallPageTag(number, address.rawValue)
      let word = sets.word(of: tag, from: sets.firstSlot(of: tag, ways: ways), ways: ways)
      let page = PackedPage(rawValue: word)
      unsafe answers[index] = page.translation(of: address)
      unsafe misses[missCount] = index
      // A sum, since a jump would go this way and that.
      missCount &+= page.lacks(needed)
      index &+= 1
    }
    return missCount
  }

  /// Answers misses of a block in their order by pages that were read for them, and keeps those; a
  /// page that has come in meanwhile answers first.
  ///
  /// - Parameters:
  ///   - next: The number of the first of the misses to answer; afterwards that of one that needs
  ///     another way, or of one behind the last.
  ///   - answers: Of the whole block.
  /// - Returns: How many found a page that had come in, and how many pages came in.
  /// - Precondition: The IOTLB keeps entries, and those of this number.
  mutating func fill(
    _ block: BatchBlock, next: inout Int, count missCount: Int, _ number: UInt64,
    _ needs: Permissions, into answers: UnsafeMutablePointer<PackedTranslation>
  ) -> (hits: UInt64, fills: UInt64) {
    unsafe cache.sets.ways == 4
      ? fill(block, &next, missCount, number, needs, ways: 4, answers)
      : fill(block, &next, missCount, number, needs, ways: cache.sets.ways, answers)
  }

  @inline(__always)
  private mutating func fill(
    _ block: BatchBlock, _ next: inout Int, _ missCount: Int, _ number: UInt64,
    _ needs: Permissions, ways: Int, _ answers: UnsafeMutablePointer<PackedTranslation>
  ) -> (hits: UInt64, fills: UInt64) {
    let needed = PackedPage.needed(needs)
    // Safe: indices are below `missCount`, and a miss has the number of one of the block's requests.
    let (addresses, pages, misses) = unsafe (block.addresses, block.pages, block.misses)
    var (hits, fills): (UInt64, UInt64) = (0, 0)
    var index = next
    // While there are free slots, and while sets double.
    while index < missCount, !cache.isFull {
      let address = unsafe addresses[index]
      let tag = Self.smallPageTag(number, address.rawValue)
      let known = PackedPage(rawValue: cache.word(of: tag))
      let page = known == .unknown ? unsafe pages[index] : known
      guard page.lacks(needed) == 0 else { break }
      if known == .unknown {
        cache.insertAbsent(page.rawValue, under: tag)
        fills &+= 1
      } else {
        hits &+= 1
      }
      unsafe answers[misses[index]] = page.translation(of: address)
      index &+= 1
    }
    if cache.isFull {
      let sets = cache.sets
      var victim = cache.lastVictim
      var evictions: UInt64 = 0
      while index < missCount {
        let address = unsafe addresses[index]
        let tag = Self.smallPageTag(number, address.rawValue)
        let first = sets.firstSlot(of: tag, ways: ways)
        var page = unsafe pages[index]
        if likely(!sets.hold(tag, from: first, ways: ways)) {
          guard likely(page.lacks(needed) == 0) else { break }
          victim = WordSets.next(after: victim, ways: ways)
          sets.store(page.rawValue, under: tag, in: first &+ victim)
          evictions &+= 1
        } else {
          page = PackedPage(rawValue: sets.word(of: tag, from: first, ways: ways))
          guard page.lacks(needed) == 0 else { break }
          hits &+= 1
        }
        unsafe answers[misses[index]] = page.translation(of: address)
        index &+= 1
      }
      cache.settle(evictions: evictions, victim: victim)
      fills &+= evictions
    }
    next = index
    return (hits, fills)
  }

  /// Counts look-ups that were answered, or not, without ``page(_:_:)``.
  @inline(__always)
  mutating func count(hit: Bool, times: UInt64 = 1) { cache.count(hit: hit, times: times) }

  // MARK: Changes

  /// Keeps the page of an address, in the place of an older one.
  mutating func insert(_ page: PackedPage, of address: UInt64, _ number: UInt64) {
    guard keepsEntries, number != .max,
      let tag = Self.tag(number, address, sizeLog2: page.sizeLog2)
    else { return }
    if page.sizeLog2 > 12 { hasLargePages = true }
    cache.insert(page.rawValue, under: tag)
  }

  /// The same for a page that is not there, of an address below 2^57.
  ///
  /// - Precondition: The IOTLB keeps entries, and those of this number.
  @inline(__always)
  mutating func insertAbsent(_ page: PackedPage, of address: UInt64, _ number: UInt64) {
    guard likely(page.leafLevel == 1) else { return insert(page, of: address, number) }
    insertAbsentSmall(page, of: address, number)
  }

  /// The same for a page of 4 KiB.
  @inline(__always)
  mutating func insertAbsentSmall(_ page: PackedPage, of address: UInt64, _ number: UInt64) {
    cache.insertAbsent(page.rawValue, under: Self.smallPageTag(number, address))
  }

  /// The same in an IOTLB of four ways that ``isFull``.
  @inline(__always)
  mutating func insertAbsentSmall(_ page: PackedPage, at place: WordPlace) {
    cache.insertAbsent(page.rawValue, at: place)
  }

  // MARK: Invalidations

  /// Drops the entries that `isNamed` says.
  mutating func invalidate(where isNamed: (IOTLBEntry) -> Bool) {
    cache.invalidate { tag, word, space in
      isNamed(
        IOTLBEntry(
          usesFirstStage: PackedPage(rawValue: word).usesFirstStage,
          address: (tag >> 19) << 12 | (tag & 4 == 0 ? 0 : 0x7f << 57),
          sizeLog2: Self.sizeLog2(of: tag), space: space))
    }
  }

  mutating func invalidateAll() {
    cache.invalidateAll()
    hasLargePages = false
  }
}
