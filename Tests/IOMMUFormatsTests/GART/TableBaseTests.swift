import IOMMUFormats
import Testing

@Suite struct TableBaseTests {
  static let vectors: [(bytes: String, address: UInt64)] = [
    ("00 a4 01 00", 0x01a4_0000), ("00 40 23 01", 0x1_2340_0000), ("f0 ff ff 0f", 0xf_ffff_f000),
  ]

  @Test(arguments: vectors)
  func `the register holds the table's page number from bit 4`(
    bytes: String, address: UInt64
  ) throws {
    let register = try entry(GART.TableBase.self, from: hexdump(bytes))
    #expect(register.table == PhysicalAddress(address))
    #expect(try stored(GART.TableBase(table: PhysicalAddress(address))) == hexdump(bytes))
  }

  @Test func `the last table below 1 TiB`() {
    #expect(GART.TableBase(table: PhysicalAddress(0xff_ffff_f000)).rawValue == 0xffff_fff0)
    #expect(GART.TableBase(rawValue: 0xffff_ffff).table == PhysicalAddress(0xff_ffff_f000))
  }
}
