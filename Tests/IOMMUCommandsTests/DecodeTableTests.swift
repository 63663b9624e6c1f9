import IOMMUCommands
import IOMMUTestSupport
import Testing

@Suite struct DecodeTableTests {
  /// A table with one unit for everything, in a file that goes away with this value.
  struct TableFile {
    private let directory = TemporaryDirectory()
    let path: String

    init(changing changes: [Int: UInt8] = [:]) {
      var bytes: [UInt8] =
        Array("DMAR".utf8) + [64, 0, 0, 0, 1, 0x2e] + Array("EXAMPLVTDTABLE".utf8)
        + [1, 0, 0, 0] + Array("TEST".utf8) + [1, 0, 0, 0, 0x26, 0]
        + [UInt8](repeating: 0, count: 10)
        + [0, 0, 16, 0, 1, 0, 0, 0, 0, 0, 0xd9, 0xfe, 0, 0, 0, 0]
      for (offset, byte) in changes { bytes[offset] = byte }
      path = directory.file("dmar.bin", bytes)
    }
  }

  private func run(_ arguments: [String]) throws -> (text: String, isWellFormed: Bool) {
    var screen = ""
    let isWellFormed = try Decode.parse(arguments).report(to: &screen)
    return (screen, isWellFormed)
  }

  @Test func `a DMAR table is taken apart from its file`() throws {
    let file = TableFile()
    let result = try run(["dmar", file.path])
    #expect(result.isWellFormed)
    #expect(
      result.text == """
        DMAR  (Intel VT-d 8.1)
        bytes     64, revision 1, checksum 0x2e
        made by   EXAMPL, VTDTABLE
        platform  host addresses of 39 bits

        byte 48  DRHD  16 bytes: unit at 0xfed90000, 4 KiB of registers, segment 0, all PCI devices that are listed nowhere else

        """)
  }

  @Test func `JSON has the same content`() throws {
    let file = TableFile()
    let text = try run(["dmar", file.path, "--format", "json"]).text
    #expect(text.contains("\"include_pci_all\" : \"true\""))
    #expect(text.contains("\"host_address_width\" : 39"))
    #expect(text.contains("\"violations\" : [\n\n  ]"))
  }

  @Test func `a wrong checksum is an error unless it is ignored`() throws {
    let file = TableFile(changing: [9: 0])
    #expect(
      throws: InputError(
        "\(file.path): at byte 0x9: checksum 0x0, and 0x2e would make the sum of all bytes zero; "
          + "copy the table again, or ignore the checksum")
    ) { try run(["dmar", file.path]) }
    let result = try run(["dmar", file.path, "--ignore-checksum"])
    #expect(result.isWellFormed)
    #expect(result.text.contains("unit at 0xfed90000"))
  }

  @Test func `a complaint fails the command`() throws {
    let file = TableFile(changing: [9: 0x2c, 8: 3])
    let result = try run(["dmar", file.path])
    #expect(!result.isWellFormed)
    #expect(result.text.hasSuffix("\nat byte 0x8: revision 3, and 1 is known\n"))
  }

  @Test func `a file that is none is an error`() throws {
    #expect(
      throws: InputError(
        "/tmp: is a directory, not a regular file; copy its contents to a file and name that")
    ) {
      try run(["dmar", "/tmp"])
    }
    #expect(throws: InputError("'dmar' takes the table's file, and 2 words were given")) {
      try run(["dmar", "a", "b"])
    }
  }
}
