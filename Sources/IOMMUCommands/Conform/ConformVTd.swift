import ArgumentParser
import IOMMUConformance
import IOMMUFormats
import IOMMUHardware

/// VT-d's unit against recorded cases.
package struct ConformVTd: ParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "vtd",
    abstract: "Answer cases for an Intel VT-d remapping unit.",
    discussion: """
      \(CaseOptions.discussion)

      Example: iommu conform vtd --format text < Examples/vtd-cases/cases.jsonl
      """)

  @OptionGroup package var options: CaseOptions

  package init() {}

  package func run() throws {
    try options.answer(with: options.vtdLines)
  }
}

extension CaseOptions {
  /// What turns lines of cases into lines of answers.
  func vtdLines() throws -> CaseLines<VTdConformance> {
    CaseLines(try VTdConformance(caches: caches.vtd), format: format)
  }
}

extension CaseOptions.Caches {
  fileprivate var vtd: CacheConfiguration {
    switch self {
    case .off: .none
    case .hardware: .hardware
    case .everything: .everything
    }
  }
}

extension VTdAnswers: CaseText {
  /// `basic-1 ops[3]: fault 0x5`, a line for each operation that has an answer.
  package var text: String {
    answers.enumerated().reduce(into: "") { text, operation in
      guard let answer = operation.element else { return }
      text += "\(id.visible) ops[\(operation.offset)]: \(answer.text)\n"
    }
  }
}

extension VTdAnswer {
  fileprivate var text: String {
    if let parts {
      return parts.map { "\(hexadecimal($0.len)) bytes: " + Self.text($0.r, $0.pa, $0.fr) }
        .joined(separator: ", ")
    }
    if let r { return Self.text(r, pa, fr) }
    if let hex { return "memory holds \(hex)" }
    if let done { return done ? "invalidated" : "refused" }
    return granularity.map { "invalidated, granularity \($0)" } ?? "done"
  }

  private static func text(_ outcome: String, _ physical: String?, _ reason: Int?) -> String {
    switch outcome {
    case "ok": physical ?? outcome
    case "fault": reason.map { "fault " + hexadecimal($0) } ?? "a fault that FPD keeps silent"
    case "irq": "an interrupt message"
    default: outcome
    }
  }
}
