import Foundation
import IOMMUTestSupport
import Testing

/// Whatever names and texts of files say, a terminal shows them and obeys none.
@Suite struct DisguiseTests {
  let scratch = TemporaryDirectory()

  /// Escape, bell, carriage return, a C1 control, a mark that turns text around, a newline, a bracket
  /// with an accent.
  static let disguise = "\u{1b}[31m\u{7}\r\u{9b}2J\u{202e}\u{2028}<\u{301}b>"

  static let forbidden = CharacterSet(
    charactersIn: "\u{0}"..."\u{8}"
  ).union(CharacterSet(charactersIn: "\u{b}"..."\u{1f}")).union(
    CharacterSet(charactersIn: "\u{7f}"..."\u{9f}")
  ).union(CharacterSet(charactersIn: "\u{200e}\u{200f}\u{2028}\u{2029}\u{61c}"))
    .union(CharacterSet(charactersIn: "\u{202a}"..."\u{202e}"))
    .union(CharacterSet(charactersIn: "\u{2066}"..."\u{2069}"))

  private func expectPlain(
    _ text: String, _ what: String, _ location: SourceLocation = #_sourceLocation
  ) {
    let found = text.unicodeScalars.filter { Self.forbidden.contains($0) }
    #expect(found.isEmpty, "\(what): \(found.map { hex($0) })", sourceLocation: location)
  }

  private func hex(_ scalar: Unicode.Scalar) -> String { String(scalar.value, radix: 16) }

  private func run(
    _ arguments: [String], input: String = "", shows: String? = nil,
    _ location: SourceLocation = #_sourceLocation
  ) throws {
    let command = try Command.run(arguments, input: input)
    expectPlain(command.output, "\(arguments)", location)
    expectPlain(command.errors, "\(arguments)", location)
    #expect(
      command.status != nil && command.status! < 128, "\(arguments)", sourceLocation: location)
    if let shows {
      #expect(
        (command.output + command.errors).contains(shows),
        "\(arguments): \(command.output)\(command.errors)", sourceLocation: location)
    }
  }

  @Test func `the tool is beside its tests`() { #expect(Command.path != nil) }

  @Test func `VMCOREINFO, machine files and names of files`() throws {
    let dump = scratch.file(
      "dump",
      TinyELF([
        .init(physical: 0, data: [UInt8](repeating: 0, count: 8192)),
        .note(
          "VMCOREINFO", "OSRELEASE=\(Self.disguise.replacing("\n", with: ""))\nX\u{1b}=\u{7}\n"),
      ]).bytes)
    try run(["image", "info", dump, "--all"], shows: #"OSRELEASE=\u{1B}[31m\u{7}\u{D}\u{9B}2J"#)
    try run(["image", "info", dump, "--all", "--format", "json"], shows: #"\u009b2J\u202e"#)
    let text = """
      {"version": 1, "name": "\(json)", "images": ["\(json)"], "units": [
      {"kind": "intel-vtd", "base": "0xfed90000", "registers": {"0x020": "0x0", "0x01c": "0xc0000000"}}]}
      """
    let machine = scratch.file("machine", Array(text.utf8))
    for command in [
      ["maps"], ["maps", "--format", "summary"], ["walk"], ["who"], ["diff"], ["verify"],
    ] {
      var arguments = [command[0], dump]
      switch command[0] {
      case "walk": arguments += ["00:03.0", "0"]
      case "who": arguments += ["1000"]
      case "diff": arguments += [dump]
      case "verify": arguments += ["--crash-kernel", "4K@4K"]
      default: break
      }
      try run(arguments + command.dropFirst() + ["--machine", machine])
    }
    let wrong = scratch.file(
      "wrong", Array(#"{"version": 1, "units": [{"kind": "\#(json)", "registers": {}}]}"#.utf8))
    try run(["maps", dump, "--machine", wrong], shows: #"\u{1B}[31m"#)
    try run(["maps", scratch.path("none\(Self.disguise)\n")], shows: #"\u{A}"#)
    try run(["walk", dump, "00:\(Self.disguise)", "0"])
    try run([Self.disguise])
    let report = scratch.path("report.html")
    try run(["report", dump, "--machine", machine, "--title", Self.disguise, "-o", report])
    let page = String(decoding: scratch.contents("report.html"), as: UTF8.self)
    expectPlain(page, "report")
    #expect(page.contains("&lt;\u{301}b&gt;"))
    #expect(!page.contains("<\u{301}"))
  }

  private var json: String {
    Self.disguise.unicodeScalars.map { scalar in
      scalar.value < 0x20 ? "\\u00" + (scalar.value < 16 ? "0" : "") + hex(scalar) : String(scalar)
    }.joined()
  }

  @Test func `logs, firmware tables, cases and traces`() throws {
    let dump = scratch.file(
      "dump", TinyELF([.init(physical: 0, data: [UInt8](repeating: 0, count: 8192))]).bytes)
    try run(
      ["explain", dump, "--root", "0"],
      input: "DMAR: [DMA Write] Request device [00:\(Self.disguise)] fault addr 0xffe00000\n")
    // A DMAR table with an ACPI device.
    var table = Array("DMAR".utf8) + TinyELF.little(0, 32) + [38, 0] + TinyELF.little(0, 10)
    let name = Array("\\_SB\u{1b}[31m\u{9b}\u{202e}".utf8) + [0]
    table += [4, 0] + TinyELF.little(UInt64(8 + name.count), 2) + [0, 0, 0, 1] + name
    table.replaceSubrange(4..<8, with: TinyELF.little(UInt64(table.count), 4))
    table[9] = 0 &- table.reduce(0, &+)
    let file = scratch.file("dmar", table)
    try run(["decode", "dmar", file], shows: #"\_SB\u{1B}[31m"#)
    try run(["decode", "dmar", file, "--format", "json"])
    try run(
      ["conform", "vtd"], input: #"{"id":"\u001b[31m","ops":[{"op":"\u001b[31m\u009b"}]}"# + "\n")
    try run(["conform", "gart", scratch.path(Self.disguise)])
    try run(["replay", scratch.file("trace", Array("\(Self.disguise),1,2,3\n".utf8))])
    try run(["decode", Self.disguise, "0"])
  }

  @Test func `colours are all that an escape begins`() throws {
    let dump = scratch.file(
      "dump", TinyELF([.init(physical: 0, data: [UInt8](repeating: 0, count: 8192))]).bytes)
    let command = try Command.run(["maps", dump, "--root", "0", "--color", "always"])
    let text = command.output.replacing(/\u{1b}\[[0-9]+m/, with: "")
    expectPlain(text, "maps")
  }
}
