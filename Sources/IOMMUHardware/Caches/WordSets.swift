import IOMMUFormats
import IOMMUTranslation

/// Where a tag belongs: a set, by the number of its first slot.
struct WordPlace {
  var tag: UInt64
  var first: Int
}

/// The words of a cache's entries, a tag and a value each, in sets of a few ways.
///
/// A value of four words: a loop that has a copy of it reads them once, whatever it stores. Safe as
/// long as the cache is there that it belongs to, and has not doubled its sets: slots are of sets,
/// which are numbers masked by `mask`, and of ways.
@safe
struct WordSets {
  /// 0 where a slot is free.
  private var tags: UnsafeMutablePointer<UInt64>
  private var values: UnsafeMutablePointer<UInt64>
  private(set) var mask: Int
  let ways: Int
}

extension WordSets {
  init(_ shape: CacheShape) {
    // One that keeps nothing has one set of no ways: a look-up finds nothing there.
    ways = shape.sets == 0 ? 0 : shape.ways
    mask = max(1, shape.sets) - 1
    let slotCount = (mask + 1) * ways
    unsafe tags = Self.words(slotCount)
    unsafe values = Self.words(slotCount)
  }

  /// Zeros, in cache lines of their own: ports of several threads share none.
  private static func words(_ count: Int) -> UnsafeMutablePointer<UInt64> {
    let lines = (max(1, count) * 8 + CacheLine.byteCount - 1) / CacheLine.byteCount
    let words = unsafe UnsafeMutableRawPointer.allocate(
      byteCount: lines * CacheLine.byteCount, alignment: CacheLine.byteCount
    ).bindMemory(to: UInt64.self, capacity: lines * CacheLine.byteCount / 8)
    unsafe words.initialize(repeating: 0, count: count)
    return unsafe words
  }

  /// Once, by the cache that the sets belong to.
  func deallocate() {
    unsafe tags.deallocate()
    unsafe values.deallocate()
  }

  @inline(__always)
  var slotCount: Int { (mask &+ 1) &* ways }

  /// Ways give up their entries in turn.
  @inline(__always)
  static func next(after way: Int, ways: Int) -> Int {
    ways == 4 ? (way &+ 1) & 3 : way &+ 1 < ways ? way &+ 1 : 0
  }

  @inline(__always)
  func next(after way: Int) -> Int { Self.next(after: way, ways: ways) }

  @inline(__always)
  func firstSlot(of tag: UInt64, ways: Int) -> Int {
    // Addresses differ in their low bits: mix them upwards.
    let mixed = tag &* 0x9e37_79b9_7f4a_7c15
    return (Int(truncatingIfNeeded: mixed &>> 44) & mask) &* ways
  }

  /// The slot that has a tag, if one of its set of four has.
  ///
  /// A sum of zeros and ones: no jump depends on which has it. One look-up by itself knows sooner so than
  /// by ``word(of:from:ways:)`` whether there is one, and does not wait for a store of one word.
  @inline(__always)
  func candidate(for tag: UInt64, inFour first: Int) -> Int {
    // Safe: `first` is that of a set, and four ways are in it.
    func isIn(_ way: Int) -> Int { unsafe tags[first &+ way] == tag ? 1 : 0 }
    return first &+ isIn(1) &+ isIn(2) &* 2 &+ isIn(3) &* 3
  }

  /// Whether a slot has a tag.
  @inline(__always)
  func hold(_ tag: UInt64, in slot: Int) -> Bool { unsafe tags[slot] == tag }

  @inline(__always)
  func value(in slot: Int) -> UInt64 { unsafe values[slot] }

  /// The value under a tag, 0 when there is none.
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
      let words = unsafe UnsafeRawPointer(values + first).loadUnaligned(as: SIMD4<UInt64>.self)
      return SIMD4(repeating: 0).replacing(with: words, where: isFound).wrappedSum()
    }
    var word: UInt64 = 0
    for slot in first..<(first &+ ways) { word |= unsafe tags[slot] == tag ? values[slot] : 0 }
    return word
  }

  /// The value under a tag, 0 when there is none.
  @inline(__always)
  func word(of tag: UInt64) -> UInt64 {
    // With a constant the look at all ways is no loop.
    ways == 4
      ? word(of: tag, from: firstSlot(of: tag, ways: 4), ways: 4)
      : word(of: tag, from: firstSlot(of: tag, ways: ways), ways: ways)
  }

  /// Whether a set has a tag that it hardly ever has.
  @inline(__always)
  func hold(_ tag: UInt64, from first: Int, ways: Int) -> Bool {
    var way = 0
    while way < ways {
      if unsafe !likely(tags[first &+ way] != tag) { return true }
      way &+= 1
    }
    return false
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
    unsafe values[slot] = word
  }

  func words(in slot: Int) -> (tag: UInt64, value: UInt64) { unsafe (tags[slot], values[slot]) }
  func free(_ slot: Int) { unsafe tags[slot] = 0 }

  mutating func double() {
    let old = self
    self = WordSets(CacheShape(sets: (mask + 1) * 2, ways: ways, grows: true))
    // A set's entries go to that set or to the one that its upper bit adds: they all find room.
    for slot in 0..<old.slotCount {
      let (tag, value) = old.words(in: slot)
      if tag != 0 { store(value, under: tag, in: freeSlot(for: tag)!) }
    }
    old.deallocate()
  }
}
