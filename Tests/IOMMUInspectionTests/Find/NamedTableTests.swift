import IOMMUFormats
import IOMMUTranslation
import Testing

@testable import IOMMUInspection

@Suite struct NamedTableTests {
  func unit(
    _ text: String, in memory: some PhysicalMemory, _ hints: TableHints = TableHints()
  ) throws -> TranslationUnit {
    try NamedTable(text).unit(in: memory, hints)
  }

  /// Why there is no such table; `nil` and an issue when there is one.
  func refusal(
    _ text: String, in memory: some PhysicalMemory, _ hints: TableHints = TableHints()
  ) -> String? {
    do {
      _ = try unit(text, in: memory, hints)
      Issue.record("\(text) is a table")
      return nil
    } catch {
      return "\(error)"
    }
  }

  @Test
  func `an address is a root table's; a kind, a length and the place of registers may be said`()
    throws
  {
    let bare = try NamedTable("6a04000")
    #expect(bare.name.text == "vtd" && bare.address == PhysicalAddress(0x6a0_4000))
    let placed = try NamedTable("VTD-Legacy:0x6a04000@fed90000")
    #expect(placed.name.text == "vtd-legacy")
    #expect(placed.address == PhysicalAddress(0x6a0_4000))
    #expect(placed.unitBase == PhysicalAddress(0xfed9_0000))
    let long = try NamedTable("tce:3f400000+4M")
    #expect(long.name.text == "tce" && long.byteCount == 0x40_0000)
    #expect(long.address == PhysicalAddress(0x3f40_0000) && long.unitBase == nil)
  }

  @Test(arguments: [
    (
      "smmu:1000",
      "there are no tables called 'smmu'; known are vtd, vtd-legacy, vtd-scalable, tce, gatt and amdvi"
    ),
    ("vtd:1000+4K", "a table called 'vtd' has one length; leave + out"),
    (
      "tce:10000@fe000000",
      "'tce' is told from others by no place of registers; leave @ out"
    ),
    ("vtd:1000@0", "registers lie at a multiple of 4 KiB that is not 0"),
    ("vtd:1000@fed90001", "registers lie at a multiple of 4 KiB that is not 0"),
  ])
  func `what is no name of a table is refused with the reason`(text: String, reason: String) {
    do throws(NotationError) {
      _ = try NamedTable(text)
      Issue.record("\(text) is taken")
    } catch {
      #expect(error.description == reason)
    }
  }

  @Test(arguments: ["vtd:", ":1000", "tce:1000+", "vtd:1000@", "gatt:xyz", "vtd:1:2"])
  func `half a name is none`(text: String) {
    #expect(throws: NotationError.self) { try NamedTable(text) }
  }

