import IOMMUFormats
import Testing

@testable import IOMMUTranslation

/// Guest (v2) tables, alone and in a host's.
@Suite struct AMDViGuestTests {
  /// GV and GIoV, GCR3 table of one level at 0x170000, tables of four levels, Mode 0, IR and IW.
  private static let entry: [UInt64] = [
    0x60c0_0000_0000_0003, 2 | 0x2e << 16, 0, 0,
  ]
  /// GCR3 of PASID 0 at 0x171000, of PASID 5 at 0x175000; a page of 4 KiB and one of 2 MiB.
  private static let tables: [UInt64: UInt64] = [
    0x17_0000: 0x17_1001, 0x17_0028: 0x17_5001,
    0x17_1000: 0x17_2027, 0x17_2000: 0x17_3027, 0x17_3488: 0x17_4027, 0x17_4a28: 0x20_0027,
    0x17_3490: 0x20_00e7,
    0x17_5000: 0x17_2027,
  ]

  private func fixture(
    entry: [UInt64] = entry, changing words: [UInt64: UInt64] = [:]
  ) throws -> AMDViFixture {
    try AMDViFixture(entry: entry, tables: Self.tables.merging(words) { $1 })
  }

  @Test func `requests without PASID use the table of PASID 0`() throws {
    let fixture = try fixture()
    #expect(fixture.answer(0x1234_5010).0 == .mapped(PhysicalAddress(0x20_0010), byteCount: 4))
    #expect(fixture.answer(0x1245_6010).0 == .mapped(PhysicalAddress(0x25_6010), byteCount: 4))
    #expect(
      fixture.answer(0x1234_5010, .write, pasid: PASID(5)).0
        == .mapped(PhysicalAddress(0x20_0010), byteCount: 4))
  }

  @Test func `E8: an event of a guest table tells the PASID and the user`() throws {
    let fixture = try fixture()
    // Not present, user read: flags 005h, PASID 5.
    #expect(
      fixture.event(0x5000_0000, pasid: PASID(5)) == "20000000050005200000005000000000")
    // The same write: 025h.
    #expect(
      fixture.event(0x5000_0000, .write, pasid: PASID(5)) == "20000000050025200000005000000000")
    // A PASID without a table: GN alone, and US.
    #expect(
      fixture.event(0x1234_5010, pasid: PASID(6)) == "20000000060005201050341200000000")
    // More bits than one level has.
    #expect(
      fixture.event(0x1234_5010, pasid: PASID(0x1_2345)) == "20000100452305201050341200000000")
  }

  @Test func `permissions and reserved bits of guest entries`() throws {
    let readOnly = try fixture(changing: [0x17_4a28: 0x20_0025])
    #expect(readOnly.event(0x1234_5010, .write) == "20000000000075201050341200000000")
    #expect(readOnly.event(0x1234_5010) == nil)
    let supervisor = try fixture(changing: [0x17_4a28: 0x20_0023])
    #expect(supervisor.event(0x1234_5010) == "20000000000055201050341200000000")
    let noExecute = try fixture(changing: [0x17_4a28: 0x8000_0000_0020_0027])
    #expect(noExecute.event(0x1234_5010) == nil)
    #expect(
      noExecute.event(0x1234_5010, pasid: PASID(5), isExecute: true)
        == "20000000050057201050341200000000")
    // Bit 13 of a page of 2 MiB.
    let reserved = try fixture(changing: [0x17_3490: 0x20_20e7])
    #expect(reserved.event(0x1245_6010) == "20000000000095201060451200000000")
  }

  @Test func `addresses of PASIDs other than 0 are canonical`() throws {
    let fixture = try fixture()
    #expect(
      fixture.event(0x8000_1234_5010, pasid: PASID(5)) == "20000000050005201050341200800000")
  }

  @Test func `a device without GV gets no request with PASID past`() throws {
    let fixture = try AMDViFixture()
    #expect(fixture.event(0x1234_5010, pasid: PASID(5)) == "20000000050005201050341200000000")
  }

  /// The same in a host's tables that put the guest's first 2 MiB at 0x200000 and the page at 0x300000.
  private func nested(changing words: [UInt64: UInt64] = [:]) throws -> AMDViFixture {
    var tables: [UInt64: UInt64] = [
      0x16_3000: 0x6000_0000_0016_2401, 0x16_2000: 0x6000_0000_0020_0001,
      0x16_2008: 0x6000_0000_0016_1201, 0x16_1000: 0x6000_0000_0030_0001,
    ]
    for (address, word) in Self.tables { tables[address + 0x20_0000] = word }
    return try AMDViFixture(
      entry: [0x60c0_0000_0016_3603, 2 | 0x2e << 16, 0, 0],
      tables: tables.merging(words) { $1 })
  }

  @Test func `every guest address goes through the host's table`() throws {
    let fixture = try nested()
    #expect(fixture.answer(0x1234_5010).0 == .mapped(PhysicalAddress(0x30_0010), byteCount: 4))
    let machine = Machine(name: "", units: [.amdvi(fixture.unit)])
    let inForce = machine.tables(in: fixture.memory)
    #expect(inForce.tables.map(\.name) == ["00:04.0/0", "00:04.0/5"] && inForce.gaps.isEmpty)
    var budget = EnumerationBudget(for: fixture.memory)
    let mappings = machine.mappings(of: inForce.tables[0], in: fixture.memory, budget: &budget)
    #expect(
      mappings.runs == [
        MappingRun(
          iova: IOVA(0x1234_5000)..<IOVA(0x1234_6000), physical: PhysicalAddress(0x30_0000),
          permissions: .readWrite),
        MappingRun(
          iova: IOVA(0x1240_0000)..<IOVA(0x1240_1000), physical: PhysicalAddress(0x30_0000),
          permissions: .readWrite),
      ])
  }

  @Test func `a fault of the host's table tells the guest's address`() throws {
    // The page at the guest's 0x200000 is not mapped: GN clear, and its domain.
    let page = try nested(changing: [0x16_1000: 0])
    #expect(page.event(0x1234_5010) == "20000000020000201000200000000000")
    // The table of the guest's at 0x171000 is not.
    let table = try nested(changing: [0x16_2000: 0])
    #expect(table.event(0x1234_5010) == "20000000020000200000170000000000")
  }
}
