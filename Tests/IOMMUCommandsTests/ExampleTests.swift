import Glibc
import IOMMUFormats
import IOMMUImages
import IOMMUTestSupport
import IOMMUTranslation
import Testing

@testable import IOMMUCommands

/// The examples: tables that real kernels wrote, with the truth beside them.
enum Examples {
  static let directory = Repository.path + "/Examples"

  static let all = ["calgary", "gart", "vtd-crash"]

  static func path(_ example: String, _ file: String) -> String {
    "\(directory)/\(example)/\(file)"
  }

  static func lines(_ example: String, _ file: String) throws -> [String] {
    try text(path(example, file)).split(separator: "\n").map(String.init)
  }

  /// A file's text.
  static func text(_ path: String) throws -> String {
    String(decoding: try #require(Repository.bytes(ofFile: path)), as: UTF8.self)
  }

  static func arguments(_ example: String, _ rest: String...) -> [String] {
    [path(example, "image.elf"), "--machine", path(example, "machine.json")] + rest
  }
}

@Suite struct ExampleTests {
  @Test(arguments: Examples.all)
  func `every mapping of a real kernel is listed and none is invented`(example: String) throws {
    let command = try Maps.parse(Examples.arguments(example, "--format", "tsv"))
    var screen = ""
    try command.report(to: &screen)
    let truth = try Examples.lines(example, "maps.tsv")
    #expect(screen.split(separator: "\n").map(String.init) == truth)
  }

  @Test(arguments: [("calgary", 1286), ("gart", 1177), ("vtd-crash", 40_895)])
  func `every request to a real kernel's tables is answered as it was`(
    example: String, count: Int
  ) throws {
    let memory = try MemoryImage(path: Examples.path(example, "image.elf"))
    let machine = try MachineFile(path: Examples.path(example, "machine.json")).machine()
    var answers = RequestAnswers(machine: machine, memory: memory, format: .tsv)
    var checked = 0
    for line in try Examples.lines(example, "translate.tsv") where !line.hasPrefix("#") {
      let request = line.split(separator: "\t").dropLast().joined(separator: "\t")
      var output: [UInt8] = []
      try Array(request.utf8).withUnsafeBytes { try answers.answer($0, number: 1, into: &output) }
      if String(decoding: output, as: UTF8.self) != line + "\n" {
        Issue.record("\(String(decoding: output, as: UTF8.self)) instead of \(line)")
      }
      checked += 1
    }
    #expect(checked == count)
  }

  @Test func `a leaf of the crashed guest is named where it lies`() throws {
    // The first run of the truth: 00:03.0, IOVA 0xffefd000 to 0x7663000.
    let command = try Maps.parse(Examples.arguments("vtd-crash", "--table", "00:03.0"))
    var screen = ""
    try command.report(to: &screen)
    #expect(screen.contains("0xffefd000..<0xffefe000"))
    #expect(screen.contains("0x7663000..<0x7664000  rw"))
  }

  @Test func `the annotated hexdump of a real root table names the buses`() throws {
    let command = try Hexdump.parse(
      Examples.arguments("vtd-crash", "0x6a04000+64", "--annotate"))
    var screen = ""
    try command.report(to: &screen)
    #expect(screen.contains("root entry, bus 00 -> context table 0x"))
    #expect(screen.hasPrefix("06a04000  01 "))
  }
}
