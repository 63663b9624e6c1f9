import IOMMUFormats
import Testing

@Suite struct PASIDDirectoryEntryTests {
  /// V10 of the vectors.
  static let bytes = "0190badcfe000000"

  @Test func `a stored entry is these eight bytes, and reads back`() throws {
    let entry = VTd.PASIDDirectoryEntry(pasidTable: PhysicalAddress(0xfe_dcba_9000))
    #expect(try stored(entry) == hexdump(Self.bytes))
    let read = try IOMMUFormatsTests.entry(
      VTd.PASIDDirectoryEntry.self, from: hexdump(Self.bytes))
    #expect(read.isPresent && !read.suppressesFaultReports)
    #expect(read.pasidTable == PhysicalAddress(0xfe_dcba_9000))
    #expect(read.reservedViolations(limits(hostAddressWidth: 40)).isEmpty)
    #expect(read.reservedViolations(limits(hostAddressWidth: 39)).map(\.bits) == [39...63])
  }

  @Test func `FPD counts without P, and bits 11 to 2 are reserved`() throws {
    let silent = try entry(VTd.PASIDDirectoryEntry.self, from: hexdump("0200000000000000"))
    #expect(!silent.isPresent && silent.suppressesFaultReports)
    let reserved = try entry(VTd.PASIDDirectoryEntry.self, from: hexdump("0510120000000000"))
    #expect(reserved.reservedViolations(.permissive).map(\.bits) == [2...11])
  }

  /// PASID to directory index, table index, and the byte offsets of both entries.
  static let indices: [(pasid: UInt32, directory: UInt64, table: UInt64)] = [
    (0, 0, 0), (1, 0, 1), (0x3f, 0, 63), (0x40, 1, 0), (0x12345, 1165, 5), (0xfffff, 16383, 63),
  ]

  @Test(arguments: indices)
  func `a PASID is its directory index and its table index`(
    pasid: UInt32, directory: UInt64, table: UInt64
  ) {
    #expect(PASID(pasid).directoryIndex == directory)
    #expect(PASID(pasid).tableIndex == table)
    #expect(PASID(pasid).rawValue == pasid)
  }

  @Test func `a PASID has twenty bits`() {
    #expect(PASID(0xfff0_0001) == PASID(1))
    #expect(PASID(17).description == "17")
    #expect(PASID(3) < PASID(4))
  }
}
