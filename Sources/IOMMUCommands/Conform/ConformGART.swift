import ArgumentParser
import IOMMUFormats
import IOMMUHardware

/// Plays recorded lives of the Linux GART driver.
package struct ConformGART: ParsableCommand {
  /// The caches of the northbridges during the replay.
  package enum Caches: String, ExpressibleByArgument, CaseIterable { case off, on }

  package static let configuration = CommandConfiguration(
    commandName: "gart",
    abstract: "Play traces of the Linux GART driver against the modelled northbridges.",
    discussion: """
      Each DIR holds trace.jsonl, truth.json, northbridges.json and, of a crash, trace-kdump.jsonl. \
      Register writes go to the model, reads must return what the driver saw, and after every call \
      each mapping in force must lead where the truth says, each page given back to the scratch \
      page or nowhere. What a call cannot have changed is looked at every few calls. With \
      --caches on, what no flush has dropped may still be found.

      Exits 1 when anything differs, 2 when a file cannot be read; the other directories are played \
      all the same.

      Example: iommu conform gart gart-8g-64m-bios --caches on
      """)

  @Argument(help: "Directories with traces.")
  package var directories: [String]

  @Option(help: "The northbridges' caches: off, or on without a limit.")
  package var caches = Caches.off

  @Option(
    help: ArgumentHelp(
      "A cache of so many sets and ways instead of one without a limit, such as 8x4.",
      valueName: "sets"))
  package var cacheSets: CacheSetsArgument?

  @Flag(
    help: """
      Run our own driver beside the recording: it has to make the same register writes, give out the \
      same numbers and leave the same table.
      """)
  package var driver = false

  @Flag(help: "Look at every page after every call, however many there are.")
  package var thorough = false

  @Option(help: "How many differences to show for each trace.")
  package var show = 5

  @Option(help: "How to print the result: text or json.")
  package var format = ReportFormat.text

  package init() {}

  package func validate() throws {
    guard !directories.isEmpty else { throw ValidationError("give at least one directory") }
    guard show >= 0 else { throw ValidationError("--show takes 0 or more, not \(show)") }
    guard cacheSets == nil || caches == .on else {
      throw ValidationError("--cache-sets needs --caches on")
    }
  }

  package func run() throws {
    var screen = StandardOutput()
    let outcome = try report(to: &screen)
    for error in outcome.errors { complain(error) }
    if !outcome.errors.isEmpty { throw ExitCode(2) }
    if outcome.failed > 0 { throw ExitCode(1) }
  }

  /// Plays all directories.
  ///
  /// - Returns: How many traces passed and failed, and what could not be read.
  package func report(
    to out: inout some TextOutputStream
  ) throws -> (passed: Int, failed: Int, errors: [String]) {
    let geometry: GARTCache.Geometry = caches == .off ? .off : cacheSets?.geometry ?? .unlimited
    var results: [GARTConformance.Result] = []
    let clock = ContinuousClock()
    let start = clock.now
    for directory in directories {
      let conformance = GARTConformance(
        directory: directory, cache: geometry, differenceLimit: show, runsDriver: driver,
        isThorough: thorough)
      let played: [GARTConformance.Result]
      do {
        played = try conformance.results()
      } catch {
        played = [GARTConformance.Result(trace: directory, error: "\(error)")]
      }
      results += played
      if format == .text { for result in played { write(result, to: &out) } }
    }
    let summary = Summary(results, took: clock.now - start)
    if format == .json {
      try writeJSON(summary, to: &out)
    } else {
      write(summary, to: &out)
    }
    return (summary.passed, summary.failed, results.compactMap(\.error))
  }

  private struct Summary: Encodable {
    var results: [GARTConformance.Result]
    var totals = ReplayTotals()
    var passed: Int
    var failed: Int
    /// Of all traces together.
    var eventsPerSecond: Int

    init(_ results: [GARTConformance.Result], took duration: Duration) {
      self.results = results
      passed = results.count { $0.passed }
      failed = results.count - passed
      for result in results { totals += result.totals }
      let (seconds, attoseconds) = duration.components
      let time = max(1e-6, Double(seconds) + Double(attoseconds) / 1e18)
      eventsPerSecond = Int(Double(totals.events) / time)
    }
  }

  private func write(_ result: GARTConformance.Result, to out: inout some TextOutputStream) {
    let totals = result.totals
    let verdict = result.passed ? "ok  " : "FAIL"
    out.write(
      "\(verdict) \(result.trace): \(totals.events) events, \(totals.reads) reads and "
        + "\(totals.mappings) mappings compared, \(result.differenceCount) differences\n")
    if let error = result.error { out.write("       \(error)\n") }
    for difference in result.differences { out.write("       \(difference)\n") }
  }

  private func write(_ summary: Summary, to out: inout some TextOutputStream) {
    let totals = summary.totals
    out.write(
      """
      events              \(totals.events), \(summary.eventsPerSecond) a second
      register writes     \(totals.writes), \(totals.flushes) flushes
      reads compared      \(totals.reads), and \(totals.firmwareReads) of what firmware left
      entries stored      \(totals.stores)
      calls               \(totals.calls)
      mappings compared   \(totals.mappings), page by page \(totals.pages) times
      pages given back    compared \(totals.freedPages) times, \(totals.staleHits) still in a cache
      beside the traces   \(totals.tableBytes) bytes of table, \(totals.imagePages) pages of buffers
      our own driver      \(totals.driverSteps) steps compared
      differences         \(summary.results.reduce(0) { $0 + $1.differenceCount })
      \(summary.passed) passed, \(summary.failed) failed

      """)
  }
}

/// Sets and ways of a cache: `8x4`.
package struct CacheSetsArgument: ExpressibleByArgument {
  let geometry: GARTCache.Geometry

  package init?(argument: String) {
    let parts = argument.split(separator: "x", omittingEmptySubsequences: false)
    guard parts.count == 2, let sets = Int(parts[0]), let ways = Int(parts[1]),
      1...65_536 ~= sets, sets & (sets - 1) == 0, 1...1024 ~= ways
    else { return nil }
    geometry = .sets(setCount: sets, wayCount: ways)
  }
}
