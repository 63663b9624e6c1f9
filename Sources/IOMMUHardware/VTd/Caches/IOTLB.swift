import IOMMUFormats
import IOMMUTranslation

/// A page in the IOTLB, with what invalidations ask for.
struct IOTLBEntry: Hashable {
  var page: MappedPage
  /// First stage or nested; otherwise second stage.
  var usesFirstStage: Bool
  /// The first address that the page serves.
  var address: UInt64
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

/// The pages that a port remembers: sets of two words each, a tag and a page.
///
/// Requesters, domains and PASIDs are far wider than a word; the IOTLB gives a number to each
/// combination that it meets, and its tags have that number. An unbounded IOTLB doubles its sets when
/// one is full; of a bounded one's full set the entries give way in turn.
struct IOTLB: ~Copyable {
  private(set) var counters = CacheCounters()
  /// Entries in the IOTLB.
  private(set) var count = 0
  private var sets: Sets
  private let grows: Bool
  private var nextVictim = 0
  /// Pages larger than 4 KiB that were ever kept: only their sizes are looked up.
  private(set) var hasLargePages = false
  private var spaces: [IOTLBSpace] = []
  private var numbers: [IOTLBSpace: UInt64] = [:]

  init(_ geometry: CacheConfiguration.Geometry) {
    let shape = CacheShape(geometry)
    grows = shape.grows
    sets = Sets(shape)
  }

  deinit { sets.deallocate() }

  /// Whether the IOTLB keeps anything at all.
  var keepsEntries: Bool { sets.ways > 0 }

  /// The words of all entries, by slot.
  ///
  /// A value of four words: a loop that has a copy of it reads them once, whatever it stores. Safe as
  /// long as the IOTLB is there that it belongs to, and has not doubled its sets: slots are of sets,
  /// which are numbers masked by `mask`, and of ways.
  @safe
  struct Sets {
    /// 0 where a slot is free.
    private var tags: UnsafeMutablePointer<UInt64>
    private var pages: UnsafeMutablePointer<UInt64>
    private(set) var mask: Int
    let ways: Int
  }

  // MARK: Tags

  /// The number of a space, in the place where tags have it: bits 18:3. It stays the same until the
  /// IOTLB forgets everything.
  ///
  /// Of more spaces than there are numbers nothing is kept: the number that they get finds nothing.
  mutating func number(of space: IOTLBSpace) -> UInt64 {
    if let number = numbers[space] { return number }
    guard spaces.count < Self.spaceLimit else { return .max }
    let number = UInt64(spaces.count) << 3
    spaces.append(space)
    numbers[space] = number
    return number
  }

  private static var spaceLimit: Int { 1 << 16 }

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
  private static func smallPageTag(_ number: UInt64, _ address: UInt64) -> UInt64 {
    (address &>> 12) &<< 19 | number | 1
  }

  private static func sizeLog2(of tag: UInt64) -> Int { VTd.Paging.sizeLog2(level: Int(tag & 3)) }

  // MARK: Look-ups

  /// What is known of the 4 KiB page of an address and holds for all requests; counts nothing.
  @inline(__always)
  func packedPage(_ number: UInt64, _ address: UInt64) -> PackedPage {
    let word = sets.word(of: Self.smallPageTag(number, address))
    return PackedPage(rawValue: address &>> 57 == 0 ? word : 0)
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
    unsafe sets.ways == 4
      ? Self.lookUp(addresses, count, number, needs, sets, ways: 4, answers, misses)
      : Self.lookUp(addresses, count, number, needs, sets, ways: sets.ways, answers, misses)
  }

