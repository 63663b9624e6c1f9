import IOMMUHardware
import Testing

@Suite struct StackDistancesTests {
  @Test func `the depth is the number of other keys since`() {
    var stack = StackDistances()
    let depths = [1, 1, 2, 3, 1, 2, 9].map { stack.use($0) }
    #expect(depths == [nil, 1, nil, nil, 3, 3, nil])
    #expect((0...4).map { stack.hits(entries: $0) } == [0, 1, 1, 3, 3])
  }

  /// Every size at once against a cache of each size, with removals, past several renumberings.
  @Test(arguments: seeds)
  func `one pass counts what caches of every size count`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    func random(_ bound: UInt64) -> UInt64 { generator.next() % bound }
    let sizes = [1, 2, 3, 5, 8, 13, 40]
    var stack = StackDistances()
    var caches = try sizes.map { CacheModel(try CacheGeometry(entries: $0)) }
    var hits = sizes.map { _ in 0 }
    for _ in 0..<6000 {
      let key = random(4) == 0 ? random(60) : random(12)
      if random(6) == 0 {
        stack.remove(key)
        for index in caches.indices { caches[index].remove(key) }
        continue
      }
      if random(500) == 0 {
        stack.removeAll { $0 % 3 == 0 }
        for index in caches.indices { caches[index].removeAll { $0 % 3 == 0 } }
      }
      stack.use(key)
      for index in caches.indices {
        if caches[index].find(key) {
          hits[index] += 1
        } else {
          caches[index].insert(key, index: 0)
        }
      }
    }
    #expect(sizes.map { stack.hits(entries: $0) } == hits)
  }
}
