import FoundationEssentials
import IOMMUHardware
import Testing

@testable import IOMMUConformance

/// The answers to a line, as JSON with sorted keys and a newline.
private func answers(_ line: String, by conformance: VTdConformance) throws -> String {
  var line = line
  let answers = try line.withUTF8 { try conformance.answers(to: UnsafeRawBufferPointer($0)) }
  let encoder = JSONEncoder()
  encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
  return String(decoding: try encoder.encode(answers), as: UTF8.self) + "\n"
}

@Suite struct VTdConformanceTests {
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

  func answer(_ line: String, caches: CacheConfiguration = .none) throws -> String {
    try answers(line, by: try VTdConformance(caches: caches))
  }

  @Test(arguments: [.none, .hardware, .everything] as [CacheConfiguration])
  func `a page, a page that is not there, and FPD`(caches: CacheConfiguration) throws {
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
    let text = try answer(
      Self.line(
        """
        {"op":"probe","sid":"0x9","iova":"0x0","size":4,"write":false,"keep":true},
        {"op":"probe","sid":"0xa","iova":"0x0","size":4,"write":false,"keep":true},
        {"op":"clear"},{"op":"probe","sid":"0xb","iova":"0x0","size":4,"write":false}
        """))
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
    let conformance = try VTdConformance(caches: .everything)
    let probe = "{\"op\":\"probe\",\"sid\":\"0x2\",\"iova\":\"0x0\",\"size\":1,\"write\":false}"
    #expect(try answers(Self.line(probe), by: conformance).contains("\"pa\":\"0x100000\""))
    let empty = Self.line(probe).replacing(
      try Regex("\"memory\":\\[.*\\]\\],"), with: "\"memory\":[],")
    #expect(try answers(empty, by: conformance).contains("\"fr\":1"))
  }

  @Test(
    arguments: [
      ("{", "the line: "),
      ("{\"id\":\"a\"}", "config: is missing"),
      (Self.line("{\"op\":\"jump\"}"), "ops[0].op: 'jump' is not known"),
      (Self.line("{\"op\":\"mem\",\"pa\":\"0x0\"}"), "ops[0].hex: is missing"),
      (Self.line("{\"op\":\"mem\",\"pa\":\"12\",\"hex\":\"00\"}"), "ops[0].pa: is no hex"),
      (Self.line("{\"op\":\"mem\",\"pa\":\"0x1\",\"hex\":\"0\"}"), "ops[0].hex: is no run"),
      (
        Self.line("{\"op\":\"probe\",\"sid\":\"0x10000\",\"iova\":\"0x0\",\"size\":1}"),
        "ops[0].sid: 0x10000 has more than 16 bits"
      ),
      (
        Self.line("{\"op\":\"probe\",\"sid\":\"0x1\",\"iova\":\"0x0\",\"size\":0}"),
        "ops[0].size: 0 is not 1 to 1 MiB"
      ),
      (Self.line("{\"op\":\"peek\",\"pa\":\"0x90000000\",\"len\":8}"), "no memory answers"),
      (Self.line("{\"op\":\"peek\",\"pa\":\"0x0\",\"len\":5000}"), "len: 5000 is not 1 to 4096"),
      (
        Self.line("{\"op\":\"inval\",\"desc\":[\"0x1\"]}").replacing(
          "\"TE\":1", with: "\"TE\":1,\"IQA\":\"0x8000\""),
        "ops[0].desc: 1 words; the queue's have 2"
      ),
      (
        Self.line("").replacing("\"0xf42\"", with: "\"0x1000f42\""),
        "ECAP_REG: not implemented: ECS"
      ),
    ] as [(String, String)])
  func `a bad line is named with its place`(line: String, complaint: String) {
    let error = #expect(throws: CaseError.self) { try answer(line) }
    #expect(error?.description.contains(complaint) == true, "\(error?.description ?? "")")
  }

  @Test func `reserved bits of ECAP_REG are nothing to complain of`() throws {
    let line = Self.line("").replacing("\"0xf42\"", with: "\"0x40f42\"")
    #expect(try answer(line) == "{\"answers\":[],\"id\":\"a\"}\n")
  }
}
