import IOMMUFormats
import Testing

@testable import IOMMUImages

@Suite struct PageCacheTests {
  /// Fills a page with its number.
  static func fill(_ page: UInt64, _ output: inout OutputSpan<UInt8>) {
    while !output.isFull {
      for byte in 0..<UInt64(8) { output.append(UInt8(truncatingIfNeeded: page >> (8 * byte))) }
    }
  }

  static func word(
    _ cache: PageCache, _ page: UInt64, _ offset: Int, unpack: () -> Bool
  ) -> UInt64? {
    let (word, isThere) = [UInt8].filled(capacity: 8) {
      cache.copy(page: page, offset: offset, count: 8, into: &$0) {
        guard unpack() else { return false }
        fill(page, &$0)
        return true
      }
    }
    return isThere ? word.span.integer(UInt64.self, at: 0) : nil
  }

  @Test func `any number of pages comes back right through a bounded cache`() {
    let seed = UInt64.random(in: 0 ... .max)
    print("pages through a cache: seed \(seed)")
    var generator = SeededGenerator(seed: seed)
    let cache = PageCache(pageByteCount: 4096, byteCount: 4 << 20)
    for _ in 0..<5000 {
      let page = UInt64.random(in: 0..<3000, using: &generator)
      let offset = Int.random(in: 0..<512, using: &generator) * 8
      #expect(Self.word(cache, page, offset) { true } == page)
    }
  }

  @Test func `a page is unpacked once while it is used, and again when others came`() {
    let cache = PageCache(pageByteCount: 4096, byteCount: 4 << 20)
    var count = 0
    func look(_ page: UInt64) {
      _ = Self.word(cache, page, 0) {
        count += 1; return true
      }
    }
    for _ in 0..<3 { look(7) }
    #expect(count == 1)
    // 256 sets of four: these share a set with page 7.
    for way in 1...4 { look(7 + UInt64(way) * 256) }
    #expect(count == 5)
    look(7)
    #expect(count == 6)
  }

  @Test func `a page that cannot be unpacked is not kept`() {
    let cache = PageCache(pageByteCount: 4096, byteCount: 4 << 20)
    #expect(Self.word(cache, 3, 8) { false } == nil)
    #expect(Self.word(cache, 3, 8) { true } == 3)
  }

  @Test func `a whole page goes to its reader and pushes nothing out`() {
    let cache = PageCache(pageByteCount: 4096, byteCount: 4 << 20)
    _ = Self.word(cache, 7, 0) { true }
    for way in 1...8 {
      let other = 7 + UInt64(way) * 256
      let (page, isThere) = [UInt8].filled(capacity: 4096) {
        cache.copy(page: other, offset: 0, count: 4096, into: &$0) {
          Self.fill(other, &$0)
          return true
        }
      }
      #expect(isThere && page[0] == UInt8(truncatingIfNeeded: other))
    }
    #expect(Self.word(cache, 7, 0) { false } == 7)
  }

  /// Under the thread sanitizer this is a test of the locks; without it, of the answers.
  @Test func `threads that read at once get the right pages`() async throws {
    let scratch = TemporaryDirectory()
    let pages = (0..<64).map { frame in
      TinyKdump.Page(
        frame: UInt64(frame), data: [UInt8](repeating: UInt8(frame + 1), count: 4096))
    }
    var kdump = TinyKdump(pages: pages)
    kdump.frameCount = 64
    let image = try MemoryImage(path: scratch.file("vmcore", kdump.bytes))
    let wrong = await withTaskGroup(of: Int.self) { group in
      for seed in 0..<4 {
        group.addTask {
          var generator = SeededGenerator(seed: UInt64(seed))
          return (0..<2000).count { _ in
            let frame = UInt64.random(in: 0..<64, using: &generator)
            let word = image.doubleword(at: PhysicalAddress(frame << 12 + 8))
            return word != UInt32(frame + 1) &* 0x0101_0101
          }
        }
      }
      return await group.reduce(0, +)
    }
    #expect(wrong == 0)
  }
}
