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
}

/// What entries on the way of one kind of access have to look like.
struct EntryTests {
  var pointer: EntryTest
  var page4KiB: EntryTest
  var page2MiB: EntryTest
  var page1GiB: EntryTest
}

/// What the short way of one kind of access through VT-d tables goes by.
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
  @usableFromInline let interruptRange: UInt32 = 0xfee
  @usableFromInline let pointer: EntryTest
  @usableFromInline let page4KiB: EntryTest
  @usableFromInline let page2MiB: EntryTest
  @usableFromInline let page1GiB: EntryTest

  /// For a way on which nothing is found.
  init() {
    window = MemoryWindow()
    root = 0
    lastTable = 0
    lastAddress = 0
    let nothing = EntryTest(set: 0, clear: 0)
    (pointer, page4KiB, page2MiB, page1GiB) = (nothing, nothing, nothing, nothing)
  }

  init?(window: MemoryWindow, root: PhysicalAddress, lastAddress: UInt64, tests: EntryTests) {
    guard window.byteCount >= 4096, root.isAligned(to: 4096),
      root.rawValue <= window.byteCount - 4096
    else { return nil }
    self.window = window
    self.root = root.rawValue
    lastTable = window.byteCount - 4096
    self.lastAddress = lastAddress
    pointer = tests.pointer
    page4KiB = tests.page4KiB
    page2MiB = tests.page2MiB
    page1GiB = tests.page1GiB
  }
}

/// The short way of one kind of access through VT-d tables of three to five levels: one compare for
/// an entry's bits and one for the bounds of the table that it names.
///
/// Knows only the common case: every entry present, permitted, well formed, its table inside the
/// window. Everything else has no answer here, and goes to the one walker, which starts again at the
/// root and names the fault. A short answer is always the walker's answer.
///
/// One pointer: parameters are read where they are needed, and none is copied that is not.
@frozen
@usableFromInline
struct RadixPath {
  @usableFromInline let parameters: UnsafePointer<RadixParameters>

  @inlinable @inline(__always)
  init(_ parameters: UnsafePointer<RadixParameters>) { self.parameters = parameters }
}

extension RadixPath {
  /// No answer on the short way. No address and no packed answer looks like it.
  @inlinable static var noAnswer: UInt64 { .max }

  /// In the low bits of a large leaf's place.
  @inlinable static var is2MiB: UInt64 { 1 }
  @inlinable static var is1GiB: UInt64 { 2 }
  /// Not found on the short way. As a place to prefetch it is harmless.
  @inlinable static var unresolved: UInt64 { 7 }

  /// Bits 51:12, where first-stage and second-stage entries keep the address.
  @inlinable @inline(__always)
  static func addressBits(_ entry: UInt64) -> UInt64 {
    VTd.SecondStageEntry(rawValue: entry).address.rawValue
  }

  @inlinable @inline(__always)
  static func place(_ address: UInt64, in table: UInt64, level: Int) -> UInt64 {
    let shift = UInt64(truncatingIfNeeded: VTd.SecondStageEntry.sizeLog2(level: level))
    return table &+ (address &>> shift & 511) &* 8
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
    init(_ parameters: UnsafePointer<RadixParameters>) {
      window = parameters.pointee.window
      lastTable = parameters.pointee.lastTable
      pointer = parameters.pointee.pointer
    }

    /// Whether `entry` leads to a table inside the window.
    @inlinable @inline(__always)
    func leads(_ entry: UInt64) -> Bool {
      likely(pointer.passes(entry)) && likely(RadixPath.addressBits(entry) <= lastTable)
    }
  }

  /// Finds the leaf entry of `address` and goes on with its place in the window.
  ///
  /// Places are multiples of eight; that of a large page carries its size in the low bits.
  ///
  /// - Parameters:
  ///   - levels: 3 to 5; a constant where this is called.
  ///   - descent: Made of these parameters.
  ///   - elsewhere: The result when the leaf is not found on the short way.
  @inlinable @inline(__always)
  func locate(
    _ address: UInt64, levels: Int, _ descent: Descent, elsewhere: UInt64,
    small: (UInt64) -> UInt64, large: (UInt64) -> UInt64
  ) -> UInt64 {
    guard likely(address <= parameters.pointee.lastAddress),
      likely(!VTd.isInterruptAddress(address))
    else {
      return elsewhere
    }
    var table = parameters.pointee.root
    if levels >= 5 {
      let entry = descent.window.quadword(unchecked: Self.place(address, in: table, level: 5))
      guard descent.leads(entry) else { return elsewhere }
      table = Self.addressBits(entry)
    }
    if levels >= 4 {
      let entry = descent.window.quadword(unchecked: Self.place(address, in: table, level: 4))
      guard descent.leads(entry) else { return elsewhere }
      table = Self.addressBits(entry)
    }
    let upper = Self.place(address, in: table, level: 3)
    var entry = descent.window.quadword(unchecked: upper)
    guard descent.leads(entry) else {
      return parameters.pointee.page1GiB.passes(entry) ? large(upper | Self.is1GiB) : elsewhere
    }
    let middle = Self.place(address, in: Self.addressBits(entry), level: 2)
    entry = descent.window.quadword(unchecked: middle)
    guard descent.leads(entry) else {
      return parameters.pointee.page2MiB.passes(entry) ? large(middle | Self.is2MiB) : elsewhere
    }
    return small(Self.place(address, in: Self.addressBits(entry), level: 1))
  }

  /// What is needed at the leaf of a 4 KiB page.
  @frozen
  @usableFromInline
  struct LeafTest {
    @usableFromInline let page: EntryTest
    @usableFromInline let interruptRange: UInt32

