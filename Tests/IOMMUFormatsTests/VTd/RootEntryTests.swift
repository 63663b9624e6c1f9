import IOMMUFormats
import Testing

@Suite struct RootEntryTests {
  @Test func `V1: a stored entry is these sixteen bytes`() throws {
    let entry = VTd.RootEntry(contextTable: PhysicalAddress(0x1_2345_6000))
    #expect(entry.bytes == hexdump("0160452301000000 0000000000000000"))
    #expect(try stored(entry) == hexdump("0160452301000000 0000000000000000"))
  }

  @Test func `V1: sixteen bytes name a context table`() throws {
    let entry = try entry(
      VTd.RootEntry.self, from: hexdump("0160452301000000 0000000000000000"))
    #expect(entry.isPresent)
    #expect(entry.contextTable == PhysicalAddress(0x1_2345_6000))
    #expect(entry.reservedViolations(.permissive).isEmpty)
  }

  @Test func `the host address width decides which pointer bits are reserved`() {
    let narrow = VTd.RootEntry.reservedMasks(limits(hostAddressWidth: 39))
    #expect(narrow.low == 0xffff_ff80_0000_0ffe)
    #expect(narrow.high == 0xffff_ffff_ffff_ffff)
    let wide = VTd.RootEntry.reservedMasks(limits(hostAddressWidth: 52))
    #expect(wide.low == 0xfff0_0000_0000_0ffe)
  }
}
