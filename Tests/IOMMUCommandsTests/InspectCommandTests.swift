import ArgumentParser
import Glibc
import IOMMUFormats
import IOMMUImages
import IOMMUInspection
import IOMMUTestSupport
import IOMMUTranslation
import Testing

@testable import IOMMUCommands

/// The commands that look into a dump, on the tables of a real crashed guest.
@Suite struct InspectCommandTests {
  static let image = Examples.path("vtd-crash", "image.elf")
  static let source = ["--machine", Examples.path("vtd-crash", "machine.json")]

  @Test func `the root table of a real kernel is found first and alone`() throws {
    var screen = ""
    #expect(try Find.parse([Self.image, "--all"]).report(to: &screen) == .yes)
    #expect(
      screen == """
        0x6a04000  VT-d root table, 4 KiB, score 100
          15 of 15 context entries legal, in 4 context tables
          11 of 11 page table trees sound, 8818 pages mapped

        """)
  }

  @Test func `what is found serves when no machine file is given`() throws {
    var found = ""
    var given = ""
    let walk = [Self.image, "0000:00:03.0", "ffefd000", "--write"]
    #expect(try Walk.parse(walk).report(to: &found) == .yes)
    #expect(try Walk.parse(walk + ["--root", "0x6a04000"]).report(to: &given) == .yes)
    #expect(found.hasSuffix("00:03.0 writes 0x7663000, 4 KiB to the end of the page\n"))
    #expect(found == given)
  }

  @Test func `a table of any kind may be named`() throws {
    var screen = ""
    let image = Examples.path("calgary", "image.elf")
    let walk = [image, "00:03.0", "26000", "--root", "tce:3fc00000+4M"]
    #expect(try Walk.parse(walk).report(to: &screen) == .yes)
    #expect(screen.hasSuffix("00:03.0 reads 0xe7b8000, 4 KiB to the end of the page\n"))
  }

  @Test func `what lies behind a unit that only firmware lists is unknown`() throws {
    let scratch = TemporaryDirectory()
    // The guest's unit has its graphics, and one at 0xfed91000 has all else.
    let machine = scratch.file(
      "machine.json",
      """
      {"version": 1, "units": [
        {"kind": "intel-vtd", "base": "0xfed90000", "registers": {"0x020": "0x6a04000"}}],
       "dmar": {"bytes": "444d41526800000001994558414d504c5654445441424c450100000054455354\
      0100000026050000000000000000000000001800000000000000d9fe000000000108000000000200\
      00002000010000000010d9fe000000000308000002f01f070408000000001f00"}}
      """)
    var screen = ""
    let source = ["--machine", machine]
    #expect(
      try Walk.parse([Self.image, "00:03.0", "ffefd000"] + source).report(to: &screen) == .unknown)
    #expect(
      screen == """
        00:03.0 reads IOVA 0xffefd000: a unit of which nobody knows what it does

        00:03.0 ends unknown: the registers of the unit above the device are not known

        """)
    screen = ""
    #expect(
      try Maps.parse([Self.image, "--format", "summary"] + source).report(to: &screen) == .unknown)
    #expect(
      screen.contains(
        "devices of the unit at 0xfed91000: unknown, the registers of the unit are not known\n"))
    #expect(!screen.contains("00:03.0"))
    screen = ""
    #expect(try Who.parse([Self.image, "7663000"] + source).report(to: &screen) == .unknown)
    let log =
      "DMAR: [DMA Read NO_PASID] Request device [00:03.0] fault addr 0x1000 [fault reason 0x06]"
    var reader = FaultLogReader()
    reader.read(log)
    screen = ""
    #expect(try Explain.parse([Self.image] + source).report(reader, to: &screen) == .unknown)
    #expect(
      screen.contains(
        """
          now         ends unknown: the registers of the unit above the device are not
                      known
        """))
  }

  @Test func `a root that is no page of the dump is refused with the way out`() throws {
    let command = try Maps.parse([Self.image, "--root", "0x1000"])
    var screen = ""
    let error = #expect(throws: InputError.self) { try command.report(to: &screen) }
    #expect(try #require(error).text.contains("'iommu find' lists root tables"))
  }

  @Test func `a root table is not taken in a mode in which it leads to no device`() throws {
    let command = try Maps.parse([Self.image, "--root", "vtd-scalable:6a04000"])
    var screen = ""
    let error = #expect(throws: InputError.self) { try command.report(to: &screen) }
    #expect(
      try #require(error).text
        == "--root 0x6a04000: its entries lead to no device in this mode, and to devices in the "
        + "other; write vtd-legacy:0x6a04000")
    #expect(
      try Maps.parse([Self.image, "--root", "vtd-legacy:6a04000"]).report(to: &screen) == .yes)
  }

  @Test(arguments: [
    ("c0000000", true), ("0xc0000000+64M", true), ("c0000000+65M", false), ("c1000000", false),
    ("10000000000", false), ("c0000000+", false), ("+64M", false), ("c0000000+4G", false),
  ])
  func `an aperture is a base and perhaps a size`(text: String, isTaken: Bool) {
    let command = try? Maps.parse([Self.image, "--aperture", text])
    #expect((command != nil) == isTaken)
  }

  @Test(arguments: [
    (["vtd:6a04000@fed90000", "vtd:6a05000@fed90000"], "the unit at 0xfed90000 has one table"),
    (["6a04000", "vtd:0x6a04000"], "0x6a04000 is named more than once"),
  ])
  func `two tables of a unit, and one table twice, are refused`(
    roots: [String], text: String
  ) throws {
    let error = #expect(throws: (any Error).self) {
      try Maps.parse([Self.image] + roots.flatMap { ["--root", $0] })
    }
    #expect(Maps.message(for: try #require(error)).contains(text))
  }

  @Test func `a page is traced back to the devices that reach it`() throws {
    var screen = ""
    #expect(try Who.parse([Self.image, "0x7663000"] + Self.source).report(to: &screen) == .yes)
    #expect(
      screen == """
        00:03.0  IOVA 0xffefd000  rw  in 0xffefd000..<0xffefe000 -> 0x7663000..<0x7664000
        00:03.0  IOVA 0xffefe000  rw  in 0xffefe000..<0xffeff000 -> 0x7663000..<0x7664000

        """)
  }

  @Test func `a range is traced back, to those that can write there when asked`() throws {
    for arguments in [["7663000-7663fff"], ["0x7663000+4K", "--write"], ["4096@7663000"]] {
      var screen = ""
      #expect(
        try Who.parse([Self.image] + arguments + Self.source).report(to: &screen) == Answer.yes)
      #expect(
        screen == """
          00:03.0  IOVA 0xffefd000..<0xffefe000  rw  -> 0x7663000..<0x7664000
          00:03.0  IOVA 0xffefe000..<0xffeff000  rw  -> 0x7663000..<0x7664000

          """)
    }
    // The crash kernel of that machine, before anything was mapped into it.
    var screen = ""
    #expect(
      try Who.parse([Self.image, "15000000-1effffff", "--write"] + Self.source)
        .report(to: &screen) == Answer.no)
    #expect(screen == "no device writes 0x15000000..<0x1f000000\n")
  }

  @Test func `a dump does not differ from itself`() throws {
    var screen = ""
    #expect(try Diff.parse([Self.image, Self.image] + Self.source).report(to: &screen) == .yes)
    #expect(screen == "0 devices different, 15 the same: no range changed\n")
  }

  @Test func `a report says what was looked at, and what was guessed`() throws {
    let directory = TemporaryDirectory()
    let path = directory.path + "/report.html"
    try Report.parse([Self.image, "--output", path]).run()
    let page = try Examples.text(path)
    #expect(page.contains("<p class=\"note mono\">ELF core: \(Self.image)</p>"))
    #expect(
      page.contains(
        "<b>Note:</b> no machine file: taking the VT-d root table at 0x6a04000, score 100</p>"))
    // A dump that ends too early says so on its page.
    let bytes = Repository.bytes("Examples/vtd-crash/image.elf")
    let cut = directory.file("cut.elf", Array(bytes.prefix(405_463)))
    try Report.parse([cut, "--output", path] + Self.source).run()
    let other = try Examples.text(path)
    #expect(other.contains("<b>Note:</b> \(cut): incomplete, cut off at byte 0x62fd7: "))
    #expect(other.contains("<h2 id=\"unknown\">Not known</h2>"))
    #expect(other.contains("machine file: "))
  }

  /// The example without one of its pages.
  private func image(without page: UInt64, in directory: TemporaryDirectory) -> String {
    var bytes = Repository.bytes("Examples/vtd-crash/image.elf")
    func number(_ offset: Int, _ count: Int) -> UInt64 {
      bytes[offset..<offset + count].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
    for header in stride(from: 64, to: 64 + 56 * Int(number(56, 2)), by: 56)
    where number(header, 4) == 1 {
      let start = number(header + 24, 8)
      // PT_NULL: nobody looks at it.
      if start..<start + number(header + 40, 8) ~= page {
        bytes.replaceSubrange(header..<header + 4, with: [0, 0, 0, 0])
      }
    }
    return directory.file("lacking.elf", bytes)
  }

  @Test func `the kernel's layout has no tables where the root is absent, and says so`() throws {
    let directory = TemporaryDirectory()
    let path = image(without: 0x6a0_4000, in: directory)
    var screen = ""
    let error = #expect(throws: InputError.self) {
      try Maps.parse([path, "--format", "debugfs"] + Self.source).report(to: &screen)
    }
    #expect(
      error?.text
        == "\(path): all devices: unknown, the root table at 0x6a04000 is not in this dump; "
        + "--format text has what is known")
    #expect(screen.isEmpty)
  }

  @Test(
    arguments: [
      (0x6a0_4008, "part of a root table"), (0x753_8010, "part of a table of level 3"),
    ] as [(UInt64, String)])
  func `a page of a table that the dump lacks is a part of one all the same`(
    address: UInt64, text: String
  ) throws {
    let directory = TemporaryDirectory()
    let path = image(without: address, in: directory)
    var screen = ""
    _ = try Who.parse([path, hexadecimal(address)] + Self.source).report(to: &screen)
    #expect(
      screen.hasPrefix("\(hexadecimal(address)) is \(text), and not in this dump\n"), "\(screen)")
  }

  @Test func `nodes of one GART let the same addresses pass once`() throws {
    var screen = ""
    _ = try Who.parse([
      Examples.path("gart", "image.elf"), "1000", "--machine",
      Examples.path("gart", "machine.json"),
    ]).report(to: &screen)
    let lines = screen.split(separator: "\n")
    #expect(lines.count { $0.hasPrefix("any device  not translated") } == 1)
  }

  @Test func `a report as JSON is what its page says`() throws {
    let directory = TemporaryDirectory()
    let path = directory.path + "/report.html"
    var screen = ""
    let command = try Report.parse(
      [Self.image, "--output", path, "--crash-kernel", "160M@336M", "--format", "json"]
        + Self.source)
    #expect(try command.report(to: &screen) == .yes)
    for part in [
      "\"file\" : \"\(path)\"", "\"file_bytes\" : \(directory.contents("report.html").count)",
      "\"conclusion\" : \"broken\"", "\"heading\" : ", "\"interrupts\" : ", "\"0x15000000\"",
    ] {
      #expect(screen.contains(part), "\(part)")
    }
    screen = ""
    _ = try Report.parse([Self.image, "--output", path] + Self.source).report(to: &screen)
    #expect(screen.isEmpty)
  }

  @Test func `a hexdump as JSON has pages, zeros and holes`() throws {
    var screen = ""
    try Hexdump.parse([Self.image, "6a03ff8+16", "7663000+4K", "--format", "json"])
      .report(to: &screen)
    #expect(screen.hasPrefix("[\n  {\"address\" : \"0x6a03ff8\", \"bytes\" : "))
    #expect(screen.contains("\"0x6a04000\", \"bytes\" : \"0x8\", \"hex\" : \"0190ab0600000000\"}"))
    screen = ""
    try Hexdump.parse([Self.image, "6a04000+12", "--format", "json", "--quadwords"])
      .report(to: &screen)
    #expect(
      screen == """
        [
          {"address" : "0x6a04000", "bytes" : "0xc", "words" : ["0x0000000006ab9001", "0x00000000"]}
        ]

        """)
  }

  @Test func `a machine file of another dump is doubted`() throws {
    let memory = try MemoryImage(path: Self.image)
    func doubts(_ root: UInt64) -> [String] {
      let unit = VTd.Unit(
        base: PhysicalAddress(0xfed9_0000), rootTableAddress: VTd.RootTableAddress(rawValue: root),
        status: VTd.GlobalStatus(rawValue: 0xc000_0000), limits: .permissive)
      return Machine(name: "", units: [.vtd(unit)]).doubts(in: memory)
    }
    // The contexts of bus 00, and a page of the tables of 00:03.0.
    for root in [0x6ab_9000, 0x753_8000] as [UInt64] {
      let found = doubts(root)
      #expect(found.count == 1 && found[0].hasSuffix("'iommu find' lists root tables"), "\(found)")
    }
    #expect(doubts(0x6a0_4000).isEmpty)
    #expect(
      try MachineFile(path: "\(Repository.path)/Examples/vtd-crash/machine.json").machine()
        .doubts(in: memory).isEmpty)
  }

  @Test func `a report is one page without scripts or links to elsewhere`() throws {
    let directory = TemporaryDirectory()
    let path = directory.path + "/report.html"
    let command = try Report.parse(
      [Self.image, "--output", path, "--crash-kernel", "4M@336M"] + Self.source)
    try command.run()
    let page = try Examples.text(path)
    #expect(page.hasPrefix("<!DOCTYPE html>"))
    #expect(page.hasSuffix("</html>\n"))
    for forbidden in ["<script", "http:", "https:", "src=", "@import"] {
      #expect(!page.contains(forbidden))
    }
    #expect(page.contains("The Rule does not hold"))
    #expect(page.contains(" href=\"#walk-1\">"))
    #expect(page.contains("<details id=\"walk-1\">"))
    // Every tag that is opened is closed.
    for tag in ["div", "table", "details", "svg", "pre", "ol", "li", "tr", "td", "h2"] {
      let opened = page.ranges(of: "<\(tag)>").count + page.ranges(of: "<\(tag) ").count
      #expect(opened == page.ranges(of: "</\(tag)>").count, "\(tag)")
    }
  }

  @Test func `colours are an addition, never the message`() throws {
    var plain = ""
    var colored = ""
    let command = try Walk.parse([Self.image, "00:03.0", "0x1000"] + Self.source)
    #expect(try command.report(to: &plain) == .no)
    #expect(try command.report(to: &colored, ink: Ink(isOn: true)) == .no)
    #expect(!plain.contains("\u{1b}"))
    var stripped = ""
    var isEscape = false
    for character in colored {
      if character == "\u{1b}" { isEscape = true }
      if !isEscape { stripped.append(character) }
      if isEscape, character == "m" { isEscape = false }
    }
    #expect(stripped == plain)
    #expect(colored != plain)
  }
}
