import IOMMUFormats
import IOMMUInspection
import IOMMUKdump
import IOMMURule
import IOMMUTranslation

/// A crash that was played, with what its words need of the machine.
struct PlayedCrash {
  var setup: CrashSetup
  /// What devices were doing, and whose memory that was.
  var streams: [LeftoverStream]
  var run: LabRun
  /// The only phase that is told; `nil` for all.
  var phase: CrashPhase?

  init(_ lab: CrashLab, _ run: LabRun, phase: CrashPhase? = nil) {
    setup = lab.setup
    streams = lab.streams
    self.run = run
    self.phase = phase
  }

  var steps: [LabStep] { run.steps.filter { phase == nil || $0.phase == phase } }

  /// Of a phase nobody checks the Rule.
  var verdicts: [RuleVerdict] { phase == nil ? run.verdicts : [] }

  /// `S11 on Intel VT-d: contexts copied, attached when a driver maps`.
  var title: String {
    "\(run.strategy.rawValue) on \(run.unit.title): \(run.strategy.title)"
  }

  /// RAM, crash kernel, caches: what was played on.
  var machineText: String {
    let map = setup.machine.map
    return "\(map.ramText) of RAM, crash kernel \(map.crashKernelText); caches: "
      + setup.caches.rawValue + (setup.omitsFlushes ? ", not flushed" : "")
  }

  /// Memory that DMA reached, ascending: by whom, and what it came to.
  var reached: [ReachedMemory] {
    var found: [ReachedMemory.Key: ReachedMemory] = [:]
    for step in steps {
      for access in step.accesses {
        for range in access.reached {
          let key = ReachedMemory.Key(
            range: range, device: access.device, outcome: access.outcome, isRead: access.isRead)
          found[key, default: ReachedMemory(key: key, owner: access.ownerText)]
            .add(access, in: step.phase)
        }
      }
    }
    return found.values.sorted { $0.order < $1.order }
  }
}

/// A piece of memory that a device reached in one way.
struct ReachedMemory {
  struct Key: Hashable {
    var range: Range<PhysicalAddress>
    var device: Device
    var outcome: Outcome
    var isRead: Bool
  }

  var key: Key
  /// Whose memory it is.
  var owner: String
  var phases: [CrashPhase] = []
  /// Bytes that hold something else than before, access by access.
  var changedByteCount = 0

  init(key: Key, owner: String) {
    self.key = key
    self.owner = owner
  }

  mutating func add(_ access: LabAccess, in phase: CrashPhase) {
    if !phases.contains(phase) { phases.append(phase) }
    changedByteCount += access.changedByteCount
  }

  /// Ascending by place, and told in one order wherever it is told.
  var order: (PhysicalAddress, PhysicalAddress, String, String, String) {
    (
      key.range.lowerBound, key.range.upperBound, owner, key.device.name,
      key.outcome.rawValue + (key.isRead ? " read" : "")
    )
  }

  /// `nic changed 1,536 bytes`, `nic read it`.
  var text: String {
    key.isRead
      ? "\(key.device.name) read it"
      : "\(key.device.name) changed \(groupedCount(changedByteCount, "byte"))"
  }

  /// `P0 to P2` where phases follow each other, `P0, P3` otherwise.
  var phasesText: String {
    let all = CrashPhase.allCases
    guard let first = phases.min(), let last = phases.max(), phases.count > 2,
      let start = all.firstIndex(of: first), let end = all.firstIndex(of: last),
      end - start + 1 == phases.count
    else { return phases.sorted().map(\.rawValue).joined(separator: ", ") }
    return "\(first.rawValue) to \(last.rawValue)"
  }
}

extension LabAccess {
  /// The device reads.
  var isRead: Bool { direction == .toDevice }

  /// What the device is doing.
  var sourceText: String {
    if let row { return "number \(row.rawValue), \(row.shortMeaning)" }
    return source?.rawValue ?? "own I/O"
  }

  /// Whose memory was reached.
  var ownerText: String {
    if let victim { return victim }
    guard owner == .leftover else { return "the capture kernel's \(device.name) buffer" }
    return "\(device.name)'s \(row.map { "buffer \($0.rawValue)" } ?? source?.rawValue ?? "buffer")"
  }

