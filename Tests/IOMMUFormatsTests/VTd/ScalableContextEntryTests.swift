import IOMMUFormats
import Testing

@Suite struct ScalableContextEntryTests {
  /// V8: DTE, PASIDE, PRE, PDTS 7.
  static let full = "1d0eefcdab000000 4523010000000000 0000000000000000 0000000000000000"
  /// V9: RID_PRIV, PDTS 0.
  static let small = "0100120000000000 0000100000000000 0000000000000000 0000000000000000"

  @Test func `the fields of a full entry`() throws {
    let entry = try entry(VTd.ScalableContextEntry.self, from: hexdump(Self.full))
    #expect(entry.isPresent && !entry.suppressesFaultReports)
    #expect(entry.allowsDeviceTLB && entry.allowsPASIDs && entry.allowsPageRequests)
    #expect(!entry.checksPermissionTable && !entry.allowsTranslatedPASIDs)
    #expect(entry.pasidDirectory == PhysicalAddress(0xab_cdef_0000))
    #expect(entry.pasidLimit == 1 << 20)
    #expect(entry.requesterPASID == PASID(0x12345))
    #expect(!entry.requesterIsSupervisor)
    #expect(!entry.isContradictory)
    #expect(entry.reservedViolations(.permissive).isEmpty)
  }

  @Test func `the fields of a small entry`() throws {
    let entry = try entry(VTd.ScalableContextEntry.self, from: hexdump(Self.small))
    #expect(entry.isPresent && entry.requesterIsSupervisor)
    #expect(entry.pasidDirectory == PhysicalAddress(0x12_0000))
    #expect(entry.pasidLimit == 8192)
    #expect(entry.requesterPASID == PASID(0))
  }

  @Test func `a stored entry is these thirty-two bytes`() throws {
    let entry = VTd.ScalableContextEntry(
      pasidDirectory: PhysicalAddress(0xab_cdef_0000), directorySizeCode: 7,
      requesterPASID: PASID(0x12345))
    #expect(
      try stored(entry)
        == hexdump("010eefcdab000000 4523010000000000 0000000000000000 0000000000000000"))
  }

  @Test func `what the unit lacks is reserved`() throws {
    let entry = try entry(VTd.ScalableContextEntry.self, from: hexdump(Self.full))
    // No device TLBs, PASIDs or page requests, and RID_PASID has to be zero.
    #expect(
      entry.reservedViolations(limits(hostAddressWidth: 40)).map(\.bits)
        == [2...2, 3...3, 4...4, 64...83])
    #expect(
      entry.reservedViolations(limits(hostAddressWidth: 39)).map(\.bits).contains(39...63))
  }

  @Test(arguments: [5, 6, 7, 8, 85, 127, 128, 191, 192, 255])
  func `a bit without meaning is reserved`(bit: Int) {
    var entry = VTd.ScalableContextEntry(pasidDirectory: PhysicalAddress(0x1000))
    entry[quadword: bit / 64] |= 1 << UInt64(bit % 64)
    #expect(entry.reservedViolations(limits(hostAddressWidth: 46)).count == 1)
  }

  @Test func `fields that contradict each other`() {
    func entry(_ low: UInt64, _ high: UInt64 = 0) -> VTd.ScalableContextEntry {
      VTd.ScalableContextEntry(low: low, high: high)
    }
    #expect(entry(0x1011).isContradictory, "PRE without DTE")
    #expect(!entry(0x1015).isContradictory)
    #expect(entry(0x1041).isContradictory, "EPTR without PASIDE")
    #expect(!entry(0x1049).isContradictory)
    #expect(entry(0x1001, 8192).isContradictory, "RID_PASID beyond a directory of 128 entries")
    #expect(!entry(0x1001, 8191).isContradictory)
    #expect(!entry(0x1201, 8192).isContradictory)
  }
}
