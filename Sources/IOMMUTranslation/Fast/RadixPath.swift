import IOMMUFormats

/// One masked compare that an entry has to pass: permission, page size, reserved bits and marks
/// together.
@frozen
public struct EntryTest: Sendable {
  @usableFromInline let mask: UInt64
  @usableFromInline let value: UInt64

  /// - Parameters:
  ///   - set: Bits that have to be set.
  ///   - clear: Bits that have to be clear.
  init(set: UInt64, clear: UInt64) {
    mask = set | clear
    // An entry that would have to have a bit both set and clear passes nowhere.
    value = set & clear == 0 ? set : ~mask
  }

  @inlinable @inline(__always)
  func passes(_ entry: UInt64) -> Bool { entry & mask == value }

  /// The same for an entry that has a number as well, where the value has zeros.
  @inlinable @inline(__always)
  func passes(_ entry: UInt64, with number: UInt64) -> Bool { entry & mask == value &+ number }
}

/// How entries of radix tables say what they lead to; a constant wherever it is given.
@frozen
@usableFromInline
enum RadixLayout {
  /// VT-d: the next table is one level down, and a bit makes a page of an entry.
  case impliedLevels
  /// AMD-Vi host tables: bits 11:9 name the next level, 0 for a page; in the lowest tables 7 stands for
  /// a page whose size the address codes.
  case namedLevels

  /// What an entry of `level` has in bits 11:9 besides what its test says, when it leads one level down.
  @inlinable @inline(__always)
  func nextLevel(from level: Int) -> UInt64 {
    self == .namedLevels ? UInt64(truncatingIfNeeded: level &- 1) &<< 9 : 0
  }
}

/// What entries on the way of one kind of access have to look like.
struct EntryTests {
  var pointer: EntryTest
  var page4KiB: EntryTest
  var page2MiB: EntryTest
  var page1GiB: EntryTest
  var dirty: UInt64
}

/// What the short way of one kind of access through radix tables goes by.
@frozen
public struct RadixParameters: Sendable {
  @usableFromInline let window: MemoryWindow
  @usableFromInline let root: UInt64
  /// The last place in the window where a whole table lies.
  @usableFromInline let lastTable: UInt64
  /// The highest address that is translated: the table's width and the device's mask.
  @usableFromInline let lastAddress: UInt64
  /// Bits 51:20 of the interrupt range. Compared with every leaf; as a number in the code it would
  /// take two registers.
  @usableFromInline let interruptRange = UInt32(VTd.interruptAddresses.lowerBound >> 20)
  @usableFromInline let pointer: EntryTest
  @usableFromInline let page4KiB: EntryTest
  @usableFromInline let page2MiB: EntryTest
  @usableFromInline let page1GiB: EntryTest
  /// What the leaf of a page that was written has set; 0 where nothing is.
  @usableFromInline let dirty: UInt64

  /// For a way on which nothing is found.
  init() {
    window = MemoryWindow()
    root = 0
    lastTable = 0
    lastAddress = 0
    let nothing = EntryTest(set: 0, clear: 0)
    (pointer, page4KiB, page2MiB, page1GiB) = (nothing, nothing, nothing, nothing)
    dirty = 0
  }

  /// `nil` unless the root is a table inside the window.
  init?(window: MemoryWindow, root: PhysicalAddress, lastAddress: UInt64, tests: EntryTests) {
    guard window.byteCount >= 4096, root.isAligned(to: 4096),
      root.rawValue <= window.byteCount - 4096
    else { return nil }
    self.init(
      window: window, root: root, lastTable: window.byteCount - 4096, lastAddress: lastAddress,
      tests: tests)
  }

  /// For tables in a guest's addresses: nothing is read by them but through other tables.
  init(
    window: MemoryWindow, guestRoot: PhysicalAddress, lastAddress: UInt64, tests: EntryTests
  ) {
    self.init(
      window: window, root: guestRoot, lastTable: 0, lastAddress: lastAddress, tests: tests)
  }

