import ArgumentParser
import FoundationEssentials
import Glibc
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
      memory, and operations of software and devices. One line of answers per case. A case starts \
      on a unit and a memory of its own.

      Example: zcat cases.jsonl.gz | iommu conform vtd --caches everything > answers.jsonl
      """)

  @Option(
    help: """
      What the unit remembers: nothing (off), as much as hardware does, or everything that it \
      may until software invalidates it.
      """)
  package var caches = Caches.hardware

  package init() {}

  package func run() throws {
    try readingInput {
      let run = try ConformRun(caches: caches)
      var output = StandardOutput()
      try forEachLine(of: STDIN_FILENO, name: "standard input") { line, number in
        guard let answer = try run.answer(line, number: number) else { return }
        output.write(answer)
        // Whoever feeds cases one by one waits for each answer.
        StandardOutput.flush()
      }
    }
  }
}

/// Turns case lines into answer lines.
package struct ConformRun {
  private let machine: ConformMachine
  private let decoder = JSONDecoder()
  private let encoder = JSONEncoder()

  package init(caches: ConformVTd.Caches) throws {
    machine = try ConformMachine(caches: caches.configuration)
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
  }

  /// The answer to one line, with its newline; `nil` for an empty line.
  package func answer(_ line: UnsafeRawBufferPointer, number: Int) throws -> String? {
    guard !line.allSatisfy({ $0 == 0x20 || $0 == 0x09 || $0 == 0x0d }) else { return nil }
    do {
      let test = try decoder.decode(ConformCase.self, from: Data(line))
      let answers = try machine.answers(to: test)
      return String(decoding: try encoder.encode(answers), as: UTF8.self) + "\n"
    } catch let error as ConformError {
      throw InputError("standard input, line \(number): \(error.text)")
    } catch let error as RemappingUnitConfigurationError {
      throw InputError("standard input, line \(number): \(error)")
    } catch let error as DecodingError {
      throw InputError("standard input, line \(number): \(Self.text(error))")
    }
  }

  private static func text(_ error: DecodingError) -> String {
    switch error {
    case .keyNotFound(let key, let context):
      "\(path(context.codingPath + [key])): is missing"
    case .typeMismatch(_, let context), .valueNotFound(_, let context),
      .dataCorrupted(let context):
      "\(path(context.codingPath)): \(context.debugDescription)"
    @unknown default: "is no case: \(error)"
    }
  }

  /// `ops[3].pa`, or the whole line.
  private static func path(_ keys: [any CodingKey]) -> String {
    keys.isEmpty
      ? "the line"
      : keys.reduce(into: "") { text, key in
        if let index = key.intValue {
          text += "[\(index)]"
        } else {
          text += (text.isEmpty ? "" : ".") + key.stringValue
        }
      }
  }
}
