import IOMMUInspection
import IOMMUKdump

/// What `iommu crash --scenario` prints.
struct CrashScenarioReport {
  var results: [ScenarioResult]

  private static let width = 80

  /// Every line is as expected, or says why it is right that it is not.
  var isExplained: Bool {
    results.allSatisfy { $0.lines.allSatisfy { $0.agrees || $0.remark != nil } }
  }

  func writeText(to out: inout some TextOutputStream, ink: Ink) {
    for (index, result) in results.enumerated() {
      if index > 0 { out.write("\n") }
      write(ink.strong("\(result.name): \(result.title)"), to: &out)
      var table = TextTable(header: ["  subject", "expected", "found"])
      table.rows = result.lines.map { line in
        [
          ["  \(line.subject)"], [line.expected],
          [line.found + (line.agrees ? "" : line.remark == nil ? "  DIFFERS" : "  differs")],
        ]
      }
      if table.width <= Self.width {
        table.write(to: &out)
        for line in result.lines { writeRemark(of: line, named: true, to: &out) }
      } else {
        for line in result.lines {
          write("  \(line.subject)", to: &out)
          write("    expected \(line.expected)", to: &out)
          let mark = line.agrees ? "" : line.remark == nil ? "  DIFFERS" : "  differs"
          write("    found    \(line.found)\(mark)", to: &out)
          writeRemark(of: line, named: false, to: &out)
        }
      }
      write("  \(result.agreementCount) of \(result.lines.count) as expected", to: &out)
    }
    guard results.count > 1 else { return }
    let lines = results.flatMap(\.lines)
    out.write("\n")
    write(
      "\(groupedCount(results.count, "scenario")): \(lines.count(where: \.agrees)) of "
        + "\(groupedCount(lines.count, "line")) as expected, "
        + "\(lines.count { !$0.agrees && $0.remark != nil }) differ with a remark, "
        + "\(lines.count { !$0.agrees && $0.remark == nil }) without", to: &out)
  }

  private func writeRemark(
    of line: ScenarioResult.Line, named: Bool, to out: inout some TextOutputStream
  ) {
    guard !line.agrees, let remark = line.remark else { return }
    write(named ? "  \(line.subject): \(remark)" : "    remark   \(remark)", to: &out)
  }

  private func write(_ line: String, to out: inout some TextOutputStream) {
    for part in wrapped(line, to: Self.width) { out.write(part + "\n") }
  }
}

struct CrashScenarioJSON: Encodable {
  struct Line: Encodable {
    var subject: String
    var expected: String
    var found: String
    var agrees: Bool
    var remark: String?
  }

  struct Scenario: Encodable {
    var name: String
    var title: String
    var lines: [Line]
  }

  var scenarios: [Scenario]

  init(_ report: CrashScenarioReport) {
    scenarios = report.results.map { result in
      Scenario(
        name: result.name, title: result.title,
        lines: result.lines.map {
          Line(
            subject: $0.subject, expected: $0.expected, found: $0.found, agrees: $0.agrees,
            remark: $0.remark)
        })
    }
  }
}
