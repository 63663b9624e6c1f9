import IOMMUFormats
import IOMMUTranslation
import Testing

@testable import IOMMUInspection

/// Dumps whose every page is made to look like a table: a search has to end all the same.
@Suite struct HostileSearchTests {
  static let pageCount: UInt64 = 256

  /// 1 MiB of pages, filled by page number.
  func memory(_ words: (_ page: UInt64) -> [UInt64]) throws -> CountedMemory {
    let memory = try FlatMemory(byteCount: Self.pageCount << 12)
    for page in 0..<Self.pageCount {
      for (index, word) in words(page).enumerated() {
        memory.store(word, at: PhysicalAddress(page << 12 + 8 * UInt64(index)))
      }
    }
    return CountedMemory(base: memory)
  }

  @Test(arguments: [1, 2] as [UInt64])
  func `tables that all point at each other are read a bounded number of times`(
    seed: UInt64
  ) throws {
    var generator = SeededGenerator(seed: seed)
    // Of four pages one is a root table with four buses, one a context table with all devices and
    // three-level tables, two are page tables without a leaf.
    func page(_ rest: UInt64) -> UInt64 { (generator.next() % 63 * 4 + 4 + rest) << 12 }
    let memory = try memory { number in
      switch number % 4 {
      case 0: (0..<4).flatMap { _ in [page(1) | 1, 0] }
      case 1: (0..<256).flatMap { _ in [page(2) | 1, 0x101] }
      default: (0..<512).map { _ in page(2 + generator.next() % 2) | 3 }
      }
    }
    let search = TableSearch(in: memory)
    #expect(search.isExhausted, "seed \(seed)")
    // 2048 page tables of 512 entries, and context entries: a few reads each. Page tables of three
    // levels alone would be read 64 * 64 * 512^3 times.
    #expect(memory.count.value < 4_000_000, "seed \(seed)")
  }

  @Test func `scalable root tables that share overlapping directories end the search`() throws {
    // Every quadword of every page: present, and the address of a page.
    var generator = SeededGenerator(seed: 3)
    let memory = try memory { _ in
      (0..<8).map { _ in (generator.next() % (Self.pageCount - 1) + 1) << 12 | 1 }
    }
    let search = TableSearch(in: memory)
    #expect(search.candidates.allSatisfy { $0.kind.translates })
    #expect(memory.count.value < 4_000_000)
  }

  @Test func `headers that claim 64 KiB each are not all added up`() throws {
    // "DMAR", and a length of 65280.
    let memory = try memory { _ in [UInt64](repeating: 0x0000_ff00_5241_4d44, count: 512) }
    let search = TableSearch(in: memory)
    #expect(search.isExhausted)
    #expect(search.candidates.allSatisfy { !$0.isCertain })
  }

  @Test func `an honest dump uses up nothing`() throws {
    #expect(!TableSearch(in: try SmallMachine().memory).isExhausted)
  }
}
