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
/// An unbounded cache doubles its sets when one is full. Freed by ``deallocate()``.
struct TaggedCache<Value> {
  struct Slot {
    var tag: CacheTag
    var value: Value
  }

  private(set) var counters = CacheCounters()
  /// Entries in the cache.
  private(set) var count = 0
  private var slots: UnsafeMutablePointer<Slot>
  private var occupied: UnsafeMutablePointer<Bool>
  private var setMask: Int
  private let ways: Int
  private let grows: Bool
  private var nextVictim = 0

  init(_ geometry: CacheConfiguration.Geometry) {
    let shape = CacheShape(geometry)
    (ways, grows) = (shape.ways, shape.grows)
    setMask = shape.sets - 1
    slots = .allocate(capacity: max(1, shape.sets * ways))
    occupied = .allocate(capacity: max(1, shape.sets * ways))
    occupied.initialize(repeating: false, count: max(1, shape.sets * ways))
  }

  func deallocate() {
    slots.deallocate()
    occupied.deallocate()
  }

  private var slotCount: Int { (setMask + 1) * ways }

  @inline(__always)
  private func firstSlot(of tag: CacheTag) -> Int {
    // Page numbers differ in their low bits, and a device's key in few: mix both upwards.
    let mixed = (tag.high ^ tag.low &>> 12) &* 0x9e37_79b9_7f4a_7c15
    return (Int(truncatingIfNeeded: mixed &>> 40 ^ mixed &>> 52) & setMask) &* ways
  }

  @inline(__always)
  private func place(of tag: CacheTag) -> Int? {
    guard setMask >= 0 else { return nil }
    let first = firstSlot(of: tag)
    for slot in first..<(first &+ ways)
    where occupied[slot] && slots[slot].tag == tag {
      return slot
    }
    return nil
  }

  /// The value under a tag; counts a hit or a miss.
  @inline(__always)
  mutating func find(_ tag: CacheTag) -> Value? {
    guard let slot = place(of: tag) else {
      counters.misses &+= 1
      return nil
    }
    counters.hits &+= 1
    return slots[slot].value
  }

  /// The value under a tag; counts nothing.
  @inline(__always)
  func peek(_ tag: CacheTag) -> Value? {
    place(of: tag).map { slots[$0].value }
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
      slots[slot].value = value
      return
    }
    while !insertIntoFreeSlot(value, under: tag) {
      if grows, slotCount * 2 <= CacheShape.limit {
        doubleSets()
      } else {
        evict(from: firstSlot(of: tag))
      }
    }
  }

  private mutating func insertIntoFreeSlot(_ value: Value, under tag: CacheTag) -> Bool {
    let first = firstSlot(of: tag)
    for slot in first..<(first + ways) where !occupied[slot] {
      (slots + slot).initialize(to: Slot(tag: tag, value: value))
      occupied[slot] = true
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
    (slots + slot).deinitialize(count: 1)
    occupied[slot] = false
    count -= 1
  }

  private mutating func doubleSets() {
    let (oldSlots, oldOccupied, oldCount) = (slots, occupied, slotCount)
    setMask = setMask * 2 + 1
    slots = .allocate(capacity: slotCount)
    occupied = .allocate(capacity: slotCount)
    occupied.initialize(repeating: false, count: slotCount)
    count = 0
    // A set's entries go to that set or to the one that its upper bit adds: they all find room.
    for slot in 0..<oldCount where oldOccupied[slot] {
      let old = (oldSlots + slot).move()
      _ = insertIntoFreeSlot(old.value, under: old.tag)
    }
    oldSlots.deallocate()
    oldOccupied.deallocate()
  }

  /// Drops the entries that `isNamed` says.
  mutating func invalidate(where isNamed: (CacheTag, Value) -> Bool) {
    guard count > 0 else { return }
    for slot in 0..<slotCount
    where occupied[slot] && isNamed(slots[slot].tag, slots[slot].value) {
      remove(slot)
      counters.invalidations += 1
    }
  }

  mutating func invalidateAll() { invalidate { _, _ in true } }
}
