/// What a cache entry is found by: two words, the first never zero.
struct CacheTag: Equatable {
  var low: UInt64
  var high: UInt64

  /// - Parameter low: Any value below 2^63.
  @inline(__always)
  init(_ low: UInt64, _ high: UInt64) {
    self.low = low | 1 << 63
    self.high = high
  }
}

/// One cache: slots in sets, found by tag, without a look at the heap once it is there.
///
/// An unbounded cache doubles its sets when one is full.
struct TaggedCache<Value>: ~Copyable {
  struct Slot {
    var tag: CacheTag
    var value: Value
  }

  private(set) var counters = CacheCounters()
  /// Entries in the cache.
  private(set) var count = 0
  /// By set; `nil` where a slot is free.
  private var slots: Slots<Slot?>
  private var setMask: Int
  private let ways: Int
  private let grows: Bool
  private var nextVictim = 0

  init(_ geometry: CacheSize) {
    let shape = CacheShape(geometry)
    (ways, grows) = (shape.ways, shape.grows)
    setMask = shape.sets - 1
    slots = Slots(repeating: nil, count: shape.sets * shape.ways)
  }

  @inline(__always)
  private func firstSlot(of tag: CacheTag) -> Int {
    // Page numbers differ in their low bits, and a device's key in few: mix both upwards.
    let mixed = (tag.high ^ tag.low &>> 12) &* 0x9e37_79b9_7f4a_7c15
    return (Int(truncatingIfNeeded: mixed &>> 40 ^ mixed &>> 52) & setMask) &* ways
  }

  @inline(__always)
  private func place(of tag: CacheTag) -> Int? {
    guard keepsEntries else { return nil }
    let first = firstSlot(of: tag)
    for slot in first..<(first &+ ways) where slots[slot]?.tag == tag { return slot }
    return nil
  }

  /// The value under a tag; counts a hit or a miss.
  @inline(__always)
  mutating func find(_ tag: CacheTag) -> Value? {
    let value = peek(tag)
    count(hit: value != nil)
    return value
  }

  /// The value under a tag; counts nothing.
  @inline(__always)
  func peek(_ tag: CacheTag) -> Value? {
    place(of: tag).flatMap { slots[$0]?.value }
  }

  /// Counts look-ups that were answered, or not, without this cache being asked.
  @inline(__always)
  mutating func count(hit: Bool, times: UInt64 = 1) {
    if hit { counters.hits &+= times } else { counters.misses &+= times }
  }

  /// Whether the cache keeps anything at all.
  var keepsEntries: Bool { setMask >= 0 }

  /// Keeps a value, in the place of an older one under the same tag.
  mutating func insert(_ value: Value, under tag: CacheTag) {
    guard keepsEntries else { return }
    if let slot = place(of: tag) {
      slots[slot]!.value = value
      return
    }
    let new = Slot(tag: tag, value: value)
    while !insertIntoFreeSlot(new) {
      if grows, slots.count * 2 <= CacheShape.limit {
        doubleSets()
      } else {
        evict(from: firstSlot(of: tag))
      }
    }
  }

  private mutating func insertIntoFreeSlot(_ new: Slot) -> Bool {
    let first = firstSlot(of: new.tag)
    for slot in first..<(first + ways) where slots[slot] == nil {
      slots[slot] = new
      count += 1
      return true
    }
    return false
  }

  private mutating func evict(from first: Int) {
    nextVictim = (nextVictim + 1) % ways
    remove(first + nextVictim)
    counters.evictions += 1
  }

  private mutating func remove(_ slot: Int) {
    slots[slot] = nil
    count -= 1
  }

  private mutating func doubleSets() {
    var old = Slots<Slot?>(repeating: nil, count: slots.count * 2)
    swap(&slots, &old)
    setMask = setMask * 2 + 1
    count = 0
    // A set's entries go to that set or to the one that its upper bit adds: they all find room.
    for slot in 0..<old.count {
      if let entry = old[slot] { _ = insertIntoFreeSlot(entry) }
    }
  }

  /// Drops the entries that `isNamed` says.
  mutating func invalidate(where isNamed: (CacheTag, Value) -> Bool) {
    guard count > 0 else { return }
    for slot in 0..<slots.count {
      guard let entry = slots[slot], isNamed(entry.tag, entry.value) else { continue }
      remove(slot)
      counters.invalidations += 1
    }
  }

  mutating func invalidateAll() { invalidate { _, _ in true } }
}