  private init(
    window: MemoryWindow, root: PhysicalAddress, lastTable: UInt64, lastAddress: UInt64,
    tests: EntryTests
  ) {
    self.window = window
    self.root = root.rawValue
    self.lastTable = lastTable
    self.lastAddress = lastAddress
    pointer = tests.pointer
    page4KiB = tests.page4KiB
    page2MiB = tests.page2MiB
    page1GiB = tests.page1GiB
    dirty = tests.dirty
  }
}

/// The short way of one kind of access through radix tables of three to five levels: one compare for
/// an entry's bits and one for the bounds of the table that it names.
///
/// Knows only the common case: every entry present, permitted, well formed, its table inside the
/// window. Everything else has no answer here, and goes to the one walker, which starts again at the
/// root and names the fault. A short answer is always the walker's answer.
///
/// One pointer: parameters are read where they are needed, and none is copied that is not. Safe as
/// long as the ``ShortPath`` is that it is a part of.
@frozen
@usableFromInline
@safe
struct RadixPath {
  @usableFromInline let place: UnsafePointer<RadixParameters>

  @unsafe
  @inlinable @inline(__always)
  init(_ place: UnsafePointer<RadixParameters>) { unsafe self.place = place }

  @usableFromInline
  var parameters: RadixParameters {
    @inlinable @inline(__always) unsafeAddress { unsafe place }
  }
}

extension RadixPath {
  /// No answer on the short way. No address and no packed answer looks like it.
  @inlinable static var noAnswer: UInt64 { .max }

  /// Not found on the short way. As a place to prefetch it is harmless.
  @inlinable static var unresolved: UInt64 { 7 }

  /// The size of a large page, as it stands in the low bits of its entry's place.
  @frozen
  @usableFromInline
  enum LargePage: UInt64 {
    case size2MiB = 1
    case size1GiB = 2

    @inlinable @inline(__always)
    var sizeLog2: Int { VTd.Paging.sizeLog2(level: self == .size2MiB ? 2 : 3) }

    /// That of an entry of `level`; `nil` where none maps a large page.
    @inlinable @inline(__always)
    init?(level: Int) { self.init(rawValue: UInt64(truncatingIfNeeded: level &- 1)) }
  }

  /// Bits 51:12, where first-stage and second-stage entries keep the address.
  @inlinable @inline(__always)
  static func addressBits(_ entry: UInt64) -> UInt64 {
    VTd.SecondStageEntry(rawValue: entry).address.rawValue
  }

  @inlinable @inline(__always)
  static func place(_ address: UInt64, in table: UInt64, level: Int) -> UInt64 {
    table &+ VTd.Paging.index(of: address, level: level)
      &* UInt64(truncatingIfNeeded: VTd.SecondStageEntry.byteCount)
  }

  /// What is needed again at each level, read once: loads that wait to retire are what limits how
  /// many cold walks overlap.
  @frozen
  @usableFromInline
  struct Descent {
    @usableFromInline let window: MemoryWindow
    @usableFromInline let lastTable: UInt64
    @usableFromInline let pointer: EntryTest

    @inlinable @inline(__always)
    init(_ path: RadixPath) {
      window = path.parameters.window
      lastTable = path.parameters.lastTable
      pointer = path.parameters.pointer
    }

    /// Whether the table that `entry` points to lies inside the window.
    @inlinable @inline(__always)
    func reaches(_ entry: UInt64) -> Bool { likely(RadixPath.addressBits(entry) <= lastTable) }

    /// The entry at a place: a multiple of eight, in the root or in a table that an entry reaches.
    @inlinable @inline(__always)
    func entry(at place: UInt64) -> UInt64 {
      assert(place & 7 == 0 && place < lastTable + 4096, "tables lie inside the window")
      // Safe: a table is a page, none begins behind `lastTable`, and the window goes on for a page
      // from there.
      return unsafe window.quadword(unchecked: place)
    }
  }

