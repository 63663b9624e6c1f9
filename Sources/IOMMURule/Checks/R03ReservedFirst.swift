import IOMMUFormats
import IOMMUTranslation

extension RuleCheck {
  /// R3: allocators had the crash kernel's numbers taken out before any was handed out.
  public func reservedFirst() -> RuleVerdict {
    guard machine.translates, !givesOutOtherNumbersOnly else {
      return RuleVerdict(.reservedFirst, .notApplicable)
    }
    guard let events = evidence.allocatorEvents else {
      return RuleVerdict(
        .reservedFirst,
        RuleFinding(kind: .unknown, "what allocators handed out, and when, is not known"))
    }
    var verdict = RuleVerdict(.reservedFirst)
    for case .mapped(let requester, let range) in events where overlapsCrashKernel(range) {
      verdict.add(
        RuleFinding(
          device: PCI.Function(requester), iova: range.lowerBound,
          "\(range.text), in the crash kernel's numbers, was handed out"))
    }
    guard let needed = neededDevices else {
      verdict.add(nobodyFinding)
      return verdict
    }
    for device in needed where hasNumbersOfItsOwn(device) {
      let isReserved = crashKernel.allSatisfy { range in
        events.contains { event in
          guard case .reserved(let owner, let reserved) = event else { return false }
          return owner.covers(device.function) == true
            && reserved.contains(range.mapBounds(to: IOVA.self))
        }
      }
      if !isReserved {
        verdict.add(
          RuleFinding(
            device: device.function, "the crash kernel's numbers were never reserved"))
      }
    }
    return verdict
  }

  /// All tables are known, and none is for numbers of the crash kernel: a GART gives out numbers of
  /// its aperture alone, never any of RAM.
  private var givesOutOtherNumbersOnly: Bool {
    !survey.tables.isEmpty && survey.gaps.isEmpty && survey.unanswered.isEmpty
      && survey.tables.allSatisfy { !isForCrashKernel($0.table) }
  }

  private func isForCrashKernel(_ table: Table?) -> Bool {
    guard let space = table?.space else { return false }
    return overlapsCrashKernel(space.range(from: 0, byteCount: space.byteCount))
  }

  /// Somebody hands out numbers to the device, and may hand out those of the crash kernel.
  private func hasNumbersOfItsOwn(_ device: RuleEvidence.Device) -> Bool {
    switch handle(device).route {
    case .untranslated, .passThrough: false
    case .table(let table): isForCrashKernel(table)
    case .blocked: true
    }
  }
}
