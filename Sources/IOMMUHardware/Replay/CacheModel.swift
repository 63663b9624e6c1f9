/// A cache that knows which keys it holds, and nothing of what they stand for.
///
/// Keys with the same `index` compete for one set. Every operation but an invalidation of many keys
/// takes O(1) for LRU, FIFO and random, O(log ways) for pseudo-LRU.
package struct CacheModel: Sendable {
  package let geometry: CacheGeometry
  /// Slots of set s: s · ways and up. `nil` is an empty slot.
  private var keys: [UInt64?]
  private var slots: [UInt64: Int] = [:]
  /// LRU and FIFO: slots of a set in a ring, the next to go at the end.
  private var next: [Int]
  private var previous: [Int]
  private var newest: [Int]
  /// Pseudo-LRU: `ways` − 1 bits for each set, bit 1 the root; a set bit means the upper half is
  /// older.
  private var trees: [UInt8]
  private var state: UInt64 = 0x9e37_79b9_7f4a_7c15

  package init(_ geometry: CacheGeometry) {
    self.geometry = geometry
    let (count, ways) = (geometry.entries, geometry.ways)
    keys = Array(repeating: nil, count: count)
    let usesRing = geometry.policy == .lru || geometry.policy == .fifo
    next = usesRing ? (0..<count).map { $0 % ways == ways - 1 ? $0 - ways + 1 : $0 + 1 } : []
    previous = usesRing ? (0..<count).map { $0 % ways == 0 ? $0 + ways - 1 : $0 - 1 } : []
    newest = usesRing ? stride(from: 0, to: count, by: ways).map { $0 } : []
    trees = geometry.policy == .plru ? Array(repeating: 0, count: count) : []
  }

  package func contains(_ key: UInt64) -> Bool { slots[key] != nil }

  /// Looks a key up and, when it is there, counts it as used.
  package mutating func find(_ key: UInt64) -> Bool {
    guard let slot = slots[key] else { return false }
    touch(slot)
    return true
  }

  /// Takes a key in that is not there; an empty slot first, else by the policy.
  ///
  /// - Parameter index: Chooses the set by its low bits.
  package mutating func insert(_ key: UInt64, index: UInt64) {
    guard slots[key] == nil else { return }
    let set = Int(truncatingIfNeeded: index & UInt64(geometry.sets - 1))
    let slot = victim(in: set)
    if let old = keys[slot] { slots[old] = nil }
    keys[slot] = key
    slots[key] = slot
    if geometry.policy == .fifo { makeNewest(slot) } else { touch(slot) }
  }

  private mutating func victim(in set: Int) -> Int {
    let first = set * geometry.ways
    switch geometry.policy {
    case .lru, .fifo:
      // Emptied slots have been moved to the end of the ring.
      return previous[newest[set]]
    case .plru:
      if let empty = emptySlot(first) { return empty }
      var node = 1
      while node < geometry.ways { node = node * 2 + Int(trees[first + node]) }
      return first + node - geometry.ways
    case .random:
      if let empty = emptySlot(first) { return empty }
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      return first + Int(state % UInt64(geometry.ways))
    }
  }

  /// Without a ring, a set with holes is searched; full ones are told by their count.
  private func emptySlot(_ first: Int) -> Int? {
    guard slots.count < geometry.entries else { return nil }
    return (first..<first + geometry.ways).first { keys[$0] == nil }
  }

  private mutating func touch(_ slot: Int) {
    switch geometry.policy {
    case .lru: makeNewest(slot)
    case .plru:
      let first = slot / geometry.ways * geometry.ways
      var node = slot - first + geometry.ways
      while node > 1 {
        // Points away from the half just used.
        trees[first + node / 2] = node % 2 == 0 ? 1 : 0
        node /= 2
      }
    case .fifo, .random: break
    }
  }

  private mutating func makeNewest(_ slot: Int) {
    let set = slot / geometry.ways
    let head = newest[set]
    guard slot != head else { return }
    moveBefore(slot, head)
    newest[set] = slot
  }

  /// Takes a slot out of its ring and puts it in before `head`.
  private mutating func moveBefore(_ slot: Int, _ head: Int) {
    next[previous[slot]] = next[slot]
    previous[next[slot]] = previous[slot]
    let last = previous[head]
    next[last] = slot
    previous[slot] = last
    next[slot] = head
    previous[head] = slot
  }

  /// Removes a key, if it is there.
  package mutating func remove(_ key: UInt64) {
    guard let slot = slots.removeValue(forKey: key) else { return }
    keys[slot] = nil
    guard !next.isEmpty else { return }
    let set = slot / geometry.ways
    if slot == newest[set] {
      newest[set] = next[slot]
    } else {
      // The end of the ring is the next to be filled.
      moveBefore(slot, newest[set])
    }
  }

  /// Removes every key that `isGone` names.
  package mutating func removeAll(where isGone: (UInt64) -> Bool) {
    for key in slots.keys.filter(isGone) { remove(key) }
  }

  package var count: Int { slots.count }
}
