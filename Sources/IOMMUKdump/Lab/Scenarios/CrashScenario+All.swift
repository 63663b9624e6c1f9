import IOMMUFormats
import IOMMUTranslation

extension CrashScenario {
  /// K01 to K34, which others have asked, and N01 to N06, which came after them.
  public static let all: [CrashScenario] = strategies + rule + copying + devices + variants

  /// The scenario of a name, in any case of letters; `nil` where there is none.
  public init?(named name: String) {
    guard let found = Self.all.first(where: { $0.name.lowercased() == name.lowercased() }) else {
      return nil
    }
    self = found
  }
}

extension ScenarioResult {
  /// Plays a line of the matrix and compares it: words for P1, P2 and P3, or one where all are the same.
  @discardableResult
  mutating func matrix(
    _ strategy: CrashStrategy, on unit: CrashUnit, caches: CacheLevel = .hardware,
    reset: ResetBehaviour = .afterMapping, omitsFlushes: Bool = false,
    a: String? = nil, b: String? = nil, c: String? = nil, f: String? = nil, d: String? = nil,
    remark: String? = nil
  ) throws(SetUpError) -> MatrixLine {
    let line = try CrashMatrix.line(
      strategy, on: unit, caches: caches, reset: reset, omitsFlushes: omitsFlushes)
    var name = "\(strategy.rawValue) on \(unit.title)"
    if omitsFlushes { name += ", no flush" }
    runs.append((name, line.run))
    for (row, expected) in [(LeftoverStream.Row.a, a), (.b, b), (.c, c), (.f, f)] {
      guard let expected else { continue }
      expect("\(name): \(row.rawValue)", expected, found: line.text(row), remark: remark)
    }
    if let d {
      let words = Set(line.ownIO.map(\.rawValue)).sorted().joined(separator: ", ")
      expect("\(name): d", d, found: words)
    }
    return line
  }

  /// The outcomes of a row in a momentary state of a line.
  mutating func moment(
    _ line: MatrixLine, _ step: CaptureStep, _ row: LeftoverStream.Row, _ expected: String
  ) {
    let found = line.moments.first { $0.step == step }?.outcomes[row]?.rawValue ?? "-"
    expect("\(line.strategy.rawValue), \(step.rawValue): \(row.rawValue)", expected, found: found)
  }

  /// A machine whose first device is the matrix's, with its numbers handed out.
  func lab(_ setup: CrashSetup) throws(SetUpError) -> CrashLab {
    let lab = try CrashLab(setup)
    _ = try lab.handOutMatrixNumbers(setup.machine.devices[0].device)
    return lab
  }

  /// The word of a row in a phase of a crash that was played.
  func word(_ run: LabRun, _ row: LeftoverStream.Row, _ phase: CrashPhase) -> String {
    let accesses = run.steps.filter { $0.phase == phase && $0.momentary == nil }.flatMap(\.accesses)
    return accesses.last { $0.row == row && !$0.isStraddling }?.outcome.rawValue ?? "-"
  }

  /// The words of the capture kernel's own I/O with a device.
  func ownIO(_ run: LabRun, of device: Device? = nil) -> String {
    let words = run.steps.flatMap(\.accesses)
      .filter { $0.owner == .kdump && (device == nil || $0.device == device) }
      .map(\.outcome.rawValue)
    return Set(words).sorted().joined(separator: ", ")
  }
}

extension CrashSetup {
  /// M1 with the matrix's device alone.
  static func matrix(
    _ strategy: CrashStrategy, on unit: CrashUnit, caches: CacheLevel = .hardware,
    crashKernel: [Range<PhysicalAddress>] = [CrashMachine.crashRange],
    reset: ResetBehaviour = .afterMapping, mask: UInt64? = nil
  ) throws(SetUpError) -> CrashSetup {
    var device = CrashMatrix.device(for: unit, strategy)
    if let mask { device.dmaMask = mask }
    return CrashSetup(
      strategy, on: unit,
      machine: try .m1(
        crashKernel: crashKernel, devices: [CrashDevice(device, sources: [], reset: reset)]),
      caches: caches)
  }
}

extension Range where Bound == PhysicalAddress {
  /// The 4 KiB page at an address.
  static func page(_ address: UInt64) -> Self {
    PhysicalAddress(address)..<PhysicalAddress(address + 4096)
  }
}
