import ArgumentParser
import IOMMUFormats
import IOMMUTesting

/// Tables with requests and answers for other people's emulators, and what these make of them.
package struct Corpus: ParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "corpus",
    abstract: "Write tables with requests and answers, or hold another program against them.",
    discussion: """
      Writes a directory of cases: tables in memory, a machine file, and requests with the answers \
      that the manuals give, as 'iommu translate' reads and prints them. README and index.json there \
      say what each case is, and what was damaged. The same seeds give the same cases.

      With --check a shell runs a program for each case, with the image, --machine and the machine \
      file behind it, and requests on standard input; 'iommu translate' is such a program. One that \
      crashes, hangs, or prints something else than answers has failed the case.

      Exits 1 when an answer differs, 2 when the corpus or the program cannot be used.

      Example: iommu corpus -o corpus && iommu corpus --check 'iommu translate' corpus
      """)

  @Argument(help: "The corpus that a program is held against.", completion: .directory)
  package var directory: String?

  @Option(
    name: .shortAndLong,
    help: ArgumentHelp("Write a corpus here, where nothing is yet.", valueName: "dir"),
    completion: .directory)
  package var output: String?

  @Option(
    help: ArgumentHelp("Run this program over the corpus, and compare.", valueName: "program"))
  package var check: String?

  @Option(
    name: .customLong("kind"),
    help: ArgumentHelp("Only tables of this kind. May be repeated.", valueName: "kind"))
  package var kinds: [TableCase.Kind] = []

  @Option(help: ArgumentHelp("The first seed. Default: 1.", valueName: "n"))
  package var seed: UInt64?

  @Option(
    help: ArgumentHelp("Seeds from there on, of each kind. Default: 1.", valueName: "n"),
    transform: { try Notation.count($0, in: 1...100_000) })
  package var count: Int?

  @Option(help: "Which tables: whole, damaged (one entry or register), or both. Default: both.")
  package var tables: CorpusTables?

  @Option(
    help: ArgumentHelp(
      "How long the program may take for a case. Default: 10.", valueName: "seconds"),
    transform: { try Notation.count($0, in: 1...86_400) })
  package var timeLimit: Int?

  @Flag(help: "Where a fault is expected, one of another number will do.")
  package var anyFault = false

  @Option(
    help: ArgumentHelp("How many differences to show for each case. Default: 5.", valueName: "n"),
    transform: { try Notation.count($0, in: 0...1_000_000) })
  package var show: Int?

  @Option(help: "How to print the result: text or json.")
  package var format = ReportFormat.text

  package init() {}

  package mutating func validate() throws {
    switch (output, check) {
    case (nil, nil):
      throw ValidationError("give --output DIR to write a corpus, or --check PROGRAM and a corpus")
    case (_?, _?):
      throw ValidationError("--output writes a corpus, --check reads one: give one of them")
    case (_?, nil):
      if let directory {
        throw ValidationError("'\(directory)' is one too many: --output says where the corpus goes")
      }
      if timeLimit != nil || anyFault || show != nil {
        throw ValidationError("--time-limit, --any-fault and --show are for --check")
      }
      guard !(seed ?? 1).addingReportingOverflow(UInt64(count ?? 1)).overflow else {
        throw ValidationError("seeds end at \(UInt64.max); give a smaller --seed or --count")
      }
    case (nil, _?):
      guard directory != nil else {
        throw ValidationError("which corpus? Its directory comes behind --check PROGRAM")
      }
      if seed != nil || count != nil || tables != nil {
        throw ValidationError("--seed, --count and --tables are for --output")
      }
    }
  }

  package func run() throws {
    var screen = StandardOutput()
    try report(to: &screen).exit()
  }

  /// - Returns: Whether all answers are as they must be.
  @discardableResult
  package func report(to out: inout some TextOutputStream) throws -> Answer {
    try readingInput {
      do {
        guard let check, let directory else { return try write(to: &out) }
        let result = try CorpusCheck(
          program: OtherProgram(command: check, timeLimit: .seconds(timeLimit ?? 10)),
          kinds: Set(kinds.map(\.rawValue)), takesAnyFault: anyFault, differenceLimit: show ?? 5
        ).check(directory)
        switch format {
        case .text: result.write(to: &out)
        case .json: try writeJSON(result, keys: .snakeCase, to: &out)
        }
        return Answer(result.failed == 0)
      } catch is HeldSignals.Interruption {
        throw InputError("interrupted")
      }
    }
  }

  private func write(to out: inout some TextOutputStream) throws -> Answer {
    let first = seed ?? 1
    let path = output ?? "corpus"
    let index = try CorpusWriter(
      kinds: TableCase.Kind.allCases.filter { kinds.isEmpty || kinds.contains($0) },
      seeds: first..<first + UInt64(count ?? 1), damage: (tables ?? .both).damage
    ).write(to: path)
    switch format {
    case .text:
      index.counts.write(to: &out)
      print("\(path)/README says what each case is", to: &out)
    case .json: try writeJSON(index, to: &out)
    }
    return .yes
  }
}

/// Which cases are written.
package enum CorpusTables: String, ExpressibleByArgument, CaseIterable {
  case whole, damaged, both

  var damage: [Bool] {
    switch self {
    case .whole: [false]
    case .damaged: [true]
    case .both: [false, true]
    }
  }
}

extension TableCase.Kind: ExpressibleByArgument {}
