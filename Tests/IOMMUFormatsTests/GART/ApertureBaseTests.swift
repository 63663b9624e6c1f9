import IOMMUFormats
import Testing

@Suite struct ApertureBaseTests {
  static let vectors: [(bytes: String, address: UInt64)] = [
    ("68 00 00 00", 0xd000_0000), ("10 00 00 00", 0x2000_0000), ("ff 7f 00 00", 0xff_fe00_0000),
    ("00 00 00 00", 0),
  ]

  @Test(arguments: vectors)
  func `the register holds the address in units of 32 MiB`(bytes: String, address: UInt64) throws {
    #expect(try entry(GART.ApertureBase.self, from: hexdump(bytes)).address == address)
    #expect(try stored(GART.ApertureBase(address: address)) == hexdump(bytes))
  }

  @Test func `bits above 14 are not part of the address`() {
    #expect(GART.ApertureBase(rawValue: 0xffff_8068).address == 0xd000_0000)
  }
}
