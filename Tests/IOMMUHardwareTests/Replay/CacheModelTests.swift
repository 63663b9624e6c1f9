import IOMMUHardware
import Testing

@Suite struct CacheModelTests {
  /// Keys in the order they are used; true where the cache had them.
  static func hits(_ cache: inout CacheModel, _ keys: [UInt64]) -> [Bool] {
    keys.map { key in
      let isHit = cache.find(key)
      if !isHit { cache.insert(key, index: key) }
      return isHit
    }
  }

  @Test func `LRU loses the one not used for longest`() throws {
    var cache = CacheModel(try CacheGeometry(entries: 2, policy: .lru))
    #expect(
      Self.hits(&cache, [1, 2, 1, 3, 1, 2]) == [false, false, true, false, true, false])
  }

  @Test func `FIFO loses the first, used or not`() throws {
    var cache = CacheModel(try CacheGeometry(entries: 2, policy: .fifo))
    #expect(
      Self.hits(&cache, [1, 2, 1, 3, 1, 3]) == [false, false, true, false, false, true])
  }

  /// Four ways: after 0, 1, 2, 3 the tree points to 0; using 0 turns it to the other half, where 2
  /// is the older; then to the first half, where 1 is.
  @Test func `pseudo-LRU goes by its tree of bits`() throws {
    var cache = CacheModel(try CacheGeometry(entries: 4, policy: .plru))
    _ = Self.hits(&cache, [0, 1, 2, 3, 0])
    cache.insert(4, index: 0)
    #expect([0, 1, 2, 3, 4].map { cache.contains($0) } == [true, true, false, true, true])
    cache.insert(5, index: 0)
    #expect(
      [0, 1, 2, 3, 4, 5].map { cache.contains($0) } == [true, false, false, true, true, true])
  }

  @Test func `sets do not disturb each other`() throws {
    var cache = CacheModel(try CacheGeometry(entries: 4, ways: 1))
    #expect(
      Self.hits(&cache, [0, 1, 2, 3, 4, 1, 2, 3, 0])
        == [false, false, false, false, false, true, true, true, false])
  }

  @Test(arguments: CacheGeometry.Policy.allCases)
  func `a removed key leaves room, and nothing else goes`(policy: CacheGeometry.Policy) throws {
    var cache = CacheModel(try CacheGeometry(entries: 4, policy: policy))
    _ = Self.hits(&cache, [1, 2, 3, 4])
    for gone in [3, 1, 4, 2] as [UInt64] {
      cache.remove(gone)
      cache.remove(99)
      cache.insert(gone + 10, index: 0)
      #expect(cache.count == 4)
      cache.remove(gone + 10)
      cache.insert(gone, index: 0)
      #expect([1, 2, 3, 4].allSatisfy { cache.contains($0) })
    }
    cache.removeAll { $0 % 2 == 0 }
    #expect([1, 2, 3, 4].map { cache.contains($0) } == [true, false, true, false])
  }

  @Test(arguments: CacheGeometry.Policy.allCases, seeds)
  func `a cache never holds more than it has room for`(
    policy: CacheGeometry.Policy, seed: UInt64
  ) throws {
    for ways in [1, 2, 4, 8] {
      try check(CacheGeometry(entries: 8, ways: ways, policy: policy), ways: ways, seed)
    }
  }

  private func check(_ geometry: CacheGeometry, ways: Int, _ seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    var cache = CacheModel(geometry)
    var held: Set<UInt64> = []
    for _ in 0..<2000 {
      let key = UInt64.random(in: 0..<24, using: &generator)
      if Bool.random(using: &generator) {
        if !cache.find(key) { cache.insert(key, index: key) }
        held.insert(key)
        #expect(cache.contains(key))
      } else {
        cache.remove(key)
        #expect(!cache.contains(key))
      }
      held = held.filter { cache.contains($0) }
      #expect(held.count == cache.count)
      let sets = UInt64(8 / ways)
      for set in 0..<sets { #expect(held.filter { $0 % sets == set }.count <= ways) }
    }
  }

  @Test(arguments: [
    (0, nil, CacheGeometry.Policy.lru, "0 entries"), (60, 4, .lru, "15 sets"),
    (64, 5, .lru, "sets of 5"), (64, 0, .lru, "sets of 0"), (48, 48, .plru, "48 ways"),
  ])
  func `a geometry that cannot be built says why`(
    entries: Int, ways: Int?, policy: CacheGeometry.Policy, text: String
  ) throws {
    let error = #expect(throws: GeometryError.self) {
      try CacheGeometry(entries: entries, ways: ways, policy: policy)
    }
    #expect(try #require(error).description.contains(text))
  }
}
