/// How often a fully associative LRU cache of each size would have hit, from one pass.
///
/// The keys in the order of their last use form a stack; a key found at depth d is a hit for every
/// cache of d entries or more. A removed key leaves a hole, which the next key that comes from below
/// it fills: caches with an empty entry evict nothing. Each use takes O(log keys).
///
/// Source: Mattson, Gecsei, Slutz, Traiger, "Evaluation techniques for storage hierarchies", 1970.
package struct StackDistances: Sendable {
  /// Hits at depth d, at index d; index 0 stays 0.
  package private(set) var hitsByDepth: [Int] = [0]
  package private(set) var uses = 0

  private var times: [UInt64: Int] = [:]
  /// Times of holes, a heap with the latest first. Every one is occupied.
  private var holes: [Int] = []
  /// A Fenwick tree over times: occupied ones, by keys or holes.
  private var tree: [Int]
  private var occupied: [Bool]
  private var now = 0

  package init() {
    tree = Array(repeating: 0, count: 1 << 10)
    occupied = Array(repeating: false, count: 1 << 10)
  }

  /// Uses a key.
  ///
  /// - Returns: The smallest cache that hits, in entries; `nil` when none does.
  @discardableResult
  package mutating func use(_ key: UInt64) -> Int? {
    uses += 1
    if now + 1 >= tree.count { compact() }
    var depth: Int?
    if let time = times[key] {
      let found = occupiedCount - prefix(time - 1)
      depth = found
      while hitsByDepth.count <= found { hitsByDepth.append(0) }
      hitsByDepth[found] += 1
      if let hole = holes.first, hole > time {
        // The hole is filled by what moves down; this key's own place becomes one.
        release(popHole())
        pushHole(time)
      } else {
        release(time)
      }
    } else if !holes.isEmpty {
      release(popHole())
    }
    now += 1
    occupy(now)
    times[key] = now
    return depth
  }

  /// Keys in the stack.
  package var count: Int { times.count }

  /// Removes a key; caches that held it have an empty entry now.
  package mutating func remove(_ key: UInt64) {
    guard let time = times.removeValue(forKey: key) else { return }
    pushHole(time)
  }

  package mutating func removeAll(where isGone: (UInt64) -> Bool) {
    for key in times.keys.filter(isGone) { remove(key) }
  }

  /// Whether the key is in the stack at all.
  package func contains(_ key: UInt64) -> Bool { times[key] != nil }

  /// Hits of a cache with this many entries.
  package func hits(entries: Int) -> Int {
    hitsByDepth.prefix(entries + 1).reduce(0, +)
  }

  // MARK: The tree

  private var occupiedCount: Int { times.count + holes.count }

  private mutating func add(_ time: Int, _ value: Int) {
    var index = time
    while index < tree.count {
      tree[index] += value
      index += index & -index
    }
  }

  /// Occupied times up to `time`.
  private func prefix(_ time: Int) -> Int {
    var index = time
    var sum = 0
    while index > 0 {
      sum += tree[index]
      index -= index & -index
    }
    return sum
  }

  private mutating func occupy(_ time: Int) {
    occupied[time] = true
    add(time, 1)
  }

  private mutating func release(_ time: Int) {
    occupied[time] = false
    add(time, -1)
  }

  /// Numbers the occupied times anew, and makes room for as many again.
  private mutating func compact() {
    var new: [Int: Int] = [:]
    var count = 0
    for time in 1..<occupied.count where occupied[time] {
      count += 1
      new[time] = count
    }
    times = times.mapValues { new[$0]! }
    // Order is kept, so the heap stays one.
    holes = holes.map { new[$0]! }
    let capacity = max(1 << 10, 4 * (count + 1))
    tree = Array(repeating: 0, count: capacity)
    occupied = Array(repeating: false, count: capacity)
    for time in stride(from: 1, through: count, by: 1) { occupy(time) }
    now = count
  }

  // MARK: The heap

  private mutating func pushHole(_ time: Int) {
    holes.append(time)
    var child = holes.count - 1
    while child > 0, holes[(child - 1) / 2] < holes[child] {
      holes.swapAt(child, (child - 1) / 2)
      child = (child - 1) / 2
    }
  }

  private mutating func popHole() -> Int {
    holes.swapAt(0, holes.count - 1)
    let top = holes.removeLast()
    var parent = 0
    while true {
      var largest = parent
      for child in [2 * parent + 1, 2 * parent + 2]
      where child < holes.count && holes[child] > holes[largest] { largest = child }
      guard largest != parent else { return top }
      holes.swapAt(parent, largest)
      parent = largest
    }
  }
}