  /// Finds the leaf entry of `address` and goes on with it.
  ///
  /// - Parameters:
  ///   - levels: 3 to 5; a constant where this is called.
  ///   - layout: A constant as well.
  ///   - descent: Made of these parameters.
  ///   - elsewhere: The result when the leaf is not found on the short way.
  ///   - small: Given the place of the entry of a 4 KiB page, a multiple of eight, and the bits that
  ///     all entries above it have.
  ///   - large: Given an entry that leads to no table, and so may map a large page, with its place and
  ///     the bits that all entries above it have.
  @inlinable @inline(__always)
  func locate(
    _ address: UInt64, levels: Int, _ layout: RadixLayout, _ descent: Descent, elsewhere: UInt64,
    small: (_ place: UInt64, _ common: UInt64) -> UInt64,
    large: (_ place: UInt64, _ entry: UInt64, LargePage, _ common: UInt64) -> UInt64
  ) -> UInt64 {
    guard likely(address <= parameters.lastAddress),
      likely(!VTd.isInterruptAddress(address))
    else {
      return elsewhere
    }
    var table = parameters.root
    var common = UInt64.max
    if levels >= 5 {
      let entry = descent.entry(at: Self.place(address, in: table, level: 5))
      guard likely(descent.pointer.passes(entry, with: layout.nextLevel(from: 5))),
        descent.reaches(entry)
      else { return elsewhere }
      table = Self.addressBits(entry)
      common &= entry
    }
    if levels >= 4 {
      let entry = descent.entry(at: Self.place(address, in: table, level: 4))
      guard likely(descent.pointer.passes(entry, with: layout.nextLevel(from: 4))),
        descent.reaches(entry)
      else { return elsewhere }
      table = Self.addressBits(entry)
      common &= entry
    }
    let upper = Self.place(address, in: table, level: 3)
    var entry = descent.entry(at: upper)
    guard likely(descent.pointer.passes(entry, with: layout.nextLevel(from: 3))) else {
      return large(upper, entry, .size1GiB, common)
    }
    guard descent.reaches(entry) else { return elsewhere }
    common &= entry
    let middle = Self.place(address, in: Self.addressBits(entry), level: 2)
    entry = descent.entry(at: middle)
    guard likely(descent.pointer.passes(entry, with: layout.nextLevel(from: 2))) else {
      return large(middle, entry, .size2MiB, common)
    }
    guard descent.reaches(entry) else { return elsewhere }
    return small(Self.place(address, in: Self.addressBits(entry), level: 1), common & entry)
  }

  /// What is needed at the leaf of a 4 KiB page.
  @frozen
  @usableFromInline
  struct LeafTest {
    @usableFromInline let page: EntryTest
    @usableFromInline let interruptRange: UInt32

    @inlinable @inline(__always)
    init(_ path: RadixPath) {
      page = path.parameters.page4KiB
      interruptRange = path.parameters.interruptRange
    }

    /// Answers by a leaf entry; `noAnswer` unless all is well with it.
    @inlinable @inline(__always)
    func answer(_ entry: UInt64, _ address: UInt64, _ layout: RadixLayout) -> UInt64 {
      guard likely(page.passes(entry)),
        // A page in the interrupt range is no memory to a VT-d unit.
        layout == .namedLevels
          || likely(UInt32(truncatingIfNeeded: entry &>> 20) != interruptRange)
      else { return RadixPath.noAnswer }
      guard layout == .namedLevels, entry & 0xe00 != 0 else {
        return RadixPath.addressBits(entry) | address & 0xfff
      }
      return coded(entry, address)
    }

    /// Answers by an entry of the lowest level whose next-level field is not 0: ones from bit 12 on and
    /// the zero behind them are the offsets of a larger page, up to 1 MiB.
    @inlinable @inline(__always)
    func coded(_ entry: UInt64, _ address: UInt64) -> UInt64 {
      let ones = entry | 0xfff
      let offset = ones ^ (ones &+ 1)
      guard likely(entry & 0xe00 == 0xe00), likely(offset <= 0xf_ffff) else {
        return RadixPath.noAnswer
      }
      return RadixPath.addressBits(entry) & ~offset | address & offset
    }
  }

  /// Answers by an entry that may map a large page; `noAnswer` unless all is well with it.
  @inlinable @inline(__always)
  func answer(_ entry: UInt64, _ size: LargePage, _ address: UInt64) -> UInt64 {
    let offset = (1 &<< UInt64(truncatingIfNeeded: size.sizeLog2)) &- 1
    let physical = Self.addressBits(entry) & ~offset | address & offset
    guard likely(test(of: size).passes(entry)),
      likely(UInt32(truncatingIfNeeded: physical &>> 20) != parameters.interruptRange)
    else { return Self.noAnswer }
    return physical
  }