  @inline(__always)
  private static func lookUp(
    _ addresses: UnsafePointer<IOVA>, _ count: Int, _ number: UInt64, _ needs: Permissions,
    _ sets: Sets, ways: Int, _ answers: UnsafeMutablePointer<PackedTranslation>,
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
  ///   - next: The number of the first of the misses to answer; afterwards that of one that needs all
  ///     steps, or of one behind the last.
  ///   - answers: Of the whole block.
  /// - Returns: How many found a page that had come in, and how many pages came in.
  /// - Precondition: The IOTLB keeps entries, and those of this number.
  mutating func fill(
    _ block: BatchBlock, next: inout Int, count missCount: Int, _ number: UInt64,
    _ needs: Permissions, into answers: UnsafeMutablePointer<PackedTranslation>
  ) -> (hits: UInt64, fills: UInt64) {
    unsafe sets.ways == 4
      ? fill(block, &next, missCount, number, needs, ways: 4, answers)
      : fill(block, &next, missCount, number, needs, ways: sets.ways, answers)
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
    while index < missCount, count < sets.slotCount || grows {
      let address = unsafe addresses[index]
      let tag = Self.smallPageTag(number, address.rawValue)
      let known = PackedPage(rawValue: sets.word(of: tag))
      let page = known == .unknown ? unsafe pages[index] : known
      guard page.lacks(needed) == 0 else { break }
      if known == .unknown {
        insertAbsent(MappedPage.iotlbWord(secondStage: page), under: tag)
        fills &+= 1
      } else {
        hits &+= 1
      }
      unsafe answers[misses[index]] = page.translation(of: address)
      index &+= 1
    }
    let sets = self.sets
    if count == sets.slotCount, !grows {
      var victim = nextVictim
      var evictions: UInt64 = 0
      while index < missCount {
        let address = unsafe addresses[index]
        let tag = Self.smallPageTag(number, address.rawValue)
        let first = sets.firstSlot(of: tag, ways: ways)
        var page = unsafe pages[index]
        if likely(!sets.hold(tag, from: first, ways: ways)) {
          guard likely(page.lacks(needed) == 0) else { break }
          victim = Self.next(after: victim, ways: ways)
          sets.store(MappedPage.iotlbWord(secondStage: page), under: tag, in: first &+ victim)
          evictions &+= 1
        } else {
          page = PackedPage(rawValue: sets.word(of: tag, from: first, ways: ways))
          guard page.lacks(needed) == 0 else { break }
          hits &+= 1
        }
        unsafe answers[misses[index]] = page.translation(of: address)
        index &+= 1
      }
      nextVictim = victim
      counters.evictions &+= evictions
      fills &+= evictions
    }
    next = index
    return (hits, fills)
  }

  /// The page of an address, whatever its size; counts one hit or miss.
  mutating func page(_ number: UInt64, _ address: UInt64) -> MappedPage? {
    var page = page(number, address, sizeLog2: 12)
    if hasLargePages, page == nil {
      page = self.page(number, address, sizeLog2: 21) ?? self.page(number, address, sizeLog2: 30)
    }
    count(hit: page != nil)
    return page
  }

  @inline(__always)
  private func page(_ number: UInt64, _ address: UInt64, sizeLog2: Int) -> MappedPage? {
    guard let tag = Self.tag(number, address, sizeLog2: sizeLog2) else { return nil }
    let word = sets.word(of: tag)
    return word == 0 ? nil : MappedPage(iotlbWord: word, sizeLog2: sizeLog2)
  }

  /// Counts look-ups that were answered, or not, without ``page(_:_:)``.
  @inline(__always)
  mutating func count(hit: Bool, times: UInt64 = 1) {
    if hit { counters.hits &+= times } else { counters.misses &+= times }
  }

  // MARK: Changes

  /// Keeps the page of an address, in the place of an older one.
  mutating func insert(
    _ page: MappedPage, usesFirstStage: Bool, of address: UInt64, _ number: UInt64
  ) {
    guard keepsEntries, number != .max,
      let tag = Self.tag(number, address, sizeLog2: page.sizeLog2)
    else { return }
    if page.sizeLog2 > 12 { hasLargePages = true }
    let word = page.iotlbWord(usesFirstStage: usesFirstStage)
    if let slot = sets.slot(of: tag) {
      sets.store(word, under: tag, in: slot)
    } else {
      insertAbsent(word, under: tag)
    }
  }

  private mutating func insertAbsent(_ word: UInt64, under tag: UInt64) {
    while grows, sets.slotCount * 2 <= CacheShape.limit, sets.freeSlot(for: tag) == nil {
      sets.double()
    }
    if let slot = sets.freeSlot(for: tag) {
      count += 1
      sets.store(word, under: tag, in: slot)
    } else {
      nextVictim = Self.next(after: nextVictim, ways: sets.ways)
      counters.evictions += 1
      sets.store(word, under: tag, in: sets.firstSlot(of: tag, ways: sets.ways) + nextVictim)
    }
  }

  /// Ways give up their entries in turn.
  @inline(__always)
  private static func next(after way: Int, ways: Int) -> Int { way &+ 1 < ways ? way &+ 1 : 0 }

  // MARK: Invalidations

  /// Drops the entries that `isNamed` says.
  mutating func invalidate(where isNamed: (IOTLBEntry) -> Bool) {
    guard count > 0 else { return }
    for slot in 0..<sets.slotCount {
      guard let entry = entry(slot), isNamed(entry) else { continue }
      sets.free(slot)
      count -= 1
      counters.invalidations += 1
    }
  }

  mutating func invalidateAll() {
    invalidate { _ in true }
    hasLargePages = false
    if spaces.count == Self.spaceLimit { (spaces, numbers) = ([], [:]) }
  }

  private func entry(_ slot: Int) -> IOTLBEntry? {
    let (tag, word) = sets.words(in: slot)
    guard tag != 0 else { return nil }
    let sizeLog2 = Self.sizeLog2(of: tag)
    return IOTLBEntry(
      page: MappedPage(iotlbWord: word, sizeLog2: sizeLog2),
      usesFirstStage: word & MappedPage.usesFirstStageBit != 0,
      address: (tag >> 19) << 12 | (tag & 4 == 0 ? 0 : 0x7f << 57),
      space: spaces[Int(tag >> 3 & 0xffff)])
  }
}

extension IOTLB.Sets {
  init(_ shape: CacheShape) {
    // One that keeps nothing has one set of no ways: a look-up finds nothing there.
    ways = shape.sets == 0 ? 0 : shape.ways
    mask = max(1, shape.sets) - 1
    let slotCount = (mask + 1) * ways
    unsafe tags = .allocate(capacity: slotCount)
    unsafe tags.initialize(repeating: 0, count: slotCount)
    unsafe pages = .allocate(capacity: slotCount)
    unsafe pages.initialize(repeating: 0, count: slotCount)
  }

