import IOMMUFormats
import Testing

/// Entries of device and page tables, as the manual's readers and Linux write them.
@Suite struct AMDViTableEntryTests {
  typealias Entry = AMDVi.DeviceTableEntry

  /// An entry by its bytes as they lie in memory.
  private func entry(_ hex: String) throws -> Entry {
    let memory = try FlatMemory(byteCount: 4096)
    let bytes = hexdump(hex)
    #expect(bytes.withUnsafeBytes { memory.write($0, at: PhysicalAddress(0)) } == 32)
    return try #require(Entry(from: memory, at: PhysicalAddress(0)))
  }

  @Test func `D1 and D2: a paging domain, with and without a device's own TLB`() throws {
    let first = try entry(
      "0356341200000060 0500000000000000 0000000000000000 0000000000000000")
    #expect(first.isValid && first.isTranslationValid && first.mode == 3)
    #expect(first.root == PhysicalAddress(0x1234_5000) && first.domainID == 5)
    #expect(first.permissions == .readWrite && !first.allowsDeviceTLB)
    #expect(first == Entry(mode: 3, root: PhysicalAddress(0x1234_5000), domainID: 5))

    let second = try entry(
      "0368452301000060 2301000001000000 0000000000000000 0000000000000000")
    #expect(second.mode == 4 && second.root == PhysicalAddress(0x1_2345_6000))
    #expect(second.domainID == 0x123 && second.allowsDeviceTLB)
    var built = Entry(mode: 4, root: PhysicalAddress(0x1_2345_6000), domainID: 0x123)
    built.allowsDeviceTLB = true
    #expect(built == second)
  }

  @Test func `D3 to D6: pass-through, blocked, silent, and with marks`() throws {
    let passing = try entry(
      "0300000000000060 0100000000000000 0000000000000000 0000000000000000")
    #expect(passing == Entry(mode: 0, domainID: 1))
    let blocked = try entry(
      "0300000000000000 0000000000000000 0000000000000000 0000000000000000")
    #expect(blocked == Entry(mode: 0, domainID: 0, permissions: []))
    let silent = try entry(
      "0300000000000000 0000000004000000 0000000000000000 0000000000000000")
    #expect(silent.suppressesFaults && silent.permissions.isEmpty)
    let marking = try entry(
      "8317000000000060 0700000000000000 0000000000000000 0000000000000000")
    #expect(marking.hostMarks == 3 && marking.mode == 3 && marking.domainID == 7)
    #expect(marking.root == PhysicalAddress(0x1000))
  }

  @Test func `D7 and D8: guest tables of four and of five levels`() throws {
    let four = try entry(
      "030000000000c074 02009eca00700000 0000000000000000 0000000000000000")
    #expect(four.usesGuestTables && four.usesGuestTablesWithoutPASID && four.mode == 0)
    #expect(four.guestRootLevelCode == 0 && four.guestPagingModeCode == 0)
    #expect(four.guestRootTable == PhysicalAddress(0x7_654f_5000) && four.domainID == 2)
    var built = Entry(mode: 0, domainID: 2)
    built.usesGuestTables = true
    built.usesGuestTablesWithoutPASID = true
    built.guestRootTable = PhysicalAddress(0x7_654f_5000)
    #expect(built == four)

    let five = try entry(
      "030000000000907d 0300ffff00f8ffff 0000000000004000 0000000000000000")
    #expect(five.guestRootLevelCode == 1 && five.guestPagingModeCode == 1)
    #expect(five.guestRootTable == PhysicalAddress(0xf_ffff_ffff_f000))
    #expect(five.allowsPageRequests && five.permissions == .readWrite)
  }

  @Test func `D9 to D11: interrupts, pass bits, and the exclusion range`() throws {
    let interrupts = try entry(
      "0000000000000000 0000000000000000 9343658709000020 0000000000000000")
    #expect(!interrupts.isValid && interrupts.isInterruptValid)
    #expect(interrupts.interruptControl == .remap && interrupts.interruptTableLengthCode == 9)
    #expect(interrupts.interruptTable == PhysicalAddress(0x9_8765_4380))
    var built = Entry()
    built.isInterruptValid = true
    built.interruptControl = .remap
    built.interruptTableLengthCode = 9
    built.interruptTable = PhysicalAddress(0x9_8765_4380)
    #expect(built == interrupts)

    let passing = try entry(
      "0356000000000060 0900000000000000 33800000000000e7 0000000000000000")
    #expect(
      passing.passes == [
        .initialization, .external, .nonMaskable, .localInterrupt0, .localInterrupt1,
      ])
    #expect(passing.suppressesInterruptFaults && passing.interruptControl == .remap)
    #expect(passing.interruptTable == PhysicalAddress(0x8000))

