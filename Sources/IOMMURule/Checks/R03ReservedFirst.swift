import IOMMUFormats
import IOMMUTranslation

extension RuleCheck {
  /// R3: allocators had the crash kernel's numbers taken out before any was handed out.
  public func reservedFirst() -> RuleVerdict {
    guard machine.translates, !givesOutOtherNumbersOnly else {
      return RuleVerdict(.reservedFirst, .notApplicable)
    }
    guard let events = evidence.allocatorEvents else {
      if let allocators = evidence.allocators { return reservedNow(allocators) }
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

  /// What allocators hold at the crash: numbers that are free or were given back can be handed out, and
  /// numbers that were given back have been.
  ///
  /// That numbers are kept for good now says nothing of what was handed out before.
  private func reservedNow(_ allocators: [RuleEvidence.Allocator]) -> RuleVerdict {
    var verdict = RuleVerdict(.reservedFirst)
    let numbers = crashKernel.map { $0.mapBounds(to: IOVA.self) }
    let needed = neededDevices?.map(\.function)
    func isAsked(_ device: PCI.Function) -> Bool { needed?.contains(device) ?? true }
    var reserved: [TableOwner] = []
    for allocator in allocators where allocator.devices.contains(where: isAsked) {
      let owners = allocator.devices.map { TableOwner.requester($0) }
      func add(_ kind: RuleFinding.Kind, _ iova: IOVA, _ text: String) {
        guard verdict.hasRoom(for: kind) else { return }
        verdict.add(
          RuleFinding(
            kind: kind, device: allocator.devices[0], owner: owners[0],
            others: Array(owners.dropFirst()), iova: iova, text))
      }
      var isReserved = true
      for range in numbers {
        for held in allocator.held where held.iova.overlaps(range) && held.state != .taken {
          isReserved = false
          let state = held.state == .cached ? "is kept for use again" : "waits for a flush"
          add(
            .broken, max(held.iova.lowerBound, range.lowerBound),
            "\(held.iova.clamped(to: range).text), in the crash kernel's numbers, was handed out, and "
              + "\(state) in the allocator")
        }
        for run in strays(of: allocator) where run.iova.overlaps(range) {
          isReserved = false
          add(
            .broken, max(run.iova.lowerBound, range.lowerBound),
            "\(run.iova.clamped(to: range).text), in the crash kernel's numbers, was handed out, and is "
              + "mapped to other memory")
        }
        let free = allocator.free(in: range)
        guard let first = free.first else { continue }
        isReserved = false
        let more = free.count > 1 ? " and \(free.count - 1) more of its ranges are" : " is"
        add(
          allocator.isWhole ? .broken : .unknown, first.lowerBound,
          allocator.isWhole
            ? "\(first.text)\(more) free in the allocator: never reserved"
            : "whether \(first.text) is reserved is not known: the allocator cannot be read to its end"
        )
      }
      if isReserved { reserved += owners }
    }
    if let first = reserved.first {
      verdict.add(
        RuleFinding(
          kind: .unknown, owner: first, others: Array(reserved.dropFirst()),
          "the crash kernel's numbers are reserved now; what was handed out before, no allocator remembers"
        ))
    }
    let covered = Set(allocators.flatMap(\.devices))
    for shared in survey.distinct where isForCrashKernel(shared.table.table) {
      let owners = [shared.table.owner] + shared.others
      let devices = owners.compactMap(\.device)
      guard !devices.contains(where: covered.contains), devices.contains(where: isAsked) else {
        continue
      }
      verdict.add(
        RuleFinding(
          kind: .unknown, owner: shared.table.owner, others: shared.others,
          "no allocator of the kernel hands out its numbers: who does, and which, is not known"))
    }
    verdict.add(survey.gaps)
    if let needed {
      for device in needed where !covered.contains(device) && !survey.has(device) {
        verdict.add(
          RuleFinding(
            kind: .unknown, device: device, "the kernel has no allocator for it, and no table"))
      }
    }
    if allocators.isEmpty, verdict.outcome == .holds {
      verdict.add(
        RuleFinding(kind: .unknown, "the kernel has no allocator whose numbers a device uses"))
    }
    verdict.grounds.append(
      "looked at: what \(allocators.count) of the kernel's IOVA allocators hold")
    return verdict
  }

  /// Mappings of the allocator's table that lead numbers to other memory; none where another is in force.
  private func strays(of allocator: RuleEvidence.Allocator) -> [MappingRun] {
    let table = survey.tables.first { $0.root != nil && $0.root == allocator.root }
    return survey[table?.table]?.strays ?? []
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
