import IOMMUFormats
import Testing

@Suite struct GATTEntryTests {
  typealias Entry = GART.GATTEntry

  struct Vector: Sendable, CustomTestStringConvertible {
    var id: String
    var page: UInt64
    var value: UInt32
    var bytes: String
    var testDescription: String { id }
  }

  static let vectors = [
    Vector(id: "P1", page: 0x00_1234_5000, value: 0x1234_5003, bytes: "03 50 34 12"),
    Vector(id: "P2", page: 0x01_0000_0000, value: 0x0000_0013, bytes: "13 00 00 00"),
    Vector(id: "P3", page: 0x01_2345_6000, value: 0x2345_6013, bytes: "13 60 45 23"),
    Vector(id: "P4", page: 0x02_3456_7000, value: 0x3456_7023, bytes: "23 70 56 34"),
    Vector(id: "P5", page: 0xab_cdef_1000, value: 0xcdef_1ab3, bytes: "b3 1a ef cd"),
    Vector(id: "P6", page: 0xff_ffff_f000, value: 0xffff_fff3, bytes: "f3 ff ff ff"),
    Vector(id: "P7: scratch", page: 0x00_07ab_c000, value: 0x07ab_c003, bytes: "03 c0 ab 07"),
  ]

  @Test(arguments: vectors)
  func `a page is stored as these four bytes`(vector: Vector) throws {
    let entry = Entry(page: PhysicalAddress(vector.page))
    #expect(entry.rawValue == vector.value)
    #expect(try stored(entry) == hexdump(vector.bytes))
    #expect(Entry.wrapping(page: PhysicalAddress(vector.page)) == entry)
  }

  @Test(arguments: vectors)
  func `four bytes name a page`(vector: Vector) throws {
    let entry = try entry(Entry.self, from: hexdump(vector.bytes))
    #expect(entry.page == PhysicalAddress(vector.page))
    #expect(entry.isValid)
    #expect(entry.isCoherent)
    #expect(entry.reservedViolations.isEmpty)
  }

  @Test func `P8: the encoding of 2008 maps 1 TiB to a low page`() throws {
    let entry = Entry.wrapping(page: PhysicalAddress(0x100_0000_0000))
    #expect(entry.rawValue == 0x0000_1003)
    #expect(try stored(entry) == hexdump("03 10 00 00"))
    #expect(entry.page == PhysicalAddress(0x1000))
  }

  @Test func `P9: valid without coherent`() throws {
    let entry = try entry(Entry.self, from: hexdump("01 50 34 12"))
    #expect(entry.isValid)
    #expect(!entry.isCoherent)
    #expect(entry.page == PhysicalAddress(0x1234_5000))
  }

  @Test func `P10: an invalid entry still names a page`() throws {
    let entry = try entry(Entry.self, from: hexdump("02 50 34 12"))
    #expect(!entry.isValid)
    #expect(entry.isCoherent)
    #expect(entry.page == PhysicalAddress(0x1234_5000))
  }

  @Test func `an address in the page names the page`() {
    #expect(Entry(page: PhysicalAddress(0x1_2345_6abc)).rawValue == 0x2345_6013)
  }

  @Test func `an entry for a page at 1 TiB stops the program`() async {
    await #expect(processExitsWith: .failure) {
      _ = GART.GATTEntry(page: PhysicalAddress(0x100_0000_0000))
    }
  }
}