  @inlinable @inline(__always)
  func test(of size: LargePage) -> EntryTest {
    size == .size2MiB ? parameters.page2MiB : parameters.page1GiB
  }

  /// The physical address for `address`, or `noAnswer`.
  @inlinable @inline(__always)
  func translate(_ address: UInt64, levels: Int, _ layout: RadixLayout = .impliedLevels) -> UInt64 {
    let descent = Descent(self)
    return locate(
      address, levels: levels, layout, descent, elsewhere: Self.noAnswer,
      small: { place, _ in
        LeafTest(self).answer(descent.entry(at: place), address, layout)
      },
      large: { _, entry, size, _ in answer(entry, size, address) })
  }
}

/// What is known of the upper levels before a batch reads them: for a 2 MiB region, where its leaves
/// lie.
///
/// ``NoRegions`` knows nothing; a cache has to obey the unit's invalidations. A place is read without a
/// look at it: a store gives out what it was given for the same window, and nothing else. That is why
/// nobody outside of this package has one.
@usableFromInline
package protocol RegionStore {
  /// The place of the leaf of `address`, as a multiple of eight with a size in its low bits;
  /// 7 when the region is not remembered.
  func leaf(of address: UInt64) -> UInt64
  /// Remembers that the leaf of `address` lies at `place`; all addresses of its region are
  /// translated through the same table, or by the same large page.
  mutating func remember(_ place: UInt64, for address: UInt64)
}

/// Remembers nothing.
@frozen
@usableFromInline
package struct NoRegions: RegionStore {
  // As in ``Unobserved``.
  @usableFromInline let place: UInt8 = 0

  @inlinable package init() {}
  @inlinable @inline(__always)
  package func leaf(of _: UInt64) -> UInt64 { RadixPath.unresolved }
  @inlinable @inline(__always)
  package mutating func remember(_: UInt64, for _: UInt64) {}
}

extension RadixPath {
  /// Whether all of the region of `address` is translated alike: below the last address, and
  /// without the interrupt range.
  @inlinable @inline(__always)
  func isUniform(_ address: UInt64) -> Bool {
    address | 0x1f_ffff <= parameters.lastAddress
      && (address ^ VTd.interruptAddresses.lowerBound) & ~VTd.Paging.regionMask != 0
  }

  /// Where the leaf of `address` lies, with the size of a large page in its low bits; `unresolved`
  /// when it is not found on the short way.
  @inlinable @inline(__always)
  func resolve(
    _ address: UInt64, levels: Int, _ layout: RadixLayout = .impliedLevels, _ descent: Descent,
    _ regions: inout some RegionStore
  ) -> UInt64 {
    resolve(
      address, levels: levels, layout, descent, &regions, small: { place, _ in place },
      large: { place, entry, size, _ in
        test(of: size).passes(entry) ? place | size.rawValue : Self.unresolved
      })
  }

  /// The same, with the low bits that the caller gives it.
  @inlinable @inline(__always)
  func resolve(
    _ address: UInt64, levels: Int, _ layout: RadixLayout = .impliedLevels, _ descent: Descent,
    _ regions: inout some RegionStore,
    small: (_ place: UInt64, _ common: UInt64) -> UInt64,
    large: (_ place: UInt64, _ entry: UInt64, LargePage, _ common: UInt64) -> UInt64
  ) -> UInt64 {
    var place = regions.leaf(of: address)
    if place == Self.unresolved {
      place = locate(
        address, levels: levels, layout, descent, elsewhere: Self.unresolved, small: small,
        large: large)
      if place != Self.unresolved, isUniform(address) { regions.remember(place, for: address) }
    }
    return place
  }

  /// Translates what a batch begins with: a run of addresses in one region, or a block.
  @inlinable @inline(__always)
  func translate(
    _ requests: Requests, levels: Int, _ layout: RadixLayout = .impliedLevels,
    regions: inout some RegionStore
  ) -> BatchPart {
    if Self.beginWithRun(requests) {
      let run = translate(run: requests, levels: levels, layout, regions: &regions)
      if run.count > 0 { return run }
    }
    return translate(
      block: requests.prefix(min(requests.count, BatchPart.blockCount)), levels: levels, layout,
      regions: &regions)
  }

