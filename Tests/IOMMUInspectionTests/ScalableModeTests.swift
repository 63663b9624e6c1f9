import FoundationEssentials
import IOMMUFormats
import IOMMUInspection
import IOMMUTranslation
import Testing

/// 00:04.0 with three address spaces: second stage, first stage, and a guest's first stage in the
/// same second stage. All entries are stored as numbers.
private struct ScalableMachine {
  let memory: FlatMemory
  let machine: Machine

  init() throws {
    memory = try FlatMemory(byteCount: 4 << 20)
    let memory = memory
    func store(_ words: UInt64..., at address: UInt64) {
      for (index, word) in words.enumerated() {
        memory.store(word, at: PhysicalAddress(address + 8 * UInt64(index)))
      }
    }
    store(0x10_1001, at: 0x10_0000)
    store(0x12_0009, at: 0x10_1400)
    store(0x12_1001, at: 0x12_0000)
    store(0x13_0089, 5, at: 0x12_1000)
    store(0x41, 1 << 23 | 6, 0x14_0000, at: 0x12_1040)
    store(0x13_00c9, 1 << 23 | 7, 0x15_0000, at: 0x12_1080)
    // Second stage: 0x10000 → 0x50000, 0x150000 to 0x153fff → 0x160000
    store(0x13_1003, at: 0x13_0000)
    store(0x13_2003, at: 0x13_1000)
    store(0x13_3003, at: 0x13_2000)
    store(0x5_0003, at: 0x13_3080)
    store(0x16_0003, 0x16_1003, 0x16_2003, 0x16_3003, at: 0x13_3a80)
    // First stage: 0x1000 → 0x60000
    store(0x14_1007, at: 0x14_0000)
    store(0x14_2007, at: 0x14_1000)
    store(0x14_3007, at: 0x14_2000)
    store(0x6_0067, at: 0x14_3008)
    // The guest's, in its own addresses: 0x2000 → 0x10000
    store(0x15_1007, at: 0x16_0000)
    store(0x15_2007, at: 0x16_1000)
    store(0x15_3007, at: 0x16_2000)
    store(0x1_0005, at: 0x16_3010)
    machine = Machine(
      name: "scalable",
      units: [
        .vtd(
          VTd.Unit(
            base: PhysicalAddress(0xfed9_0000),
            rootTableAddress: VTd.RootTableAddress(rawValue: 0x10_0400),
            status: VTd.GlobalStatus(rawValue: 0xc000_0000), limits: .permissive))
      ])
  }
}

@Suite struct ScalableModeTests {
  @Test(
    arguments: [
      ("00:04.0", [0, 1, 2]), ("00:04.0/1", [1]), ("0000:00:04.0/0x2", [2]), ("[00:04.0]/2", [2]),
    ] as [(String, [UInt32])])
  func `an address space can be asked for in every form that people type`(
    name: String, spaces: [UInt32]
  ) throws {
    let scalable = try ScalableMachine()
    let report = try MapsReport(scalable.machine, in: scalable.memory, table: name)
    #expect(report.tables.map(\.name) == spaces.map { "00:04.0/\($0)" })
  }

