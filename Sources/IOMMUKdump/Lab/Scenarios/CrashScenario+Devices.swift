import IOMMUFormats
import IOMMUTranslation
import IOMMUWorkloads

extension CrashScenario {
  /// K29 to K34: devices with translations or memory of their own, numbers by allocator, interrupts.
  static let devices: [CrashScenario] =
    [
      CrashScenario("K29", "a device with translations of its own (ATS)") {
        (result) throws(SetUpError) in
        let looksUp =
          "a unit looks at the context entry for translated requests as well (VT-d 4.2.3): without "
          + "one that has TT = 01b it blocks them"
        for (strategy, expected, remark) in [
          (CrashStrategy.rule, ["OWN", "OWN", "OWN"], nil as String?),
          (.anew, ["OWN", "OWN", "OWN"], looksUp),
        ] {
          let device = CrashDevice(
            CrashMatrix.device(for: .vtd, strategy), sources: [.translatedRequests],
            hasDriver: false)
          let setup = CrashSetup(
            strategy, on: .vtd, machine: try .m1(devices: [device]), caches: .everything)
          let lab = try CrashLab(setup)
          lab.startDevices()
          let run = lab.play()
          result.runs.append(("\(strategy.rawValue), no driver comes", run))
          for (phase, expected) in zip([CrashPhase.panicked, .waiting, .driverless], expected) {
            let access = run.step(phase)?.accesses.first
            result.expect(
              "\(strategy.rawValue): translated request, \(phase.rawValue)", expected,
              found: access?.outcome.rawValue ?? "-", remark: remark)
          }
        }
      },
      CrashScenario("K30", "memory that firmware wants mapped (RMRR)") {
        (result) throws(SetUpError) in
        for (strategy, words, gap) in [
          (CrashStrategy.anew, ["OWN", "BLK-F", "OWN"], "BLK-F"),
          (.copyContexts, ["OWN", "OWN", "OWN"], "BLK-F"),
          (.rule, ["OWN", "OWN", "OWN"], "-"),
        ] {
          let memory = PhysicalAddress(0xbf00_0000)..<PhysicalAddress(0xbf00_2000)
          let device = CrashDevice(
            CrashMatrix.device(for: .vtd, strategy), sources: [.mailbox], reset: .never,
            firmwareMemory: memory)
          let setup = CrashSetup(strategy, on: .vtd, machine: try .m1(devices: [device]))
          let lab = try CrashLab(setup)
          lab.startDevices()
          let run = lab.play()
          result.runs.append((strategy.rawValue, run))
          for (phase, expected) in zip([CrashPhase.panicked, .waiting, .driven], words) {
            let found = run.steps.filter { $0.phase == phase && $0.momentary == nil }
              .flatMap(\.accesses).last { $0.owner == .leftover && !$0.isStraddling }
            result.expect(
              "\(strategy.rawValue): \(phase.rawValue)", expected,
              found: found?.outcome.rawValue ?? "-")
          }
          let moment = run.steps.first { $0.momentary == .tornDown }?.accesses.first
          result.expect(
            "\(strategy.rawValue): while the domain is changed", gap,
            found: moment?.outcome.rawValue ?? "-")
        }
      },
    ] + exposure + [
      CrashScenario("K32", "leftover numbers inside the range, by allocator") { result in
        for (name, expected, share) in [
          ("Calgary, 8 MiB table, next fit", 0.03125, NumberShares.calgary()),
          ("AMD-Vi of 2.6.27, 64 MiB, next fit", 0.75, NumberShares.amdvi64MiB()),
          ("from the top of 4 GiB", 0, NumberShares.topDown()),
        ] {
          result.expect(
            name, NumberShares.text(expected), found: NumberShares.text(share),
            agrees: abs(share - expected) < 0.005)
        }
      },
      CrashScenario("K33", "a leftover interrupt") { (result) throws(SetUpError) in
        let off = try InterruptLab()
        off.switchOff()
        result.expect(
          "remapping off in the crash path", "passed, an index read as a vector",
          found: off.word(off.leftover))
        let copied = try InterruptLab()
        copied.takeOver(copying: true)
        result.expect(
          "the table copied", "delivered to vector 0x41", found: copied.word(copied.leftover))
        let fresh = try InterruptLab()
        fresh.takeOver(copying: false)
        result.expect("a fresh table", "blocked", found: fresh.word(fresh.leftover))
      },
    ] + shrinking
}

/// Shares of numbers that lie inside the crash range of M1, for the allocators that Linux has had.
enum NumberShares {
  static func text(_ share: Double) -> String {
    let thousandths = Int((share * 100_000).rounded())
    return "\(thousandths / 1000).\(String(String(thousandths % 1000 + 1000).dropFirst())) %"
  }

  /// Next fit over a table of 1,048,576 entries, in steady state.
  static func calgary() -> Double { nextFit(entryCount: 1 << 20, openCount: 4096) }

  /// Next fit over 64 MiB: only the part of the range below its end counts.
  static func amdvi64MiB() -> Double { nextFit(entryCount: 1 << 14, openCount: 512) }

  /// Buffers of 1 to 16 pages come and go until the allocator has come round many times; the share is a
  /// mean over all that time.
  private static func nextFit(entryCount: Int, openCount: Int) -> Double {
    var bitmap = NextFitBitmap(count: entryCount)
    var random = SeededGenerator(seed: 2008)
    var open: [Range<Int>] = []
    let range = 0x1000..<0x9000
    var inRange = 0
    var total = 0
    while bitmap.wrapCount < 24 {
      if open.count >= openCount {
        bitmap.free(open.remove(at: Int.random(in: 0..<open.count, using: &random)))
      }
      let length = Int.random(in: 1...16, using: &random)
      guard let first = bitmap.allocate(length) else { break }
      open.append(first..<(first + length))
      total += length
      inRange += range.clamped(to: first..<(first + length)).count
    }
    return Double(inRange) / Double(total)
  }

  /// From the top of 4 GiB, with as much in use as such a machine has.
  static func topDown() -> Double {
    var allocator = TopDownAllocator(space: [0x1000..<0x1_0000_0000])
    allocator.reserve(VTd.interruptAddresses)
    var random = SeededGenerator(seed: 2008)
    var inRange = 0
    var total = 0
    for _ in 0..<4096 {
      let length = UInt64(Int.random(in: 1...16, using: &random)) << 12
      guard let first = allocator.allocate(length, alignment: 4096) else { break }
      total += 1
      if first < CrashMachine.crashRange.upperBound.rawValue,
        first + length > CrashMachine.crashRange.lowerBound.rawValue
      {
        inRange += 1
      }
    }
    return Double(inRange) / Double(total)
  }
}