  @Test func `a root table is taken in the mode that fits, or in the one that is said`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    // Root 0x10000, contexts of bus 00 at 0x11000, 00:03.0 with three levels at 0x12000.
    for (address, word) in [
      (0x1_0000, 0x1_1001), (0x1_1180, 0x1_2001), (0x1_1188, 0x101), (0x1_2000, 0x1_3003),
      (0x1_3000, 0x1_4003), (0x1_4008, 0x4_0003),
    ] as [(UInt64, UInt64)] {
      memory.store(word, at: PhysicalAddress(address))
    }
    let found = try unit("10000", in: memory)
    #expect(
      Machine(name: "", units: [found])
        .translate(Requester("00:03.0")!, IOVA(0x1234), access: .read, in: memory)
        == .mapped(PhysicalAddress(0x4_0234), byteCount: 1))
    #expect(found.as(VTd.Unit.self)?.base == PhysicalAddress(0))
    let legacy = try unit("vtd-legacy:10000@fed91000", in: memory).as(VTd.Unit.self)
    #expect(legacy?.rootTableAddress.rawValue == 0x1_0000)
    #expect(legacy?.base == PhysicalAddress(0xfed9_1000))
    #expect(
      refusal("vtd-scalable:10000", in: memory)
        == "its entries lead to no device in this mode, and to devices in the other; write "
        + "vtd-legacy:0x10000")
    // Where nothing tells the mode the name does.
    let scalable = try unit("vtd-scalable:20000", in: memory).as(VTd.Unit.self)
    #expect(scalable?.rootTableAddress.rawValue == 0x2_0400)
    #expect(
      refusal("10800", in: memory)
        == "no page of the dump begins there; 'iommu find' lists root tables")
    #expect(
      refusal("100000", in: memory)
        == "no page of the dump begins there; 'iommu find' lists root tables")
  }

  @Test func `what a machine knows of a unit stays, where it is clear which unit is meant`() throws
  {
    let memory = try FlatMemory(byteCount: 1 << 20)
    func known(_ base: UInt64) -> TranslationUnit {
      var limits = VTd.Limits.permissive
      limits.hostAddressWidth = base == 0xfed9_0000 ? 39 : 46
      return .vtd(
        VTd.Unit(
          base: PhysicalAddress(base), rootTableAddress: VTd.RootTableAddress(rawValue: 0x5000),
          status: VTd.GlobalStatus(rawValue: 0), limits: limits))
    }
    func width(_ text: String, _ units: [TranslationUnit]) throws -> Int? {
      let unit = try unit(text, in: memory, TableHints(units: units)).as(VTd.Unit.self)
      #expect(unit?.translates == true)
      #expect(unit?.rootTableAddress.rootTable == PhysicalAddress(0x1_0000))
      return unit?.limits.hostAddressWidth
    }
    let units = [known(0xfed9_0000), known(0xfed9_1000)]
    #expect(try width("10000", [units[0]]) == 39)
    #expect(try width("10000@fed91000", units) == 46)
    #expect(try width("10000", units) == 52)
    #expect(try width("10000@fed92000", units) == 52)
  }

  @Test func `the length of a TCE table is said, or its entries tell it`() throws {
    let memory = try FlatMemory(byteCount: 0x20_0000)
    // 64 KiB at 0x20000 and 64 KiB at 0x30000, as a driver fills them from entry 32 on.
    for table in [0x20000, 0x30000 as UInt64] {
      for index in 32..<132 as Range<UInt64> {
        let entry = Calgary.TranslationControlEntry(rawValue: 0x10_0000 + index << 12 | 3)
        entry.store(to: memory, at: PhysicalAddress(table + 8 * index))
      }
    }
    func table(_ text: String) throws -> Calgary.TCETable? {
      try unit(text, in: memory).as(Calgary.FoundTable.self)?.table
    }
    #expect(try table("tce:20000")?.size == .kib64)
    #expect(try table("tce:20000+128K")?.size == .kib128)
    #expect(try table("tce:30000")?.table == PhysicalAddress(0x3_0000))
    #expect(
      refusal("tce:20000+3M", in: memory)
        == "3 MiB is no length of such a table there; write tce:0x20000+SIZE")
    #expect(
      refusal("tce:40000", in: memory)
        == "its entries do not tell how long the table is; write tce:0x40000+SIZE")
  }

  @Test func `a GATT needs an aperture, from an argument or from the machine`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    for index in 0..<8192 as Range<UInt64> {
      let entry: UInt32 = index < 16 ? UInt32(index) << 12 | 0x4_0003 : 0x8_0003
      memory.store(entry, at: PhysicalAddress(0x1_0000 + index * 4))
    }
    func answer(_ text: String, _ hints: TableHints) throws -> Translation {
      Machine(name: "", units: [try unit(text, in: memory, hints)])
        .translate(Requester("00:03.0")!, IOVA(0x400_2123), access: .read, in: memory)
    }
    let mapped = Translation.mapped(PhysicalAddress(0x4_2123), byteCount: 1)
    #expect(
      try answer("gatt:10000", TableHints(aperture: ApertureHint(base: 0x400_0000))) == mapped)
    #expect(
      try answer("gatt:10000+32K", TableHints(aperture: ApertureHint(base: 0x400_0000))) == mapped)
    // The base register counts 32 MiB.
    let node = GART.Node(
      device: Requester("00:19.3")!, control: .init(rawValue: 0), base: .init(rawValue: 2),
      tableBase: .init(rawValue: 0))
    #expect(try answer("gatt:10000", TableHints(units: [.gart(node)])) == mapped)
    #expect(
      refusal("gatt:10000", in: memory)
        == "where its aperture lies is said by no table; give --aperture BASE")
    #expect(
      refusal("gatt:10000+5K", in: memory)
        == "5 KiB is no length of such a table there; write gatt:0x10000+SIZE")
  }
}
