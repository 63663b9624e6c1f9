import FoundationEssentials
import IOMMUHardware
import IOMMUTestSupport
import Testing

@testable import IOMMUConformance

@Suite struct AMDViConformanceTests {
  /// Device 00:04.0 of domain 5 and its tables of three levels: one page, 0x12345000 to 0x200000.
  static let memory = """
    ["0x100400","03361600000000600500000000000000"],["0x163000","0124160000000060"],\
    ["0x162488","0112160000000060"],["0x161a28","0100200000000060"]
    """

  static func line(_ ops: String, registers: String = "", memory: String = memory) -> String {
    let text = """
      {"id":"a","family":"f","capability":"0x190b000f","memory":[\(memory)],
      "registers":{"0x0":"0x10001f","0x18":"0x1","0x30":"0x29d3"\(registers)},"ops":[\(ops)]}
      """
    return text.filter { $0 != "\n" }
  }

  static func probe(_ iova: String, size: Int = 8, write: Bool = false, more: String = "") -> String
  {
    """
    {"op":"probe","device":"0x20","iova":"\(iova)","size":\(size),"write":\(write)\(more)}
    """
  }

  func answer(_ line: String, caches: AMDViCacheConfiguration = .none) throws -> String {
    let conformance = try AMDViConformance(caches: caches)
    var line = line
    let answers = try line.withUTF8 { try conformance.answers(to: UnsafeRawBufferPointer($0)) }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(answers), as: UTF8.self)
  }

  @Test(arguments: [.none, .hardware, .everything] as [AMDViCacheConfiguration])
  func `a page, and one that is not there`(caches: AMDViCacheConfiguration) throws {
    #expect(
      try answer(
        Self.line(Self.probe("0x12345010") + "," + Self.probe("0x12346010", write: true)),
        caches: caches) == """
          {"answers":[{"parts":[{"bytes":4080,"len":8,"off":0,"pa":"0x200010","r":"ok"}]},\
          {"parts":[{"event":"20000000050020201060341200000000","len":8,"off":0,"r":"fault"}]}],"id":"a"}
          """)
  }

  @Test func `a transfer across a page boundary is answered in parts`() throws {
    #expect(
      try answer(Self.line(Self.probe("0x12345ffc"))) == """
        {"answers":[{"parts":[{"bytes":4,"len":4,"off":0,"pa":"0x200ffc","r":"ok"},\
        {"event":"20000000050000200060341200000000","len":4,"off":4,"r":"fault"}]}],"id":"a"}
        """)
  }

  @Test(arguments: [.none, .hardware, .everything] as [AMDViCacheConfiguration])
  func `memory that changes counts once the unit was told`(caches: AMDViCacheConfiguration) throws {
    // The page goes elsewhere; INVALIDATE_IOMMU_PAGES of domain 5, everything.
    let ops = """
      \(Self.probe("0x12345010")),{"op":"mem","pa":"0x161a28","hex":"0100300000000060"},\
      {"op":"command","hex":"000000000500003003f0ffffffffff7f"},\(Self.probe("0x12345010"))
      """
    let text = try answer(Self.line(ops), caches: caches)
    #expect(text.contains("\"pa\":\"0x200010\""))
    #expect(text.contains("null,null"))
    #expect(text.contains("\"pa\":\"0x300010\""))
  }

  /// A page of PASID 0 in guest tables of four levels: a write sets A on the way, and D in the page's entry.
  @Test(arguments: [.none, .hardware, .everything] as [AMDViCacheConfiguration])
  func `marks are left in guest tables`(caches: AMDViCacheConfiguration) throws {
    let memory = """
      ["0x100400","030000000000c06405000100000000000000000000000000"],["0x9000","01a0000000000000"],\
      ["0xa000","07b0000000000000"],["0xb000","07c0000000000000"],["0xc000","07d0000000000000"],\
      ["0xd008","0700200000000000"]
      """
    let ops = """
      \(Self.probe("0x1010")),{"op":"peek","pa":"0xd008","len":8},\
      \(Self.probe("0x1010", write: true)),{"op":"peek","pa":"0xd008","len":8},\
      {"op":"peek","pa":"0xa000","len":1}
      """
    let text = try answer(
      Self.line(
        ops, registers: ",\"0x18\":\"0x10001\",\"0x30\":\"0x10000000021d3\"", memory: memory
      )
      .replacing("\"0x18\":\"0x1\",\"0x30\":\"0x29d3\",", with: ""), caches: caches)
    #expect(
      text == """
        {"answers":[{"parts":[{"bytes":4080,"len":8,"off":0,"pa":"0x200010","r":"ok"}]},\
        {"hex":"2700200000000000"},\
        {"parts":[{"bytes":4080,"len":8,"off":0,"pa":"0x200010","r":"ok"}]},\
        {"hex":"6700200000000000"},{"hex":"27"}],"id":"a"}
        """)
  }

  /// SA keeps the fault out of the log.
  @Test func `a fault without an event`() throws {
    let memory = Self.memory.replacing(
      "03361600000000600500000000000000", with: "03361600000000600500000004000000")
    #expect(
      try answer(Self.line(Self.probe("0x12346010"), memory: memory)) == """
        {"answers":[{"parts":[{"event":null,"len":8,"off":0,"r":"fault"}]}],"id":"a"}
        """)
  }

  @Test(
    arguments: [
      ("{\"op\":\"probe\",\"device\":\"0x20\",\"size\":8}", "ops[0].iova: is missing"),
      (probe("0x0", size: 0), "ops[0].size: 0 is not 1 to 1 MiB"),
      (
        "{\"op\":\"probe\",\"device\":\"0x10000\",\"iova\":\"0x0\",\"size\":8}",
        "ops[0].device: 0x10000 has more than 16 bits"
      ),
      (probe("0x0", more: ",\"pasid\":1048576"), "ops[0].pasid: 1048576 has more than 20 bits"),
      ("{\"op\":\"command\",\"hex\":\"00\"}", "ops[0].hex: 1 bytes, and a command has 16"),
      (
        "{\"op\":\"inval\"}",
        "ops[0].op: 'inval' is not known; probe, peek, mem and command are"
      ),
      (
        "{\"op\":\"mem\",\"pa\":\"0x0\",\"hex\":\"0\"}",
        "ops[0].hex: is no run of bytes in hexadecimal"
      ),
    ])
  func `a case that says too little or too much is refused`(ops: String, text: String) throws {
    let error = #expect(throws: CaseError.self) { try answer(Self.line(ops)) }
    #expect(error?.description == text)
  }

  @Test func `registers are named by their offsets`() throws {
    let error = #expect(throws: CaseError.self) {
      try answer(Self.line(Self.probe("0x0"), registers: ",\"Control\":\"0x1\""))
    }
    #expect(error?.description == "registers.Control: is no offset with 0x")
  }
}
