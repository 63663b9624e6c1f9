import ArgumentParser
import Glibc
import IOMMUFormats
import IOMMUHardware
import IOMMUImages

/// Plays recorded lives of the real Linux Calgary driver against our chips.
package struct ConformCalgary: ParsableCommand {
  package enum Caches: String, ExpressibleByArgument, CaseIterable { case on, off }

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

      Exit status: 0 when nothing differs, 1 when something does, 2 when a file cannot be read.

      Example: iommu conform calgary traces/calgary-1g-4M
      """)

  @Argument(help: "Directories with traces.")
  package var directories: [String]

  @Option(
    help: """
      Whether the chips cache table entries: on lets a page that was taken back answer until the \
      driver's next flush.
      """)
  package var caches = Caches.off

  @Flag(help: "Look at every page after every call.")
  package var thorough = false

  @Flag(
    help: """
      Run our own driver beside the recording: it has to take the same steps and give out the same \
      numbers.
      """)
  package var driver = false

  package init() {}

  package func run() throws {
    var out = StandardOutput()
    let outcome = report(to: &out)
    if outcome.unreadable > 0 { throw ExitCode(2) }
    if outcome.failed > 0 { throw ExitCode(1) }
  }

  /// Plays all directories.
  ///
  /// - Returns: How many passed, failed, and among the failed could not be read.
  package func report(
    to out: inout some TextOutputStream
  ) -> (passed: Int, failed: Int, unreadable: Int) {
    var outcome = (passed: 0, failed: 0, unreadable: 0)
    var totals = ReplayTotals()
    var differenceCount = 0
    let clock = ContinuousClock()
    let start = clock.now
    for directory in directories {
      do {
        let report = try replay(directory)
        let passed = report.log.count == 0
        out.write("\(passed ? "ok  " : "FAIL") \(directory)\n")
        report.totals.write(differenceCount: report.log.count, to: &out)
        for note in report.notes { out.write("  \(note)\n") }
        for difference in report.log.kept { out.write("  \(difference)\n") }
        if report.log.count > report.log.kept.count {
          out.write("  ... \(report.log.count - report.log.kept.count) more\n")
        }
        if passed { outcome.passed += 1 } else { outcome.failed += 1 }
        totals += report.totals
        differenceCount += report.log.count
      } catch {
        let text = (error as? InputError)?.text ?? "\(error)"
        complain(text)
        out.write("FAIL \(directory)\n  \(text)\n")
        outcome.failed += 1
        outcome.unreadable += 1
      }
    }
    let duration = clock.now - start
    let seconds =
      Double(duration.components.seconds) + Double(duration.components.attoseconds) / 1e18
    out.write(
      """
      all \(directories.count) directories, \
      \(grouped(Int(Double(totals.events) / max(seconds, 1e-9)))) events per second
      """ + "\n")
    totals.write(differenceCount: differenceCount, to: &out)
    out.write("\(outcome.passed) passed, \(outcome.failed) failed\n")
    return outcome
  }

  private func replay(_ directory: String) throws -> ReplayReport {
    let replay = try CalgaryReplay(
      truth: try TraceTruth(path: "\(directory)/truth.json"),
      cache: caches == .on ? .unlimited : nil, isThorough: thorough)
    let last = try play(replay, directory, suffix: "", after: nil)
    if access("\(directory)/trace-kdump.jsonl", F_OK) == 0 {
      replay.start(try TraceTruth(path: "\(directory)/truth-kdump.json"))
      _ = try play(replay, directory, suffix: "-kdump", after: last)
    }
    return replay.report
  }

  /// Our driver, for the machine that the recording shows.
  private func driverReplay(
    _ replay: CalgaryReplay, _ path: String, after sequence: UInt64?
  ) throws -> DriverReplay {
    // The Rio table is not in the recording; the chips' order in it is that of their first access.
    var reader = try TraceReader(path: path, after: sequence)
    var bases: [PhysicalAddress] = []
    while let event = try reader.next() {
      guard case .register(let access) = event.action else { continue }
      if !bases.contains(access.base) { bases.append(access.base) }
    }
    guard let ours = DriverReplay(truth: replay.truth, bases: bases, memory: replay.memory) else {
      throw InputError("\(replay.truth.path): driver: names no version of Linux that is known")
    }
    return ours
  }

  /// One kernel's life, and what has to hold at its end.
  private func play(
    _ replay: CalgaryReplay, _ directory: String, suffix: String, after sequence: UInt64?
  ) throws -> UInt64? {
    let path = "\(directory)/trace\(suffix).jsonl"
    let ours = try driver ? driverReplay(replay, path, after: sequence) : nil
    var line = 0
    let last = try replay.play(path, after: sequence) { event in
      line = event.line
      ours?.observe(event)
    }
    if let ours {
      ours.finish(line: line)
      replay.report.totals.driverSteps += ours.platform.stepCount
      if let (line, text) = ours.difference { replay.report.differ("\(path):\(line)", text) }
      if let stop = ours.stop { replay.report.notes.append("\(path): our driver stops: \(stop)") }
    }
    replay.compareCounts()
    replay.compareTables()
    let registers = "\(directory)/regs\(suffix).json"
    if access(registers, F_OK) == 0 { replay.compare(try RegisterStates(path: registers)) }
    let image = "\(directory)/image\(suffix).elf"
    if access(image, F_OK) == 0 { replay.compareMemory(with: try MemoryImage(path: image)) }
    return last
  }
}
