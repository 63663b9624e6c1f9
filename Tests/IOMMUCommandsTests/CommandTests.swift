import ArgumentParser
import IOMMUFormats
import IOMMUKdump
import IOMMUTranslation
import Testing

@testable import IOMMUCommands

@Suite struct CommandTests {
  @Test func `a well-formed entry is decoded and succeeds`() throws {
    let command = try Decode.parse(["tce", "0x12345003"])
    var screen = ""
    #expect(try command.report(to: &screen))
    #expect(screen.contains("bytes  00 00 00 00 12 34 50 03"))
    #expect(screen.contains("bits 47:12  RPN      0x12345  address 0x12345000"))
  }

  @Test func `a kind without a value is its layout`() throws {
    var screen = ""
    #expect(try Decode.parse(["tce"]).report(to: &screen))
    #expect(screen.hasPrefix("tce: Calgary translation control entry, one 4 KiB page\n"))
    #expect(screen.contains("\nbits 47:12  RPN "))
    screen = ""
    #expect(try Decode.parse(["irte", "--no-eime"]).report(to: &screen))
    #expect(screen.contains("\nbits 47:40  DST "))
    screen = ""
    let narrow = ["root", "--host-address-width", "39", "--format", "json"]
    #expect(try Decode.parse(narrow).report(to: &screen))
    #expect(screen.contains("\"bits\" : \"38:12\""))
  }

  @Test func `all kinds are listed within 80 columns`() throws {
    var screen = ""
    #expect(try Decode.parse(["--list"]).report(to: &screen))
    for line in screen.split(separator: "\n") { #expect(line.count <= 80, "\(line)") }
    let names = screen.split(separator: "\n").filter { !$0.hasPrefix(" ") }
      .compactMap { $0.split(separator: " ").first.map(String.init) }
    #expect(names == EntryCatalog.all.map(\.name))
    screen = ""
    #expect(try Decode.parse(["--list", "--format", "json"]).report(to: &screen))
    #expect(screen.contains("\"specification\" : \"Intel VT-d 9.6\""))
  }

  @Test func `a reserved bit is named and fails the command`() throws {
    let command = try Decode.parse(["context", "0x123456011", "0x10202"])
    var screen = ""
    #expect(try !command.report(to: &screen))
    #expect(screen.contains("reserved bits 11:4 are set: 0x1"))
  }

  @Test(arguments: [
    (["tce", "xyz"], "'xyz' is not a 64-bit hexadecimal number"),
    (["context", "1"], "takes two quadwords"), (["gatt", "0x100000000"], "does not fit"),
    (["nonsense", "1"], "nearest are context, config-rw and agp-size"),
    (["tce", "1", "2"], "'tce' takes one value, and 2 were given"),
    (["ss-pte", "0x1FFFFFFFFFFFFFFFF"], "is not a 64-bit hexadecimal number"),
    (["dmar", "a", "b"], "'dmar' takes the table's file, and 2 words were given"),
    (
      ["dmr", "table.bin"],
      "there is no kind 'dmr'; nearest is 'dmar', a table of firmware in a file"
    ),
    ([], "what kind of entry it is comes first; 'iommu decode --list' prints all kinds"),
    (["contxt"], "there is no entry called 'contxt'; nearest are context"),
    (["tce", "--list"], "--list prints all kinds: leave 'tce' out"),
    (["dmar"], "'dmar' takes the table's file, and 0 words were given"),
    (["table.bin", "dmar"], "the kind comes first: 'iommu decode dmar table.bin'"),
    (
      ["0x123456001", "context", "0x10202"],
      "the kind comes first: 'iommu decode context 0x123456001 0x10202'"
    ),
  ])
  func `nonsense is refused with the way out`(arguments: [String], text: String) throws {
    let error = try #require(throws: (any Error).self) { try Decode.parse(arguments) }
    #expect(Decode.exitCode(for: error) == .validationFailure)
    #expect(Decode.message(for: error).contains(text), "\(Decode.message(for: error))")
  }

  @Test(arguments: [
    "00:03.0\t0x1000", "00:03.0\t1000z\tr", "00:03.0\t0x1000\tx", "zz:03.0\t0x1000\tr", "garbage",
    "00:03.0\t0x10000000000000000\tr", "00:03.0/\t0x1000\tr", "00:03.0/1048576\t0x1000\tr",
    "/5\t0x1000\tr",
  ])
  func `a request that makes no sense is named with its line`(line: String) throws {
    let memory = try FlatMemory(byteCount: 4096)
    var answers = RequestAnswers(
      machine: .init(name: "", units: []), memory: memory, format: .tsv)
    var output: [UInt8] = []
    let error = #expect(throws: InputError.self) {
      try Array(line.utf8).withUnsafeBytes { try answers.answer($0, number: 17, into: &output) }
    }
    #expect(try #require(error).text.hasPrefix("standard input, line 17: "))
    #expect(output.isEmpty)
  }

