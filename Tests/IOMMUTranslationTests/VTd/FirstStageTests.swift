import IOMMUFormats
import IOMMUTranslation
import Testing

@Suite struct FirstStageTests {
  static let user: UInt64 = 7

  /// First-stage tables at 0x200000 for PASID 0 (requests without PASID) and PASID 1.
  struct Setup {
    var tables: ScalableTables
    var builder: TableBuilder

    /// - Parameter flags: SRE, FSPM, WPE and EAFE as they lie in the third quadword.
    init(levels: Int = 4, flags: UInt64 = 0) throws {
      tables = try ScalableTables(context: 0b1001)
      for pasid: UInt64 in [0, 1] {
        // PWSNP is set: the unit can snoop, so it has to.
        tables.set(
          [1 | 1 << 6, 5 | 1 << 23, 0x20_0000 | (levels == 5 ? 1 << 2 : 0) | flags], pasid: pasid)
      }
      builder = TableBuilder(
        in: tables.memory, root: 0x20_0000, levels: levels, pointerFlags: user)
    }
  }

  @Test func `a page is reached through four levels and marked on the way`() throws {
    var setup = try Setup()
    setup.builder.set(0x30_0000 | Self.user, for: 0x1234_5000, level: 1)
    #expect(setup.tables.translate(0x1234_5678) == .to(0x30_0678))
    for level in 1...4 {
      let place = setup.builder.place(of: 0x1234_5000, level: level)
      #expect(setup.tables.quadword(at: place) & 0xfff == 0x27, "A in level \(level)")
    }
    #expect(setup.tables.translate(0x1234_5678, .write) == .to(0x30_0678))
    let leaf = setup.builder.place(of: 0x1234_5000, level: 1)
    #expect(setup.tables.quadword(at: leaf) == 0x30_0067, "D in the leaf alone")
    #expect(
      setup.tables.quadword(at: setup.builder.place(of: 0x1234_5000, level: 2)) & 0xfff == 0x27)
  }

  @Test func `large pages, and those that the unit has not`() throws {
    var setup = try Setup()
    setup.builder.set(0x4000_1087, for: 0x1220_0000, level: 2)
    setup.builder.set(0x8000_0087, for: 0x4000_0000, level: 3)
    #expect(setup.tables.translate(0x1234_5678) == .to(0x4014_5678))
    #expect(setup.tables.translate(0x6345_6789) == .to(0xa345_6789))
    #expect(
      setup.tables.translate(0x6345_6789, on: .modern.without(.firstStage1GiBPages))
        == .recorded(0x72))
    setup.builder.set(0x4000_2087, for: 0x1220_0000, level: 2)
    #expect(setup.tables.translate(0x1234_5678) == .recorded(0x72), "bit 13 of a 2 MiB page")
  }

  /// First and last canonical addresses of both halves, and those beside them.
  @Test(arguments: [(4, 47), (5, 56)])
  func `addresses are canonical or fault 80h`(levels: Int, signBit: UInt64) throws {
    var setup = try Setup(levels: levels)
    let low: UInt64 = (1 << signBit) - 0x1000
    let high: UInt64 = ~0 << signBit
    for (index, address) in [low, high, ~0xfff].enumerated() {
      setup.builder.set(0x30_0007 + UInt64(index) << 12, for: address, level: 1)
    }
    #expect(setup.tables.translate(low) == .to(0x30_0000))
    #expect(setup.tables.translate(high) == .to(0x30_1000))
    #expect(setup.tables.translate(.max) == .to(0x30_2fff))
    for wrong in [low + 0x1000, high - 1, 1 << 63, 0x7fff_ffff_ffff_ffff] {
      #expect(setup.tables.translate(wrong) == .recorded(0x80))
    }
  }

  @Test func `five levels need the capability`() throws {
    var setup = try Setup(levels: 5)
    setup.builder.set(0x30_0007, for: 0x12_3456_789a_b000, level: 1)
    #expect(setup.tables.translate(0x12_3456_789a_bcde) == .to(0x30_0cde))
    #expect(
      setup.tables.translate(0x1000, on: .modern.without(.fiveLevelFirstStage)) == .recorded(0x5b))
  }

  /// Rights of the leaf, who asks, for what, and the fault.
  static let rights: [(flags: UInt64, isPrivileged: Bool, wpe: Bool, write: Bool, fault: UInt8?)] =
    [
      (7, false, false, false, nil), (7, false, false, true, nil), (5, false, false, false, nil),
      (5, false, false, true, 0x85), (3, false, false, false, 0x81), (3, false, false, true, 0x81),
      (1, false, false, true, 0x81), (7, true, false, true, nil), (5, true, false, true, nil),
      (1, true, false, true, nil), (1, true, true, false, nil), (1, true, true, true, 0x85),
      (3, true, true, true, nil), (5, true, true, true, 0x85),
    ]

  @Test(arguments: rights, [1, 2, 3, 4])
  func `rights of any level bind`(
    row: (flags: UInt64, isPrivileged: Bool, wpe: Bool, write: Bool, fault: UInt8?), level: Int
  ) throws {
    var setup = try Setup(flags: 1 | (row.wpe ? 1 << 4 : 0))
    setup.builder.set(0x30_0007, for: 0x1234_5000, level: 1)
    let place = setup.builder.place(of: 0x1234_5000, level: level)
    setup.tables.memory.store(setup.tables.quadword(at: place) & ~7 | row.flags, at: place)
    let answer = setup.tables.translate(
      0x1234_5000, row.write ? .write : .read, pasid: 1, isPrivileged: row.isPrivileged)
    #expect(answer == row.fault.map { .recorded($0) } ?? .to(0x30_0000))
    let leaf = setup.tables.quadword(at: setup.builder.place(of: 0x1234_5000, level: 1))
    #expect((leaf & 0x40 != 0) == (row.write && row.fault == nil), "D of a write that is allowed")
  }

  @Test func `entries that stop a walk`() throws {
    var setup = try Setup()
    setup.builder.set(0x30_0007, for: 0x1234_5000, level: 1)
    func answer(_ entry: UInt64, level: Int) throws -> Translation {
      let place = setup.builder.place(of: 0x1234_5000, level: level)
      let before = setup.tables.quadword(at: place)
      setup.tables.memory.store(entry, at: place)
      defer { setup.tables.memory.store(before, at: place) }
      return setup.tables.translate(0x1234_5678)
    }
    for level in 1...4 {
      #expect(try answer(0x30_0006, level: level) == .recorded(0x71), "P=0 in level \(level)")
      #expect(try answer(0x4000_0030_0007, level: level) == .recorded(0x72), "bit 46")
    }
    #expect(try answer(0x30_0087, level: 4) == .recorded(0x72), "PS in an FS-PML4E")
    #expect(try answer(0x7000_0007, level: 4) == .recorded(0x70))
    #expect(try answer(0x7000_0007, level: 2) == .recorded(0x70))
    #expect(try answer(0xfff0_0000_0030_0e1f, level: 1) == .to(0x30_0678), "ignored bits")
    #expect(try answer(0xfee0_0007, level: 1) == .recorded(0x87))
    setup.tables.set([1 | 1 << 6, 5 | 1 << 23, 0x7000_0000])
    #expect(setup.tables.translate(0x1234_5678) == .recorded(0x73))
  }

  @Test func `EAFE sets EA together with A`() throws {
    var setup = try Setup(flags: 1 << 7)
    setup.builder.set(0x30_0007, for: 0x1000, level: 1)
    #expect(setup.tables.translate(0x1000) == .to(0x30_0000))
    #expect(setup.tables.quadword(at: setup.builder.place(of: 0x1000, level: 1)) == 0x30_0427)
    #expect(setup.tables.quadword(at: setup.builder.place(of: 0x1000, level: 4)) & 0xfff == 0x427)
  }

  @Test func `a unit that can snoop walks sets nothing without PWSNP`() throws {
    var setup = try Setup()
    setup.builder.set(0x30_0007, for: 0x1000, level: 1)
    setup.tables.set([1 | 1 << 6, 5, 0x20_0000])
    #expect(setup.tables.translate(0x1000) == .recorded(0x90))
    #expect(setup.tables.quadword(at: setup.builder.place(of: 0x1000, level: 4)) & 0x20 == 0)
    // One that cannot choose does.
    #expect(setup.tables.translate(0x1000, on: .modern.without(.walkSnoop)) == .to(0x30_0000))
    // Nothing left to set: no fault either.
    #expect(setup.tables.translate(0x1000) == .to(0x30_0000))
    #expect(setup.tables.translate(0x1000, .write) == .recorded(0x90), "D is missing")
  }

  @Test func `PASIDs have tables of their own`() throws {
    var setup = try Setup()
    setup.builder.set(0x30_0007, for: 0x1000, level: 1)
    setup.tables.set([1 | 1 << 6, 6 | 1 << 23, 0x60_0000], pasid: 2)
    var other = TableBuilder(
      in: setup.tables.memory, root: 0x60_0000, levels: 4, pointerFlags: Self.user)
    other.set(0x31_0007, for: 0x1000, level: 1)
    #expect(setup.tables.translate(0x1000) == .to(0x30_0000))
    #expect(setup.tables.translate(0x1000, pasid: 1) == .to(0x30_0000))
    #expect(setup.tables.translate(0x1000, pasid: 2) == .to(0x31_0000))
  }

  @Test func `the machine resolves requester and PASID, and names both`() throws {
    var setup = try Setup()
    setup.builder.set(0x30_0005, for: 0x1000, level: 1)
    setup.builder.set(0x30_1007, for: 0xffff_8000_0000_0000, level: 1)
    setup.tables.set([1 | 4 << 6, 5])
    let machine = Machine(name: "one", units: [.vtd(setup.tables.resolver().unit)])
    let memory = setup.tables.memory
    let handle = machine.resolve(device, pasid: PASID(1), in: memory)
    #expect(
      handle.translate(IOVA(0x1000), byteCount: 1, access: .read, in: memory) == .to(0x30_0000))
    #expect(setup.tables.quadword(at: setup.builder.place(of: 0x1000, level: 1)) == 0x30_0005)
    let tables = machine.tables(in: memory).tables
    #expect(tables.map(\.name) == ["00:04.0/0", "00:04.0/1"])
    #expect(tables[1].root == PhysicalAddress(0x20_0000))
    var budget = EnumerationBudget(for: memory)
    #expect(machine.mappings(of: tables[0], in: memory, budget: &budget) == TableMappings())
    #expect(
      machine.mappings(of: tables[1], in: memory, budget: &budget).runs == [
        MappingRun(
          iova: IOVA(0x1000)..<IOVA(0x2000), physical: PhysicalAddress(0x30_0000),
          permissions: .read),
        MappingRun(
          iova: IOVA(0xffff_8000_0000_0000)..<IOVA(0xffff_8000_0000_1000),
          physical: PhysicalAddress(0x30_1000), permissions: .readWrite),
      ])
  }
}
