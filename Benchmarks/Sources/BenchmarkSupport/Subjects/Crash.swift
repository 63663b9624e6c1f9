import IOMMUFormats
import IOMMUKdump
import IOMMUTranslation
import IOMMUWorkloads

extension Subject {
  /// Whole crashes of the crash lab, from the boot of a machine to its dump.
  public static let crash = Subject(
    "Crash", "whole crashes of the crash lab, and how they grow with devices and buffers"
  ) {
    try [matrix(), m1(), units(), devices(), buffers()]
  }
}

/// Crashes of M1 with the device of the matrix, and its four numbers.
private func matrix() throws -> Comparison {
  let strategies: [(CrashStrategy, String)] = [
    (.rule, "OWN"), (.copyContexts, "OWN/OWN/KILL"), (.anew, "OWN/BLK-F/KILL"),
  ]
  let contenders = try strategies.map { strategy, f in
    func line() throws(SetUpError) -> MatrixLine { try CrashMatrix.line(strategy, on: .vtd) }
    guard try line().text(.f) == f else { throw WrongAnswer(strategy.rawValue, "row f") }
    return Contender(strategy.rawValue) {
      do {
        _ = try line()
      } catch {
        preconditionFailure("the crash could be played before: \(error)")
      }
    }
  }
  return Comparison(
    "M1 with VT-d, the matrix's device", unit: "crash", units: 1, contenders: contenders,
    ratios: contenders.dropFirst().map { Ratio($0.name, to: contenders[0].name) },
    notes: ["2,000 crashes a second are 500,000 ns each"])
}

/// Crashes of M1, its nine devices at work, against the one crash of `iommu play`.
private func m1() throws -> Comparison {
  let map = try CrashMachine.m1().map
  let configuration = MachineConfiguration(mode: .vtd, map: map)
  let simulation = CrashSimulation()
  guard try simulation.play(configuration, applyingRule: true).report.ruleHolds else {
    throw WrongAnswer("play", "a crash under the Rule")
  }
  let play = Contender("play") {
    do {
      _ = try simulation.play(configuration, applyingRule: true)
    } catch {
      preconditionFailure("the crash could be played before: \(error)")
    }
  }
  let strategies: [(CrashStrategy, Bool)] = [(.rule, true), (.copyContexts, false), (.anew, false)]
  let contenders = try strategies.map { strategy, isClean in
    try crash(strategy.rawValue, CrashSetup(strategy, on: .vtd, machine: .m1()), isClean: isClean)
  }
  return Comparison(
    "M1 with VT-d, nine devices", unit: "crash", units: 1, contenders: [play] + contenders,
    ratios: contenders.map { Ratio($0.name, to: "play") },
    notes: [
      "play has three devices and three rounds of leftover DMA; it and S7 end with the thirteen checks"
    ])
}

/// The same crash on every hardware that has registers or tables in memory.
private func units() throws -> Comparison {
  let units: [(CrashUnit, CrashStrategy)] = [
    (.vtd, .anew), (.vtdScalable, .anew), (.amdvi, .anew), (.gart, .anew), (.calgary, .anew),
  ]
  let contenders = try units.map { unit, strategy in
    try crash(unit.rawValue, CrashSetup(strategy, on: unit, machine: .m1()), isClean: false)
  }
  return Comparison(
    "M1, S3 by hardware", unit: "crash", units: 1, contenders: contenders,
    ratios: contenders.dropFirst().map { Ratio($0.name, to: contenders[0].name) })
}

/// Machines of one, two and three of each device.
private func devices() throws -> Comparison {
  let contenders = try (1...3).map { count in
    let slots = Array(repeating: DeviceProfile.allCases.map(DeviceSlot.alone), count: count)
    let machine = try CrashMachine.m1(devices: slots.flatMap(\.self).devices)
    return try crash(
      "\(machine.devices.count) devices",
      CrashSetup(.copyContexts, on: .vtd, machine: machine), isClean: false)
  }
  return Comparison(
    "S11 by devices", unit: "crash", units: 1, contenders: contenders,
    ratios: [
      Ratio(contenders[1].name, to: contenders[0].name, .atMost(2.2)),
      Ratio(contenders[2].name, to: contenders[0].name, .atMost(3.3)),
    ])
}

/// One device with one buffer in flight, and with many.
private func buffers() throws -> Comparison {
  let contenders = try [16, 64, 256].map { count in
    let device = DeviceProfile.nvme.device(number: 0)
    let machine = try CrashMachine.m1(devices: [device])
    return try crash(
      "\(count) buffers", CrashSetup(.copyContexts, on: .vtd, machine: machine), isClean: true
    ) { lab in
      for _ in 0..<count { lab.start(.storageCommand, of: device.device) }
    }
  }
  return Comparison(
    "S11 by buffers", unit: "crash", units: 1, contenders: contenders,
    ratios: [
      Ratio(contenders[1].name, to: contenders[0].name, .atMost(4.4)),
      Ratio(contenders[2].name, to: contenders[0].name, .atMost(17.6)),
    ])
}

/// A machine that is made, started and crashed.
///
/// - Parameters:
///   - name: What it is called.
///   - setup: The machine, and what is played.
///   - isClean: No byte of the crash kernel is changed by leftover DMA; `false` where some may be.
///   - start: What devices do.
private func crash(
  _ name: String, _ setup: CrashSetup, isClean: Bool,
  start: @escaping (CrashLab) -> Void = { $0.startDevices() }
) throws -> Contender {
  func play() throws(SetUpError) -> LabRun {
    let lab = try CrashLab(setup)
    start(lab)
    return lab.play()
  }
  let run = try play()
  guard run.failure == nil, !isClean || run.strayByteCount == 0, run.step(.driven) != nil else {
    throw WrongAnswer(name, "a crash under \(setup.strategy.rawValue)")
  }
  return Contender(name) {
    do {
      _ = try play()
    } catch {
      preconditionFailure("the crash could be played before: \(error)")
    }
  }
}
