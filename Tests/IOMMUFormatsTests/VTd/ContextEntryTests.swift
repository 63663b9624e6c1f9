import IOMMUFormats
import Testing

@Suite struct ContextEntryTests {
  typealias Entry = VTd.ContextEntry

  struct Vector: Sendable, CustomTestStringConvertible {
    var id: String
    var fields: [String: UInt64]
    var bytes: String
    var testDescription: String { id }
  }

  /// The fields by the manual's names; SSPTPTR as page number.
  static let vectors = [
    Vector(
      id: "V3", fields: ["P": 1, "SSPTPTR": 0x76_5432_1, "AW": 2, "DID": 0x1234],
      bytes: "0110325476000000 0234120000000000"),
    Vector(
      id: "V4", fields: ["P": 1, "TT": 1, "SSPTPTR": 0x10_0, "AW": 1, "DID": 5],
      bytes: "0500100000000000 0105000000000000"),
    Vector(
      id: "V5", fields: ["P": 1, "FPD": 1, "TT": 2, "AW": 3, "DID": 0xffff],
      bytes: "0b00000000000000 03ffff0000000000"),
    Vector(
      id: "V6", fields: ["P": 1, "SSPTPTR": 0x11_2, "AW": 1, "DID": 5, "ignored": 15],
      bytes: "0120110000000000 7905000000000000"),
    Vector(id: "V7", fields: ["FPD": 1], bytes: "0200000000000000 0000000000000000"),
  ]

  @Test(arguments: vectors)
  func `fields put together are these sixteen bytes`(vector: Vector) throws {
    var entry = Entry()
    for (name, value) in vector.fields { entry[Entry.field(name, .permissive)] = value }
    #expect(try stored(entry) == hexdump(vector.bytes))
  }

  @Test(arguments: vectors)
  func `sixteen bytes come apart into these fields`(vector: Vector) throws {
    let entry = try entry(Entry.self, from: hexdump(vector.bytes))
    for field in Entry.fields(.permissive) {
      #expect(entry[field] == vector.fields[field.name.description] ?? 0, "\(field.name)")
    }
    #expect(entry.reservedViolations(.permissive).isEmpty)
  }

  @Test func `V3: the properties say it in words`() throws {
    let entry = try entry(Entry.self, from: hexdump("0110325476000000 0234120000000000"))
    #expect(entry.isPresent)
    #expect(!entry.suppressesFaultReports)
    #expect(entry.translationType == .secondStage)
    #expect(entry.secondStageTable == PhysicalAddress(0x76_5432_1000))
    #expect(entry.levels == 4)
    #expect(entry.domainID == 0x1234)
    let made = Entry(
      secondStageTable: PhysicalAddress(0x76_5432_1000), levels: 4, domainID: 0x1234)
    #expect(made == entry)
  }

  @Test func `V4, V5, V7: the other types`() throws {
    let fourth = try entry(Entry.self, from: hexdump("0500100000000000 0105000000000000"))
    #expect(fourth.translationType == .secondStageWithDeviceTLB)
    #expect(fourth.levels == 3)
    let fifth = try entry(Entry.self, from: hexdump("0b00000000000000 03ffff0000000000"))
    #expect(fifth.translationType == .passThrough)
    #expect(fifth.suppressesFaultReports)
    #expect(fifth.levels == 5)
    #expect(fifth.domainID == 0xffff)
    let seventh = try entry(Entry.self, from: hexdump("0200000000000000 0000000000000000"))
    #expect(!seventh.isPresent)
    #expect(seventh.suppressesFaultReports)
  }

  @Test func `a domain id wider than the unit's is reserved`() {
    let narrow = limits(hostAddressWidth: 39, domainIDBits: 8)
    let masks = Entry.reservedMasks(narrow)
    #expect(masks.low == 0xffff_ff80_0000_0ff0)
    #expect(masks.high == 0xffff_ffff_ffff_0080)
    let wide = Entry.reservedMasks(limits(hostAddressWidth: 52, domainIDBits: 16))
    #expect(wide.high == 0xffff_ffff_ff00_0080)
  }

  @Test func `bits 70 to 67 may hold anything`() throws {
    let sixth = try entry(Entry.self, from: hexdump("0120110000000000 7905000000000000"))
    #expect(sixth.levels == 3)
    #expect(sixth.reservedViolations(limits(hostAddressWidth: 39)).isEmpty)
  }
}
