import FoundationEssentials
import IOMMUFormats
import IOMMUInspection
import IOMMUTranslation
import Testing

@Suite struct MapsReportTests {
  @Test func `TSV has a run per line and one line for a pass-through device`() throws {
    let small = try SmallMachine()
    var screen = ""
    try MapsReport(small.machine, in: small.memory).writeTSV(of: small.memory, to: &screen)
    try MapsReport(small.gartMachine, in: small.memory).writeTSV(of: small.memory, to: &screen)
    #expect(
      screen == """
        #table\tiova\tbytes\tphysical\taccess
        bus:01\t0x100000\t0x2000\t0x12345000\trw
        bus:01\t0x102000\t0x1000\t0x5000\tr-
        00:03.0\t0x10000\t0x2000\t0x50000\trw
        00:03.0\t0x12000\t0x1000\t0x52000\t-w
        00:03.0\t0x200000\t0x200000\t0x400000\trw
        00:03.1\t0x10000\t0x2000\t0x50000\trw
        00:03.1\t0x12000\t0x1000\t0x52000\t-w
        00:03.1\t0x200000\t0x200000\t0x400000\trw
        00:04.0\t*\t*\tpass-through\trw
        #wrong\t\(SmallMachine.damage)
        #table\tiova\tbytes\tphysical\taccess
        gart\t0x4000000\t0x2000\t0x1234567000\trw

        """)
  }

  @Test func `text has a block per table with aligned columns and totals`() throws {
    let small = try SmallMachine()
    var screen = ""
    try MapsReport(small.machine, in: small.memory).writeText(of: small.memory, to: &screen)
    #expect(
      screen == """
        bus:01  TCE table 0x8000, 64 KiB: 2 runs, 12 KiB in 3 pages
          0x100000..<0x102000  8 KiB  -> 0x12345000..<0x12347000  rw
          0x102000..<0x103000  4 KiB  -> 0x5000..<0x6000          r-

        00:03.0  second-stage table 0x33000, 3 levels: 3 runs, 2060 KiB in 515 pages
          0x10000..<0x12000    8 KiB  -> 0x50000..<0x52000    rw
          0x12000..<0x13000    4 KiB  -> 0x52000..<0x53000    -w
          0x200000..<0x400000  2 MiB  -> 0x400000..<0x600000  rw

        00:03.1  second-stage table 0x33000, 3 levels: the same as 00:03.0

        00:04.0  pass-through: all of physical memory, rw

        03:00.0  second-stage table 0x36000, 4 levels: maps nothing

        \(SmallMachine.damage)

        """)
  }

  @Test func `one table can be asked for by name`() throws {
    let small = try SmallMachine()
    var screen = ""
    try MapsReport(small.machine, in: small.memory, table: "00:04.0")
      .writeTSV(of: small.memory, to: &screen)
    #expect(screen == "#table\tiova\tbytes\tphysical\taccess\n00:04.0\t*\t*\tpass-through\trw\n")
  }

  @Test(arguments: ["0000:00:04.0", "00:04:0", "[00:04.0]", "0x20"])
  func `a device's table can be asked for in every form that people type`(name: String) throws {
    let small = try SmallMachine()
    let report = try MapsReport(small.machine, in: small.memory, table: name)
    #expect(report.tables.map(\.name) == ["00:04.0"])
  }

  @Test func `a name that no table has is answered with those there are`() throws {
    let small = try SmallMachine()
    let error = #expect(throws: MapsError.self) {
      try MapsReport(small.gartMachine, in: small.memory, table: "bus:09")
    }
    #expect("\(try #require(error))" == "there is no table 'bus:09'; choose one of gart")
  }

  @Test func `a unit without any table blocks, and does not let pass`() throws {
    let memory = try FlatMemory(byteCount: 0x10000)
    let unit = VTd.Unit(
      base: PhysicalAddress(0xfed9_0000), rootTableAddress: VTd.RootTableAddress(rawValue: 0x1000),
      status: VTd.GlobalStatus(rawValue: 0xc000_0000), limits: .permissive)
    var screen = ""
    try MapsReport(Machine(name: "", units: [.vtd(unit)]), in: memory)
      .writeText(of: memory, to: &screen)
    #expect(screen == "no device has a table: requests are blocked\n")
    // Intel VT-d 9.1: bits 1 to 11 of a root entry are reserved.
    memory.store(0x2801 as UInt64, at: PhysicalAddress(0x1030))
    screen = ""
    try MapsReport(Machine(name: "", units: [.vtd(unit)]), in: memory)
      .writeText(of: memory, to: &screen)
    #expect(
      screen == """
        no device has a table: requests are blocked
        bus 03: every request faults 0xa, reserved bit set in the root entry: root table entry at \
        0x1030

        """)
  }

  @Test func `a machine without tables says so`() throws {
    let memory = try FlatMemory(byteCount: 0x1000)
    var screen = ""
    try MapsReport(Machine(name: "nommu", units: []), in: memory)
      .writeText(of: memory, to: &screen)
    #expect(
      screen == "no table is in force: devices reach physical memory directly\n")
  }

  @Test func `devices that share a table cost one enumeration`() throws {
    let small = try SmallMachine()
    let report = try MapsReport(small.machine, in: small.memory)
    // One TCE table; three pages for 00:03.0 and 00:03.1 together; one page for 03:00.0.
    var budget = EnumerationBudget(remainingTables: 5)
    var names: [String] = []
    report.forEachTable(in: small.memory, budget: &budget) { names.append($0.table.name) }
    #expect(names == ["bus:01", "00:03.0", "00:03.1", "00:04.0", "03:00.0"])
    #expect(budget.remainingTables == 0)
  }

  @Test func `JSON has the same runs`() throws {
    let small = try SmallMachine()
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    let maps = try MapsReport(small.gartMachine, in: small.memory).encodable(in: small.memory)
    #expect(
      String(decoding: try encoder.encode(maps), as: UTF8.self) == """
        {"incomplete":[],"tables":[{"bytes":"0x2000","kind":"GATT","root":"0x20000","runs":[{"access":"rw",\
        "bytes":"0x2000","iova":"0x4000000","physical":"0x1234567000"}],"table":"gart",\
        "unknown":[]}],"unknown":[],"wrong":[]}
        """)
  }
}