  /// Once, by the IOTLB that the sets belong to.
  func deallocate() {
    unsafe tags.deallocate()
    unsafe pages.deallocate()
  }

  @inline(__always)
  var slotCount: Int { (mask &+ 1) &* ways }

  @inline(__always)
  func firstSlot(of tag: UInt64, ways: Int) -> Int {
    // Page numbers differ in their low bits: mix them upwards.
    let mixed = tag &* 0x9e37_79b9_7f4a_7c15
    return (Int(truncatingIfNeeded: mixed &>> 44) & mask) &* ways
  }

  /// The page under a tag, 0 when there is none.
  ///
  /// Looks at all ways and adds up what they answer, so that no jump depends on where the entry is,
  /// or whether it is.
  @inline(__always)
  func word(of tag: UInt64, from first: Int, ways: Int) -> UInt64 {
    // Safe: `first` is that of a set, and `ways` are in it.
    if ways == 4 {
      let isFound =
        unsafe UnsafeRawPointer(tags + first).loadUnaligned(as: SIMD4<UInt64>.self)
        .== SIMD4(repeating: tag)
      let words = unsafe UnsafeRawPointer(pages + first).loadUnaligned(as: SIMD4<UInt64>.self)
      return SIMD4(repeating: 0).replacing(with: words, where: isFound).wrappedSum()
    }
    var word: UInt64 = 0
    for slot in first..<(first &+ ways) { word |= unsafe tags[slot] == tag ? pages[slot] : 0 }
    return word
  }

