import Glibc
import IOMMUFormats
import IOMMUHardware
import IOMMUImages

/// One directory of a recorded Calgary driver: the first kernel's trace, and the kdump kernel's after
/// it on the same chips, each against what lies beside it.
package struct CalgaryConformance {
  let directory: String
  let cache: CalgaryOptions.CacheGeometry?
  let differenceLimit: Int
  /// Whether our own driver runs beside the recording.
  let runsDriver: Bool
  /// Whether all pages are compared after every call.
  let isThorough: Bool

  /// - Parameter cache: The chips' TCE cache; `nil` for none.
  package init(
    directory: String, cache: CalgaryOptions.CacheGeometry?, differenceLimit: Int,
    runsDriver: Bool, isThorough: Bool
  ) {
    self.directory = directory
    self.cache = cache
    self.differenceLimit = differenceLimit
    self.runsDriver = runsDriver
    self.isThorough = isThorough
  }

  private func path(_ file: String) -> String {
    directory + (directory.hasSuffix("/") ? "" : "/") + file
  }

  private func exists(_ file: String) -> Bool {
    // Safe: the call reads the path, and nothing of it after it returns.
    unsafe access(path(file), F_OK) == 0
  }

  /// Plays the directory's traces.
  ///
  /// - Throws: ``ImageError`` for a file that is missing or cannot be read.
  package func result() throws(ImageError) -> RecordingResult {
    let replay = try CalgaryReplay(
      truth: try TraceTruth(path: path("truth.json")), cache: cache,
      differenceLimit: differenceLimit, isThorough: isThorough)
    let last = try play(replay, suffix: "", after: nil)
    if exists("trace-kdump.jsonl") {
      replay.start(try TraceTruth(path: path("truth-kdump.json")))
      _ = try play(replay, suffix: "-kdump", after: last)
    }
    let report = replay.report
    return RecordingResult(
      recording: directory, log: report.log, notes: report.notes, totals: report.totals)
  }

  /// One kernel's life, and what has to hold at its end.
  ///
  /// - Returns: The number of the last event.
  private func play(
    _ replay: CalgaryReplay, suffix: String, after sequence: UInt64?
  ) throws(ImageError) -> UInt64? {
    let trace = path("trace\(suffix).jsonl")
    let ours = runsDriver ? try driver(beside: replay, trace, after: sequence) : nil
    var line = 0
    let last = try replay.play(trace, after: sequence) { event in
      line = event.line
      ours?.observe(event)
    }
    if let ours {
      ours.finish(line: line)
      replay.report.totals.driverSteps += ours.platform.stepCount
      if let (line, text) = ours.difference { replay.report.differ("\(trace):\(line)", text) }
      if let stop = ours.stop { replay.report.notes.append("\(trace): our driver stops: \(stop)") }
    }
    replay.compareCounts()
    replay.compareTables()
    if exists("regs\(suffix).json") {
      replay.compare(try RegisterStates(path: path("regs\(suffix).json")))
    }
    if exists("image\(suffix).elf") {
      replay.compareMemory(with: try MemoryImage(path: path("image\(suffix).elf")))
    }
    return last
  }

  /// Our driver, for the machine that the recording shows.
  private func driver(
    beside replay: CalgaryReplay, _ trace: String, after sequence: UInt64?
  ) throws(ImageError) -> CalgaryDriverReplay {
    // The Rio table is not in the recording; the chips' order in it is that of their first access.
    var reader = try TraceReader(path: trace, after: sequence)
    var bases: [PhysicalAddress] = []
    while let event = try reader.next() {
      guard case .register(let access) = event.action else { continue }
      if !bases.contains(access.base) { bases.append(access.base) }
    }
    guard let ours = CalgaryDriverReplay(truth: replay.truth, bases: bases, memory: replay.memory)
    else {
      throw ImageError(
        file: replay.truth.path, place: "driver", found: "names no version of Linux that is known")
    }
    return ours
  }
}
