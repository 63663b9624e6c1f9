import FoundationEssentials
import IOMMUFormats
import IOMMUInspection
import IOMMUTranslation
import Testing

@Suite struct DomainTranslationStructTests {
  @Test func `a line has the page number and the raw entry of every level`() throws {
    let small = try SmallMachine()
    let report = try MapsReport(small.machine, in: small.memory, table: "00:03.0")
    var screen = ""
    DomainTranslationStruct(report).write(of: small.memory, to: &screen)
    // Three levels: nothing above SS-PDPE; a 2 MiB page has no SS-PTE.
    #expect(
      screen == """
        Device 0000:00:03.0 @0x33000
        IOVA_PFN\t\tPML5E\t\t\tPML4E\t\t\tPDPE\t\t\tPDE\t\t\tPTE
        0x0000000000010 |\t0x0000000000000000\t0x0000000000000000\t0x0000000000034003\t\
        0x0000000000035003\t0x0000000000050003
        0x0000000000011 |\t0x0000000000000000\t0x0000000000000000\t0x0000000000034003\t\
        0x0000000000035003\t0x0000000000051003
        0x0000000000012 |\t0x0000000000000000\t0x0000000000000000\t0x0000000000034003\t\
        0x0000000000035003\t0x0000000000052002
        0x0000000000200 |\t0x0000000000000000\t0x0000000000000000\t0x0000000000034003\t\
        0x0000000000400083\t0x0000000000000000


        """)
  }

  @Test func `devices of one table have the name of the first, as a group has`() throws {
    let small = try SmallMachine()
    var screen = ""
    try DomainTranslationStruct(MapsReport(small.machine, in: small.memory))
      .write(of: small.memory, to: &screen)
    let headings = screen.split(separator: "\n").filter { $0.hasPrefix("Device") }
    #expect(
      headings == [
        "Device 0000:00:03.0 @0x33000", "Device 0000:00:03.0 @0x33000",
        "Device 0000:03:00.0 @0x36000",
      ])
  }

  @Test func `a machine without VT-d tables has no block`() throws {
    let small = try SmallMachine()
    let report = try MapsReport(small.gartMachine, in: small.memory)
    #expect(DomainTranslationStruct(report).isEmpty)
  }
}

@Suite struct MapsSummaryTests {
  @Test func `a table is a line with its page sizes and permissions`() throws {
    let small = try SmallMachine()
    var screen = ""
    let report = try MapsReport(small.machine, in: small.memory)
    MapsSummary(report, in: small.memory).write(to: &screen)
    #expect(
      screen == """
        bus:01     12 KiB  2 runs, 3 of 4 KiB; rw 2, r- 1, -w 0
        00:03.0  2060 KiB  3 runs, 3 of 4 KiB, 1 of 2 MiB; rw 3, r- 0, -w 1
        00:03.1  2060 KiB  3 runs, 3 of 4 KiB, 1 of 2 MiB; rw 3, r- 0, -w 1  same table as 00:03.0
        00:04.0            pass-through
        03:00.0            second-stage table 0x36000, 4 levels
        \(SmallMachine.damage)

        """)
  }
}

@Suite struct ReachReportTests {
  @Test func `every table that maps a page is listed with the IOVA for it`() throws {
    let small = try SmallMachine()
    let reach = ReachReport(
      PhysicalAddress(0x51010), machine: small.machine, in: small.memory)
    #expect(reach.ways.map(\.table) == ["00:03.0", "00:03.1", "00:04.0"])
    #expect(reach.ways.map(\.iova?.lowerBound) == [IOVA(0x11010), IOVA(0x11010), nil])
    var screen = ""
    reach.write(to: &screen)
    #expect(
      screen == """
        00:03.0  IOVA 0x11010  rw  in 0x10000..<0x12000 -> 0x50000..<0x52000
        00:03.1  IOVA 0x11010  rw  in 0x10000..<0x12000 -> 0x50000..<0x52000
        00:04.0  pass-through: IOVA and address are the same  rw

        """)
  }

  @Test func `a range is reached in pieces`() throws {
    let small = try SmallMachine()
    let range = PhysicalAddress(0x51800)..<PhysicalAddress(0x53000)
    let reach = ReachReport(range, machine: small.machine, in: small.memory)
    var screen = ""
    reach.write(to: &screen)
    #expect(
      screen == """
        00:03.0  IOVA 0x11800..<0x12000  rw  -> 0x51800..<0x52000
        00:03.0  IOVA 0x12000..<0x13000  -w  -> 0x52000..<0x53000
        00:03.1  IOVA 0x11800..<0x12000  rw  -> 0x51800..<0x52000
        00:03.1  IOVA 0x12000..<0x13000  -w  -> 0x52000..<0x53000
        00:04.0  pass-through: IOVA and address are the same  rw

        """)
  }

  @Test func `a range with tables in it is said to have them`() throws {
    let small = try SmallMachine()
    let range = PhysicalAddress(0x35000)..<PhysicalAddress(0x37000)
    let reach = ReachReport(range, machine: small.machine, in: small.memory)
    #expect(reach.tables == ["2 tables, the first at 0x35000"])
  }

  @Test func `only what can be written counts when that is asked`() throws {
    let small = try SmallMachine()
    func ways(_ machine: Machine, writing: Bool) -> [String] {
      // TCE 0x102 gives bus 1 the page 0x5000 to read.
      ReachReport(PhysicalAddress(0x5000), writing: writing, machine: machine, in: small.memory)
        .ways.map(\.table)
    }
    var machine = small.machine
    machine.units.removeLast()
    #expect(ways(machine, writing: false).contains("bus:01"))
    #expect(!ways(machine, writing: true).contains("bus:01"))
  }

  @Test func `an address inside a table is said to be one`() throws {
    let small = try SmallMachine()
    let reach = ReachReport(
      PhysicalAddress(0x35088), machine: small.machine, in: small.memory)
    #expect(reach.tables == ["SS-PTE of 00:03.0 and 1 more   IOVA 0x11000 -> 0x51000 rw"])
  }

  @Test func `an address outside the aperture is reached by everybody`() throws {
    let small = try SmallMachine()
    let reach = ReachReport(
      PhysicalAddress(0x9999_0000), machine: small.gartMachine, in: small.memory)
    var screen = ""
    reach.write(to: &screen)
    // Outside the aperture a GART passes what devices ask for.
    #expect(
      screen == "any device  not translated: IOVA and address are the same  rw\n")
  }
}
