import IOMMUFormats
import IOMMUTranslation

extension RuleCheck {
  /// R8: no device that the kdump kernel needs is refused before a table is even looked at.
  public func deviceHasTable() -> RuleVerdict {
    guard machine.units.contains(where: \.model.blocksDevices) else {
      return RuleVerdict(.deviceHasTable, .notApplicable)
    }
    guard let needed = neededDevices else {
      return everyDeviceHasTable
        ? holdsForAll(.deviceHasTable)
        : RuleVerdict(.deviceHasTable, RuleFinding(kind: .unknown, unknownNeedsText))
    }
    var verdict = RuleVerdict(.deviceHasTable)
    for device in needed {
      if let ambiguity = ambiguity(of: device.function) {
        verdict.add(ambiguity)
        continue
      }
      guard case .blocked(let fault) = handle(device).route else { continue }
      let gaps =
        fault.isUnanswered ? survey.gaps.filter { $0.concerns(device.function) } : []
      verdict.add(gaps)
      guard gaps.isEmpty else { continue }
      let name = device.name == "\(device.function)" ? "" : device.name + " "
      verdict.add(
        RuleFinding(device: device.function, "\(name)has no table: \(fault.meaning)"))
    }
    return verdict
  }

  /// Whether every device that the machine's kernel lists is let through, whichever of them are needed.
  private var everyDeviceHasTable: Bool {
    guard let present = evidence.presentDevices, !present.isEmpty else { return false }
    return present.allSatisfy { device in
      guard ambiguity(of: device.function) == nil else { return false }
      if case .blocked = handle(device).route { return false }
      return true
    }
  }

  /// What is said where nobody says which devices are needed: who has a table, and who may not.
  private var unknownNeedsText: String {
    let all = subjects.map { "\($0.owner)" }
    let text = "nobody says which devices the kdump kernel needs"
    guard !all.isEmpty else { return "\(text), and none is known to have a table" }
    let limit = 8
    let more = all.count > limit ? " and \(all.count - limit) more" : ""
    return "\(text); these have a table: " + all.prefix(limit).joined(separator: ", ") + more
  }
}