  /// Whether the first addresses seem to lie in one region of 2 MiB: a guess, which costs time when it is
  /// wrong, and nothing else.
  @inlinable @inline(__always)
  static func beginWithRun(_ requests: Requests) -> Bool {
    guard requests.count >= 8 else { return false }
    let first = requests.address(0)
    return ((first ^ requests.address(1)) | (first ^ requests.address(7))) & ~VTd.Paging.regionMask
      == 0
  }

  /// Translates the addresses from the first on that lie in its region: the upper levels are read
  /// once, each leaf as often as it is asked for.
  ///
  /// - Returns: None when the region has no leaf on the short way.
  @inlinable @inline(__always)
  func translate(
    run requests: Requests, levels: Int, _ layout: RadixLayout, regions: inout some RegionStore
  ) -> BatchPart {
    let descent = Descent(self)
    let first = requests.address(0)
    guard isUniform(first) else { return BatchPart(count: 0, isComplete: true) }
    let place = resolve(first, levels: levels, layout, descent, &regions)
    guard place != Self.unresolved else { return BatchPart(count: 0, isComplete: true) }
    // A large page has one entry for all of them.
    let size = LargePage(rawValue: place & 7)
    let indexMask: UInt64 = size == nil ? 0xff8 : 0
    let table = place & ~(indexMask | 7)
    let test = size.map { self.test(of: $0) } ?? parameters.page4KiB
    let offsetMask = (1 &<< UInt64(truncatingIfNeeded: size?.sizeLog2 ?? 12)) &- 1
    let pageMask = Self.addressBits(.max) & ~offsetMask
    let interruptRange = parameters.interruptRange
    let leaf = LeafTest(self)
    var isComplete = true
    var index = 0
    while index < requests.count,
      likely((requests.address(index) ^ first) & ~VTd.Paging.regionMask == 0)
    {
      let address = requests.address(index)
      let entry = descent.entry(at: table &+ (address &>> 9 & indexMask))
      let physical = entry & pageMask | address & offsetMask
      if layout == .namedLevels, size == nil {
        let answer = leaf.answer(entry, address, layout)
        requests[index] = answer
        if !likely(answer != Self.noAnswer) { isComplete = false }
      } else if likely(test.passes(entry)),
        likely(UInt32(truncatingIfNeeded: physical &>> 20) != interruptRange)
      {
        requests[index] = physical
      } else {
        requests[index] = Self.noAnswer
        isComplete = false
      }
      index &+= 1
    }
    return BatchPart(count: index, isComplete: isComplete)
  }

  /// Translates a block: first the upper levels of all, with a prefetch of each leaf, then the
  /// leaves.
  ///
  /// Places wait where the answers will be until the second pass, so no other memory is needed.
  @inlinable @inline(__always)
  func translate(
    block requests: Requests, levels: Int, _ layout: RadixLayout, regions: inout some RegionStore
  ) -> BatchPart {
    let descent = Descent(self)
    for index in 0..<requests.count {
      let place = resolve(requests.address(index), levels: levels, layout, descent, &regions)
      requests[index] = place
      descent.window.prefetch(place)
    }
    let leaf = LeafTest(self)
    // Not the OR of all answers, as for flat tables: here that costs more than a jump never taken.
    var isComplete = true
    for index in 0..<requests.count {
      let place = requests[index]
      let address = requests.address(index)
      let answer =
        likely(place & 7 == 0)
        ? leaf.answer(descent.entry(at: place), address, layout) : large(place, address)
      requests[index] = answer
      if !likely(answer != RadixPath.noAnswer) { isComplete = false }
    }
    return BatchPart(count: requests.count, isComplete: isComplete)
  }

  /// Reads the entry of a large page again, since it may have changed, and answers by it;
  /// `noAnswer` for an unresolved place.
  @inlinable @inline(__always)
  func large(_ place: UInt64, _ address: UInt64) -> UInt64 {
    guard let size = LargePage(rawValue: place & 7) else { return Self.noAnswer }
    // Safe: with a size in its low bits it is the place of an entry that was read.
    return unsafe answer(parameters.window.quadword(unchecked: place & ~7), size, address)
  }
}
