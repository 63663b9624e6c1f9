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
    machine.resolve(device.requester, in: memory)
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

  /// What is said of a device that several units know, of which nobody knows whose it is; `nil` where
  /// one has it for certain.
  func ambiguity(of requester: Requester) -> RuleFinding? {
    let owners = machine.owners(of: requester, in: memory)
    guard !owners.others.isEmpty else { return nil }
    return RuleFinding(
      kind: .unknown, requester: requester,
      "\(owners.others.count + 1) units or tables may be the device's")
  }

  /// What is not known of the machine's tables, where a rule is about all of them.
  func addUnknownTables(to verdict: inout RuleVerdict) {
    verdict.addGaps(of: survey)
    // Of several units that know a device only one has its table listed.
    guard machine.units.count > 1 else { return }
    var seen: Set<Requester> = []
    for case .requester(let requester, _) in survey.tables.map(\.owner)
    where seen.insert(requester).inserted {
      if let ambiguity = ambiguity(of: requester) { verdict.add(ambiguity) }
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

  /// Whether it is known of some device that it is there.
  var knowsDevices: Bool { neededDevices != nil || !survey.tables.isEmpty }
}

/// Somebody whose requests a check is about.
struct Subject {
  /// The device; `nil` where it is whoever uses a table.
  var requester: Requester?
  /// Whose table; `nil` where a device is meant.
  var owner: TableOwner?
  var handle: DeviceHandle
}

extension RuleCheck {
  private static func subjects(
    _ evidence: RuleEvidence, _ survey: TableSurvey, _ memory: Memory
  ) -> [Subject] {
    func device(_ requester: Requester) -> Subject {
      Subject(requester: requester, handle: evidence.machine.resolve(requester, in: memory))
    }
    if let devices = evidence.devices {
      return devices.filter(\.isNeededByKdump).map { device($0.requester) }
    }
    var seen: Set<Requester> = []
    return survey.tables.compactMap { table in
      // The kdump kernel's requests carry no PASID, whatever address spaces the device has.
      if case .requester(let function, _) = table.owner {
        return function.segment == 0 && seen.insert(function.requester).inserted
          ? device(function.requester) : nil
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
