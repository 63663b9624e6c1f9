import IOMMUFormats
import Testing

@Suite struct TranslationControlEntryTests {
  typealias Entry = Calgary.TranslationControlEntry

  struct Vector: Sendable, CustomTestStringConvertible {
    var id: String
    var page: UInt64
    var permissions: Permissions
    var value: UInt64
    var bytes: String
    var testDescription: String { id }
  }

  static let vectors = [
    Vector(
      id: "T01", page: 0x1234_5000, permissions: .readWrite, value: 0x1234_5003,
      bytes: "00 00 00 00 12 34 50 03"),
    Vector(
      id: "T02", page: 0x1234_5000, permissions: .read, value: 0x1234_5001,
      bytes: "00 00 00 00 12 34 50 01"),
    Vector(
      id: "T03: from the device is read and write", page: 0x1234_5000,
      permissions: [.read, .write], value: 0x1234_5003, bytes: "00 00 00 00 12 34 50 03"),
    Vector(
      id: "T04", page: 0x1_97ff_f000, permissions: .readWrite, value: 0x1_97ff_f003,
      bytes: "00 00 00 01 97 ff f0 03"),
    Vector(
      id: "T05", page: 0xffff_ffff_f000, permissions: .read, value: 0xffff_ffff_f001,
      bytes: "00 00 ff ff ff ff f0 01"),
    Vector(
      id: "T06: page 0", page: 0, permissions: .read, value: 1, bytes: "00 00 00 00 00 00 00 01"),
    Vector(
      id: "T06: freed", page: 0, permissions: [], value: 0, bytes: "00 00 00 00 00 00 00 00"),
    Vector(
      id: "T32: first of the crash kernel", page: 0x100_0000, permissions: .readWrite,
      value: 0x100_0003, bytes: "00 00 00 00 01 00 00 03"),
    Vector(
      id: "T32: last of the crash kernel", page: 0x8ff_f000, permissions: .readWrite,
      value: 0x8ff_f003, bytes: "00 00 00 00 08 ff f0 03"),
  ]

  @Test(arguments: vectors)
  func `an entry lies in memory with its most significant byte first`(vector: Vector) throws {
    let entry = Entry(page: PhysicalAddress(vector.page), permissions: vector.permissions)
    #expect(entry.rawValue == vector.value)
    #expect(entry.bytes == hexdump(vector.bytes))
    #expect(try stored(entry) == hexdump(vector.bytes))
  }

  @Test(arguments: vectors)
  func `bytes in memory give page and permissions`(vector: Vector) throws {
    let entry = try entry(Entry.self, from: hexdump(vector.bytes))
    #expect(entry.page == PhysicalAddress(vector.page))
    #expect(entry.permissions == vector.permissions)
  }

  @Test func `write without read is an entry too`() throws {
    let entry = try entry(Entry.self, from: hexdump("00 00 00 00 12 34 50 02"))
    #expect(entry.permissions == .write)
    #expect("\(entry.permissions)" == "-w")
  }

  @Test func `unused bits change neither page nor permissions`() {
    let entry = Entry(rawValue: 0xffff_0000_1234_5ffd)
    #expect(entry.page == PhysicalAddress(0x1234_5000))
    #expect(entry.permissions == .read)
    #expect(entry.reservedViolations.isEmpty)
  }

  @Test func `an address in the page names the page`() {
    let entry = Entry(page: PhysicalAddress(0x1234_5fff), permissions: .readWrite)
    #expect(entry.rawValue == 0x1234_5003)
  }

  @Test func `an entry for a page at 2^48 stops the program`() async {
    await #expect(processExitsWith: .failure) {
      _ = Calgary.TranslationControlEntry(
        page: PhysicalAddress(0x1_0000_0000_0000), permissions: .read)
    }
  }

  @Test func `a run is an entry for each page, in the order of the pages`() throws {
    let memory = try FlatMemory(byteCount: 4096)
    Entry(page: PhysicalAddress(0xff_e000), permissions: .readWrite)
      .storeRun(ofPages: 3, to: memory, at: PhysicalAddress(0xfe8))
    #expect(
      memory.bytes(at: PhysicalAddress(0xfe0), count: 32)
        == hexdump(
          """
          00 00 00 00 00 00 00 00  00 00 00 00 00 ff e0 03
          00 00 00 00 00 ff f0 03  00 00 00 00 01 00 00 03
          """))
  }

  @Test func `after the last page that an entry has bits for comes page 0`() throws {
    let memory = try FlatMemory(byteCount: 4096)
    let last = Entry(rawValue: 0xabcd_ffff_ffff_f0f1)
    last.storeRun(ofPages: 3, to: memory, at: PhysicalAddress(0))
    #expect(
      memory.bytes(at: PhysicalAddress(0), count: 32)
        == hexdump(
          """
          ab cd ff ff ff ff f0 f1  ab cd 00 00 00 00 00 f1
          ab cd 00 00 00 00 10 f1  00 00 00 00 00 00 00 00
          """))
    #expect(last.advanced(byPages: 2).rawValue == 0xabcd_0000_0000_10f1)
    #expect(last.advanced(byPages: 0) == last)
  }

  @Test func `a run that ends beyond memory stops the program`() async {
    await #expect(processExitsWith: .failure) {
      let memory = try FlatMemory(byteCount: 4096)
      Calgary.TranslationControlEntry(page: PhysicalAddress(0), permissions: .read)
        .storeRun(ofPages: 2, to: memory, at: PhysicalAddress(0xff8))
    }
  }
}