  @Test func `answers keep the request's columns and come as JSON too`() throws {
    let memory = try FlatMemory(byteCount: 4096)
    for (format, expected) in [
      (Translate.Format.tsv, "00:03.0\t0xABC\tw\t0xabc\n"),
      (
        .json,
        #"{"requester":"00:03.0","iova":"0xabc","access":"write","physical":"0xabc"}"# + "\n"
      ),
    ] {
      var answers = RequestAnswers(
        machine: .init(name: "", units: []), memory: memory, format: format)
      var output: [UInt8] = []
      try Array("00:03.0\t0xABC\tw".utf8).withUnsafeBytes {
        try answers.answer($0, number: 1, into: &output)
      }
      #expect(String(decoding: output, as: UTF8.self) == expected)
    }
  }

  @Test func `a PASID stands behind the requester`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    // 00:04.0: second stage without PASID, pass-through for PASID 5.
    for (address, word) in [
      (0x10_0000, 0x10_1001), (0x10_1400, 0x12_0009), (0x12_0000, 0x12_1001),
      (0x12_1000, 0x13_0089),
      (0x12_1008, 5), (0x12_1140, 0x101), (0x12_1148, 5),
    ] as [(UInt64, UInt64)] {
      memory.store(word, at: PhysicalAddress(address))
    }
    let unit = VTd.Unit(
      base: PhysicalAddress(0), rootTableAddress: VTd.RootTableAddress(rawValue: 0x10_0400),
      status: VTd.GlobalStatus(rawValue: 0x8000_0000), limits: .permissive)
    for (format, expected) in [
      (
        Translate.Format.tsv,
        "00:04.0\t0x1000\tr\tfault:0x79\n00:04.0/5\t0x1000\tr\t0x1000\n"
      ),
      (
        .json,
        #"{"requester":"00:04.0","iova":"0x1000","access":"read","fault":{"reason":"0x79","#
          + #""meaning":"second-stage entry not present, or entries that together allow nothing"}}"#
          + "\n"
          + #"{"requester":"00:04.0","pasid":5,"iova":"0x1000","access":"read","#
          + #""physical":"0x1000"}"# + "\n"
      ),
    ] {
      var answers = RequestAnswers(
        machine: .init(name: "", units: [.vtd(unit)]), memory: memory, format: format)
      var output: [UInt8] = []
      for (number, line) in ["00:04.0\t0x1000\tr", "00:04.0/5\t0x1000\tr"].enumerated() {
        try Array(line.utf8).withUnsafeBytes {
          try answers.answer($0, number: number + 1, into: &output)
        }
      }
      #expect(String(decoding: output, as: UTF8.self) == expected)
    }
  }

  @Test(arguments: Tool.configuration.subcommands.map { $0._commandName })
  func `the help of every command has an example`(name: String) throws {
    let commands = Tool.configuration.subcommands
    let help = Tool.helpMessage(for: commands.first { $0._commandName == name }!)
    #expect(help.contains("Example: ") || help.contains("Example:\n"))
    #expect(help.contains("iommu \(name)"))
  }

  @Test func `without a subcommand the Rule is played`() throws {
    #expect(try Tool.parseAsRoot([]) is Play)
    #expect(try Tool.parseAsRoot(["--mode", "vtd"]) is Play)
  }
}
