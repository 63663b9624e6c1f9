import IOMMUFormats
import IOMMUTranslation
import Testing

/// Guest addresses are host addresses less 16 MiB: the second stage maps guest 0x20_0000, where the
/// first-stage tables lie, to 0x120_0000.
@Suite struct NestedTests {
  static let shift: UInt64 = 0x100_0000

  struct Setup {
    var tables: ScalableTables
    /// Second stage at 0x60_0000.
    var second: TableBuilder

    /// - Parameter ssade: The second stage keeps marks of its own.
    init(levels: Int = 4, firstStageLevels: Int = 4, ssade: Bool = false, flags: UInt64 = 0) throws
    {
      tables = try ScalableTables(context: 0b1001, byteCount: 64 << 20)
      let aw = UInt64(levels - 2) << 2
      for pasid: UInt64 in [0, 1] {
        tables.set(
          [
            0x60_0000 | 1 | aw | 3 << 6 | (ssade ? 1 << 9 : 0), 5 | 1 << 23,
            0x20_0000 | (firstStageLevels == 5 ? 1 << 2 : 0) | flags,
          ], pasid: pasid)
      }
      second = TableBuilder(in: tables.memory, root: 0x60_0000, levels: levels)
      for page in 0..<32 as Range<UInt64> { map(guest: 0x20_0000 + page * 4096) }
    }

    /// Maps a guest page to its host page.
    mutating func map(guest: UInt64, flags: UInt64 = 3) {
      second.set(guest + shift | flags, for: guest, level: 1)
    }

    /// Writes a first-stage entry for `iova`: tables in guest pages from 0x20_0000 on, one a level.
    func setFirst(_ entry: UInt64, for iova: UInt64, level: Int = 1, levels: Int = 4) {
      for above in stride(from: levels, to: level, by: -1) {
        let table = 0x20_0000 + UInt64(levels - above) * 4096
        let place = table + (iova >> UInt64(12 + 9 * (above - 1)) & 511) * 8
        tables.memory.store(table + 4096 | 7, at: place + shift)
      }
      tables.memory.store(entry, at: place(of: iova, level: level, levels: levels))
    }

    /// Where the first-stage entry lies in host memory.
    func place(of iova: UInt64, level: Int, levels: Int = 4) -> UInt64 {
      0x20_0000 + UInt64(levels - level) * 4096 + (iova >> UInt64(12 + 9 * (level - 1)) & 511) * 8
        + shift
    }

    func secondLeaf(_ guest: UInt64) -> UInt64 {
      tables.quadword(at: second.place(of: guest, level: 1))
    }
  }

