import IOMMUFormats
import IOMMUTranslation
import Testing

/// Keeps `docs/amdvi-coverage.md` true.
@Suite struct AMDViCoverageTests {
  private static func rows(_ heading: String) throws -> [[String]] {
    try CoverageTests.rows(heading, of: "docs/amdvi-coverage.md")
  }

  @Test(arguments: [
    "Registers", "Capability block", "Commands", "Events", "Entries", "Interrupts", "Caches",
  ])
  func `every test in the tables of AMD-Vi exists`(heading: String) throws {
    let rows = try Self.rows(heading)
    #expect(rows.count >= 6)
    for row in rows {
      let test = try #require(row.last)
      #expect(CoverageTests.tests[test] != nil, "\(row[0]): no test is called '\(test)'")
    }
  }

  @Test func `every register of AMD-Vi is in the tables`() throws {
    let rows = try Self.rows("Registers").map { $0[0] }
    #expect(Set(rows) == Set(AMDVi.registerMap.map(\.name)) && Set(rows).count == rows.count)
    #expect(
      try Self.rows("Capability block").map { $0[0] }
        == [
          AMDVi.CapabilityHeader.name, AMDVi.CapabilityBaseLow.name, AMDVi.CapabilityBaseHigh.name,
          AMDVi.CapabilityRange.name, AMDVi.CapabilityMiscellaneous.name,
          AMDVi.CapabilityMiscellaneous1.name,
        ].map(\.description))
  }

  @Test func `every command and every event that a unit makes is in the tables`() throws {
    let formats = (UInt8(0)...15).compactMap { AMDVi.CommandCode(rawValue: $0).format }
    #expect(try Self.rows("Commands").map { $0[0] } == formats.map { $0.name.description })
    #expect(try Self.rows("Events").map { $0[0] } == (1...9).map { "\($0)" })
    let reasons = AMDVi.FaultReason.allCases.map { "\($0)" }.filter { $0.hasPrefix("interrupt") }
    #expect(
      try Self.rows("Interrupts").map { $0[0] }
        == reasons.filter { $0 != "interruptRangeNotWritten" })
  }

  @Test func `every field of every command and log entry is in the table`() throws {
    let rows = try Self.rows("Entries")
    let entries: [any TableEntry.Type] =
      (UInt8(0)...15).compactMap { AMDVi.CommandCode(rawValue: $0).format } + [
        AMDVi.PageRequestEntry.self, AMDVi.GuestInterruptLogEntry.self, AMDVi.InterruptEntry.self,
        AMDVi.WideInterruptEntry.self,
      ]
    #expect(rows.map { $0[0] } == entries.map { $0.name.description })
    func fields<Entry: TableEntry>(_: Entry.Type) -> Set<String> {
      Set(
        Entry.exampleVariants.flatMap { Entry.fields($0) }
          .filter { $0.use != .reserved && $0.use != .ignored }.map { $0.name.description })
    }
    for (entry, row) in zip(entries, rows) {
      let listed = Set(
        row[1].split(separator: ",").map { String($0.drop { $0 == " " }.prefix { $0 != " " }) })
      #expect(listed == fields(entry), "\(row[0])")
    }
  }
}
