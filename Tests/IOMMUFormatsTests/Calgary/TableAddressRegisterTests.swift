import IOMMUFormats
import Testing

@Suite struct TableAddressRegisterTests {
  typealias Register = Calgary.TableAddressRegister

  @Test func `T09: a first setting holds table and size`() throws {
    let register = Register(rawValue: 0).setting(table: PhysicalAddress(0x80_0000), size: .mib8)
    #expect(register.rawValue == 0x0000_0000_0080_0007)
    #expect(try stored(register) == hexdump("00 00 00 00 00 80 00 07"))
    #expect(register.table == PhysicalAddress(0x80_0000))
    #expect(register.tableSize == .mib8)
  }

  @Test func `T10: bits that are not software's stay`() throws {
    let prior = Register(rawValue: 0xabcd_0000_0000_7ff0)
    let register = prior.setting(table: PhysicalAddress(0x780_0000), size: .mib8)
    #expect(register.rawValue == 0xabcd_0000_0780_7ff7)
    #expect(try stored(register) == hexdump("ab cd 00 00 07 80 7f f7"))
    #expect(register.table == PhysicalAddress(0x780_0000))
    #expect(register.cleared.rawValue == 0xabcd_0000_0000_7ff0)
  }

  @Test func `T11: a table of 256 KiB at 1 GiB`() throws {
    let register = Register(rawValue: 0).setting(table: PhysicalAddress(0x4000_0000), size: .kib256)
    #expect(try stored(register) == hexdump("00 00 00 00 40 00 00 02"))
    let again = try entry(Register.self, from: hexdump("00 00 00 00 40 00 00 02"))
    #expect(again.table == PhysicalAddress(0x4000_0000))
    #expect(again.tableSize == .kib256)
  }

  @Test func `setting replaces the valid bit and a former table`() {
    let register = Register(rawValue: 0x0000_ffff_ffff_800f)
      .setting(table: PhysicalAddress(0x8000), size: .kib64)
    #expect(register.rawValue == 0x8000)
    #expect(Register.softwareMask == 0x0000_ffff_ffff_800f)
  }

  struct Extraction: Sendable, CustomTestStringConvertible {
    var id: String
    var register: UInt64
    var ownSize: Calgary.TableSize
    var table: UInt64
    var testDescription: String { id }
  }

  @Test(arguments: [
    Extraction(id: "T12", register: 0xabcd_0000_0780_7ff7, ownSize: .mib8, table: 0x780_0000),
    Extraction(
      id: "T13: another size code leaves a bit", register: 0x80_0007, ownSize: .mib4,
      table: 0x80_0001),
    Extraction(
      id: "T13: the valid bit stays", register: 0x80_000f, ownSize: .mib8, table: 0x80_0008),
    Extraction(
      id: "T13: above 4 GiB is cut off", register: 0x1_8000_0007, ownSize: .mib8, table: 0x8000_0000
    ),
    Extraction(id: "T14", register: 0, ownSize: .mib8, table: 0),
  ])
  func `a kdump kernel reads the table address with its mistakes`(extraction: Extraction) {
    #expect(
      Register(rawValue: extraction.register)
        .tableAsKdumpKernelReadsIt(ownSize: extraction.ownSize)
        == PhysicalAddress(extraction.table))
  }

  @Test func `a table that is not at a multiple of 32 KiB stops the program`() async {
    await #expect(processExitsWith: .failure) {
      _ = Calgary.TableAddressRegister(rawValue: 0)
        .setting(table: PhysicalAddress(0x4000), size: .kib64)
    }
  }
}
