import IOMMUTestSupport
import Testing

@testable import IOMMUCommands

@Suite struct ConformTests {
  static let recording = "\(Repository.path)/Examples/gart-trace"

  @Test func `a recording is told in a line, all of them in a table`() throws {
    var text = ""
    let summary = try ConformGART.parse([Self.recording, "--driver"]).report(to: &text)
    #expect(summary.passed == 2 && summary.failed == 0)
    #expect(
      text.hasPrefix(
        "ok   \(Self.recording)/trace.jsonl: 440 events, 156 reads and 98 mappings compared, 0 diff"
      ))
    #expect(text.contains("events              545, "))
    #expect(text.contains("register writes     66, 52 flushes\n"))
    #expect(
      text.contains("reads compared      242, and 54 of what firmware left, 0 of what goes on"))
    #expect(text.hasSuffix("differences         0\n2 passed, 0 failed\n"))
  }

  @Test func `the result is there as JSON too`() throws {
    var text = ""
    _ = try ConformGART.parse([Self.recording, "--format", "json"]).report(to: &text)
    for part in [
      "\"failed\" : 0", "\"reads\" : 242", "\"difference_count\" : 0",
      "\"recording\" : \"\(Self.recording)/trace-kdump.jsonl\"",
    ] { #expect(text.contains(part), "\(part)") }
  }

  @Test func `a directory without a trace fails and the others are played`() throws {
    var text = ""
    let command = try ConformGART.parse(["/nowhere", Self.recording])
    let summary = try command.report(to: &text)
    #expect(summary.passed == 2 && summary.failed == 1)
    #expect(summary.results[0].error?.hasPrefix("/nowhere/truth.json: ") == true)
    #expect(text.hasPrefix("FAIL /nowhere: 0 events, 0 reads and 0 mappings compared, 0 diff"))
  }

  @Test func `the Calgary recording is played, with our own driver beside it`() throws {
    let directory = "\(Repository.path)/Examples/calgary-trace"
    for (options, steps) in [(["--caches", "on"], 0), (["--driver"], 1_573_716)] {
      var text = ""
      let summary = try ConformCalgary.parse([directory] + options).report(to: &text)
      #expect(summary.passed == 1 && summary.failed == 0)
      #expect(
        text.hasPrefix(
          "ok   \(directory): 255 events, 17 reads and 95 mappings compared, 0 differences\n"))
      #expect(text.contains("our own driver      \(steps) steps compared\n"))
    }
  }

  @Test func `a Calgary recording that is not there is told as JSON`() throws {
    var text = ""
    let command = try ConformCalgary.parse(["/nowhere", "--format", "json"])
    let summary = try command.report(to: &text)
    #expect(summary.failed == 1)
    #expect(text.contains("\"error\" : \"/nowhere/truth.json: cannot be opened: No such file"))
    #expect(text.contains("\"passed\" : false"))
  }

  @Test(arguments: [
    ["a", "--caches", "maybe"], [], ["a", "--cache-sets", "8x4"],
    ["a", "--caches", "on", "--cache-sets", "3x4"], ["a", "--show", "-1"],
  ])
  func `a wrong command line is refused`(arguments: [String]) {
    #expect(throws: (any Error).self) { try ConformGART.parse(arguments) }
  }

  // MARK: Cases

  /// QEMU's unit of 48 bits; 00:00.2 has one page, 0 to 0x100000, and may read and write it.
  static func line(_ ops: String) -> String {
    let text = """
      {"id":"a","config":{"aw_bits":48},"cap":"0xd2008c222f0606","ecap":"0xf42",
      "memory":[["0x1000","0120000000000000"],["0x2020","01300000000000000205000000000000"],
      ["0x3000","0340000000000000"],["0x4000","0350000000000000"],["0x5000","0360000000000000"],
      ["0x6000","0300100000000000"]],"registers":{"RTADDR":"0x1000","TE":1},"ops":[\(ops)]}
      """
    return text.filter { $0 != "\n" }
  }

  func answer(_ line: String, as format: ReportFormat) throws -> String? {
    let lines = try ConformVTd.parse(["--format", format.rawValue]).options.vtdLines()
    var line = line
    return try line.withUTF8 { try lines.answer(UnsafeRawBufferPointer($0), number: 7) }
  }

  static let operations = """
    {"op":"probe","sid":"0x2","iova":"0x123","size":8,"write":false},
    {"op":"mem","pa":"0x8000","hex":"0bad"},{"op":"peek","pa":"0x8000","len":2},
    {"op":"probe","sid":"0x2","iova":"0xffc","size":8,"write":true},
    {"op":"inval","kind":"cc_global","regs":{"CCMD":"0xa000000000000000"}}
    """

  /// As QEMU 7.2 answered them.
  @Test func `the recorded cases are answered`() throws {
    let cases = Repository.text("Examples/vtd-cases/cases.jsonl").split(separator: "\n")
    #expect(
      try cases.compactMap { try answer(String($0), as: .text) }.joined() == """
        beyond-06052470 ops[0]: fault 0x4
        beyond-06052470 ops[1]: 0x2e88f808
        fresh_pte-06052474 ops[0]: fault 0x5
        fresh_pte-06052474 ops[2]: 0x199c553cc
        fresh_pte-06052474 ops[3]: 0x199c17520
        rsvd-06052476 ops[0]: 0x5a3c64a8
        rsvd-06052476 ops[1]: invalidated, granularity 1
        rsvd-06052476 ops[2]: 0x5a3c6a98
        rsvd-06052476 ops[3]: 0x5a3c6f50
        notpresent-0605247a ops[0]: fault 0x5
        notpresent-0605247a ops[1]: fault 0x6
        notpresent-0605247a ops[2]: 0x1a2a92eb8

        """)
  }

  @Test func `a case is answered in a line of JSON`() throws {
    #expect(
      try answer(Self.line(Self.operations), as: .json) == """
        {"answers":[{"fsts":0,"pa":"0x100123","r":"ok","rec":null},null,{"hex":"0bad"},\
        {"fsts":2,"parts":[{"len":4,"off":0,"pa":"0x100ffc","r":"ok"},\
        {"fr":5,"len":4,"off":4,"r":"fault"}],"r":"split",\
        "rec":{"fi":"0x1000","fr":5,"pp":0,"pv":0,"sid":"0x2","t":0}},\
        {"actual_granularity":1}],"id":"a"}

        """)
    #expect(try answer(" \t", as: .json) == nil)
  }

  @Test func `or in a line of text for each operation that has an answer`() throws {
    #expect(
      try answer(Self.line(Self.operations), as: .text) == """
        a ops[0]: 0x100123
        a ops[2]: memory holds 0bad
        a ops[3]: 0x4 bytes: 0x100ffc, 0x4 bytes: fault 0x5
        a ops[4]: invalidated, granularity 1

        """)
  }

  @Test func `a line that is no case is named with its number`() {
    let error = #expect(throws: InputError.self) {
      try answer(Self.line("{\"op\":\"jump\"}"), as: .json)
    }
    #expect(error?.text.hasPrefix("standard input, line 7: ops[0].op: 'jump' is not") == true)
  }

  // MARK: AMD-Vi

  /// Worked out by hand: a 4 MiB page, levels left out where they must not be, a device beyond the table,
  /// an exclusion range.
  @Test func `cases of AMD-Vi are answered`() throws {
    let lines = try ConformAMDVi.parse(["--format", "text"]).options.amdviLines()
    let cases = Repository.text("Examples/amdvi-cases/cases.jsonl").split(separator: "\n")
    let answers = try cases.map { line in
      var line = String(line)
      return try line.withUTF8 { try lines.answer(UnsafeRawBufferPointer($0), number: 1) }
    }
    #expect(
      answers == [
        "W5 ops[0]: 0x200010\n",
        "J20 ops[0]: fault, event 20000000050010201050341200000000\n",
        "J25 ops[0]: fault, event 80000000000000201050341200000000\n",
        "J26 ops[0]: 0x200010\n",
      ])
  }
}
