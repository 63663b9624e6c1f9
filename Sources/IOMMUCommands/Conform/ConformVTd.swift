import ArgumentParser
import FoundationEssentials
import Glibc
import IOMMUConformance
import IOMMUFormats
import IOMMUHardware

/// VT-d's unit against recorded cases.
package struct ConformVTd: ParsableCommand {
  package enum Caches: String, ExpressibleByArgument, CaseIterable {
    case off, hardware, everything

    var configuration: CacheConfiguration {
      switch self {
      case .off: .none
      case .hardware: .hardware
      case .everything: .everything
      }
    }
  }

  package static let configuration = CommandConfiguration(
    commandName: "vtd",
    abstract: "Answer cases for an Intel VT-d remapping unit.",
    discussion: """
      One case per line on standard input, a JSON object: the unit's capabilities, what lies in \
      memory, and operations of software and devices. One line of answers per case, a JSON object \
      too; as text a line for each operation that has an answer. A case starts on a unit and a \
      memory of its own.

      Example: iommu conform vtd --format text < Examples/vtd-cases/cases.jsonl
      """)

  @Option(
    help: """
      What the unit remembers: nothing (off), as much as hardware does, or everything that it \
      may until software invalidates it.
      """)
  package var caches = Caches.hardware

  @Option(help: "How to print the answers: json, an object a line, or text.")
  package var format = ReportFormat.json

  package init() {}

  package func run() throws {
    try readingInput {
      let lines = try CaseLines(caches: caches, format: format)
      var output = StandardOutput()
      tellWaiting(for: "cases, a JSON object a line,")
      try forEachLine(of: STDIN_FILENO, name: "standard input") { line, number in
        guard let answer = try lines.answer(line, number: number) else { return }
        output.write(answer)
        // Whoever feeds cases one by one waits for each answer.
        StandardOutput.flush()
      }
    }
  }
}

/// Turns lines of cases into lines of answers.
package struct CaseLines {
  private let conformance: VTdConformance
  private let format: ReportFormat
  private let encoder = JSONEncoder()

  package init(caches: ConformVTd.Caches, format: ReportFormat = .json) throws {
    conformance = try VTdConformance(caches: caches.configuration)
    self.format = format
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
  }

  /// The answers to one line, each line of them with its newline; `nil` for an empty line.
  package func answer(_ line: UnsafeRawBufferPointer, number: Int) throws -> String? {
    guard !line.allSatisfy({ $0 == 0x20 || $0 == 0x09 || $0 == 0x0d }) else { return nil }
    let answers: VTdAnswers
    do {
      answers = try conformance.answers(to: line)
    } catch {
      throw InputError("standard input, line \(number): \(error)")
    }
    switch format {
    case .json:
      return jsonVisible(String(decoding: try encoder.encode(answers), as: UTF8.self)) + "\n"
    case .text: return answers.text
    }
  }
}

extension VTdAnswers {
  /// `basic-1 ops[3]: fault 0x5`, a line for each operation that has an answer.
  fileprivate var text: String {
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
