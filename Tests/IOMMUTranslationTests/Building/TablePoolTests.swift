import IOMMUFormats
import IOMMUTranslation
import Testing

@Suite struct TablePoolTests {
  @Test func `pages come from the end down, never page 0, and freed ones first`() {
    let pool = TablePool([physical(0..<0x3000), physical(0x1_0800..<0x1_2800)])
    func page() -> UInt64? { pool.allocate(byteCount: 4096, alignment: 4096)?.rawValue }
    #expect(page() == 0x1_1000)
    #expect(page() == 0x2000)
    pool.free(physical(0x1_1000..<0x1_2000))
    #expect(page() == 0x1_1000)
    #expect(page() == 0x1000)
    #expect(page() == nil)
  }

  @Test func `a longer table is aligned, and what lies above it serves pages`() {
    let pool = TablePool([physical(0x1000..<0x3_4000)])
    #expect(pool.allocate(byteCount: 0x8000, alignment: 0x8000)?.rawValue == 0x2_8000)
    #expect(pool.allocate(byteCount: 4096, alignment: 4096)?.rawValue == 0x3_0000)
    #expect(pool.allocate(byteCount: 0x4_0000, alignment: 4096) == nil)
    let low = TablePool([physical(0x1000..<0x3_4000)], below: PhysicalAddress(0x2_0000))
    #expect(low.allocate(byteCount: 4096, alignment: 4096)?.rawValue == 0x1_f000)
  }

  @Test(arguments: seeds)
  func `what is avoided is never given out, and nothing twice`(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    let pool = TablePool([physical(0x1000..<0x8_0000), physical(0x10_0000..<0x18_0000)])
    var avoided: Set<UInt64> = []
    var inUse: Set<UInt64> = []
    for _ in 0..<400 {
      let start = generator.next() % 0x180
      switch generator.next() % 4 {
      case 0:
        let count = 1 + generator.next() % 6
        pool.avoid(physical(start << 12..<(start + count) << 12))
        avoided.formUnion(start..<(start + count))
      case 1:
        if let page = inUse.randomElement(using: &generator) {
          inUse.remove(page)
          pool.free(physical(page << 12..<(page + 1) << 12))
        }
      default:
        let pages: UInt64 = generator.next() % 8 == 0 ? 4 : 1
        guard
          let found = pool.allocate(byteCount: pages << 12, alignment: pages << 12)?.pageNumber
        else { continue }
        #expect(found % pages == 0)
        for page in found..<(found + pages) {
          #expect(!avoided.contains(page) && inUse.insert(page).inserted, "seed \(seed)")
          #expect(1..<0x80 ~= page || 0x100..<0x180 ~= page)
        }
      }
    }
  }
}
