import IOMMUFormats
import Testing

@testable import IOMMUHardware

@Suite struct GARTCacheTests {
  private func entry(_ value: UInt32) -> GART.GATTEntry { GART.GATTEntry(rawValue: value) }

  @Test func `a cache that is off keeps nothing`() {
    var cache = GARTCache(geometry: .off)
    cache.insert(entry(0x1003), for: 1)
    #expect(cache.entry(for: 1) == nil)
    #expect(cache.count == 0)
  }

  @Test func `one without a limit keeps all until it is flushed`() {
    var cache = GARTCache(geometry: .unlimited)
    for page: UInt64 in 0..<5000 { cache.insert(entry(UInt32(page) << 12 | 3), for: page) }
    #expect(cache.count == 5000)
    #expect(cache.entry(for: 4711) == entry(0x126_7003))
    cache.removeAll()
    #expect(cache.count == 0)
    #expect(cache.entry(for: 4711) == nil)
  }

  @Test func `a full set gives up what was used longest ago`() {
    var cache = GARTCache(geometry: .sets(setCount: 2, wayCount: 2))
    cache.insert(entry(0x0003), for: 0)
    cache.insert(entry(0x2003), for: 2)
    cache.insert(entry(0x1003), for: 1)
    #expect(cache.entry(for: 0) == entry(0x0003))
    cache.insert(entry(0x4003), for: 4)
    #expect(cache.entry(for: 2) == nil)
    #expect(cache.entry(for: 0) == entry(0x0003))
    #expect(cache.entry(for: 4) == entry(0x4003))
    #expect(cache.entry(for: 1) == entry(0x1003))
    #expect(cache.count == 3)
  }

  @Test func `a page has one place`() {
    var cache = GARTCache(geometry: .sets(setCount: 1, wayCount: 4))
    cache.insert(entry(0x1003), for: 7)
    cache.insert(entry(0x2003), for: 7)
    #expect(cache.count == 1)
    #expect(cache.entry(for: 7) == entry(0x2003))
  }

  @Test func `three sets stop the program`() async {
    await #expect(processExitsWith: .failure) {
      _ = GARTCache(geometry: .sets(setCount: 3, wayCount: 1))
    }
  }
}
