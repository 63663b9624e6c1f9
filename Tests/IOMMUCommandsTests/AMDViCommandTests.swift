import IOMMUFormats
import IOMMUInspection
import IOMMUTestSupport
import Testing

@testable import IOMMUCommands

/// What commands say of AMD-Vi tables, on images made byte by byte.
@Suite struct AMDViCommandTests {
  private let directory = TemporaryDirectory()

  @Test func `without a device table commands end with status 2`() throws {
    // All that the dump holds is a page of another kind.
    let image = directory.file(
      "dump.elf",
      TinyELF([TinyELF.Load(physical: 0x1000, data: [UInt8](repeating: 0, count: 4096))]).bytes)
    let machine = directory.file(
      "machine.json",
      Array(
        """
        {"version": 1, "units": [{"kind": "amd-vi", "base": "0xfed80000", "registers": {
          "0x000": "0x200007", "0x018": "0x1"}}]}
        """.utf8))
    let source = [image, "--machine", machine]
    let text = "all devices: unknown, the device table at 0x200000 is not in this dump"
    for format in ["text", "json", "summary", "summary-json"] {
      var screen = ""
      #expect(try Maps.parse(source + ["--format", format]).report(to: &screen) == .unknown)
      #expect(screen.contains(text), "\(format)")
    }
    var screen = ""
    #expect(try Maps.parse(source + ["--format", "tsv"]).report(to: &screen) == .unknown)
    #expect(
      screen.hasSuffix("#unknown\tall devices\tthe device table at 0x200000 is not in this dump\n"))
    screen = ""
    #expect(try Hexdump.parse(source + ["--annotate"]).report(to: &screen) == .unknown)
    let report = try Command.run(["report"] + source + ["-o", directory.path("page.html")])
    #expect(report.status == 2)
    #expect(String(decoding: directory.contents("page.html"), as: UTF8.self).contains(text))
    var reader = FaultLogReader()
    reader.read(
      "AMD-Vi: Event logged [IO_PAGE_FAULT device=00:03.0 domain=0x0002 address=0xffe05000 "
        + "flags=0x0020]")
    reader.finish()
    screen = ""
    #expect(try Explain.parse(source).report(reader, to: &screen) == .unknown)
    #expect(
      screen.contains("all devices: unknown, the device table at 0x200000 is not in this"))
  }
}
