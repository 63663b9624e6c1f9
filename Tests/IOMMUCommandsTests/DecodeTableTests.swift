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

  @Test func `a later revision is a note and no complaint`() throws {
    let file = TableFile(changing: [9: 0x2d, 8: 2])
    let result = try run(["dmar", file.path])
    #expect(result.isWellFormed)
    #expect(
      result.text.hasSuffix(
        "\nnote: at byte 0x8: revision 2; what revision 1 has is read, and what is newer is skipped\n"
      ))
    let json = try run(["dmar", file.path, "--format", "json"]).text
    #expect(json.contains("\"notes\" : [\n    \"at byte 0x8: revision 2;"))
  }

  @Test func `a complaint fails the command`() throws {
    let file = TableFile(changing: [9: 0x2f, 8: 0])
    let result = try run(["dmar", file.path])
    #expect(!result.isWellFormed)
    #expect(result.text.hasSuffix("\nat byte 0x8: revision 0, and the first is 1\n"))
  }

  /// A unit, a unit whose second scope has an odd length, and what may have been meant to follow.
  @Test func `what is good of a damaged table stands before the complaint`() throws {
    let damaged = TemporaryDirectory()
    let bytes: [UInt8] =
      Array("DMAR".utf8) + [112, 0, 0, 0, 1, 0] + Array("EXAMPLVTDTABLE".utf8)
      + [1, 0, 0, 0] + Array("TEST".utf8) + [1, 0, 0, 0, 0x26, 0]
      + [UInt8](repeating: 0, count: 10)
      + [0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0xd9, 0xfe, 0, 0, 0, 0, 1, 8, 0, 0, 0, 0, 2, 0]
      + [0, 0, 32, 0, 1, 0, 0, 0, 0, 0x10, 0xd9, 0xfe, 0, 0, 0, 0]
      + [3, 8, 0, 0, 2, 0xf0, 0x1f, 0, 4, 9, 0, 0, 0, 0xf0, 0xf, 0]
      + [UInt8](repeating: 0, count: 8)
    let path = damaged.file("dmar.bin", bytes)
    let result = try run(["dmar", path, "--ignore-checksum"])
    #expect(!result.isWellFormed)
    #expect(
      result.text == """
        DMAR  (Intel VT-d 8.1)
        bytes     112, revision 1, checksum 0x00
        made by   EXAMPL, VTDTABLE
        platform  host addresses of 39 bits

        byte  48  DRHD  24 bytes: unit at 0xfed90000, 4 KiB of registers, segment 0
        byte  64          endpoint 00:02.0
        byte  72  DRHD  24 bytes: unit at 0xfed91000, 4 KiB of registers, segment 0, all PCI devices that are listed nowhere else
        byte  88          I/O APIC 2 at f0:1f.0

        at byte 0x60: device scope with a length of 9 bytes, and it has 6 and 2 for each step of its path; the firmware or the copy is broken

        """)
    let json = try run(["dmar", path, "--ignore-checksum", "--format", "json"]).text
    #expect(json.contains("\"at byte 0x60: device scope with a length of 9 bytes"))
    let cut = damaged.file("cut.bin", Array(bytes.prefix(100)))
    let short = try run(["dmar", cut])
    #expect(!short.isWellFormed)
    #expect(short.text.contains("byte  64          endpoint 00:02.0\n"))
    #expect(
      short.text.hasSuffix(
        "segment 0, all PCI devices that are listed nowhere else, cut off after 28 of its 32 bytes\n"
          + "byte  88          I/O APIC 2 at f0:1f.0\n\nat byte 0x4: a length of 112 bytes, and only 100 are there; the table is cut off, copy it "
          + "again\n"))
  }

  /// One table in every form in which people have it, as those programs print it.
  @Test(arguments: [
    (
      "acpidump",
      """
      APIC @ 0x0000000000000000
          0000: 41 50 49 43 24 00 00 00 01 00 45 58 41 4D 50 4C  APIC$.....EXAMPL
          0010: 54 41 42 4C 45 20 20 20 01 00 00 00 54 45 53 54  TABLE   ....TEST
          0020: 01 00 00 00                                      ....

      DMAR @ 0x0000000000000000
          0000: 44 4D 41 52 40 00 00 00 01 2E 45 58 41 4D 50 4C  DMAR@.....EXAMPL
          0010: 56 54 44 54 41 42 4C 45 01 00 00 00 54 45 53 54  VTDTABLE....TEST
          0020: 01 00 00 00 26 00 00 00 00 00 00 00 00 00 00 00  ....&...........
          0030: 00 00 10 00 01 00 00 00 00 00 D9 FE 00 00 00 00  ................

      """
    ),
    (
      "xxd",
      """
      00000000: 444d 4152 4000 0000 012e 4558 414d 504c  DMAR@.....EXAMPL
      00000010: 5654 4454 4142 4c45 0100 0000 5445 5354  VTDTABLE....TEST
      00000020: 0100 0000 2600 0000 0000 0000 0000 0000  ....&...........
      00000030: 0000 1000 0100 0000 0000 d9fe 0000 0000  ................
      """
    ),
    (
      "xxd, behind a mark of UTF-8",
      """
      \u{feff}00000000: 444d 4152 4000 0000 012e 4558 414d 504c  DMAR@.....EXAMPL
      00000010: 5654 4454 4142 4c45 0100 0000 5445 5354  VTDTABLE....TEST
      00000020: 0100 0000 2600 0000 0000 0000 0000 0000  ....&...........
      00000030: 0000 1000 0100 0000 0000 d9fe 0000 0000  ................
      """
    ),
    (
      "hexdump -C, in a mail",
      """
      here it is:
      > 00000000  44 4d 41 52 40 00 00 00  01 2e 45 58 41 4d 50 4c  |DMAR@.....EXAMPL|
      > 00000010  56 54 44 54 41 42 4c 45  01 00 00 00 54 45 53 54  |VTDTABLE....TEST|
      > 00000020  01 00 00 00 26 00 00 00  00 00 00 00 00 00 00 00  |....&...........|
      > 00000030  00 00 10 00 01 00 00 00  00 00 d9 fe 00 00 00 00  |................|
      > 00000040
      """
    ),
    (
      "hexdump",
      """
      0000000 4d44 5241 0040 0000 2e01 5845 4d41 4c50
      0000010 5456 5444 4241 454c 0001 0000 4554 5453
      0000020 0001 0000 0026 0000 0000 0000 0000 0000
      0000030 0000 0010 0001 0000 0000 fed9 0000 0000
      0000040
      """
    ),
    (
      "od -t x1",
      """
      0000000 44 4d 41 52 40 00 00 00 01 2e 45 58 41 4d 50 4c
      0000020 56 54 44 54 41 42 4c 45 01 00 00 00 54 45 53 54
      0000040 01 00 00 00 26 00 00 00 00 00 00 00 00 00 00 00
      0000060 00 00 10 00 01 00 00 00 00 00 d9 fe 00 00 00 00
      0000100
      """
    ),
    (
      "iasl -d",
      """
      /*
       * Disassembly of dmar.dat
       * Format: [HexOffset DecimalOffset ByteLength]  FieldName : FieldValue
       */
      [000h 0000   4]                    Signature : "DMAR"    [DMA Remapping table]
      [004h 0004   4]                 Table Length : 00000040

      Raw Table Data: Length 64 (0x40)

          0000: 44 4D 41 52 40 00 00 00 01 2E 45 58 41 4D 50 4C  // DMAR@.....EXAMPL
          0010: 56 54 44 54 41 42 4C 45 01 00 00 00 54 45 53 54  // VTDTABLE....TEST
          0020: 01 00 00 00 26 00 00 00 00 00 00 00 00 00 00 00  // ....&...........
          0030: 00 00 10 00 01 00 00 00 00 00 D9 FE 00 00 00 00  // ................
      """
    ),
    (
      "xxd -p",
      """
      444d415240000000012e4558414d504c5654445441424c4501000000544553540100
      00002600000000000000000000000000100001000000 0000d9fe00000000
      """
    ),
    (
      "xxd -i",
      """
      unsigned char dmar[] = {
        0x44, 0x4d, 0x41, 0x52, 0x40, 0x00, 0x00, 0x00, 0x01, 0x2e, 0x45, 0x58,
        0x41, 0x4d, 0x50, 0x4c, 0x56, 0x54, 0x44, 0x54, 0x41, 0x42, 0x4c, 0x45,
        0x01, 0x00, 0x00, 0x00, 0x54, 0x45, 0x53, 0x54, 0x01, 0x00, 0x00, 0x00,
        0x26, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x10, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0xd9, 0xfe,
        0x00, 0x00, 0x00, 0x00
      };
      """
    ),
    (
      "xxd -e -g4",
      """
      00000000: 52414d44 00000040 58452e01 4c504d41  DMAR@.....EXAMPL
      00000010: 54445456 454c4241 00000001 54534554  VTDTABLE....TEST
      00000020: 00000001 00000026 00000000 00000000  ....&...........
      00000030: 00100000 00000001 fed90000 00000000  ................
      """
    ),
    (
      "xxd -g4",
      """
      00000000: 444d4152 40000000 012e4558 414d504c  DMAR@.....EXAMPL
      00000010: 56544454 41424c45 01000000 54455354  VTDTABLE....TEST
      00000020: 01000000 26000000 00000000 00000000  ....&...........
      00000030: 00001000 01000000 0000d9fe 00000000  ................
      """
    ),
    (
      "xxd -b",
      """
      00000000: 01000100 01001101 01000001 01010010 01000000 00000000  DMAR@.
      00000006: 00000000 00000000 00000001 00101110 01000101 01011000  ....EX
      0000000c: 01000001 01001101 01010000 01001100 01010110 01010100  AMPLVT
      00000012: 01000100 01010100 01000001 01000010 01001100 01000101  DTABLE
      00000018: 00000001 00000000 00000000 00000000 01010100 01000101  ....TE
      0000001e: 01010011 01010100 00000001 00000000 00000000 00000000  ST....
      00000024: 00100110 00000000 00000000 00000000 00000000 00000000  &.....
      0000002a: 00000000 00000000 00000000 00000000 00000000 00000000  ......
      00000030: 00000000 00000000 00010000 00000000 00000001 00000000  ......
      00000036: 00000000 00000000 00000000 00000000 11011001 11111110  ......
      0000003c: 00000000 00000000 00000000 00000000                    ....
      """
    ),
    (
      "hexdump -x",
      """
      0000000    4d44    5241    0040    0000    2e01    5845    4d41    4c50
      0000010    5456    5444    4241    454c    0001    0000    4554    5453
      0000020    0001    0000    0026    0000    0000    0000    0000    0000
      0000030    0000    0010    0001    0000    0000    fed9    0000    0000
      0000040
      """
    ),
    (
      "hexdump -b",
      """
      0000000 104 115 101 122 100 000 000 000 001 056 105 130 101 115 120 114
      0000010 126 124 104 124 101 102 114 105 001 000 000 000 124 105 123 124
      0000020 001 000 000 000 046 000 000 000 000 000 000 000 000 000 000 000
      0000030 000 000 020 000 001 000 000 000 000 000 331 376 000 000 000 000
      0000040
      """
    ),
    (
      "hexdump -o",
      """
      0000000  046504  051101  000100  000000  027001  054105  046501  046120
      0000010  052126  052104  041101  042514  000001  000000  042524  052123
      0000020  000001  000000  000046  000000  000000  000000  000000  000000
      0000030  000000  000020  000001  000000  000000  177331  000000  000000
      0000040
      """
    ),
    (
      "hexdump -d",
      """
      0000000   19780   21057   00064   00000   11777   22597   19777   19536
      0000010   21590   21572   16961   17740   00001   00000   17748   21587
      0000020   00001   00000   00038   00000   00000   00000   00000   00000
      0000030   00000   00016   00001   00000   00000   65241   00000   00000
      0000040
      """
    ),
    (
      "od -b",
      """
      0000000 104 115 101 122 100 000 000 000 001 056 105 130 101 115 120 114
      0000020 126 124 104 124 101 102 114 105 001 000 000 000 124 105 123 124
      0000040 001 000 000 000 046 000 000 000 000 000 000 000 000 000 000 000
      0000060 000 000 020 000 001 000 000 000 000 000 331 376 000 000 000 000
      0000100
      """
    ),
    (
      "od",
      """
      0000000 046504 051101 000100 000000 027001 054105 046501 046120
      0000020 052126 052104 041101 042514 000001 000000 042524 052123
      0000040 000001 000000 000046 000000 000000 000000 000000 000000
      0000060 000000 000020 000001 000000 000000 177331 000000 000000
      0000100
      """
    ),
    (
      "od -d",
      """
      0000000 19780 21057    64     0 11777 22597 19777 19536
      0000020 21590 21572 16961 17740     1     0 17748 21587
      0000040     1     0    38     0     0     0     0     0
      0000060     0    16     1     0     0 65241     0     0
      0000100
      """
    ),
    (
      "hexdump -v -e '16/1 \"%02x \" \"\\n\"', behind a prompt, in a fence",
      """
      This is the table:
      ```
      $ hexdump -v -e '16/1 "%02x " "\\n"' /sys/firmware/acpi/tables/DMAR
      44 4d 41 52 40 00 00 00 01 2e 45 58 41 4d 50 4c\u{20}
      56 54 44 54 41 42 4c 45 01 00 00 00 54 45 53 54\u{20}
      01 00 00 00 26 00 00 00 00 00 00 00 00 00 00 00\u{20}
      00 00 10 00 01 00 00 00 00 00 d9 fe 00 00 00 00\u{20}
      $
      ```
      """
    ),
    (
      "od -An -tx1, in a mail",
      """
      > > 44 4d 41 52 40 00 00 00 01 2e 45 58 41 4d 50 4c
      > > 56 54 44 54 41 42 4c 45 01 00 00 00 54 45 53 54
      > > 01 00 00 00 26 00 00 00 00 00 00 00 00 00 00 00
      > > 00 00 10 00 01 00 00 00 00 00 d9 fe 00 00 00 00
      > Thanks, and here is the rest.
      """
    ),
    (
      "xxd -p, in a kernel's log",
      """
      [    1.200000] 444d415240000000012e4558414d504c5654445441424c450100000054455354
      [    1.200004] 0100000026000000000000000000000000001000010000000000d9fe00000000
      """
    ),
    (
      "xxd, in a kernel's log, with spaces that do not break",
      """
      [    1.200000] 00000000:\u{a0}444d 4152\u{a0}4000 0000 012e 4558 414d 504c\u{a0}\u{a0}DMAR@.....EXAMPL
      [    1.200001] 00000010: 5654 4454 4142 4c45 0100 0000 5445 5354  VTDTABLE....TEST
      [    1.200002] 00000020:\u{202f}0100 0000 2600 0000 0000 0000 0000 0000  ....&...........
      [    1.200003] 00000030: 0000 1000 0100 0000 0000 d9fe 0000 0000  ................
      """
    ),
  ])
  func `a table is read from its text`(form: String, text: String) throws {
    let directory = TemporaryDirectory()
    let file = TableFile()
    let whole = try run(["dmar", file.path])
    #expect(try run(["dmar", directory.file("dmar.txt", text)]).text == whole.text, "\(form)")
  }

  @Test(arguments: [
    (
      "APIC @ 0x0\n    0000: 41 50 49 43 24 00 00 00 01 00 45 58 41 4D 50 4C  APIC$.....EXAMPL\n",
      "has no DMAR table, but APIC"
    ),
    (
      "[000h 0000   4]                    Signature : \"DMAR\"    [DMA Remapping table]\n",
      "is a text of iasl without raw data; 'iasl FILE' makes a binary table of it"
    ),
    ("ACPI: DMAR 0x00000000BA82D000 0000A8 (v01 INTEL  EDK2)\n", "acpixtract -sDMAR"),
    (
      "00000000: 43495041 00000024 58450001 4c504d41  APIC$.....EXAMPL\n"
        + "00000010: 454c4241 20202020 00000001 54534554  ABLE    ....TEST\n"
        + "00000020: 00000001                             ....\n",
      "has no DMAR table, but APIC"
    ),
    (
      "44 4d 41 52 40 00 00 00 01 2e 45 58 41 4d 50 4c\n*\n00 00 00 00\n",
      "line 2: '*' for lines that are left out, and no offsets tell how many; 'hexdump -v' and 'od -v' "
        + "print every line"
    ),
    (
      "0000000   D   M   A   R   @  \\0  \\0  \\0\n",
      "dumps of xxd, 'hexdump -C' and 'od -t x1' are read"
    ),
    (
      "00000000: 444d 4152 4000 0000 012e 4558 414d 504c\n"
        + "00000020: 0100 0000 2600 0000 0000 0000 0000 0000\n",
      "line 2: offset 0x20 where 0x10 should follow; the text is cut or damaged, copy it again"
    ),
  ])
  func `a text without the table is refused with the way out`(text: String, found: String) {
    let directory = TemporaryDirectory()
    let error = #expect(throws: InputError.self) {
      try run(["dmar", directory.file("dmar.txt", text)])
    }
    #expect(error?.text.contains(found) == true, "\(error?.text ?? "")")
  }

  /// Two lines of each dump, the second cut in the middle of a number: half of one is none.
  @Test(arguments: [
    ("xxd", "00000020: 0100 0000 2600 0000 0000 0000 0000 0", 46),
    ("xxd -e", "00000020: 00000001 00000026 0000", 40),
    ("xxd -e", "00000020: 0000", 32),
    // To the right in its column: the dump of a file that ends there.
    ("xxd -e", "00000020: 00000001     0026", 38),
    ("hexdump", "0000020 00", 32),
    ("xxd -b", "00000006: 00", 6),
    ("xxd -b", "00000006: 00000000 00000000 00000001 001011", 9),
    ("hexdump", "0000020 0001 0000 0026 0000 0000 0000 00", 44),
    ("od", "0000040 000001 000000 000046 000000 000000 0000", 42),
    ("od -d", "0000040     1     0    38     0     0     0  ", 44),
    ("xxd -p", "01000000260000000000000000000", 46),
  ])
  func `of a text that is cut off every whole number is read`(
    form: String, line: String, count: Int
  ) throws {
    let start =
      switch form {
      case "xxd":
        """
        00000000: 444d 4152 4000 0000 012e 4558 414d 504c  DMAR@.....EXAMPL
        00000010: 5654 4454 4142 4c45 0100 0000 5445 5354  VTDTABLE....TEST
        """
      case "xxd -e":
        """
        00000000: 52414d44 00000040 58452e01 4c504d41  DMAR@.....EXAMPL
        00000010: 54445456 454c4241 00000001 54534554  VTDTABLE....TEST
        """
      case "xxd -b": "00000000: 01000100 01001101 01000001 01010010 01000000 00000000  DMAR@."
      case "hexdump":
        """
        0000000 4d44 5241 0040 0000 2e01 5845 4d41 4c50
        0000010 5456 5444 4241 454c 0001 0000 4554 5453
        """
      case "od":
        """
        0000000 046504 051101 000100 000000 027001 054105 046501 046120
        0000020 052126 052104 041101 042514 000001 000000 042524 052123
        """
      case "od -d":
        """
        0000000 19780 21057    64     0 11777 22597 19777 19536
        0000020 21590 21572 16961 17740     1     0 17748 21587
        """
      default: "444d415240000000012e4558414d504c5654445441424c450100000054455354"
      }
    let directory = TemporaryDirectory()
    let error = #expect(throws: InputError.self) {
      try run(["dmar", directory.file("dmar.txt", start + "\n" + line)])
    }
    let text = try #require(error).text
    #expect(
      text.contains("at byte 0x4: a length of 64 bytes, and only \(count) are there;")
        || text.contains(": \(count) bytes are no DMAR table: its header has 36 bytes;"), "\(text)")
  }

  @Test func `a table is read from standard input, and from a packed file`() {
    let path = TableFile()
    for line in [
      "cat \(path.path) | iommu decode dmar -", "gzip -c \(path.path) | iommu decode dmar -",
    ] {
      let (status, output) = HelpTests.run(line)
      #expect(status == 0)
      #expect(output.contains("byte 48  DRHD  16 bytes: unit at 0xfed90000"))
    }
  }

  @Test func `a directory is looked into, and what is no table is an error`() throws {
    let file = TableFile()
    let directory = file.path.split(separator: "/").dropLast().joined(separator: "/")
    #expect(try run(["dmar", "/\(directory)"]).text == run(["dmar", file.path]).text)
    #expect(
      throws: InputError(
        "/\(directory): has no file that begins with 'IVRS'; read it as root, or name a file")
    ) {
      try run(["ivrs", "/\(directory)"])
    }
  }

  /// QEMU's of its machine `virt`, and one of a unit with a range, an I/O APIC and memory.
  @Test func `tables of AMD-Vi and of Arm are taken apart`() throws {
    let directory = TemporaryDirectory()
    let ivrs = directory.file("ivrs.txt", Self.ivrs)
    #expect(
      try run(["ivrs", ivrs]).text == """
        IVRS  (AMD IOMMU 5.2)
        bytes     120, revision 2, checksum 0xca
        made by   AMD, AmdTable
        platform  physical addresses of 48 bits, virtual ones of 64, EFRSup

        byte  48  IVHD 10h  40 bytes: unit 00:00.2 at 0xfd300000, capability at 0x40, segment 0, IotlbSup, Coherent, PPRSup, XTSup, NXSup, GTSup, IASup, GASup
        byte  72    from 00:00.3
        byte  76    to ff:1f.7
        byte  80    I/O APIC 33 is 00:14.0
        byte  88  IVMD 22h  32 bytes: memory 0x7e000000 to 0x7e0fffff, 1 MiB, of 03:00.0 to 03:1f.7, segment 0, Unity, IR, IW

        """)
    let json = try run(["ivrs", ivrs, "--format", "json"]).text
    #expect(json.contains("\"iommu_base_address\" : \"0xfd300000\""))
    #expect(json.contains("\"handle\" : \"0x21\""))
    let iort = directory.file("iort.txt", Self.iort)
    let result = try run(["iort", iort])
    #expect(result.isWellFormed)
    #expect(
      result.text == """
        IORT  (Arm DEN 0049)
        bytes     236, revision 3, checksum 0x57
        made by   BOCHS, BXPC
        platform  3 nodes

        byte  48  ITS group  24 bytes: ITS 0
        byte  72  SMMUv3  88 bytes: SMMUv3 at 0x9050000, COHACC Override
        byte 140    0x0 to 0xffff are 0x0 to 0xffff of the ITS group at byte 48
        byte 160  root complex  76 bytes: PCI segment 0, CPM, DACS
        byte 196    0x0 to 0xff are 0x0 to 0xff of the SMMUv3 at byte 72
        byte 216    0x100 to 0xffff are 0x100 to 0xffff of the ITS group at byte 48

        """)
  }

  static let ivrs = """
    495652537800000002ca414d44202020416d645461626c6501000000414d44200100000041302000
    000000000000000010b0280002004000000030fd00000000000000006f8f04800303000004ffff00
    4800000021a00001220720000003ff0300000000000000000000007e000000000000100000000000
    """
  static let iort = """
    494f5254ec0000000357424f43485320425850432020202001000000425850430100000003000000
    30000000000000000018000100000000000000000000000001000000000000000458000401000000
    0100000044000000000005090000000001000000000000000000000000000000000000006a000000
    6b0000006d0000006c000000000000000000000000000000ffff0000000000003000000000000000
    024c0003020000000200000024000000010000000000000300000000000000004000000000000000
    ff00000000000000480000000000000000010000fffe0000000100003000000000000000
    """
}
