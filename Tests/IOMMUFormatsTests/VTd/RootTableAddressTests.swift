import IOMMUFormats
import Testing

@Suite struct RootTableAddressTests {
  static let vectors: [(id: String, mode: VTd.TranslationTableMode, table: UInt64, value: UInt64)] =
    [
      ("G1", .legacy, 0x10_0000, 0x0000_0000_0010_0000),
      ("G2", .scalable, 0x10_0000, 0x0000_0000_0010_0400),
      ("G3", .abortDMA, 0, 0x0000_0000_0000_0c00),
      ("M44", .reserved, 0x10_0000, 0x0000_0000_0010_0800),
    ]

  @Test(arguments: vectors.indices)
  func `the register holds table and mode`(index: Int) {
    let (id, mode, table, value) = Self.vectors[index]
    let register = VTd.RootTableAddress(rootTable: PhysicalAddress(table), mode: mode)
    #expect(register.rawValue == value, "\(id)")
    #expect(VTd.RootTableAddress(rawValue: value).mode == mode, "\(id)")
    #expect(VTd.RootTableAddress(rawValue: value).rootTable == PhysicalAddress(table), "\(id)")
  }

  @Test func `SSIRWE is bit 7`() {
    #expect(VTd.RootTableAddress(rawValue: 0x10_0480).usesIOPermissions)
    #expect(!VTd.RootTableAddress(rawValue: 0x10_0400).usesIOPermissions)
    #expect(VTd.RootTableAddress(rawValue: 0x10_0480).reservedViolations.isEmpty)
  }

  @Test func `the status register says what is on`() {
    #expect(VTd.GlobalStatus(rawValue: 0x8000_0000).translates)
    #expect(!VTd.GlobalStatus(rawValue: 0x7fff_ffff).translates)
    #expect(VTd.GlobalStatus(rawValue: 0x0200_0000).remapsInterrupts)
    #expect(VTd.GlobalStatus(rawValue: 0x0080_0000).passesCompatibilityInterrupts)
    #expect(VTd.GlobalStatus(translates: true).rawValue == 0xc000_0000)
    #expect(VTd.GlobalStatus(translates: true, remapsInterrupts: true).rawValue == 0xc200_0000)
    #expect(VTd.GlobalStatus(translates: false).rawValue == 0)
  }
}
