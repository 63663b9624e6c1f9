import IOMMUFormats
import IOMMUTranslation

extension RuleCheck {
  /// R13: before the crash, no device could write the crash kernel. The Rule breaks this on
  /// purpose.
  ///
  /// Finds every mapping into it that can be written, and everybody who passes untranslated: of all
  /// devices there may be, or of those there are where they are known.
  public func exposure() -> RuleVerdict {
    var verdict = RuleVerdict(.exposure)
    let masks = knownMasks
    for shared in survey.distinct {
      guard let runs = survey[shared.table.table]?.writable, !runs.isEmpty else { continue }
      guard verdict.hasRoom(for: .broken) else { break }
      for (mask, owners) in owners(of: shared, by: masks) {
        for run in runs {
          for range in crashKernel(in: run.physicalRange) {
            guard let range = addressable(range, of: run, mask: mask) else { continue }
            verdict.add(
              RuleFinding(
                owner: owners.first, others: owners.others,
                iova: run.numbers(of: range).lowerBound, access: .write,
                "can write \(range.text), in the crash kernel, at any time"))
          }
        }
      }
    }
    for passer in passers {
      for range in passer.ranges {
        verdict.add(
          RuleFinding(
            device: passer.device, owner: passer.owner, others: passer.others, access: .write,
            "\(passer.text) passes untranslated and can write \(range.text), in the crash kernel, at "
              + "any time"))
      }
    }
    addPostedInterrupts(to: &verdict)
    verdict.addGaps(of: survey)
    return verdict
  }

  /// Descriptors and virtual APICs in the crash kernel that hardware writes when a device sends an
  /// interrupt.
  private func addPostedInterrupts(to verdict: inout RuleVerdict) {
    for unit in machine.units {
      let interrupts = machine.interruptTables(of: unit, in: memory)
      guard !interrupts.tables.isEmpty else {
        if unit.model.mayPostInterrupts { verdict.add(interrupts.gaps) }
        if unit.model.mayPostInterrupts, let reason = unit.model.unknownInterruptTable {
          verdict.add(
            RuleFinding(
              kind: .unknown,
              "whether interrupts are posted in the crash kernel is not known: "
                + reason))
        }
        continue
      }
      for mapping in interrupts.tables.flatMap(\.mappings) {
        guard let range = mapping.decision.memory, overlapsCrashKernel(range) else { continue }
        let place = if case .guest = mapping.decision { "virtual APIC" } else { "descriptor" }
        verdict.add(
          RuleFinding(
            access: .write, entryAddress: mapping.entryAddress,
            "interrupt \(hexadecimal(mapping.index)) is posted in a \(place) at "
              + "\(range.lowerBound), in the crash kernel"))
      }
      if unit.model.mayPostInterrupts {
        verdict.add(interrupts.gaps + interrupts.tables.flatMap(\.gaps))
      }
    }
  }

  /// The address lines of devices where somebody knows them.
  private var knownMasks: [PCI.Function: UInt64] {
    Dictionary(
      (evidence.devices ?? []).compactMap { device in
        device.dmaMask.map { (device.function, $0) }
      }, uniquingKeysWith: { first, _ in first })
  }

  /// The owners of a table, those together of which the same mask is known, or none.
  private func owners(
    of shared: TableSurvey.SharedTable, by masks: [PCI.Function: UInt64]
  ) -> [(mask: UInt64?, owners: (first: TableOwner, others: [TableOwner]))] {
    guard !masks.isEmpty else { return [(nil, (shared.table.owner, shared.others))] }
    var groups: [(mask: UInt64?, owners: (first: TableOwner, others: [TableOwner]))] = []
    for owner in [shared.table.owner] + shared.others {
      let mask: UInt64? = if case .requester(let device, _) = owner { masks[device] } else { nil }
      if let index = groups.firstIndex(where: { $0.mask == mask }) {
        groups[index].owners.others.append(owner)
      } else {
        groups.append((mask, (owner, [])))
      }
    }
    return groups
  }

  /// The part of a range that a device has the address lines for, at the numbers of the run.
  private func addressable(
    _ range: Range<PhysicalAddress>, of run: MappingRun, mask: UInt64?
  ) -> Range<PhysicalAddress>? {
    guard let mask else { return range }
    let numbers = run.numbers(of: range)
    guard numbers.lowerBound.rawValue <= mask else { return nil }
    let byteCount = min(range.byteCount - 1, mask - numbers.lowerBound.rawValue) + 1
    return Range(start: range.lowerBound, byteCount: byteCount)
  }

  /// Somebody who reaches the crash kernel past all tables.
  struct Passer {
    var device: PCI.Function?
    var owner: TableOwner?
    /// Others of whom the same holds.
    var others: [TableOwner] = []
    /// `DMA of any device`; `nil` for the DMA of ``device`` or ``owner`` and the others.
    var whose: String?
    /// The same in words.
    var text: String { whose ?? (others.isEmpty ? "its DMA" : "their DMA") }
    /// The parts of the crash kernel.
    var ranges: [Range<PhysicalAddress>]
  }

  /// Everybody who reaches the crash kernel untranslated.
  var passers: [Passer] {
    var passers: [Passer] = []
    var indices: [Alike: Int] = [:]
    func add(
      _ passing: [Range<UInt64>], device: PCI.Function? = nil, owner: TableOwner? = nil,
      whose: String? = nil, mask: UInt64 = .max
    ) {
      let ranges = passing.flatMap { addresses in
        crashKernel(
          in: PhysicalAddress(
            addresses.lowerBound)..<PhysicalAddress(
              max(addresses.lowerBound, min(addresses.upperBound, mask == .max ? mask : mask + 1))))
      }
      guard !ranges.isEmpty else { return }
      // Thousands of devices may pass, and all of them alike.
      if let other = owner ?? device.map({ .requester($0) }) {
        let alike = Alike(whose: whose, ranges: ranges)
        if let index = indices[alike] { return passers[index].others.append(other) }
        indices[alike] = passers.count
      }
      passers.append(Passer(device: device, owner: owner, whose: whose, ranges: ranges))
    }
    let devices = evidence.devices ?? []
    if evidence.listsAllDevices {
      for device in devices {
        add(
          handle(device).route.passing, device: device.function, mask: device.dmaMask ?? .max)
      }
      return passers
    }
    let passages = machine.passages(in: memory)
    for passage in passages {
      add(passage.addresses, whose: "DMA of \(passage.devices)")
    }
    // A pass-through device has a table entry and no table.
    for table in survey.tables where table.isPassThrough && table.permissions.contains(.write) {
      add(machine.passing(table, in: memory), owner: table.owner)
    }
    // A device that no unit knows of, where units do not say that others pass.
    for device in devices
    where ambiguity(of: device.function) == nil && !passes(device.function, among: passages) {
      guard case .untranslated = handle(device).route else { continue }
      add([0 ..< .max], device: device.function, mask: device.dmaMask ?? .max)
    }
    return passers
  }

  /// What makes what is said of two devices that pass the same.
  private struct Alike: Hashable {
    var whose: String?
    var ranges: [Range<PhysicalAddress>]
  }

  /// A unit says that the device passes.
  private func passes(_ device: PCI.Function, among passages: [Passage]) -> Bool {
    passages.contains { passage in
      switch passage.devices {
      case .all: true
      case .requesters(let segment, let range):
        device.segment == segment && range.contains(device.requester.rawValue)
      case .buses(let buses): device.segment == 0 && buses.contains(device.requester.bus)
      case .behindUnit: machine.units.count == 1
      }
    }
  }
}