  /// `10,000`, `0.05`: how often the device does this; nothing for what was under way.
  var countText: String {
    guard !isStraddling, owner == .leftover else { return "" }
    return expectedCount >= 10
      ? grouped(Int(min(expectedCount.rounded(), 1e15)))
      : expectedCount >= 0.001 || expectedCount == 0
        ? shortNumber(expectedCount) : "<0.001"
  }

  /// What is wrong with it, in words; `nil` where nothing is, or the outcome says all.
  var remark: String? {
    if let fault { return fault.description }
    guard let victim, outcome != .own else { return nil }
    let places = reached.map(\.text).joined(separator: ", ")
    return isRead
      ? "read \(victim), \(places)"
      : "changed \(groupedCount(changedByteCount, "byte")) of \(victim), \(places)"
  }

  /// Nobody handed the number out, and it was stopped: as it should be.
  var isRightlyStopped: Bool {
    source == .wild && (outcome == .blockedRecorded || outcome == .blockedSilently)
  }
}

extension LeftoverStream.Row {
  var shortMeaning: String {
    switch self {
    case .a: "mapped"
    case .b: "not mapped"
    case .c: "in crash range"
    case .f: "first handed out"
    }
  }
}

/// A number below 1000 with at most three decimals, without zeros at the end.
func shortNumber(_ value: Double) -> String {
  let thousandths = Int((value * 1000).rounded())
  var text = "\(thousandths / 1000)." + String(String(thousandths % 1000 + 1000).dropFirst())
  while text.last == "0" { text.removeLast() }
  if text.last == "." { text.removeLast() }
  return text
}

/// `0.01 ms`, `12 ms`, `25.001 s`.
func timeText(_ milliseconds: Double) -> String {
  milliseconds != 0 && milliseconds < 1000
    ? "\(shortNumber(milliseconds)) ms" : "\(shortNumber(milliseconds / 1000)) s"
}

extension LabStep {
  /// `P1  at 0 s, for 5 s: the crash, the other kernel boots`.
  var heading: String {
    if phase == .normal {
      return "\(phase.rawValue)  \(timeText(duration)) before the crash: \(title)"
    }
    let time = timeText(start)
    if momentary != nil { return "\(phase.rawValue)  at \(time), for a moment: \(title)" }
    guard duration > 0 else { return "\(phase.rawValue)  at \(time): \(title)" }
    return "\(phase.rawValue)  at \(time), for "
      + "\(timeText(duration)): \(title)"
  }

  /// Of a state that lasts for a moment, and of what was under way, only what went wrong is of interest.
  var shownAccesses: [LabAccess] {
    guard momentary != nil || accesses.contains(where: \.isStraddling) else { return accesses }
    return accesses.filter { $0.outcome != .own && !$0.isRightlyStopped }
  }
}

// MARK: Text

extension PlayedCrash {
  private static let width = 80

  func writeText(to out: inout some TextOutputStream, ink: Ink) {
    write(ink.strong(title), to: &out)
    write(run.strategy.history, to: &out)
    write(machineText, to: &out)
    for device in setup.machine.devices {
      write("  \(device.text)", to: &out)
    }
    let names = accessWidths
    if let phase, steps.isEmpty {
      out.write("\n")
      write("There is no \(phase.rawValue) in this crash (\(phase.meaning)).", to: &out)
      return
    }
    for step in steps {
      out.write("\n")
      write(step.heading, to: &out)
      let shown = step.shownAccesses
      if shown.isEmpty {
        write(
          step.accesses.isEmpty ? "  no DMA" : "  nothing goes wrong in it", to: &out)
      }
      for access in shown { writeText(access, names, to: &out, ink: ink) }
    }
    out.write("\n")
    if let failure = run.failure, phase == nil {
      write("The strategy comes to an end before its time: \(failure)", to: &out)
    }
    writeMemory(to: &out, ink: ink)
    writeRule(to: &out, ink: ink)
    writeLegend(to: &out)
  }

  private func write(_ line: String, to out: inout some TextOutputStream) {
    for part in wrapped(line, to: Self.width) { out.write(part + "\n") }
  }

  private typealias Widths = (device: Int, source: Int, iova: Int, count: Int)

