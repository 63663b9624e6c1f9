// SOAK_MINUTES (60), SOAK_THREADS of devices (2), SOAK_SEED (any): what does not hold ends the run and
// says the seed.

import Glibc

func setting(_ name: String, _ standard: UInt64) -> UInt64 {
  guard let text = getenv(name) else { return standard }
  guard let value = UInt64(String(cString: text)) else {
    fail("\(name) is a number")
  }
  return value
}

/// Random machines, one after the other, until the time is over.
struct Soak {
  /// KiB that the process may have: machines take what they had with them.
  private static let memoryLimit = 1 << 20

  private let minutes: UInt64
  private let threads: Int
  private let seed: UInt64
  private var generator: Generator
  private var figures = Figures()
  private var machineCount = 0

  init() {
    minutes = setting("SOAK_MINUTES", 60)
    threads = Int(clamping: setting("SOAK_THREADS", 2))
    seed = setting("SOAK_SEED", UInt64.random(in: 0..<1 << 32))
    generator = Generator(seed: seed)
    guard 1...64 ~= threads, 1...100_000 ~= minutes else { fail("SOAK_THREADS is 1 to 64") }
  }

  private mutating func runVTd(_ mode: VTdMachine.Mode, seed: UInt64) {
    var random = Generator(seed: seed)
    let machine = VTdMachine(mode, seed: random.next())
    let share = VTdMachine.groupCount / threads
    runShared(&random, drive: { machine.drive(operations: $0) }) { index, seed in
      let devices = Devices(
        machine, port: machine.unit.makePort(), groups: index * share..<(index + 1) * share,
        seed: seed)
      devices.run()
      return devices.figures
    }
    machine.checkAtRest()
    figures.add(machine.figures)
  }

  private mutating func runAMDVi(_ model: AMDViMachine.Model, seed: UInt64) {
    var random = Generator(seed: seed)
    let machine = AMDViMachine(model, seed: random.next())
    let share = max(1, AMDViMachine.deviceCount / threads)
    runShared(&random, drive: { machine.drive(operations: $0) }) { index, seed in
      let first = min(index * share, AMDViMachine.deviceCount - share)
      var devices = AMDViDevices(machine, first..<first + share, seed: seed)
      devices.run()
      return devices.figures
    }
    figures.add(machine.figures)
  }

  /// One unit, a thread that drives it, and devices on all others.
  private mutating func runShared(
    _ random: inout Generator, drive: @escaping @Sendable (_ operations: Int) -> Void,
    devices: @escaping @Sendable (_ index: Int, _ seed: UInt64) -> Figures
  ) {
    let operations = 2_000 + random.below(8_000)
    let seeds = (0..<threads).map { _ in random.next() }
    let all = Shared(Figures())
    onThreads(threads + 1) { index in
      guard index > 0 else { return drive(operations) }
      let figures = devices(index - 1, seeds[index - 1])
      all.with { $0.add(figures) }
    }
    figures.add(all.with { $0 })
  }

  /// A machine for each thread: these units serve one thread at a time.
  private mutating func runFlat(isCalgary: Bool, seed: UInt64) {
    let threads = threads
    var random = Generator(seed: seed)
    let operations = 20_000 + random.below(60_000)
    let seeds = (0...threads).map { _ in random.next() }
    let all = Shared(Figures())
    onThreads(threads + 1) { index in
      var machine =
        isCalgary ? FlatMachine(calgarySeed: seeds[index]) : FlatMachine(gartSeed: seeds[index])
      machine.run(operations: operations)
      var figures = machine.figures
      figures.machines[machine.kind] = 1
      all.with { $0.add(figures) }
    }
    figures.add(all.with { $0 })
  }

  mutating func run() {
    say("seed \(seed), \(minutes) minutes, a driver and \(threads) threads of devices")
    let clock = ContinuousClock()
    let start = clock.now
    var reported = 0
    var firstResident = 0
    while clock.now - start < .seconds(60 * Int(minutes)) {
      let machineSeed = generator.next()
      let kinds = VTdMachine.Mode.allCases
      let models = AMDViMachine.Model.allCases
      let choice = generator.below(kinds.count + models.count + 2)
      let flat = choice - kinds.count - models.count
      let name =
        choice < kinds.count
        ? "VT-d, \(kinds[choice])"
        : flat < 0
          ? "AMD-Vi, \(models[choice - kinds.count].rawValue)" : flat == 0 ? "Calgary" : "GART"
      currentMachine.name = "run \(seed), machine \(machineCount) (\(name), seed \(machineSeed))"
      if choice < kinds.count {
        runVTd(kinds[choice], seed: machineSeed)
        figures.machines[name, default: 0] += 1
      } else if flat < 0 {
        runAMDVi(models[choice - kinds.count], seed: machineSeed)
        figures.machines[name, default: 0] += 1
      } else {
        runFlat(isCalgary: flat == 0, seed: machineSeed)
      }
      machineCount += 1
      let resident = Usage.resident
      if machineCount == 50 { firstResident = resident }
      expect(resident < Self.memoryLimit, "the process has \(resident) KiB")
      let minute = Int((clock.now - start).components.seconds) / 60
      if minute > reported {
        reported = minute
        say(
          "\(minute) min: \(machineCount) rounds, \(figures.operations) operations, "
            + "\(figures.translations) translations, \(resident / 1024) MiB")
      }
    }
    let seconds = Int((clock.now - start).components.seconds)
    say(
      """
      all held for \(seconds / 60) min \(seconds % 60) s, seed \(seed)
      machines       \(figures.machines.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }.joined(separator: "; "))
      threads        a driver and \(threads) with devices
      operations     \(figures.operations) of drivers, \(figures.invalidations) invalidations waited for, \
      \(figures.queueErrors) queue errors recovered
      translations   \(figures.translations): \(figures.mapped) mapped, \(figures.faults) faults, \
      \(figures.duringChange) during a change, \(figures.stale) stale before a flush
      accesses       \(figures.accesses) inside transactions
      page requests  \(figures.pageRequests): \(figures.pageGroups) groups answered by software, \
      \(figures.droppedRequests) dropped at a full queue
      interrupts     \(figures.delivered) delivered, \(figures.posted) posted, \(figures.blocked) blocked, \
      \(figures.interruptsDuringChange) during a change; \(figures.interruptChanges) entries changed
      fault records  \(figures.faultRecords) read and cleared
      memory         \(Usage.peak / 1024) MiB at most; \(firstResident / 1024) MiB after 50 rounds, \
      \(Usage.resident / 1024) MiB at the end
      CPU time       \(Int(Usage.processorTime)) s
      """)
  }
}

/// A line on standard output, at once.
private func say(_ text: String) {
  print(text)
  fflush(nil)
}

var soak = Soak()
soak.run()