    let excluded = try entry(
      "0300000000000040 0000000080010000 0000000000000000 0000000000000000")
    #expect(excluded.usesExclusionRange && excluded.systemManagement == 1)
    #expect(excluded.permissions == .write)
  }

  @Test func `reserved bits of a device table entry follow the extended features`() {
    // Everything offered.
    let all = Entry.reservedMasks(.permissive)
    #expect(all.quadwords[0] == 0x8000_0000_0000_007c && all.quadwords[1] == 1 << 42)
    #expect(all.quadwords[2] == 0x0030_0000_0000_0000)
    #expect(all.quadwords[3] == 0x003f_0000_0000_7fff)
    // Nothing: the feature bits of quadword 0, GCR3 in quadword 1, GuestPagingMode, guests' units.
    let none = Entry.reservedMasks(AMDVi.Limits(hostLevels: 6))
    #expect(none.quadwords[0] == 0x9ff0_0000_0000_007c)
    #expect(none.quadwords[1] == 0xffff_fc00_ffff_0000)
    #expect(none.quadwords[2] == 0x00f0_0000_0000_0000)
    #expect(none.quadwords[3] == 0x003f_ffff_ffff_ffff)
  }

  @Test func `A16: what QEMU's unit offers`() {
    let limits = AMDVi.Limits(AMDVi.ExtendedFeatures(rawValue: 0x29d3))
    #expect(limits.hostLevels == 6 && limits.guestRootLevels == 1)
    #expect(limits.features == [.pageRequests, .guestTables])
  }

  private static let sizes: [(sizeLog2: Int, level: Int, raw: UInt64)] = [
    (12, 1, 0x6000_0000_0000_0001), (13, 1, 0x6000_0000_0000_0e01),
    (14, 1, 0x6000_0000_0000_1e01), (15, 1, 0x6000_0000_0000_3e01),
    (16, 1, 0x6000_0000_0000_7e01), (17, 1, 0x6000_0000_0000_fe01),
    (18, 1, 0x6000_0000_0001_fe01), (19, 1, 0x6000_0000_0003_fe01),
    (20, 1, 0x6000_0000_0007_fe01), (21, 2, 0x6000_0000_0000_0001),
    (22, 2, 0x6000_0000_001f_fe01), (23, 2, 0x6000_0000_003f_fe01),
    (24, 2, 0x6000_0000_007f_fe01), (25, 2, 0x6000_0000_00ff_fe01),
    (26, 2, 0x6000_0000_01ff_fe01), (27, 2, 0x6000_0000_03ff_fe01),
    (28, 2, 0x6000_0000_07ff_fe01), (29, 2, 0x6000_0000_0fff_fe01),
    (30, 3, 0x6000_0000_0000_0001), (31, 3, 0x6000_0000_3fff_fe01),
    (32, 3, 0x6000_0000_7fff_fe01), (33, 3, 0x6000_0000_ffff_fe01),
    (34, 3, 0x6000_0001_ffff_fe01), (35, 3, 0x6000_0003_ffff_fe01),
    (36, 3, 0x6000_0007_ffff_fe01), (37, 3, 0x6000_000f_ffff_fe01),
    (38, 3, 0x6000_001f_ffff_fe01), (39, 4, 0x6000_0000_0000_0001),
    (40, 4, 0x6000_007f_ffff_fe01), (41, 4, 0x6000_00ff_ffff_fe01),
    (42, 4, 0x6000_01ff_ffff_fe01), (43, 4, 0x6000_03ff_ffff_fe01),
    (44, 4, 0x6000_07ff_ffff_fe01), (45, 4, 0x6000_0fff_ffff_fe01),
    (46, 4, 0x6000_1fff_ffff_fe01), (47, 4, 0x6000_3fff_ffff_fe01),
    (48, 5, 0x6000_0000_0000_0001), (49, 5, 0x6000_ffff_ffff_fe01),
    (50, 5, 0x6001_ffff_ffff_fe01), (51, 5, 0x6003_ffff_ffff_fe01),
    (52, 5, 0x6007_ffff_ffff_fe01),
  ]

  @Test(arguments: sizes)
  func `every page size has one code`(sizeLog2: Int, level: Int, raw: UInt64) {
    let entry = AMDVi.PageTableEntry(rawValue: raw)
    #expect(entry.pageSizeLog2(level: level) == sizeLog2)
    #expect(
      AMDVi.PageTableEntry(
        page: PhysicalAddress(0), sizeLog2: sizeLog2, level: level, permissions: .readWrite)
        == entry)
    // No entry of another level has it, but where 0 stands for the level's own size.
    for other in 1...6 where other != level && entry.nextLevel == 7 {
      #expect(entry.pageSizeLog2(level: other) == nil)
    }
  }

  @Test func `sizes that no entry can have`() {
    // All ones: 2^53. One less: 2^52, of level 5 alone.
    let ones = AMDVi.PageTableEntry(rawValue: 0x600f_ffff_ffff_fe01)
    #expect((1...6).allSatisfy { ones.pageSizeLog2(level: $0) == nil })
    // A page of its own size in level 6.
    #expect(AMDVi.PageTableEntry(rawValue: 0x6000_0000_0000_0001).pageSizeLog2(level: 6) == nil)
  }

  @Test func `entries of level 1 lead to no table, and those of level 6 map no page`() throws {
    typealias Entry = AMDVi.PageTableEntry
    #expect(
      Entry.exampleVariants.map(\.name) == [
        "PTE of level 1", "PDE of level 2", "PTE of level 2", "PDE of level 3", "PTE of level 3",
        "PDE of level 4", "PTE of level 4", "PDE of level 5", "PTE of level 5", "PDE of level 6",
      ])
    struct Names: EntryVisitor {
      typealias Answer = String
      func visit<Entry: TableEntry>(_: Entry, as variant: Entry.Variant) -> String {
        (variant as? AMDVi.PageTableEntry.Variant)?.name ?? ""
      }
    }
    func layouts(_ level: Int) throws -> [String] {
      try #require(EntryCatalog.kind(named: "amdvi-pte\(level)")).visitLayouts(by: Names())
        .map { "\($0.answer): \($0.condition)" }
    }
    #expect(try layouts(1) == ["PTE of level 1: NextLevel = 0 or 7, maps a page"])
    #expect(
      try layouts(2) == [
        "PDE of level 2: NextLevel = 1, leads to a table",
        "PTE of level 2: NextLevel = 0 or 7, maps a page",
      ])
    #expect(try layouts(3)[0] == "PDE of level 3: NextLevel = 1 or 2, leads to a table")
    #expect(try layouts(4)[0] == "PDE of level 4: NextLevel = 1 to 3, leads to a table")
    #expect(try layouts(6) == ["PDE of level 6: NextLevel = 1 to 5, leads to a table"])
    // Whatever the bits say.
    func name(_ level: Int, _ word: UInt64) throws -> String {
      try #require(EntryCatalog.kind(named: "amdvi-pte\(level)")).visit([word], by: Names())
    }
    #expect(try name(1, 0x6000_0000_0020_0601) == "PTE of level 1")
    #expect(try name(6, 0x6000_0000_0020_0001) == "PDE of level 6")
    #expect(try name(3, 0x6000_0000_0020_0401) == "PDE of level 3")
    #expect(try name(3, 0x6000_0000_0000_0001) == "PTE of level 3")
  }

  @Test func `pointers and pages as Linux writes them`() {
    #expect(
      AMDVi.PageTableEntry(table: PhysicalAddress(0x16_2000), level: 2).rawValue
        == 0x6000_0000_0016_2401)
    #expect(
      AMDVi.PageTableEntry(
        page: PhysicalAddress(0x20_0000), sizeLog2: 16, level: 1, permissions: .readWrite
      ).rawValue == 0x6000_0000_0020_7e01)
    #expect(
      AMDVi.PageTableEntry(
        page: PhysicalAddress(0x20_0000), sizeLog2: 12, level: 1, permissions: .write,
        forcesCoherence: true
      ).rawValue == 0x5000_0000_0020_0001)
    #expect(
      AMDVi.GuestPageTableEntry(
        page: PhysicalAddress(0x20_0000), level: 2, isWritable: true
      ).rawValue == 0x20_0087)
    #expect(AMDVi.GuestRootEntry(table: PhysicalAddress(0x7_654f_5000)).rawValue == 0x7_654f_5001)
  }

  private static let chosen: [(address: UInt64, indices: [UInt64])] = [
    (0x1234_5678, [0, 0, 0, 0, 0x91, 0x145]), (0xffff_f000, [0, 0, 0, 3, 0x1ff, 0x1ff]),
    (0x7f_ffff_ffff, [0, 0, 0, 0x1ff, 0x1ff, 0x1ff]), (0x80_0000_0000, [0, 0, 1, 0, 0, 0]),
    (0xffff_ffff_ffff, [0, 0, 0x1ff, 0x1ff, 0x1ff, 0x1ff]),
    (0x1_2345_6789_abcd, [0, 1, 0x46, 0x115, 0x13c, 0x9a]),
    (0xfedc_ba98_7654_3210, [0x7f, 0xdc, 0x175, 0x61, 0x1b2, 0x143]),
    (.max, [0x7f, 0x1ff, 0x1ff, 0x1ff, 0x1ff, 0x1ff]),
    (0xfd_0000_0000, [0, 0, 1, 0x1f4, 0, 0]), (0x3ff_f000, [0, 0, 0, 0, 0x1f, 0x1ff]),
  ]

  @Test(arguments: chosen)
  func `I1 to I10: an address chooses these entries`(address: UInt64, indices: [UInt64]) {
    for (level, index) in zip((1...6).reversed(), indices) {
      #expect(AMDVi.Paging.index(of: address, level: level) == index)
    }
  }
}
