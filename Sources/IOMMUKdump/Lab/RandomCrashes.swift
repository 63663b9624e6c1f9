import IOMMUFormats
import IOMMUTranslation
import IOMMUWorkloads

/// Crashes of machines that a seed makes up: devices, what they were doing, the history of their numbers,
/// how they are reset, what units remember.
///
/// Every strategy is played on the same machines.
public struct RandomCrashes: Sendable {
  public var seed: UInt64
  /// What is played on every machine.
  public var strategies: [(strategy: CrashStrategy, unit: CrashUnit)]

  /// When devices that a driver resets come to rest; `nil` for either, by the machine's seed.
  public var reset: ResetBehaviour?

  /// The Rule, what Linux does today, and what it did.
  public static let usual: [(strategy: CrashStrategy, unit: CrashUnit)] =
    [CrashUnit.vtd, .amdvi].flatMap { unit in
      [CrashStrategy.rule, .copyContexts, .anew, .offInCapture, .passThrough].map { ($0, unit) }
    } + [CrashStrategy.rule, .adopt, .abort].map { ($0, CrashUnit.smmuv3) }

  /// - Parameters:
  ///   - seed: Where the series begins.
  ///   - strategies: What is played on every machine.
  ///   - reset: When devices that a driver resets come to rest; `nil` for either.
  public init(
    seed: UInt64, strategies: [(strategy: CrashStrategy, unit: CrashUnit)] = RandomCrashes.usual,
    reset: ResetBehaviour? = nil
  ) {
    self.seed = seed
    self.strategies = strategies
    self.reset = reset
  }

  /// Machine `index` of the series.
  public func setup(
    _ index: UInt64, _ strategy: CrashStrategy, on unit: CrashUnit
  ) throws(SetUpError) -> CrashSetup {
    var random = SeededGenerator(seed: seed &+ index &* 0x9e37_79b9_7f4a_7c15)
    let count = Int.random(in: 1...4, using: &random)
    let profiles = (0..<count).map { _ in DeviceProfile.allCases.randomElement(using: &random)! }
    var slots = profiles.map(DeviceSlot.alone)
    // Of machines with more than one device, one in four has two that units do not tell apart, or that
    // have one domain.
    if count > 1, Int.random(in: 0..<4, using: &random) == 0 {
      let pair = Array(profiles.suffix(2))
      slots.removeLast(2)
      slots.append(Bool.random(using: &random) ? .behindBridge(pair) : .functions(pair))
    }
    var devices = slots.devices
    for index in devices.indices where devices[index].reset != .never {
      let drawn = [ResetBehaviour.byDriver, .afterMapping].randomElement(using: &random)!
      devices[index].reset = reset ?? drawn
    }
    var machine = try CrashMachine.m1(devices: devices)
    machine.panicDuration = .random(in: 500...10_000, using: &random)
    machine.bootDuration = .random(in: 1000...60_000, using: &random)
    return CrashSetup(
      strategy, on: unit, machine: machine, caches: .allCases.randomElement(using: &random)!)
  }

  /// Plays part of the series.
  ///
  /// - Parameters:
  ///   - indices: Which machines, half-open.
  ///   - tally: Takes what they came to.
  ///   - progress: Told after each machine how many are done.
  public func play(
    _ indices: Range<UInt64>, into tally: inout CrashTally, progress: (Int) -> Void = { _ in }
  ) throws(SetUpError) {
    for (done, index) in indices.enumerated() {
      for (strategy, unit) in strategies {
        let setup = try setup(index, strategy, on: unit)
        let lab = try CrashLab(setup)
        var random = SeededGenerator(seed: seed &+ index &* 0x9e37_79b9_7f4a_7c15 &+ 1)
        // Where an access ends is decided by its first bytes; more would only take time.
        lab.accessLimit = 64
        lab.checksRule = false
        lab.startDevices()
        lab.churn(using: &random)
        tally[strategy, unit].add(lab)
      }
      progress(done + 1)
    }
  }
}

extension CrashLab {
  /// Buffers come and go for a while, as I/O does before a crash: what is mapped in the end lies where a
  /// used allocator puts it.
  func churn(using random: inout some RandomNumberGenerator) {
    for device in setup.machine.devices where device.device.isUsedByPrimary {
      var open: [MappedBuffer] = []
      for _ in 0..<Int.random(in: 0...12, using: &random) {
        if let last = open.indices.randomElement(using: &random), Bool.random(using: &random) {
          primary.unmap(open.remove(at: last))
        } else if let buffer = try? primary.mapNewBuffer(
          byteCount: [512, 4096, 16_384].randomElement(using: &random)!, for: device.device,
          direction: .bidirectional)
        {
          open.append(buffer)
        }
      }
      // What is open is in flight when the machine crashes.
      for buffer in open {
        add(stream(.storageCommand, of: device.device, in: buffer, direction: .fromDevice))
      }
    }
  }
}

extension CrashTally.Entry {
  /// Plays the crash of a machine whose devices are at work, and adds what it came to.
  mutating func add(_ lab: CrashLab) {
    let run = lab.play()
    crashCount += 1
    if run.failure != nil { failureCount += 1 }
    var leftover: Set<Outcome> = []
    var own: Set<Outcome> = []
    var isLucky = false
    for step in run.steps {
      for access in step.accesses {
        guard access.owner == .leftover else {
          own.insert(access.outcome)
          continue
        }
        if step.momentary != nil {
          isLucky = isLucky || access.outcome != .own
          continue
        }
        leftover.insert(access.outcome)
        accesses[access.outcome.rawValue, default: 0] += 1
      }
    }
    for outcome in leftover { crashes[outcome.rawValue, default: 0] += 1 }
    for outcome in own { ownIO[outcome.rawValue, default: 0] += 1 }
    if !leftover.isDisjoint(with: [.blockedRecorded, .blockedSilently]) { blockedCount += 1 }
    if !own.isSubset(of: [.own]) { ownFailureCount += 1 }
    if isLucky { luckCount += 1 }
    if lab.hasCollision { collisionCount += 1 }
    let map = lab.setup.machine.map
    for stream in lab.streams where stream.target != nil {
      numberCount += 1
      let numbers = stream.iova.mapBounds(to: PhysicalAddress.self)
      if map.crashKernelOverlaps(numbers) { numberInRangeCount += 1 }
    }
    strayByteSum += Double(run.strayByteCount)
    strayByteSquareSum += Double(run.strayByteCount) * Double(run.strayByteCount)
  }
}