  private var accessWidths: Widths {
    steps.flatMap(\.accesses).reduce((0, 0, 0, 0)) { widths, access in
      (
        max(widths.0, access.device.name.count), max(widths.1, access.sourceText.count),
        max(widths.2, access.iovaText.count), max(widths.3, access.countText.count)
      )
    }
  }

  private func writeText(
    _ access: LabAccess, _ widths: Widths, to out: inout some TextOutputStream, ink: Ink
  ) {
    func left(_ text: String, _ width: Int) -> String {
      text + String(repeating: " ", count: max(0, width - text.count))
    }
    let line =
      "  " + left(access.device.name, widths.device) + "  "
      + left(access.sourceText, widths.source) + "  " + (access.isRead ? "reads " : "writes")
      + "  " + left(access.iovaText, widths.iova) + "  " + right(access.countText, widths.count)
      + "  "
    out.write(line + ink.outcome(access.outcome) + "\n")
    if let remark = access.remark { write("      \(remark)", to: &out) }
  }

  private func writeMemory(to out: inout some TextOutputStream, ink: Ink) {
    let reached = reached
    guard !reached.isEmpty else { return }
    write("Memory that DMA reached, and whose it is", to: &out)
    for memory in reached {
      write("  \(memory.key.range.text)  \(memory.owner)", to: &out)
      out.write(
        "      \(memory.phasesText): \(memory.text), \(ink.outcome(memory.key.outcome))\n")
    }
    write(
      "Bytes of the crash kernel that leftover DMA changed: \(grouped(steps.strayByteCount))",
      to: &out)
    out.write("\n")
  }

  /// Findings of a check that are told.
  static let findingLimit = 3

  private func writeRule(to out: inout some TextOutputStream, ink: Ink) {
    guard !verdicts.isEmpty else { return }
    write("The checks of the Rule", to: &out)
    for verdict in verdicts {
      let name = verdict.rule.description
      let fill = String(repeating: " ", count: 4 - name.count)
      write("  \(name)\(fill)\(verdict.outcomeText): \(verdict.rule.statement)", to: &out)
      for finding in verdict.findings.prefix(Self.findingLimit) {
        let subject = finding.subjectText.map { "\($0): " } ?? ""
        write("      \(subject)\(finding.text)", to: &out)
      }
      let left = verdict.findings.count - Self.findingLimit
      if left > 0 { write("      \(left) more", to: &out) }
    }
    out.write("\n")
  }

  private func writeLegend(to out: inout some TextOutputStream) {
    let phases = CrashPhase.allCases.filter { phase in steps.contains { $0.phase == phase } }
    for phase in phases { write("\(phase.rawValue)  \(phase.meaning)", to: &out) }
    let outcomes = Set(steps.flatMap(\.accesses).map(\.outcome))
    for outcome in Outcome.allCases where outcomes.contains(outcome) {
      write("\(outcome.padded) \(outcome.meaning)", to: &out)
    }
    write(
      "The number before the outcome says how often a device does this in that time.", to: &out)
  }
}

extension LabAccess {
  /// Where the access starts; nothing where the kernel had no number to give.
  var iovaText: String { iova.isEmpty ? "" : "\(iova.lowerBound)" }
}

extension CrashDevice {
  /// `raid 01:00.0: storage command, status page; reset after mapping`.
  var text: String {
    var parts = [sources.map(\.rawValue).joined(separator: ", ")].filter { !$0.isEmpty }
    parts.append(hasDriver ? resetText : "no driver in the capture kernel")
    if let firmwareMemory { parts.append("firmware's memory \(firmwareMemory.text)") }
    return "\(device.name) \(device.requester)\(placeText): " + parts.joined(separator: "; ")
  }

  private var placeText: String {
    if let alias = device.alias { return " behind the bridge \(alias)" }
    guard let group = device.group, group != device.requester else { return "" }
    return " in one domain with \(group)"
  }

  private var resetText: String {
    switch reset {
    case .byDriver: "reset before anything is mapped"
    case .afterMapping: "reset after mapping"
    case .never: "never at rest"
    }
  }
}

