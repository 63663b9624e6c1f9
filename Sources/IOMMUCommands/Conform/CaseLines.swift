import ArgumentParser
import FoundationEssentials
import Glibc
import IOMMUConformance
import IOMMUFormats

/// What the commands have in common that answer cases.
package struct CaseOptions: ParsableArguments {
  package enum Caches: String, ExpressibleByArgument, CaseIterable {
    case off, hardware, everything
  }

  static let discussion = """
    One case per line on standard input, a JSON object: the unit's capabilities, what lies in \
    memory, and operations of software and devices. One line of answers per case, a JSON object \
    too; as text a line for each operation that has an answer. A case starts on a unit and a \
    memory of its own.
    """

  @Option(
    help: """
      What the unit remembers: nothing (off), as much as hardware does, or everything that it \
      may until software invalidates it.
      """)
  package var caches = Caches.hardware

  @Option(help: "How to print the answers: json, an object a line, or text.")
  package var format = ReportFormat.json

  package init() {}

  /// Answers standard input, line by line.
  func answer<Conformance>(with lines: () throws -> CaseLines<Conformance>) throws {
    try readingInput {
      let lines = try lines()
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

/// Answers that can be told to people.
package protocol CaseText {
  /// A line, with its newline, for each operation that has an answer.
  var text: String { get }
}

/// Turns lines of cases into lines of answers.
package struct CaseLines<Conformance: CaseConformance> where Conformance.Answers: CaseText {
  private let conformance: Conformance
  private let format: ReportFormat
  private let encoder = JSONEncoder()

  package init(_ conformance: Conformance, format: ReportFormat = .json) {
    self.conformance = conformance
    self.format = format
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
  }

  /// The answers to one line, each line of them with its newline; `nil` for an empty line.
  package func answer(_ line: UnsafeRawBufferPointer, number: Int) throws -> String? {
    guard !line.allSatisfy({ $0 == 0x20 || $0 == 0x09 || $0 == 0x0d }) else { return nil }
    let answers: Conformance.Answers
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
