import ArgumentParser
import IOMMUConformance

/// Plays recorded lives of the real Linux Calgary driver against our chips.
package struct ConformCalgary: ParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "calgary",
    abstract: "Play what the real Calgary driver did against our chips, and compare.",
    discussion: """
      Each directory holds a first kernel's life, trace.jsonl and truth.json, and where there is \
      one a kdump kernel's, trace-kdump.jsonl and truth-kdump.json. Register reads must return \
      what the driver saw; after every call each page in force translates to its truth and each \
      page taken back faults. What a call cannot have changed is looked at again after every \
      write to a register, at every phase mark and at the end; --thorough looks at everything \
      after every call. Register states and images beside the traces are compared too.

      Exits 1 when anything differs, 2 when a file cannot be read; the other directories are played \
      all the same.

      Example: iommu conform calgary Examples/calgary-trace
      """)

  @OptionGroup package var recordings: RecordingOptions

  package init() {}

  package func run() throws { try recordings.run(play) }

  /// Plays all directories.
  package func report(to out: inout some TextOutputStream) throws -> RecordingSummary {
    try recordings.report(to: &out, play)
  }

  private func play(_ directory: String) throws -> [RecordingResult] {
    let conformance = CalgaryConformance(
      directory: directory, cache: recordings.caches == .on ? .unlimited : nil,
      differenceLimit: recordings.show, runsDriver: recordings.driver,
      isThorough: recordings.thorough)
    return [try conformance.result()]
  }
}
