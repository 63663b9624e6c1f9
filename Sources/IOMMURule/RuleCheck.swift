import IOMMUFormats
import IOMMUTranslation

/// Judges a machine and its memory by the Rule: a simulated crash and somebody else's dump alike.
///
/// Looks at all tables once. Each check is a function of its own; none changes anything, and none
/// takes what is not known for what is not there.
public struct RuleCheck<Memory: PhysicalMemory> {
  public let evidence: RuleEvidence
  public let memory: Memory
  let survey: TableSurvey
  /// Whose requests R1 and R7 are about: the devices that the kdump kernel needs, or, where nobody
  /// says which those are, whoever uses a table.
  let subjects: [Subject]

  /// - Complexity: O(entries of all tables in force).
  public init(evidence: RuleEvidence, memory: Memory) {
    self.evidence = evidence
    self.memory = memory
    survey = TableSurvey(evidence.machine, in: memory)
    subjects = Self.subjects(evidence, survey, memory)
  }

  /// Every table in force, as the checks see them.
  public var tables: [DMATable] { survey.tables }

  /// What of the tables is not known; of a table that several share, told as the first one's.
  public var gaps: [TableGap] {
    survey.gaps + survey.distinct.flatMap { survey.gaps(of: $0.table) }
  }

  /// All thirteen, in order.
  public func all() -> [RuleVerdict] {
    [
      identity(), noOtherNumber(), reservedFirst(), leftoverDisjoint(), noRegisterWrites(),
      fitsMasks(), lowPart(), deviceHasTable(), tablesSound(), interrupts(), cpuView(),
      deviceHarmless(), exposure(),
    ]
  }
}

extension RuleCheck {
  var machine: Machine { evidence.machine }
  var crashKernel: [Range<PhysicalAddress>] { evidence.machine.crashKernel }

  /// The devices that the kdump kernel needs; `nil` where nobody says.
  var neededDevices: [RuleEvidence.Device]? {
    guard let needed = evidence.devices?.filter(\.isNeededByKdump), !needed.isEmpty else {
      return nil
    }
    return needed
  }

  func handle(_ device: RuleEvidence.Device) -> DeviceHandle {
    resolve(device.function, on: machine, in: memory)
  }

  /// The parts of the crash kernel that lie in a range.
  func crashKernel(in range: Range<PhysicalAddress>) -> [Range<PhysicalAddress>] {
    crashKernel.map { $0.clamped(to: range) }.filter { !$0.isEmpty }
  }

  func overlapsCrashKernel(_ range: Range<PhysicalAddress>) -> Bool {
    crashKernel.contains { $0.overlaps(range) }
  }

  func overlapsCrashKernel(_ range: Range<IOVA>) -> Bool {
    overlapsCrashKernel(range.mapBounds(to: PhysicalAddress.self))
  }

  /// What is said of a device of which nobody knows whose it is: several units know it, or none serves
  /// its segment; `nil` where one has it.
  func ambiguity(of device: PCI.Function) -> RuleFinding? {
    do {
      let serving = try machine.serving(device)
      // One unit is in no other's way.
      guard serving.units.count > 1 else { return nil }
      let count = serving.owners(of: device.requester, in: memory).others.count
      guard count > 0 else { return nil }
      return RuleFinding(
        kind: .unknown, device: device, "\(count + 1) units or tables may be the device's")
    } catch {
      return RuleFinding(kind: .unknown, "\(error)")
    }
  }

  /// What is said where units translate and no device is known: of none nothing is claimed.
  var nobodyFinding: RuleFinding {
    RuleFinding(
      kind: .unknown,
      survey.tables.isEmpty
        ? "no device is known: none has a table in force, and nobody named one"
        : "no device is known that the kdump kernel needs")
  }

  /// A rule that holds of every device that the machine's kernel lists, whichever of them are needed.
  func holdsForAll(_ rule: RuleID) -> RuleVerdict {
    var verdict = RuleVerdict(rule)
    let count = evidence.presentDevices?.count ?? 0
    verdict.grounds.append("looked at: the \(count) devices that the kernel lists")
    return verdict
  }

  /// Whether it is known of some device that it is there.
  var knowsDevices: Bool { neededDevices != nil || !survey.tables.isEmpty }
}

/// What becomes of a device's requests, which carry no PASID.
///
/// Of one whose segment no unit serves nothing can be said; whoever asks has seen to that.
private func resolve(
  _ device: PCI.Function, on machine: Machine, in memory: some PhysicalMemory
) -> DeviceHandle {
  let serving = (try? machine.serving(device)) ?? machine
  return serving.resolve(device.requester, in: memory)
}

/// Somebody whose requests a check is about.
struct Subject {
  /// The device; `nil` where it is whoever uses a table.
  var device: PCI.Function?
  /// Whose table.
  var owner: TableOwner
  var handle: DeviceHandle
}

extension RuleCheck {
  private static func subjects(
    _ evidence: RuleEvidence, _ survey: TableSurvey, _ memory: Memory
  ) -> [Subject] {
    func subject(_ device: PCI.Function) -> Subject {
      Subject(
        device: device, owner: .requester(device),
        handle: resolve(device, on: evidence.machine, in: memory))
    }
    if let devices = evidence.devices {
      return devices.filter(\.isNeededByKdump).map { subject($0.function) }
    }
    // The kdump kernel's requests carry no PASID, whatever address spaces the device has. What becomes of
    // them has been found out with the tables; of thousands of devices nobody asks again.
    var known: [PCI.Function: Table] = [:]
    for table in survey.tables {
      if case .requester(let device, _) = table.owner, table.pasid == nil, let content = table.table
      {
        known[device] = content
      }
    }
    var seen: Set<PCI.Function> = []
    return survey.tables.compactMap { table in
      if case .requester(let device, _) = table.owner {
        guard seen.insert(device).inserted else { return nil }
        guard let content = known[device] else { return subject(device) }
        return Subject(
          device: device, owner: .requester(device),
          handle: DeviceHandle(requester: device.requester, route: .table(content)))
      }
      return table.table.map {
        Subject(
          owner: table.owner,
          handle: DeviceHandle(
            requester: table.owner.device?.requester ?? Requester(rawValue: 0), route: .table($0)))
      }
    }
  }
}