  @Test func `every address space is a table named by requester and PASID`() throws {
    let scalable = try ScalableMachine()
    let report = try MapsReport(scalable.machine, in: scalable.memory)
    var screen = ""
    report.writeTSV(of: scalable.memory, to: &screen)
    #expect(
      screen == """
        #table\tiova\tbytes\tphysical\taccess
        00:04.0/0\t0x10000\t0x1000\t0x50000\trw
        00:04.0/0\t0x150000\t0x4000\t0x160000\trw
        00:04.0/1\t0x1000\t0x1000\t0x60000\trw
        00:04.0/2\t0x2000\t0x1000\t0x50000\tr-

        """)
    screen = ""
    report.writeText(of: scalable.memory, to: &screen)
    #expect(
      screen == """
        00:04.0/0  second-stage table 0x130000, 4 levels: 2 runs, 20 KiB in 5 pages
          0x10000..<0x11000     4 KiB  -> 0x50000..<0x51000    rw
          0x150000..<0x154000  16 KiB  -> 0x160000..<0x164000  rw

        00:04.0/1  first-stage table 0x140000, 4 levels: 1 run, 4 KiB in 1 page
          0x1000..<0x2000  4 KiB  -> 0x60000..<0x61000  rw

        00:04.0/2  first-stage table 0x150000 of the guest, 4 levels, in second-stage table \
        0x130000, 4 levels: 1 run, 4 KiB in 1 page
          0x2000..<0x3000  4 KiB  -> 0x50000..<0x51000  r-

        """)
  }

  static let notes: [(address: UInt64, text: String)] = [
    (0x10_0000, "root entry, bus 00 -> lower context table 0x101000"),
    (
      0x10_1400,
      "context entry 00:04.0: PASID directory 0x120000 for PASIDs below 8192, may send PASIDs, "
        + "requests without PASID count as PASID 0"
    ),
    (0x12_0000, "PASID directory entry 00:04.0/0 to 63: PASID table 0x121000"),
    (0x12_1000, "PASID entry 00:04.0/0: second-stage table 0x130000, 4 levels, domain 5"),
    (0x12_1078, "PASID entry 00:04.0/1: first-stage table 0x140000, 4 levels, domain 6"),
    (
      0x12_1080,
      "PASID entry 00:04.0/2: first-stage table 0x150000, 4 levels, of a guest in second-stage "
        + "table 0x130000, 4 levels, domain 7"
    ),
    (0x13_0000, "SS-PML4E of 00:04.0/0 and 1 more   IOVA 0x0 -> table 0x131000"),
    (0x13_3a80, "SS-PTE of 00:04.0/0 and 1 more   IOVA 0x150000 -> 0x160000 rw"),
    (0x14_3008, "FS-PTE of 00:04.0/1   IOVA 0x1000 -> 0x60000 rw user"),
    (0x16_0000, "FS-PML4E of 00:04.0/2   IOVA 0x0 -> guest table 0x151000"),
    (0x16_3010, "FS-PTE of 00:04.0/2   IOVA 0x2000 -> guest 0x10000 r- user"),
  ]

  @Test(arguments: notes)
  func `every entry says who it is and what it does`(address: UInt64, text: String) throws {
    let scalable = try ScalableMachine()
    let annotator = Annotator(scalable.machine, in: scalable.memory)
    #expect(annotator.gaps == [])
    #expect(
      annotator.entries(at: PhysicalAddress(address), in: scalable.memory).map(\.text) == [text])
  }

  @Test func `an entry of any width is found as JSON with all its words`() throws {
    let scalable = try ScalableMachine()
    let annotator = Annotator(scalable.machine, in: scalable.memory)
    let entry = try #require(
      annotator.entries(at: PhysicalAddress(0x12_1040), in: scalable.memory).first)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    let json = String(decoding: try encoder.encode(entry), as: UTF8.self)
    let zero = #""0x0000000000000000""#
    #expect(
      json.contains(
        #""words":["0x0000000000000041","0x0000000000800006","0x0000000000140000","#
          + [zero, zero, zero, zero, zero].joined(separator: ",") + "]"))
    #expect(json.contains(#""kind":"PASID table""#))
  }

  @Test func `a directory and a table that point at themselves end`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    // One page is root, context, directory and PASID table at once.
    for offset in stride(from: 0x1000 as UInt64, to: 0x2000, by: 8) {
      memory.store(0x1001 as UInt64, at: PhysicalAddress(offset))
    }
    let unit = VTd.Unit(
      base: PhysicalAddress(0), rootTableAddress: VTd.RootTableAddress(rawValue: 0x1400),
      status: VTd.GlobalStatus(rawValue: 0x8000_0000), limits: .permissive)
    let machine = Machine(name: "loop", units: [.vtd(unit)])
    #expect(machine.tables(in: memory).tables.isEmpty, "no entry passes its checks")
    #expect(unit.requesters(in: memory).count == 65_536)
    // A directory for each requester, whose context entry lets nothing pass.
    let upper = unit.upperTables(in: memory)
    #expect(upper.tables.count == 1 + 512 + 65_536)
    #expect(upper.gaps.isEmpty, "what cannot translate uses up no limit")
  }
}
