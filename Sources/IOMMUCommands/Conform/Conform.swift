import ArgumentParser
import IOMMUConformance
import IOMMUFormats

/// Holds the modelled hardware against recordings.
package struct Conform: ParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "conform",
    abstract: "Hold the modelled hardware against recordings: drivers' lives, units' answers.",
    discussion: """
      Example: iommu conform gart Examples/gart-trace
      Example: zcat cases.jsonl.gz | iommu conform vtd > answers.jsonl
      """,
    subcommands: [ConformCalgary.self, ConformGART.self, ConformVTd.self, ConformAMDVi.self])

  package init() {}
}

/// What the replays of recorded drivers have in common.
package struct RecordingOptions: ParsableArguments {
  /// Whether the modelled hardware has its caches.
  package enum Caches: String, ExpressibleByArgument, CaseIterable { case off, on }

  @Argument(help: "Directories with traces.", completion: .directory)
  package var directories: [String]

  @Option(
    help: """
      The hardware's caches: off, or on without a limit. On lets a page that was taken back answer \
      until the driver's next flush.
      """)
  package var caches = Caches.off

  @Flag(
    help: """
      Run our own driver beside the recording: it has to take the same steps and give out the same \
      numbers.
      """)
  package var driver = false

  @Flag(help: "Look at every page after every call, however many there are.")
  package var thorough = false

  @Option(
    help: "How many differences to show for each recording. Default: 5.",
    transform: { try Notation.count($0, in: 0...1_000_000) })
  package var show = 5

  @Option(help: "How to print the result: text or json.")
  package var format = ReportFormat.text

  package init() {}

  package func validate() throws {
    guard !directories.isEmpty else { throw ValidationError("give at least one directory") }
    guard show >= 0 else { throw ValidationError("--show takes 0 or more, not \(show)") }
  }

  /// Plays all directories and prints how they came out.
  func report(
    to out: inout some TextOutputStream, _ play: (_ directory: String) throws -> [RecordingResult]
  ) throws -> RecordingSummary {
    var results: [RecordingResult] = []
    let clock = ContinuousClock()
    let start = clock.now
    for directory in directories {
      let played: [RecordingResult]
      do {
        played = try play(directory)
      } catch {
        played = [RecordingResult(recording: directory, error: "\(error)")]
      }
      results += played
      if format == .text { for result in played { result.write(to: &out) } }
    }
    let summary = RecordingSummary(results, took: clock.now - start)
    switch format {
    case .text: summary.write(to: &out)
    case .json: try writeJSON(summary, keys: .snakeCase, to: &out)
    }
    return summary
  }

  /// Prints how all directories came out, and ends with the status that says so.
  func run(_ play: (_ directory: String) throws -> [RecordingResult]) throws {
    var screen = StandardOutput()
    let results = try report(to: &screen, play).results
    let errors = results.compactMap(\.error)
    for error in errors { complain(error) }
    if !errors.isEmpty { throw ExitCode(2) }
    if results.contains(where: { !$0.passed }) { throw ExitCode(1) }
  }
}

extension RecordingResult {
  fileprivate func write(to out: inout some TextOutputStream) {
    out.write(
      "\(passed ? "ok  " : "FAIL") \(recording.visible): \(totals.events) events, \(totals.reads) reads and "
        + "\(totals.mappings) mappings compared, \(differenceCount) differences\n")
    for line in [error].compactMap({ $0 }) + notes + differences {
      out.write("       \(line.visible)\n")
    }
  }
}

extension RecordingSummary {
  fileprivate func write(to out: inout some TextOutputStream) {
    out.write(
      """
      events              \(totals.events), \(eventsPerSecond) a second
      register writes     \(totals.writes), \(totals.flushes) flushes
      reads compared      \(totals.reads), and \(totals.firmwareReads) of what firmware left, \
      \(totals.environmentReads) of what goes on around
      entries stored      \(totals.stores)
      calls               \(totals.calls)
      mappings compared   \(totals.mappings), page by page \(totals.pages) times
      pages given back    compared \(totals.freedPages) times, \(totals.staleHits) still in a cache
      beside the traces   \(totals.finalStates) states, \(totals.tableBytes) bytes of table, \
      \(totals.imagePages) pages of buffers
      our own driver      \(totals.driverSteps) steps compared
      differences         \(differenceCount)
      \(passed) passed, \(failed) failed

      """)
  }
}
