import FoundationEssentials
import IOMMUFormats
import IOMMUTestSupport
import Testing

@testable import IOMMUCommands

/// Dumps judged by the Rule from the command line.
@Suite struct VerifyTests {
  static let image = InspectCommandTests.image
  static let source = InspectCommandTests.source

  private func verify(_ arguments: String...) throws -> (answer: Answer, text: String) {
    try verify(arguments)
  }

  private func verify(_ arguments: [String]) throws -> (answer: Answer, text: String) {
    var screen = ""
    let answer = try Verify.parse(arguments).report(to: &screen)
    return (answer, screen)
  }

  /// Builds a machine of 256 MiB with 4 MiB of crash kernel at 16 MiB; what `verify` is told of it.
  private func built(
    _ directory: TemporaryDirectory, _ mode: String, _ arguments: String...
  ) throws -> [String] {
    var screen = ""
    try Build.parse(
      [
        "--mode", mode, "--ram", "256M", "--crash-kernel", "4M@16M", "--output", directory.path,
      ] + arguments
    ).report(to: &screen)
    return ["\(directory.path)/\(mode).elf", "--machine", "\(directory.path)/\(mode).json"]
  }

  @Test func `a kernel that never heard of the Rule breaks R1 for each device`() throws {
    let (answer, text) = try verify(
      [Self.image, "--crash-kernel", "4M@336M", "--device", "00:03.0"] + Self.source)
    #expect(answer == .no)
    #expect(
      text.contains(
        "  00:03.0 IOVA 0x15000000, SS-PDPE [0x0] at 0x7538000, raw 0x0000000000000000: 1024 of "
          + "1024 pages are not mapped to themselves"))
    #expect(text.hasSuffix("\nthe Rule does not hold\n"))
  }

  @Test func `without a crash kernel there is nothing to judge`() throws {
    let error = #expect(throws: InputError.self) { try verify([Self.image] + Self.source) }
    #expect(try #require(error).text.contains("--crash-kernel"))
  }

  @Test func `a machine that was set up by the Rule keeps it, for the devices that are named`()
    throws
  {
    let directory = TemporaryDirectory()
    let machine = try built(directory, "vtd", "--map", "05:00.0=0x2000000+8K:r")
    let (answer, text) = try verify(machine + ["--device", "01:01.0", "--device", "05:00.0"])
    #expect(answer == .yes)
    #expect(text.contains("R1  holds"))
    #expect(text.contains("R13  broken by design"))
    #expect(
      text.hasSuffix(
        "as far as a dump can show (R3, R5, R6, R9 and R12 are unknown):\nthe Rule holds\n"))
    let (open, question) = try verify(machine)
    #expect(open == .unknown)
    #expect(
      question.hasSuffix(
        "not known whether the Rule holds: R8 is unknown; --device names one that the kdump kernel "
          + "needs\n"))
    #expect(
      question.contains(
        "  nobody says which devices the kdump kernel needs; these have a table: 00:03.0, 01:01.0, "
          + "02:01.0, 05:00.0\n"))
  }

  @Test func `of a machine where no device has a table nothing is claimed`() throws {
    let directory = TemporaryDirectory()
    let machine = try built(directory, "vtd", "--no-rule")
    let (answer, text) = try verify(machine)
    #expect(answer == .unknown)
    for rule in ["R1", "R2", "R6", "R8"] { #expect("\n\(text)".contains("\n\(rule)  unknown: ")) }
    #expect(!text.contains("\nthe Rule holds"))
    #expect(
      text.hasSuffix(
        "\nnot known whether the Rule holds: R1, R2 and R8 are unknown; --device names one that the "
          + "kdump kernel needs\n"))
    let (named, broken) = try verify(machine + ["--device", "01:01.0"])
    #expect(named == .no)
    #expect(broken.hasPrefix("R1  broken: "))
    #expect(broken.contains("\nR8  broken: "))
  }

  @Test func `R13 lists what R2 lists, when it can be written`() throws {
    let directory = TemporaryDirectory()
    let machine = try built(directory, "vtd", "--no-rule", "--map", "01:01.0=0x1000000+64K")
    let (answer, text) = try verify(machine)
    #expect(answer == .no)
    #expect(text.contains(": 0xffff0000..<0x100000000 maps to 0x1000000, in the crash kernel\n"))
    #expect(
      text.contains(": can write 0x1000000..<0x1010000, in the crash kernel, at any time\n"))
    #expect(text.contains("\nR13  broken by design: "))
  }

  @Test(arguments: ["nommu", "swiotlb", "gart"])
  func `where devices see physical addresses the Rule holds and R13 does not`(mode: String) throws {
    let directory = TemporaryDirectory()
    let (answer, text) = try verify(try built(directory, mode))
    #expect(answer == .yes)
    #expect(
      text.contains(
        "  DMA of any device passes untranslated and can write 0x1000000..<0x1400000, in the crash "
          + "kernel, at any time\n"))
    #expect(text.hasSuffix("\nthe Rule holds\n"))
  }

  /// The example without the segment that holds an address.
  private func example(without address: UInt64, in directory: TemporaryDirectory) throws -> String {
    var bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: Self.image)))
    func number<Number: FixedWidthInteger>(_: Number.Type, _ offset: Int) -> Int {
      Int(bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: Number.self) })
    }
    let headers = number(UInt64.self, 32)
    for index in 0..<number(UInt16.self, 56) {
      let header = headers + 56 * index
      let start = number(UInt64.self, header + 24)
      guard number(UInt32.self, header) == 1,
        start..<start + number(UInt64.self, header + 40) ~= Int(address)
      else { continue }
      bytes[header] = 0
    }
    let path = directory.path + "/lacking.elf"
    try Data(bytes).write(to: URL(fileURLWithPath: path))
    return path
  }

  @Test func `what rests on a table that the dump lacks is unknown`() throws {
    let directory = TemporaryDirectory()
    // A page directory pointer table of 00:03.0.
    let table = try example(without: 0x753_8000, in: directory)
    let arguments = ["--crash-kernel", "4M@336M", "--device", "00:03.0"] + Self.source
    let (_, text) = try verify([table] + arguments)
    let gap =
      "  00:03.0 IOVA 0x0, SS-PML4E [0x0] at 0x6abd000, raw 0x0000000007538003: "
      + "0x0..<0x8000000000: unknown, the table of level 3 at 0x7538000 is not in this dump\n"
    for rule in ["R1", "R2", "R4", "R9", "R13"] {
      #expect(text.contains("\(rule)  unknown: "), "\(rule)")
    }
    #expect(text.contains("R8  holds: "))
    #expect(text.ranges(of: gap).count == 5)
    // The root table, without the registers that say more.
    let root = try example(without: 0x6a0_4000, in: directory)
    let (_, all) = try verify([root] + arguments)
    for rule in ["R1", "R2", "R4", "R8", "R9", "R13"] {
      #expect(
        all.contains("\(rule)  unknown: "), "\(rule)")
    }
    #expect(
      all.contains("  all devices: unknown, the root table at 0x6a04000 is not in this dump\n"))
  }

  @Test func `JSON has the conclusion, the outcomes, and which findings are not known`() throws {
    let (answer, text) = try verify(
      [Self.image, "--crash-kernel", "4M@336M", "--device", "00:03.0", "--format", "json"]
        + Self.source)
    #expect(answer == .no)
    struct Document: Decodable {
      struct Rule: Decodable {
        var rule: String
        var outcome: String
        var by_design: Bool
        var findings: [Finding]
      }
      struct Finding: Decodable {
        var kind: String
        var device: String?
        var iova: String?
      }
      var conclusion: String
      var text: String
      var rules: [Rule]
    }
    let document = try JSONDecoder().decode(Document.self, from: Data(text.utf8))
    #expect(document.conclusion == "broken")
    #expect(document.text == "the Rule does not hold")
    #expect(document.rules.map(\.rule) == (1...13).map { "R\($0)" })
    #expect(document.rules[2].outcome == "unknown")
    #expect(document.rules[10].outcome == "not applicable")
    #expect(document.rules.filter(\.by_design).map(\.rule) == ["R13"])
    let first = try #require(document.rules[0].findings.first)
    #expect(first.kind == "broken")
    #expect(first.device == "00:03.0")
    #expect(first.iova == "0x15000000")
    let third = try #require(document.rules[2].findings.first)
    #expect(third.kind == "unknown")
    #expect(third.device == nil)
  }

  @Test func `a report says what is not known, and shows no verdict that it has not`() throws {
    let directory = TemporaryDirectory()
    let machine = try built(directory, "vtd", "--no-rule")
    let path = directory.path + "/report.html"
    try Report.parse(machine + ["--output", path]).run()
    let page = try Examples.text(path)
    #expect(page.contains(">Not known whether the Rule holds: R1, R2 and R8 are unknown"))
    #expect(!page.contains("The Rule holds"))
    let finding =
      "<li class=\"unknown\">no device is known: none has a table in force, and nobody named one</li>"
    let first = try #require(
      page.split(separator: "<h3>R1: ").last?.split(separator: "</ol>").first)
    #expect(first.contains(finding))
  }
}
