import Foundation
import IOMMUFormats
import IOMMUInspection
import IOMMUTestSupport
import Testing

@testable import IOMMUCommands

/// What commands say when a table leads to itself: its place, all that is sound, and status 2.
@Suite struct LimitCommandTests {
  private let directory = TemporaryDirectory()
  private let image: String
  private let machine: String

  /// 00:01.0 and 00:03.0 share a sound table, that of 00:02.0 leads to itself.
  init() {
    var words = [UInt64](repeating: 0, count: 7 * 512)
    func store(_ values: UInt64..., at address: Int) {
      for (index, value) in values.enumerated() { words[(address - 0x1000) / 8 + index] = value }
    }
    store(0x2001, at: 0x1000)
    store(0x3001, 0x102, at: 0x2080)
    store(0x7001, 0x202, at: 0x2100)
    store(0x3001, 0x102, at: 0x2180)
    store(0x4003, at: 0x3000)
    store(0x5003, at: 0x4000)
    store(0x6003, at: 0x5000)
    store(0x10_0003, at: 0x6000)
    for index in 0..<512 { store(0x7003, at: 0x7000 + 8 * index) }
    image = directory.file(
      "loop.elf",
      TinyELF([
        TinyELF.Load(physical: 0x1000, data: words.flatMap { TinyELF.little($0, 8) })
      ]).bytes)
    machine = directory.file(
      "loop.json",
      Array(
        """
        {"version": 1, "units": [{"kind": "intel-vtd", "base": "0xfed90000", "registers": {
          "0x008": "0xd2008c222f0606", "0x010": "0xf00f4a", "0x01c": "0xc0000000",
          "0x020": "0x1000"}}]}
        """.utf8))
  }

  private let loop =
    "00:02.0 IOVA 0x0..<0x1000000000000: unknown, the table of level 4 at 0x7000 leads to itself "
    + "(entry at 0x7000)"

  private var source: [String] { [image, "--machine", machine] }

  /// A document, or an array's last object.
  private func incomplete(_ screen: String) throws -> [String]? {
    let json = try JSONSerialization.jsonObject(with: Data(screen.utf8))
    let object = json as? [String: Any] ?? (json as? [Any])?.last as? [String: Any]
    return object?["incomplete"] as? [String]
  }

  @Test func `who tells the sound ways, and does not call the list whole`() throws {
    var screen = ""
    #expect(try Who.parse([image, "100000", "--machine", machine]).report(to: &screen) == .unknown)
    #expect(
      screen == """
        00:01.0  IOVA 0x0  rw  in 0x0..<0x1000 -> 0x100000..<0x101000
        00:03.0  IOVA 0x0  rw  in 0x0..<0x1000 -> 0x100000..<0x101000
        \(loop)

        """)
    screen = ""
    let json = ["--machine", machine, "--format", "json"]
    #expect(try Who.parse([image, "200000"] + json).report(to: &screen) == .unknown)
    #expect(try incomplete(screen) == [loop])
  }

  @Test(arguments: [
    "text", "tsv", "debugfs", "debugfs-6.12", "summary", "json", "summary-json",
  ])
  func `maps tells the sound tables in every format`(format: String) throws {
    var screen = ""
    #expect(
      try Maps.parse(source + ["--format", format]).report(to: &screen) == .unknown)
    #expect(screen.contains("00:03.0") || format == "debugfs")
    switch format {
    case "json", "summary-json": #expect(try incomplete(screen) == [loop])
    case "debugfs", "debugfs-6.12":
      let row =
        "0x0000000000000 |\t0x0000000000000000\t0x0000000000004003\t0x0000000000005003\t"
        + "0x0000000000006003\t0x0000000000100003"
      #expect(screen.components(separatedBy: row).count == 3)
    case "tsv":
      #expect(
        screen.hasSuffix(
          """
          00:01.0\t0x0\t0x1000\t0x100000\trw
          00:03.0\t0x0\t0x1000\t0x100000\trw
          #unknown\t00:02.0 IOVA 0x0..<0x1000000000000\tthe table of level 4 at 0x7000 leads to \
          itself (entry at 0x7000)

          """))
    default: #expect(screen.contains(loop))
    }
  }

  @Test func `verify does not say that the Rule holds`() throws {
    // All 4 KiB of the crash kernel are mapped to themselves, by the device that is asked for.
    var screen = ""
    let arguments =
      source + ["--crash-kernel", "0x1000@0x100000", "--device", "00:01.0", "--format", "json"]
    #expect(try Verify.parse(arguments).report(to: &screen) == .no)
    #expect(try incomplete(screen) == [loop])
    screen = ""
    let other = source + ["--crash-kernel", "4K@0x200000"]
    #expect(try Verify.parse(other).report(to: &screen) == .no)
    #expect(screen.contains("\n\(loop)\nthe Rule does not hold\n"))
    #expect(screen.contains("R2  unknown"))
  }

  @Test func `diff, report, hexdump, explain and find end with status 2`() throws {
    var screen = ""
    #expect(
      try Diff.parse([image, image, "--machine", machine, "--format", "json"])
        .report(to: &screen) == .unknown)
    #expect(try incomplete(screen) == [loop])

    screen = ""
    let dump = try Hexdump.parse(source + ["--annotate", "--format", "json"])
    #expect(try dump.report(to: &screen) == .unknown)
    #expect(try incomplete(screen) == [loop])
    #expect(screen.contains("SS-PTE of 00:01.0 and 1 more   IOVA 0x0 -> 0x100000 rw"))

    screen = ""
    var reader = FaultLogReader()
    reader.read(
      "DMAR: [DMA Write NO_PASID] Request device [00:03.0] fault addr 0x1000 [fault reason 0x05] "
        + "PTE Write access is not set")
    reader.finish()
    let explain = try Explain.parse(source + ["--format", "json"])
    #expect(try explain.report(reader, to: &screen) == .unknown)
    #expect(try incomplete(screen) == [loop])
    #expect(screen.contains("SS-PTE [0x1] at 0x6008"))

    screen = ""
    #expect(try Find.parse([image, "--format", "json"]).report(to: &screen) == .unknown)
    #expect(try incomplete(screen) == [loop])
    #expect(screen.contains("1 of 2 page table trees sound, 1 page mapped"))

    let report = try Command.run(["report"] + source + ["-o", directory.path("loop.html")])
    #expect(report.status == 2)
    let page = String(decoding: directory.contents("loop.html"), as: UTF8.self)
    #expect(page.contains("0x7000 leads to itself (entry at 0x7000)"))
    #expect(page.contains("0x100000"))
  }
}