  /// Whether there is a page under a tag that hardly ever has one.
  ///
  /// Word by word: a load of several words waits for the stores of one that came just before.
  @inline(__always)
  func hold(_ tag: UInt64, from first: Int, ways: Int) -> Bool {
    var way = 0
    while way < ways {
      if unsafe !likely(tags[first &+ way] != tag) { return true }
      way &+= 1
    }
    return false
  }

  /// The page under a tag, 0 when there is none.
  @inline(__always)
  func word(of tag: UInt64) -> UInt64 {
    // With a constant the look at all ways is no loop.
    ways == 4
      ? word(of: tag, from: firstSlot(of: tag, ways: 4), ways: 4)
      : word(of: tag, from: firstSlot(of: tag, ways: ways), ways: ways)
  }

  /// The slot in a tag's set that has this tag; 0 finds a free one.
  private func slot(with wanted: UInt64, inSetOf tag: UInt64) -> Int? {
    let first = firstSlot(of: tag, ways: ways)
    return (first..<first + ways).first { unsafe tags[$0] == wanted }
  }

  func slot(of tag: UInt64) -> Int? { slot(with: tag, inSetOf: tag) }
  func freeSlot(for tag: UInt64) -> Int? { slot(with: 0, inSetOf: tag) }

  /// - Parameter slot: One of the tag's set, like all that are passed here.
  @inline(__always)
  func store(_ word: UInt64, under tag: UInt64, in slot: Int) {
    unsafe tags[slot] = tag
    unsafe pages[slot] = word
  }

  func words(in slot: Int) -> (tag: UInt64, page: UInt64) { unsafe (tags[slot], pages[slot]) }
  func free(_ slot: Int) { unsafe tags[slot] = 0 }

  mutating func double() {
    let old = self
    self = IOTLB.Sets(CacheShape(sets: (mask + 1) * 2, ways: ways, grows: true))
    // A set's entries go to that set or to the one that its upper bit adds: they all find room.
    for slot in 0..<old.slotCount {
      let (tag, page) = old.words(in: slot)
      if tag != 0 { store(page, under: tag, in: freeSlot(for: tag)!) }
    }
    old.deallocate()
  }
}

extension MappedPage {
  // A page as the IOTLB keeps it: bits 2:0 as in a `PackedPage`, D among them; bits 5:3 what the first
  // stage allows, bits 7:6 what the second does; bit 8 that there is a first stage.

  fileprivate static var usesFirstStageBit: UInt64 { 1 << 8 }

  fileprivate func iotlbWord(usesFirstStage: Bool) -> UInt64 {
    page.rawValue | PackedPage(self).rawValue & 3 | (isDirty ? 4 : 0)
      | UInt64(firstStage.rawValue) << 3 | UInt64(secondStage.intersection(.readWrite).rawValue)
      << 6
      | (usesFirstStage ? Self.usesFirstStageBit : 0)
  }

  @inline(__always)
  fileprivate static func iotlbWord(secondStage page: PackedPage) -> UInt64 {
    page.rawValue | UInt64(unrestricted.rawValue) << 3 | (page.rawValue & 3) << 6
  }

  fileprivate init(iotlbWord word: UInt64, sizeLog2: Int) {
    self.init(
      page: PhysicalAddress(word & 0xf_ffff_ffff_f000), sizeLog2: sizeLog2,
      firstStage: Permissions(rawValue: UInt8(truncatingIfNeeded: word >> 3 & 7)),
      secondStage: Permissions(rawValue: UInt8(truncatingIfNeeded: word >> 6 & 3)),
      isDirty: word & 4 != 0)
  }
}
