import IOMMUFormats
import Testing

@Suite struct ScalableRootEntryTests {
  /// V2 of the vectors.
  static let bytes = "0170563412000000 01e0cdab89000000"

  @Test func `a stored entry is these sixteen bytes`() throws {
    let entry = VTd.ScalableRootEntry(
      lowerContextTable: PhysicalAddress(0x12_3456_7000),
      upperContextTable: PhysicalAddress(0x89_abcd_e000))
    #expect(try stored(entry) == hexdump(Self.bytes))
  }

  @Test func `each half of the devices has its table`() throws {
    let entry = try entry(VTd.ScalableRootEntry.self, from: hexdump(Self.bytes))
    #expect(entry.isLowerPresent && entry.isUpperPresent)
    for deviceFunction: UInt8 in [0, 1, 127] {
      #expect(entry.contextTable(deviceFunction: deviceFunction) == PhysicalAddress(0x12_3456_7000))
    }
    for deviceFunction: UInt8 in [128, 255] {
      #expect(entry.contextTable(deviceFunction: deviceFunction) == PhysicalAddress(0x89_abcd_e000))
    }
    #expect(entry.reservedViolations(limits(hostAddressWidth: 40)).isEmpty)
  }

  @Test func `a half that is not present has no table`() {
    let upper = VTd.ScalableRootEntry(
      lowerContextTable: nil, upperContextTable: PhysicalAddress(0x1000))
    #expect(upper.low == 0 && upper.high == 0x1001)
    #expect(upper.contextTable(deviceFunction: 127) == nil)
    #expect(upper.contextTable(deviceFunction: 128) == PhysicalAddress(0x1000))
  }

  @Test func `pointer bits from the host address width up are reserved in both halves`() {
    let entry = VTd.ScalableRootEntry(low: 0x80_0000_0001, high: 0x80_0000_0001)
    #expect(
      entry.reservedViolations(limits(hostAddressWidth: 39)).map(\.bits) == [39...63, 103...127])
    #expect(entry.reservedViolations(limits(hostAddressWidth: 40)).isEmpty)
  }
}
