import ArgumentParser
import IOMMUConformance
import IOMMUFormats
import IOMMUHardware

/// Plays recorded lives of the Linux GART driver.
package struct ConformGART: ParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "gart",
    abstract: "Play traces of the Linux GART driver against the modelled northbridges.",
    discussion: """
      Each directory holds trace.jsonl, truth.json, northbridges.json and, of a crash, \
      trace-kdump.jsonl. Register writes go to the model, reads must return what the driver saw, \
      and after every call each mapping in force must lead where the truth says, each page given \
      back to the scratch page or nowhere. What a call cannot have changed is looked at every few \
      calls. With --caches on, what no flush has dropped may still be found.

      Exits 1 when anything differs, 2 when a file cannot be read; the other directories are played \
      all the same.

      Example: iommu conform gart Examples/gart-trace --caches on
      """)

  @OptionGroup package var recordings: RecordingOptions

  @Option(
    help: ArgumentHelp(
      "A cache of so many sets and ways instead of one without a limit, such as 8x4.",
      valueName: "sets"),
    transform: { try CacheSetsArgument($0) })
  package var cacheSets: CacheSetsArgument?

  package init() {}

  package func validate() throws {
    guard cacheSets == nil || recordings.caches == .on else {
      throw ValidationError("--cache-sets needs --caches on")
    }
  }

  package func run() throws { try recordings.run(play) }

  /// Plays all directories.
  package func report(to out: inout some TextOutputStream) throws -> RecordingSummary {
    try recordings.report(to: &out, play)
  }

  private func play(_ directory: String) throws -> [RecordingResult] {
    let conformance = GARTConformance(
      directory: directory,
      cache: recordings.caches == .off ? .off : cacheSets?.geometry ?? .unlimited,
      differenceLimit: recordings.show, runsDriver: recordings.driver,
      isThorough: recordings.thorough)
    return try conformance.results()
  }
}

/// Sets and ways of a cache: `8x4`.
package struct CacheSetsArgument {
  let geometry: GARTCache.Geometry

  package init(_ text: String) throws(NotationError) {
    let parts = text.split(separator: "x", omittingEmptySubsequences: false)
    guard parts.count == 2, let sets = Int(parts[0]), let ways = Int(parts[1]),
      1...65_536 ~= sets, sets & (sets - 1) == 0, 1...1024 ~= ways
    else {
      throw NotationError(
        "a cache is SETSxWAYS, such as 8x4: a power of two up to 65536, and up to 1024 ways")
    }
    geometry = .sets(setCount: sets, wayCount: ways)
  }
}