    @inlinable @inline(__always)
    init(_ parameters: UnsafePointer<RadixParameters>) {
      page = parameters.pointee.page4KiB
      interruptRange = parameters.pointee.interruptRange
    }

    /// Answers by a leaf entry; `noAnswer` unless all is well with it.
    @inlinable @inline(__always)
    func answer(_ entry: UInt64, _ address: UInt64) -> UInt64 {
      guard likely(page.passes(entry)),
        // A page in the interrupt range is no memory.
        likely(UInt32(truncatingIfNeeded: entry &>> 20) != interruptRange)
      else { return RadixPath.noAnswer }
      return RadixPath.addressBits(entry) | address & 0xfff
    }
  }

  /// Reads the leaf of a large page at `place` and answers; `noAnswer` unless all is well with it.
  ///
  /// Judges the entry again: it may have changed since it was located.
  @inlinable @inline(__always)
  func large(_ place: UInt64, _ address: UInt64) -> UInt64 {
    let entry = parameters.pointee.window.quadword(unchecked: place & ~7)
    let physical: UInt64
    if place & Self.is2MiB != 0 {
      guard likely(parameters.pointee.page2MiB.passes(entry)) else { return Self.noAnswer }
      physical = Self.addressBits(entry) & ~0x1f_ffff | address & 0x1f_ffff
    } else {
      guard likely(parameters.pointee.page1GiB.passes(entry)) else { return Self.noAnswer }
      physical = Self.addressBits(entry) & ~0x3fff_ffff | address & 0x3fff_ffff
    }
    guard likely(UInt32(truncatingIfNeeded: physical &>> 20) != parameters.pointee.interruptRange)
    else { return Self.noAnswer }
    return physical
  }

  /// The physical address for `address`, or `noAnswer`.
  @inlinable @inline(__always)
  func translate(_ address: UInt64, levels: Int) -> UInt64 {
    let descent = Descent(parameters)
    return locate(
      address, levels: levels, descent, elsewhere: Self.noAnswer,
      small: {
        LeafTest(parameters).answer(descent.window.quadword(unchecked: $0), address)
      },
      large: { large($0, address) })
  }
}

/// What a batch remembers of the upper levels: for a 2 MiB region, where its leaves lie.
///
/// ``LastRegion`` remembers the region before, for as long as one call lasts; a cache that lives
/// longer has to obey the unit's invalidations.
public protocol RegionStore {
  /// The place of the leaf of `address`, as a multiple of eight with a size in its low bits;
  /// 7 when the region is not remembered.
  func leaf(of address: UInt64) -> UInt64
  /// Remembers that the leaf of `address` lies at `place`; all addresses of its region are
  /// translated through the same table, or by the same large page.
  mutating func remember(_ place: UInt64, for address: UInt64)
}

/// Remembers one region.
@frozen
public struct LastRegion: RegionStore {
  @usableFromInline var region: UInt64 = .max
  @usableFromInline var table: UInt64 = 0
  /// The bits of address that choose an entry; none below a large page.
  @usableFromInline var indexMask: UInt64 = 0

  @inlinable public init() {}

  @inlinable @inline(__always)
  public func leaf(of address: UInt64) -> UInt64 {
    guard likely(address &>> 21 == region) else { return RadixPath.unresolved }
    return table &+ (address &>> 9 & indexMask)
  }

  @inlinable @inline(__always)
  public mutating func remember(_ place: UInt64, for address: UInt64) {
    region = address &>> 21
    indexMask = place & 7 == 0 ? 0xff8 : 0
    table = place & ~indexMask
  }
}

extension RadixPath {
  /// Whether all of the region of `address` is translated alike: below the last address, and
  /// without the interrupt range.
  @inlinable @inline(__always)
  func isUniform(_ address: UInt64) -> Bool {
    address | 0x1f_ffff <= parameters.pointee.lastAddress && address &>> 21 != 0xfee0_0000 >> 21
  }

  /// Translates a block: first the upper levels of all, with a prefetch of each leaf, then the
  /// leaves.
  ///
  /// Places wait in `answers` until the second pass, so no other memory is needed. Answers that have
  /// no short way are `noAnswer`.
  ///
  /// - Returns: Bit 63 says that one of the answers is `noAnswer`. Not their OR, as for flat tables:
  ///   here that costs more than a jump never taken.
  @inlinable @inline(__always)
  func translate(
    block addresses: UnsafePointer<UInt64>, count: Int, into answers: UnsafeMutablePointer<UInt64>,
    levels: Int, regions: inout some RegionStore
  ) -> UInt64 {
    let descent = Descent(parameters)
    for index in 0..<count {
      let address = addresses[index]
      var place = regions.leaf(of: address)
      if place == Self.unresolved {
        place = locate(
          address, levels: levels, descent, elsewhere: Self.unresolved, small: { $0 },
          large: { $0 })
        if place != Self.unresolved, isUniform(address) { regions.remember(place, for: address) }
      }
      answers[index] = place
      descent.window.prefetch(place)
    }
    let leaf = LeafTest(parameters)
    var all: UInt64 = 0
    for index in 0..<count {
      let place = answers[index]
      let address = addresses[index]
      let answer =
        likely(place & 7 == 0)
        ? leaf.answer(descent.window.quadword(unchecked: place), address)
        : place == Self.unresolved ? Self.noAnswer : large(place, address)
      answers[index] = answer
      if !likely(answer != RadixPath.noAnswer) { all = answer }
    }
    return all
  }
}
