import ArgumentParser
import IOMMUFormats
import IOMMUImages
import IOMMUInspection
import IOMMUKdump
import IOMMUTranslation

/// Plays what kernels do about leftover DMA.
package struct Crash: ParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "crash",
    abstract: "Play crashes: what leftover DMA comes to, by what kernels do about it.",
    discussion: """
      Alone: the strategies on VT-d, each played on one machine with a device that goes on with four \
      kinds of numbers; --unit chooses another unit, --all plays every one. With --strategy one crash \
      from second to second, on a machine of nine devices or on the one that the options say. With \
      --scenario what was expected of crashes that people asked about, and what is found. With --runs \
      random machines, and how many of the crashes end how; parts of such a series (--shard) may be \
      played anywhere, and --merge adds them up.

      What an access comes to is decided by where its bytes are afterwards.

      Exits 0; 1 when a scenario differs from what was expected, without a remark that says why; 2 when \
      a machine cannot be set up, or a file cannot be read.

      Example: iommu crash --strategy S11 --unit vtd --device nic
      """)

  @Flag(help: "The matrix of every unit.")
  package var all = false

  @Option(
    help: ArgumentHelp("One strategy, such as S7 (the Rule) or S11.", valueName: "code"),
    completion: .list(CrashStrategy.allCases.map(\.rawValue)),
    transform: { try choice($0, of: "strategy", among: CrashStrategy.allCases) })
  package var strategy: CrashStrategy?

  @Option(
    help: ArgumentHelp(
      "What stands between devices and memory: "
        + CrashUnit.allCases.map(\.rawValue).joined(separator: ", ") + ".",
      valueName: "unit"),
    completion: .list(CrashUnit.allCases.map(\.rawValue)),
    transform: { try choice($0, of: "unit", among: CrashUnit.allCases) })
  package var unit: CrashUnit?

  @Option(
    help: ArgumentHelp("Tell one phase of the crash only, P0 to P4.", valueName: "phase"),
    completion: .list(CrashPhase.allCases.map(\.rawValue)),
    transform: { try choice($0, of: "phase", among: CrashPhase.allCases) })
  package var phase: CrashPhase?

  @OptionGroup package var machine: CrashMachineOptions

  @Option(help: "What the unit remembers: none, hardware or everything. Default: hardware.")
  package var caches: CacheLevel?

  @Option(
    help: """
      When devices with a driver come to rest: by-driver (before anything is mapped) or after-mapping. \
      Default: as the device's drivers do it; in the matrix after-mapping, on random machines either.
      """)
  package var reset: ResetArgument?

  @Flag(help: "The capture kernel forgets to flush what the unit remembers.")
  package var noFlush = false

  @Option(
    help: ArgumentHelp("A scenario, such as K21, or all of them.", valueName: "name"),
    completion: .list(["all"] + CrashScenario.all.map(\.name)))
  package var scenario: String?

  @Option(
    help: ArgumentHelp("Play so many random machines.", valueName: "n"),
    transform: { try Notation.count($0, in: 1...CrashRuns.runLimit) })
  package var runs: Int?

  @Option(help: ArgumentHelp("Where random machines begin. Default: 1.", valueName: "n"))
  package var seed: UInt64?

  @Option(
    help: ArgumentHelp("Play one part of the random machines only.", valueName: "i/n"),
    transform: { try ShardArgument($0) })
  package var shard: ShardArgument?

  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp("Add up the JSON results of all parts.", valueName: "files"),
    completion: .file())
  package var merge: [String] = []

  @Option(
    help: ArgumentHelp(
      "Write memory before and after each crash, as ELF cores with machine files, here.",
      valueName: "dir"), completion: .directory)
  package var output: String?

  @Option(
    help: ArgumentHelp("Write it as a page of HTML, too.", valueName: "file.html"),
    completion: .file())
  package var report: String?

  @Option(help: "How to print the result: text or json.")
  package var format = ReportFormat.text

  @OptionGroup package var screen: ScreenOptions

  package init() {}

  /// What the command is asked for.
  private enum Mode: String {
    case matrix = "the matrix"
    case timeline = "one crash (--strategy)"
    case scenarios = "--scenario"
    case runs = "random machines (--runs)"
    case merge = "--merge"
  }

  private var mode: Mode {
    if !merge.isEmpty { return .merge }
    if scenario != nil { return .scenarios }
    if runs != nil || seed != nil || shard != nil { return .runs }
    return strategy == nil ? .matrix : .timeline
  }

  package func validate() throws {
    let mode = mode
    let crash: Set<Mode> = [.matrix, .timeline]
    for (option, isGiven, modes) in [
      ("--merge", !merge.isEmpty, Set([.merge])), ("--scenario", scenario != nil, [.scenarios]),
      ("--all", all, [.matrix]), ("--strategy", strategy != nil, [.timeline, .runs]),
      ("--unit", unit != nil, [.matrix, .timeline, .runs]), ("--phase", phase != nil, [.timeline]),
      ("--ram", machine.ram != nil, [.timeline]),
      ("--crash-kernel", !machine.placement.crashKernel.isEmpty, [.timeline]),
      ("--machine", machine.machine != nil, [.timeline]),
      ("--device", !machine.device.isEmpty, [.timeline]), ("--caches", caches != nil, crash),
      ("--reset", reset != nil, crash.union([.runs])), ("--no-flush", noFlush, crash),
      ("--output", output != nil, crash), ("--report", report != nil, crash),
      ("--runs", runs != nil, [.runs]), ("--seed", seed != nil, [.runs]),
      ("--shard", shard != nil, [.runs]),
    ] as [(String, Bool, Set<Mode>)] where isGiven && !modes.contains(mode) {
      let all = [Mode.matrix, .timeline, .scenarios, .runs, .merge]
      let takers = all.filter(modes.contains).map(\.rawValue).joined(separator: " and ")
      throw ValidationError(
        "\(option) is for \(takers), and changes nothing about \(mode.rawValue)")
    }
    if all, unit != nil { throw ValidationError("--all is every unit; leave out --unit") }
    if mode == .runs, runs == nil {
      throw ValidationError("--runs says how many random machines; give it, such as --runs 1000")
    }
    if let strategy, let unit, !unit.strategies.contains(strategy) {
      throw ValidationError(
        "\(unit.title) has no \(strategy.rawValue): it is played on "
          + "\(strategy.units.map(\.rawValue).joined(separator: ", ")), and \(unit.rawValue) has "
          + unit.strategies.map(\.rawValue).joined(separator: ", "))
    }
    if mode == .timeline { _ = try playedUnit() }
    if machine.ram != nil, machine.machine != nil {
      throw ValidationError("--machine says how much RAM there is; leave out --ram")
    }
    if machine.device.flatMap(\.slots).reduce(0, { $0 + $1.profiles.count })
      > CrashMachineOptions.deviceLimit
    {
      throw ValidationError(
        "a machine of the lab has at most \(CrashMachineOptions.deviceLimit) devices")
    }
    if output != nil, let unit = mode == .timeline ? try playedUnit() : unit, !unit.isHardware {
      throw ValidationError(
        "--output: the table of \(unit.title) is modelled outside of memory, so its memory says nothing"
      )
    }
    if mode == .scenarios { _ = try scenarios() }
  }

  /// The unit of one crash.
  private func playedUnit() throws -> CrashUnit {
    guard let strategy else { preconditionFailure("one crash has a strategy") }
    if let unit { return unit }
    let units = strategy.units
    guard units.count == 1 else {
      throw ValidationError(
        "\(strategy.rawValue) is played on several units; give --unit "
          + units.map(\.rawValue).joined(separator: ", --unit "))
    }
    return units[0]
  }

  private func scenarios() throws -> [CrashScenario] {
    guard let scenario, scenario.lowercased() != "all" else { return CrashScenario.all }
    let all = CrashScenario.all
    if let found = all.first(where: { $0.name.lowercased() == scenario.lowercased() }) {
      return [found]
    }
    let names = all.map(\.name)
    let nearest = likelyName(for: scenario, among: names.map { $0.lowercased() })?.uppercased()
    throw ValidationError(
      "there is no scenario '\(scenario.visible)'"
        + (nearest.map { "; did you mean '\($0)'?" }
          ?? "; there are all\(names.map { ", \($0)" }.joined())"))
  }

  package func run() throws {
    var (out, ink) = screen.open()
    try report(to: &out, ink: ink).exit()
  }

  package func report(to out: inout some TextOutputStream, ink: Ink = .none) throws -> Answer {
    switch mode {
    case .matrix: try reportMatrix(to: &out, ink: ink)
    case .timeline: try reportCrash(to: &out, ink: ink)
    case .scenarios: try reportScenarios(to: &out, ink: ink)
    case .runs: try report(try played(), to: &out, ink: ink)
    case .merge: try report(try merged(), to: &out, ink: ink)
    }
  }

  // MARK: The matrix

  private func reportMatrix(to out: inout some TextOutputStream, ink: Ink) throws -> Answer {
    let units = all ? CrashUnit.allCases : [unit ?? .vtd]
    var matrix = CrashMatrixReport(
      units: units, caches: caches ?? .hardware, omitsFlushes: noFlush)
    let directory = try readingInput { try output.map { try OutputDirectory($0) } }
    let bar = ProgressBar("play")
    defer { bar.finish() }
    let total = UInt64(CrashMatrixReport.lineCount(units))
    for unit in units {
      if output != nil, !unit.isHardware {
        warn("--output: leaving out \(unit.title), whose table is modelled outside of memory")
      }
      for strategy in unit.strategies {
        do {
          let (lab, wild) = try CrashMatrix.lab(
            strategy, on: unit, caches: matrix.caches, reset: reset?.behaviour ?? .afterMapping,
            omitsFlushes: noFlush)
          let run = try self.play(lab, into: unit.isHardware ? directory : nil)
          matrix.lines.append(
            CrashMatrixReport.Line(
              line: MatrixLine(strategy: strategy, unit: unit, run: run, wildRows: wild),
              crash: PlayedCrash(lab, run)))
        } catch let error as SetUpError {
          matrix.leftOut.append((unit, strategy, "\(error)"))
        }
        bar.update(UInt64(matrix.lines.count + matrix.leftOut.count), of: total)
      }
    }
    bar.finish()
    guard !matrix.lines.isEmpty else { throw InputError(lines: matrix.leftOut.map(\.reason)) }
    try writePage(CrashPage(matrix))
    switch format {
    case .text: matrix.writeText(to: &out, ink: ink)
    case .json: try writeJSON(CrashMatrixJSON(matrix), keys: .snakeCase, to: &out)
    }
    return matrix.leftOut.isEmpty ? .yes : .unknown
  }

  /// Plays a crash, and writes memory before and after it.
  private func play(_ lab: CrashLab, into directory: OutputDirectory?) throws -> LabRun {
    guard let directory else { return lab.play() }
    let name = "\(lab.setup.unit.rawValue)-\(lab.setup.strategy.rawValue)"
    return try readingInput {
      let run = try lab.play { try directory.write(lab.primary, name: "\(name)-before") }
      try directory.write(lab.primary, name: "\(name)-after")
      return run
    }
  }

  private func writePage(_ page: CrashPage) throws {
    guard let report else { return }
    var text = ""
    page.write(to: &text)
    try readingInput {
      let file = try OutputFile(path: report)
      try file.write(Array(text.utf8))
      try file.commit()
    }
  }

  // MARK: One crash

  private func reportCrash(to out: inout some TextOutputStream, ink: Ink) throws -> Answer {
    guard let strategy else { preconditionFailure("one crash has a strategy") }
    let unit = try playedUnit()
    let machine = try machine.crashMachine(reset: reset)
    func lab(_ strategy: CrashStrategy) throws -> CrashLab {
      let lab = try readingInput {
        try CrashLab(
          CrashSetup(
            strategy, on: unit, machine: machine, caches: caches ?? .hardware,
            omitsFlushes: noFlush))
      }
      lab.startDevices()
      return lab
    }
    let played = try lab(strategy)
    let other = try Self.counterpart(of: strategy, on: unit).flatMap { other in
      try output == nil ? nil : lab(other)
    }
    let directory = try readingInput { try output.map { try OutputDirectory($0) } }
    let crash = PlayedCrash(played, try play(played, into: directory), phase: phase)
    if let other { _ = try play(other, into: directory) }
    try writePage(CrashPage(crash))
    switch format {
    case .text: crash.writeText(to: &out, ink: ink)
    case .json: try writeJSON(CrashTimelineJSON(crash), keys: .snakeCase, to: &out)
    }
    return .yes
  }

  /// The same crash with the Rule, or without it: what a capture kernel that knows of no hardware meets
  /// where nobody has kept the Rule.
  private static func counterpart(
    of strategy: CrashStrategy, on unit: CrashUnit
  ) -> CrashStrategy? {
    let wanted: [CrashStrategy] = strategy.isRule ? [.blind, .anew, .abort] : [.rule]
    return wanted.first(where: unit.strategies.contains)
  }

  // MARK: Scenarios

  private func reportScenarios(to out: inout some TextOutputStream, ink: Ink) throws -> Answer {
    let scenarios = try scenarios()
    let bar = ProgressBar("play")
    defer { bar.finish() }
    let results = try readingInput {
      try scenarios.enumerated().map { index, scenario in
        defer { bar.update(UInt64(index + 1), of: UInt64(scenarios.count)) }
        return try scenario.play()
      }
    }
    bar.finish()
    let report = CrashScenarioReport(results: results)
    switch format {
    case .text: report.writeText(to: &out, ink: ink)
    case .json: try writeJSON(CrashScenarioJSON(report), to: &out)
    }
    return Answer(report.isExplained)
  }

  // MARK: Random machines

  /// What is played on every machine: the usual, or what the options name.
  private var randomStrategies: [(strategy: CrashStrategy, unit: CrashUnit)] {
    if let strategy { return (unit.map { [$0] } ?? strategy.units).map { (strategy, $0) } }
    guard let unit else { return RandomCrashes.usual }
    let usual = RandomCrashes.usual.filter { $0.unit == unit }
    return usual.isEmpty ? unit.strategies.map { ($0, unit) } : usual
  }

  private func played() throws -> CrashRuns {
    let runs = runs ?? 0
    let crashes = RandomCrashes(
      seed: seed ?? 1, strategies: randomStrategies, reset: reset?.behaviour)
    var tally = CrashTally(seed: crashes.seed)
    let indices =
      shard.map { CrashRuns.indices(of: $0, in: runs) } ?? 0..<UInt64(runs)
    let bar = ProgressBar("play")
    defer { bar.finish() }
    do throws(SetUpError) {
      try crashes.play(indices, into: &tally) {
        bar.update(UInt64($0), of: UInt64(indices.count))
      }
    } catch {
      throw InputError(error)
    }
    return CrashRuns(
      runs: runs, shard: shard?.index, shards: shard?.count, reset: reset?.rawValue, tally: tally)
  }

  private func merged() throws -> CrashRuns {
    try readingInput {
      try CrashRuns.merge(
        merge.map { file in
          do {
            return (file, try CrashRuns(json: try DMATraceFile(path: file).contents()))
          } catch let error as DecodingError {
            throw InputError(
              "\(file): no result of iommu crash --runs --format json (\(error.brief))")
          }
        })
    }
  }

  private func report(
    _ runs: CrashRuns, to out: inout some TextOutputStream, ink: Ink
  ) throws -> Answer {
    switch format {
    case .text: runs.writeText(to: &out, ink: ink)
    case .json: try writeJSON(runs, to: &out)
    }
    return .yes
  }
}