extension RuleVerdict {
  /// Its outcome, and whether the Rule itself wants it so.
  var outcomeText: String {
    outcome == .broken && rule.isBrokenByDesign ? "broken by design" : outcome.rawValue
  }
}

extension Outcome {
  /// The word in a column.
  var padded: String { rawValue + String(repeating: " ", count: 6 - rawValue.count) }
}

extension Ink {
  /// An outcome's word in the colour of how bad it is.
  func outcome(_ outcome: Outcome) -> String {
    switch outcome {
    case .own: good(outcome.rawValue)
    case .kill, .smear, .alias: bad(outcome.rawValue)
    case .blockedRecorded, .blockedSilently, .masterAbort, .notMapped: warning(outcome.rawValue)
    }
  }
}

// MARK: JSON

struct CrashTimelineJSON: Encodable {
  struct DeviceJSON: Encodable {
    var name: String
    var requester: String
    /// Whose number its requests carry, where that is another's.
    var alias: String?
    /// What stands for the devices that have one domain with it.
    var group: String?
    var dmaMask: String
    var sources: [String]
    var reset: String
    var hasDriver: Bool
    var isIntegrated: Bool
    var firmwareMemory: [String]?
  }

  struct Access: Encodable {
    var owner: String
    var requester: String
    var source: String?
    var row: String?
    var access: String
    var iova: String?
    var bytes: String?
    var outcome: String
    var fault: String?
    var physical: [[String]]
    var changedBytes: Int
    var memoryOf: String?
    var straddling: Bool
    var expectedCount: Double
  }

  struct Step: Encodable {
    var phase: String
    var title: String
    var startMs: Double
    var durationMs: Double
    var momentary: Bool
    var accesses: [Access]
  }

  var strategy: String
  var unit: String
  var title: String
  var history: String
  var ram: [[String]]
  var crashKernel: [[String]]
  var caches: String
  var omitsFlushes: Bool
  var devices: [DeviceJSON]
  var steps: [Step]
  var failure: String?
  var strayBytes: Int
  var checks: [CrashJSON.Check]

  init(_ crash: PlayedCrash) {
    strategy = crash.run.strategy.rawValue
    unit = crash.run.unit.rawValue
    title = crash.run.strategy.title
    history = crash.run.strategy.history
    ram = crash.setup.machine.map.ram.map(\.ends)
    crashKernel = crash.setup.machine.map.crashKernel.map(\.ends)
    caches = crash.setup.caches.rawValue
    omitsFlushes = crash.setup.omitsFlushes
    devices = crash.setup.machine.devices.map { device in
      DeviceJSON(
        name: device.device.name, requester: "\(device.device.requester)",
        alias: device.device.alias.map { "\($0)" }, group: device.device.group.map { "\($0)" },
        dmaMask: hexadecimal(device.device.dmaMask), sources: device.sources.map(\.rawValue),
        reset: device.reset.rawValue, hasDriver: device.hasDriver,
        isIntegrated: device.isIntegrated, firmwareMemory: device.firmwareMemory?.ends)
    }
    steps = crash.steps.map { step in
      Step(
        phase: step.phase.rawValue, title: step.title, startMs: step.start,
        durationMs: step.duration, momentary: step.momentary != nil,
        accesses: step.accesses.map { access in
          Access(
            owner: access.owner.rawValue, requester: "\(access.device.requester)",
            source: access.source?.rawValue, row: access.row?.rawValue,
            access: access.isRead ? "read" : "write",
            iova: access.iova.isEmpty ? nil : "\(access.iova.lowerBound)",
            bytes: access.iova.isEmpty ? nil : hexadecimal(access.iova.byteCount),
            outcome: access.outcome.rawValue, fault: access.fault?.meaning,
            physical: access.reached.map(\.ends), changedBytes: access.changedByteCount,
            memoryOf: access.reached.isEmpty ? nil : access.ownerText,
            straddling: access.isStraddling, expectedCount: access.expectedCount)
        })
    }
    failure = crash.run.failure
    strayBytes = crash.steps.strayByteCount
    checks = crash.verdicts.map(CrashJSON.Check.init)
  }
}

extension Range<PhysicalAddress> {
  /// Both ends as JSON has them.
  var ends: [String] { ["\(lowerBound)", "\(upperBound)"] }
}
