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

  @Test(
    arguments: [
      // A pointer with a present bit and GATT entries; TCEs.
      0x6a0_4001_06a0_4001, 0x0300_0000_0000_1000, 0x5241_4d44_5241_4d44,
    ] as [UInt64])
  func `memory up to the last address is searched, and no table is taken beyond 52 bits`(
    word: UInt64
  ) {
    let memory = TopMemory(word: word)
    let search = TableSearch(in: memory)
    #expect(search.byteCount == 0xffff)
    #expect(search.candidates.isEmpty)
    for text in ["vtd:ffffffffffff0000", "tce:ffffffffffff0000+64K", "gatt:ffffffffffff0000"] {
      #expect(throws: NamedTableError.self) {
        try NamedTable(text).unit(in: memory, TableHints(aperture: ApertureHint(base: 0)))
      }
    }
  }

  /// The last 64 KiB of all addresses but one byte, which no range can have; every quadword the same.
  struct TopMemory: PhysicalMemory {
    let word: UInt64
    private static let start: UInt64 = 0xffff_ffff_ffff_0000

    func quadword(at address: PhysicalAddress) -> UInt64? {
      address.rawValue >= Self.start && address.rawValue <= .max - 8 && address.rawValue % 8 == 0
        ? word : nil
    }

    func doubleword(at address: PhysicalAddress) -> UInt32? {
      quadword(at: PhysicalAddress(address.rawValue & ~7)).map {
        UInt32(truncatingIfNeeded: $0 >> (address.rawValue & 4 == 0 ? 0 : 32))
      }
    }

    func read(at address: PhysicalAddress, into buffer: UnsafeMutableRawBufferPointer) -> Int {
      guard address.rawValue >= Self.start else { return 0 }
      let count = min(UInt64(buffer.count), .max - address.rawValue)
      for index in 0..<Int(count) {
        let place = address.rawValue + UInt64(index)
        buffer[index] = UInt8(truncatingIfNeeded: word >> (8 * (place % 8)))
      }
      return Int(count)
    }

    var backedRanges: [Range<PhysicalAddress>] {
      [PhysicalAddress(Self.start)..<PhysicalAddress(.max)]
    }
  }

  @Test func `a page table behind 262,144 entries is looked at once, counted for each`() throws {
    // As a kernel's page of stacks in the tables of a process: root and context table of bus 0, and a
    // page table of each of four levels.
    let memory = try FlatMemory(byteCount: 1 << 20)
    memory.store(0x2001 as UInt64, at: PhysicalAddress(0x1000))
    memory.store(0x3001 as UInt64, at: PhysicalAddress(0x2080))
    memory.store(0x102 as UInt64, at: PhysicalAddress(0x2088))
    memory.store(0x4003 as UInt64, at: PhysicalAddress(0x3000))
    for index in 0..<512 as Range<UInt64> {
      memory.store(0x5003 as UInt64, at: PhysicalAddress(0x4000 + 8 * index))
      memory.store(0x6003 as UInt64, at: PhysicalAddress(0x5000 + 8 * index))
    }
    memory.store(0x8_0003 as UInt64, at: PhysicalAddress(0x6008))
    let counted = CountedMemory(base: memory)
    let search = TableSearch(in: counted)
    #expect(!search.isExhausted)
    let first = try #require(search.candidates.first)
    #expect(first.address == PhysicalAddress(0x1000) && first.score == 95)
    #expect(
      first.reasons == [
        "1 of 1 context entry legal, in 1 context table",
        "1 of 1 page table tree sound, 262144 pages mapped",
      ])
    #expect(counted.count.value < 100_000)
  }

  @Test func `a root table of 65,536 devices is told whole`() throws {
    // A context table of each bus behind the root table; all devices have three levels of tables.
    let memory = try FlatMemory(byteCount: 4 << 20)
    for bus in 0..<256 as Range<UInt64> {
      let contexts = 0x10_0000 + bus << 12
      memory.store(contexts | 1, at: PhysicalAddress(0x1000 + 16 * bus))
      for device in 0..<256 as Range<UInt64> {
        memory.store(0x20_0001 as UInt64, at: PhysicalAddress(contexts + 16 * device))
        memory.store(0x101 as UInt64, at: PhysicalAddress(contexts + 16 * device + 8))
      }
    }
    memory.store(0x20_1003 as UInt64, at: PhysicalAddress(0x20_0000))
    memory.store(0x20_2003 as UInt64, at: PhysicalAddress(0x20_1000))
    memory.store(0x30_0003 as UInt64, at: PhysicalAddress(0x20_2000))
    let search = TableSearch(in: memory)
    #expect(!search.isExhausted)
    #expect(search.candidates.first?.kind == .rootTable)
    #expect(search.candidates.first?.address == PhysicalAddress(0x1000))
    #expect(search.candidates.first?.score == 100)
  }

  @Test func `a table that takes the last of what may be looked at is told whole`() throws {
    // A device table of 65,536 entries, of which each is one more of an address space.
    let memory = try FlatMemory(byteCount: 8 << 20)
    for device in 0..<65536 as Range<UInt64> {
      memory.store(0x6000_0000_0060_0603 as UInt64, at: PhysicalAddress(0x20_0000 + 32 * device))
      memory.store(1 as UInt64, at: PhysicalAddress(0x20_0008 + 32 * device))
    }
    memory.store(0x6000_0000_0060_1401 as UInt64, at: PhysicalAddress(0x60_0000))
    memory.store(0x6000_0000_0060_2201 as UInt64, at: PhysicalAddress(0x60_1000))
    memory.store(0x6000_0000_0070_0001 as UInt64, at: PhysicalAddress(0x60_2000))
    let search = TableSearch(in: memory)
    #expect(!search.isExhausted)
    #expect(search.candidates.first?.kind == .deviceTable)
    #expect(search.candidates.first?.score == 100)
  }

  @Test func `an honest dump uses up nothing`() throws {
    #expect(!TableSearch(in: try SmallMachine().memory).isExhausted)
  }
}
