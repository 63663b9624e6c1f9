import ArgumentParser
import IOMMUConformance
import IOMMUFormats
import IOMMUHardware

/// AMD-Vi's unit against cases.
package struct ConformAMDVi: ParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "amdvi",
    abstract: "Answer cases for an AMD-Vi unit.",
    discussion: """
      \(CaseOptions.discussion)

      Example: iommu conform amdvi --format text < Examples/amdvi-cases/cases.jsonl
      """)

  @OptionGroup package var options: CaseOptions

  package init() {}

  package func run() throws {
    try options.answer(with: options.amdviLines)
  }
}

extension CaseOptions {
  /// What turns lines of cases into lines of answers.
  func amdviLines() throws -> CaseLines<AMDViConformance> {
    CaseLines(try AMDViConformance(caches: caches.amdvi), format: format)
  }
}

extension CaseOptions.Caches {
  fileprivate var amdvi: AMDViCacheConfiguration {
    switch self {
    case .off: .none
    case .hardware: .hardware
    case .everything: .everything
    }
  }
}

extension AMDViAnswers: CaseText {
  /// `entry-1 ops[3]: IO_PAGE_FAULT ...`, a line for each operation that has an answer.
  package var text: String {
    answers.enumerated().reduce(into: "") { text, operation in
      guard let answer = operation.element else { return }
      text += "\(id.visible) ops[\(operation.offset)]: \(answer.text)\n"
    }
  }
}

extension AMDViAnswer {
  fileprivate var text: String {
    guard let parts else { return "memory holds \(hex ?? "nothing")" }
    guard parts.count > 1 else { return parts.first?.text ?? "nothing" }
    return parts.map { "\(hexadecimal($0.len)) bytes: \($0.text)" }.joined(separator: ", ")
  }
}

extension AMDViAnswer.Part {
  fileprivate var text: String {
    switch r {
    case "ok": pa ?? r
    case "irq": "an interrupt message"
    default: "fault, " + ((event ?? nil).map { "event \($0)" } ?? "no event")
    }
  }
}
