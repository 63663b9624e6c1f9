import IOMMUCommands
import Testing

@Suite struct ConformTests {
  /// QEMU's unit of 48 bits; 00:00.2 has domain 5 and one page, 0 to 10_0000.
  static let machine = """
    "config":{"aw_bits":48},"cap":"0xd2008c222f0606","ecap":"0xf42",
    "memory":[["0x1000","0120000000000000"],["0x2020","01300000000000000205000000000000"],\
    ["0x3000","0340000000000000"],["0x4000","0350000000000000"],["0x5000","0360000000000000"],\
    ["0x6000","0300100000000000"]]
    """

  static func line(_ ops: String, registers: String = "\"RTADDR\":\"0x1000\",\"TE\":1") -> String {
    let text = """
      {"id":"a","family":"f","seed":1,\(machine),"registers":{\(registers)},"ops":[\(ops)]}
      """
    return text.filter { $0 != "\n" }
  }

  func answer(_ line: String, caches: ConformVTd.Caches = .off) throws -> String? {
    let run = try ConformRun(caches: caches)
    var line = line
    return try line.withUTF8 { try run.answer(UnsafeRawBufferPointer($0), number: 7) }
  }

  @Test(arguments: ConformVTd.Caches.allCases)
  func `a page, a page that is not there, and FPD`(caches: ConformVTd.Caches) throws {
    let text = try answer(
      Self.line(
        """
        {"op":"probe","sid":"0x2","iova":"0x123","size":8,"write":false},
        {"op":"probe","sid":"0x2","iova":"0x1123","size":8,"write":true},
        {"op":"mem","pa":"0x2020","hex":"03"},
        {"op":"inval","kind":"cc_global","regs":{"CCMD":"0xa000000000000000"}},
        {"op":"probe","sid":"0x2","iova":"0x1123","size":8,"write":true}
        """), caches: caches)
    #expect(
      text == """
        {"answers":[{"fsts":0,"pa":"0x100123","r":"ok","rec":null},{"fr":5,"fsts":2,\
        "r":"fault","rec":{"fi":"0x1000","fr":5,"pp":0,"pv":0,"sid":"0x2","t":0}},null,\
        {"actual_granularity":1},{"fsts":0,"r":"fault","rec":null,"suppressed":"fpd"}],\
        "id":"a"}

        """)
  }

  @Test func `a transfer across a page boundary is answered in parts`() throws {
    let text = try answer(
      Self.line("{\"op\":\"probe\",\"sid\":\"0x2\",\"iova\":\"0xffc\",\"size\":8,\"write\":false}"))
    #expect(
      text == """
        {"answers":[{"fsts":2,"parts":[{"len":4,"off":0,"pa":"0x100ffc","r":"ok"},{"fr":6,\
        "len":4,"off":4,"r":"fault"}],"r":"split","rec":{"fi":"0x1000","fr":6,"pp":0,"pv":0,\
        "sid":"0x2","t":1}}],"id":"a"}

        """)
  }

  @Test func `a kept fault overflows, a cleared one does not`() throws {
    let text = try #require(
      try answer(
        Self.line(
          """
          {"op":"probe","sid":"0x9","iova":"0x0","size":4,"write":false,"keep":true},
          {"op":"probe","sid":"0xa","iova":"0x0","size":4,"write":false,"keep":true},
          {"op":"clear"},{"op":"probe","sid":"0xb","iova":"0x0","size":4,"write":false}
          """)))
    #expect(text.contains("\"fr\":2,\"fsts\":3,\"r\":\"fault\",\"rec\":null"))
    #expect(text.contains("\"pv\":0,\"sid\":\"0xb\",\"t\":1}"))
  }

  @Test func `invalidations are queued, and a bad one is not done`() throws {
    let text = try answer(
      Self.line(
        """
        {"op":"inval","kind":"iotlb_global","desc":["0x12","0x0"]},
        {"op":"inval","kind":"iotlb_none","desc":["0x2","0x0"]},
        {"op":"inval","kind":"cc_global","desc":["0x11","0x0"]},
        {"op":"peek","pa":"0x8000","len":16}
        """, registers: "\"RTADDR\":\"0x1000\",\"TE\":1,\"IQA\":\"0x8000\""))
    #expect(
      text == """
        {"answers":[{"done":true},{"done":false},{"done":true},\
        {"hex":"00000000000000000000000000000000"}],"id":"a"}

        """)
  }

  @Test func `tables and the unit are switched`() throws {
    let text = try answer(
      Self.line(
        """
        {"op":"te","on":false},{"op":"probe","sid":"0x9","iova":"0x77","size":1,"write":true},
        {"op":"te","on":true},{"op":"srtp","rtaddr":"0x9000"},
        {"op":"probe","sid":"0x2","iova":"0x0","size":1,"write":true}
        """))
    #expect(
      text == """
        {"answers":[null,{"fsts":0,"pa":"0x77","r":"ok","rec":null},null,null,{"fr":1,\
        "fsts":2,"r":"fault","rec":{"fi":"0x0","fr":1,"pp":0,"pv":0,"sid":"0x2","t":0}}],\
        "id":"a"}

        """)
  }

  @Test func `cases do not see each other's memory`() throws {
    let run = try ConformRun(caches: .everything)
    func answer(_ text: String) throws -> String? {
      var text = text
      return try text.withUTF8 { try run.answer(UnsafeRawBufferPointer($0), number: 1) }
    }
    let probe = "{\"op\":\"probe\",\"sid\":\"0x2\",\"iova\":\"0x0\",\"size\":1,\"write\":false}"
    #expect(try answer(Self.line(probe))?.contains("\"pa\":\"0x100000\"") == true)
    let empty = Self.line(probe).replacing(
      try Regex("\"memory\":\\[.*\\]\\],"), with: "\"memory\":[],")
    #expect(try answer(empty)?.contains("\"fr\":1") == true)
    #expect(try answer("  ") == nil)
  }

  @Test(
    arguments: [
      ("{", "standard input, line 7: the line: "),
      ("{\"id\":\"a\"}", "standard input, line 7: config: is missing"),
      (Self.line("{\"op\":\"jump\"}"), "line 7: ops[0].op: 'jump' is not known"),
      (Self.line("{\"op\":\"mem\",\"pa\":\"0x0\"}"), "line 7: ops[0].hex: is missing"),
      (Self.line("{\"op\":\"mem\",\"pa\":\"12\",\"hex\":\"00\"}"), "line 7: ops[0].pa: is no hex"),
      (Self.line("{\"op\":\"mem\",\"pa\":\"0x1\",\"hex\":\"0\"}"), "line 7: ops[0].hex: is no run"),
      (
        Self.line("{\"op\":\"probe\",\"sid\":\"0x10000\",\"iova\":\"0x0\",\"size\":1}"),
        "line 7: ops[0].sid: 0x10000 has more than 16 bits"
      ),
      (
        Self.line("{\"op\":\"probe\",\"sid\":\"0x1\",\"iova\":\"0x0\",\"size\":0}"),
        "line 7: ops[0].size: 0 is not 1 to 1 MiB"
      ),
      (Self.line("{\"op\":\"peek\",\"pa\":\"0x90000000\",\"len\":8}"), "no memory answers"),
      (Self.line("{\"op\":\"peek\",\"pa\":\"0x0\",\"len\":5000}"), "len: 5000 is not 1 to 4096"),
      (
        Self.line("{\"op\":\"inval\",\"desc\":[\"0x1\"]}").replacing(
          "\"TE\":1", with: "\"TE\":1,\"IQA\":\"0x8000\""),
        "line 7: ops[0].desc: 1 words; the queue's have 2"
      ),
      (Self.line("").replacing("\"0xf42\"", with: "\"0x40f42\""), "line 7"),
      (
        Self.line("").replacing("\"0xf42\"", with: "\"0x1000f42\""),
        "ECAP_REG: not implemented: ECS"
      ),
    ] as [(String, String)])
  func `a bad line is named with its place`(line: String, complaint: String) throws {
    do {
      let answer = try answer(line)
      // Bits 19:18 of ECAP_REG are nothing to complain of.
      #expect(line.contains("0x40f42"), "\(answer ?? "nothing")")
    } catch let error as InputError {
      #expect(error.text.contains(complaint), "\(error.text)")
    }
  }
}