  @Test func `every first-stage address goes through the second stage`() throws {
    var setup = try Setup()
    setup.map(guest: 0x40_0000)
    setup.setFirst(0x40_0007, for: 0x7f12_3456_7000)
    #expect(setup.tables.translate(0x7f12_3456_7abc) == .to(0x140_0abc))
    for level in 1...4 {
      #expect(
        setup.tables.quadword(at: setup.place(of: 0x7f12_3456_7000, level: level)) & 0xfff == 0x27)
    }
    #expect(setup.tables.translate(0x7f12_3456_7abc, .write) == .to(0x140_0abc))
    #expect(
      setup.tables.quadword(at: setup.place(of: 0x7f12_3456_7000, level: 1)) == 0x40_0067)
  }

  @Test func `five levels in five levels`() throws {
    var setup = try Setup(levels: 5, firstStageLevels: 5)
    setup.map(guest: 0x1ff_ffff_ffff_f000 - 0x1ff_0000_0000_0000)
    setup.setFirst(0xffff_ffff_f007, for: 0x12_3456_789a_b000, levels: 5)
    // 256 TiB less a page, plus 16 MiB: no RAM there, which is no matter of the tables.
    #expect(
      setup.tables.translate(0x12_3456_789a_b123, .read, on: .modern)
        == .recorded(0x7a), "beyond the 46 bits of the host")
    setup.map(guest: 0x40_0000)
    setup.setFirst(0x40_0007, for: 0x12_3456_789a_b000, levels: 5)
    #expect(setup.tables.translate(0x12_3456_789a_b123) == .to(0x140_0123))
  }

  @Test func `the page is the smaller of both stages`() throws {
    var setup = try Setup()
    // A first-stage page of 2 MiB in second-stage pages of 4 KiB.
    setup.setFirst(0x80_0087, for: 0x4000_0000, level: 2)
    setup.map(guest: 0x80_0000)
    setup.map(guest: 0x80_1000, flags: 1)
    func answer(_ address: UInt64, _ operation: VTd.Request.Operation = .read) -> Translation {
      var observer = Unobserved()
      return setup.tables.resolver().translate(
        VTd.Request(device, IOVA(address), operation), byteCount: 0x10_0000,
        in: setup.tables.memory, marker: NoMarks(), observer: &observer)
    }
    #expect(answer(0x4000_0800) == .to(0x180_0800, 0x800))
    #expect(answer(0x4000_1800) == .to(0x180_1800, 0x800))
    #expect(answer(0x4000_1800, .write) == .recorded(0x85))
    #expect(answer(0x4000_2000) == .recorded(0x79))
    // And a page of 4 KiB in one of 2 MiB.
    setup.second.set(0x3a0_0083, for: 0xa0_0000, level: 2)
    setup.setFirst(0xa3_4007, for: 0x8000_0000)
    #expect(answer(0x8000_0123) == .to(0x3a3_4123, 0xedd))
  }

  @Test func `what the second stage refuses the tables of the first`() throws {
    func answer(_ change: (inout Setup) -> Void) throws -> Translation {
      var setup = try Setup()
      setup.map(guest: 0x40_0000)
      setup.setFirst(0x40_0007, for: 0x1000)
      change(&setup)
      return setup.tables.translate(0x1000)
    }
    #expect(try answer { _ in } == .to(0x140_0000))
    #expect(try answer { $0.map(guest: 0x20_0000, flags: 2) } == .recorded(0x75))
    #expect(try answer { $0.map(guest: 0x20_1000, flags: 2) } == .recorded(0x76))
    #expect(try answer { $0.map(guest: 0x20_3000, flags: 2) } == .recorded(0x76))
    #expect(try answer { $0.map(guest: 0x20_1000, flags: 0) } == .recorded(0x79))
    #expect(try answer { $0.map(guest: 0x20_2000, flags: 1) } == .recorded(0x77), "A to be set")
    #expect(
      try answer { $0.second.set(0x4000_0000_0003, for: 0x20_1000, level: 1) } == .recorded(0x7a))
    #expect(
      try answer { $0.second.set(0x7000_0003, for: 0x20_0000, level: 2) } == .recorded(0x78))
    #expect(
      try answer { setup in
        setup.tables.set([0x7000_0000 | 1 | 2 << 2 | 3 << 6, 5 | 1 << 23, 0x20_0000])
      } == .recorded(0x7b))
  }

  @Test func `guest addresses beyond the second stage`() throws {
    var setup = try Setup()
    setup.setFirst(0x1_0000_0000_0007, for: 0x1000)
    #expect(setup.tables.translate(0x1000) == .recorded(0x74))
    setup.setFirst(0x1_0000_0000_0007, for: 0x1000, level: 3)
    #expect(setup.tables.translate(0x1000) == .recorded(0x74))
    // 40 bits are beyond the host of 39, and a guest may have them.
    setup.map(guest: 0x80_0000_0000)
    setup.second.set(0x140_0003, for: 0x80_0000_0000, level: 1)
    setup.setFirst(0x80_0000_0007, for: 0x1000)
    var narrow = VTd.Limits.modern
    narrow.hostAddressWidth = 39
    #expect(setup.tables.translate(0x1000, .read, on: narrow) == .to(0x140_0000))
    // The guest's own root: beyond three levels of second stage, then beyond the host.
    setup.tables.set([0x60_0000 | 1 | 1 << 2 | 3 << 6, 5 | 1 << 23, 0x80_0000_0000])
    #expect(setup.tables.translate(0x1000) == .recorded(0x5b))
    setup.tables.set([0x60_0000 | 1 | 2 << 2 | 3 << 6, 5 | 1 << 23, 0x4000_0000_0000])
    #expect(setup.tables.translate(0x1000) == .recorded(0x5a))
  }

  @Test func `entries of the guest that stop a walk`() throws {
    var setup = try Setup()
    setup.map(guest: 0x40_0000)
    setup.setFirst(0x40_0006, for: 0x1000)
    #expect(setup.tables.translate(0x1000) == .recorded(0x71))
    setup.setFirst(0x40_2087, for: 0x1000, level: 2)
    #expect(setup.tables.translate(0x1000) == .recorded(0x72))
    setup.setFirst(0x40_0003, for: 0x1000)
    #expect(setup.tables.translate(0x1000) == .recorded(0x81))
    setup.setFirst(0x40_0005, for: 0x1000)
    #expect(setup.tables.translate(0x1000, .write) == .recorded(0x85))
    setup.setFirst(0xfee0_0007, for: 0x1000)
    setup.second.set(0xfee0_0003, for: 0xfee0_0000, level: 1)
    #expect(setup.tables.translate(0x1000) == .recorded(0x87))
    #expect(setup.tables.translate(0x8000_0000_0000) == .recorded(0x80))
    // The first stage's rights come before the second stage is asked for the page.
    setup.map(guest: 0x41_0000, flags: 0)
    setup.setFirst(0x41_0003, for: 0x1000)
    #expect(setup.tables.translate(0x1000) == .recorded(0x81))
    setup.setFirst(0x41_0007, for: 0x1000)
    #expect(setup.tables.translate(0x1000) == .recorded(0x79))
    setup.map(guest: 0x41_0000, flags: 2)
    #expect(setup.tables.translate(0x1000) == .recorded(0x86))
    setup.map(guest: 0x41_0000, flags: 1)
    #expect(setup.tables.translate(0x1000, .write) == .recorded(0x85))
    #expect(
      setup.tables.quadword(at: setup.place(of: 0x1000, level: 1)) & 0x40 == 0,
      "a write that the second stage denies leaves no D")
  }

  @Test func `with SSADE the second stage is marked for tables and page`() throws {
    var setup = try Setup(ssade: true)
    setup.map(guest: 0x40_0000)
    setup.setFirst(0x40_0007, for: 0x1000)
    #expect(setup.tables.translate(0x1000) == .to(0x140_0000))
    // Setting A in a first-stage entry writes its page.
    #expect(setup.secondLeaf(0x20_3000) == 0x120_3303)
    #expect(setup.secondLeaf(0x40_0000) == 0x140_0103)
    #expect(setup.tables.translate(0x1000, .write) == .to(0x140_0000))
    #expect(setup.secondLeaf(0x40_0000) == 0x140_0303)
    #expect(setup.secondLeaf(0x20_4000) == 0x120_4003, "never used")
    // Tables have to be writable then, whether or not something is to be set.
    setup.second.set(0x120_1101, for: 0x20_1000, level: 1)
    #expect(setup.tables.translate(0x1000) == .recorded(0x76))
    setup.second.set(0x120_0101, for: 0x20_0000, level: 1)
    #expect(setup.tables.translate(0x1000) == .recorded(0x75))
  }

  @Test func `runs of both stages together`() throws {
    var setup = try Setup()
    setup.setFirst(0x80_0087, for: 0x4000_0000, level: 2)
    setup.map(guest: 0x80_0000)
    setup.map(guest: 0x80_1000)
    setup.map(guest: 0x80_2000, flags: 1)
    setup.second.set(0x300_0003, for: 0x80_3000, level: 1)
    setup.tables.set([0], pasid: 1)
    let machine = Machine(name: "one", units: [.vtd(setup.tables.resolver().unit)])
    let tables = machine.tables(in: setup.tables.memory).tables
    #expect(tables.map(\.name) == ["00:04.0/0"])
    var budget = EnumerationBudget(for: setup.tables.memory)
    let runs = machine.mappings(of: tables[0], in: setup.tables.memory, budget: &budget).runs
    #expect(
      runs.map { "\($0.iova.text) \($0.physical) \($0.permissions)" } == [
        "0x40000000..<0x40002000 0x1800000 rw", "0x40002000..<0x40003000 0x1802000 r-",
        "0x40003000..<0x40004000 0x3000000 rw",
      ])
  }

  @Test(arguments: seeds)
  func `tables of random bits end every walk`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let tables = try ScalableTables(context: 0b1001, byteCount: 4 << 20)
    for place in stride(from: 0x20_0000 as UInt64, to: 0x40_0000, by: 8) {
      // Pointers into the same tables, so that walks go on and on.
      tables.memory.store(
        0x20_0000 + generator.next() % 512 * 4096 | generator.next() & 0xfff, at: place)
    }
    for type: UInt64 in 1...3 {
      for _ in 0..<200 {
        tables.set([
          0x20_0000 | 1 | 2 << 2 | type << 6 | (generator.next() & 1) << 9, 5 | 1 << 23,
          0x20_0000 | generator.next() & 4,
        ])
        var address = generator.next() & 0xffff_ffff_ffff
        if type != 2, address >> 47 != 0 { address |= 0xffff << 48 }
        switch tables.translate(address, .write) {
        case .mapped(let physical, _): #expect(physical.rawValue < 0x40_0000)
        case .fault, .interruptMessage: break
        }
      }
    }
  }
}
