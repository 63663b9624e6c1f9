import FoundationEssentials
import IOMMUFormats
import IOMMUInspection
import IOMMURule
import IOMMUTestSupport
import IOMMUTranslation
import Testing

/// Verdicts as text and as JSON.
@Suite struct RuleReportTests {
  /// A unit whose 65,536 devices go through one table of three levels, in which two pages of a crash
  /// kernel of four have other numbers.
  private func report() throws -> (report: RuleReport, memory: FlatMemory) {
    let memory = try FlatMemory(byteCount: 4 << 20)
    func store(_ word: UInt64, at address: UInt64) {
      memory.store(word, at: PhysicalAddress(address))
    }
    for entry in 0..<256 as Range<UInt64> {
      store(0x2001, at: 0x1000 + entry * 16)
      store(0x3001, at: 0x2000 + entry * 16)
      store(0x301, at: 0x2008 + entry * 16)
    }
    for (address, word) in [
      (0x3000, 0x4003), (0x4000, 0x5003), (0x5008, 0x20_1003), (0x5018, 0x20_3003),
    ] as [(UInt64, UInt64)] { store(word, at: address) }
    var machine = Machine(
      name: "dump",
      units: [
        .vtd(
          VTd.Unit(
            base: PhysicalAddress(0xfed9_0000),
            rootTableAddress: VTd.RootTableAddress(rawValue: 0x1000),
            status: VTd.GlobalStatus(rawValue: 0xc000_0000), limits: .permissive))
      ])
    machine.crashKernel = [PhysicalAddress(0x20_0000)..<PhysicalAddress(0x20_4000)]
    let evidence = try #require(RuleEvidence(dump: machine))
    return (RuleReport(evidence, in: memory), memory)
  }

  @Test func `a table of 65,536 devices is told once in text`() throws {
    var text = ""
    try report().report.write(to: &text)
    let lines = text.split(separator: "\n").map(String.init)
    #expect(
      lines.filter { $0.contains("maps to") } == [
        "  00:00.0 and 65535 more IOVA 0x1000, SS-PTE [0x1] at 0x5008, raw 0x0000000000201003: "
          + "0x1000..<0x2000 maps to 0x201000, in the crash kernel",
        "  00:00.0 and 65535 more IOVA 0x3000, SS-PTE [0x3] at 0x5018, raw 0x0000000000203003: "
          + "0x3000..<0x4000 maps to 0x203000, in the crash kernel",
      ])
    #expect(lines.count < 60)
  }

  @Test func `JSON has the names once for all findings`() throws {
    struct Document: Decodable {
      struct Rule: Decodable {
        var rule: String
        var findings: [Finding]
      }
      struct Finding: Decodable {
        var device: String?
        var others: Int?
        var shared: Int?
      }
      struct Shared: Decodable {
        var shared_with: String?
        var tables: [String]
      }
      var rules: [Rule]
      var shared: [Shared]
    }
    let document = try JSONDecoder().decode(
      Document.self, from: JSONEncoder().encode(try report().report))
    #expect(document.shared.count == 1)
    #expect(document.shared[0].shared_with == "00:00.0")
    #expect(document.shared[0].tables.count == 65_535)
    #expect(document.shared[0].tables.first == "00:00.1")
    #expect(document.shared[0].tables.last == "ff:1f.7")
    for rule in document.rules where ["R1", "R2", "R4", "R13"].contains(rule.rule) {
      #expect(!rule.findings.isEmpty, "\(rule.rule)")
      for finding in rule.findings {
        #expect(finding.device == "00:00.0", "\(rule.rule)")
        #expect(finding.others == 65_535, "\(rule.rule)")
        #expect(finding.shared == 0, "\(rule.rule)")
      }
    }
  }

  @Test func `the page names the first device and counts the others`() throws {
    let (rule, memory) = try report()
    let report = DumpReport(
      title: "dump", machine: Machine(name: "none", units: []), in: memory, rule: rule)
    var page = ""
    report.write(to: &page)
    #expect(page.contains(/>00:00.0<\/(a|code)> and 65535 more<\/li>/))
  }
}
