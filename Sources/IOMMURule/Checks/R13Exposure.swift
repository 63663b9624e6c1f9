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
    for table in survey.tables {
      guard let runs = survey[table.table]?.writable, !runs.isEmpty else { continue }
      guard verdict.hasRoom(for: .broken) else { break }
      for run in runs {
        for range in crashKernel(in: run.physicalRange) {
          guard let range = addressable(range, of: run, by: table.owner) else { continue }
          verdict.add(
            RuleFinding(
              owner: table.owner, iova: run.numbers(of: range).lowerBound, access: .write,
              "can write \(range.text), in the crash kernel, at any time"))
        }
      }
    }
    for passer in passers {
      for range in passer.ranges {
        verdict.add(
          RuleFinding(
            device: passer.device, owner: passer.owner, access: .write,
            "\(passer.text) passes untranslated and can write \(range.text), in the crash kernel, at "
              + "any time"))
      }
    }
    addPostedInterrupts(to: &verdict)
    verdict.addGaps(of: survey)
    return verdict
  }

  /// Descriptors in the crash kernel that hardware writes when a device sends an interrupt.
  private func addPostedInterrupts(to verdict: inout RuleVerdict) {
    for unit in machine.units {
      guard let interrupts = machine.interruptMappings(of: unit, in: memory) else {
        if unit.model.mayPostInterrupts, let reason = unit.model.unknownInterruptTable {
          verdict.add(
            RuleFinding(
              kind: .unknown,
              "whether interrupts are posted in the crash kernel is not known: "
                + reason))
        }
        continue
      }
      for mapping in interrupts.mappings {
        guard case .posted(let posted) = mapping.decision,
          let descriptor = Range(
            start: posted.descriptor, byteCount: UInt64(VTd.PostedInterruptDescriptor.byteCount)),
          overlapsCrashKernel(descriptor)
        else { continue }
        verdict.add(
          RuleFinding(
            access: .write, entryAddress: mapping.entryAddress,
            "interrupt \(hexadecimal(mapping.index)) is posted in a descriptor at "
              + "\(posted.descriptor), in the crash kernel"))
      }
      verdict.add(interrupts.gaps)
    }
  }

  /// The part of a range that a device has the address lines for, at the numbers of the run.
  private func addressable(
    _ range: Range<PhysicalAddress>, of run: MappingRun, by owner: TableOwner
  ) -> Range<PhysicalAddress>? {
    guard case .requester(let device, _) = owner,
      let mask = evidence.devices?.first(where: { $0.function == device })?.dmaMask
    else { return range }
    let numbers = run.numbers(of: range)
    guard numbers.lowerBound.rawValue <= mask else { return nil }
    let byteCount = min(range.byteCount - 1, mask - numbers.lowerBound.rawValue) + 1
    return Range(start: range.lowerBound, byteCount: byteCount)
  }

  /// Somebody who reaches the crash kernel past all tables.
  struct Passer {
    var device: PCI.Function?
    var owner: TableOwner?
    /// `DMA of any device`.
    var text: String
    /// The parts of the crash kernel.
    var ranges: [Range<PhysicalAddress>]
  }

  /// Everybody who reaches the crash kernel untranslated.
  var passers: [Passer] {
    var passers: [Passer] = []
    func add(
      _ passing: [Range<UInt64>], device: PCI.Function? = nil, owner: TableOwner? = nil,
      _ text: String, mask: UInt64 = .max
    ) {
      let ranges = passing.flatMap { addresses in
        crashKernel(
          in: PhysicalAddress(
            addresses.lowerBound)..<PhysicalAddress(
              max(addresses.lowerBound, min(addresses.upperBound, mask == .max ? mask : mask + 1))))
      }
      guard !ranges.isEmpty else { return }
      passers.append(Passer(device: device, owner: owner, text: text, ranges: ranges))
    }
    let devices = evidence.devices ?? []
    if evidence.listsAllDevices {
      for device in devices {
        add(
          handle(device).route.passing, device: device.function, "its DMA",
          mask: device.dmaMask ?? .max)
      }
      return passers
    }
    var seen: Set<Passage> = []
    for passage in machine.passages where seen.insert(passage).inserted {
      add(passage.addresses, "DMA of \(passage.devices)")
    }
    // A pass-through device has a table entry and no table.
    for table in survey.tables where table.isPassThrough {
      add(machine.passing(table, in: memory), owner: table.owner, "its DMA")
    }
    // A device that no unit knows of, where units do not say that others pass.
    for device in devices
    where ambiguity(of: device.function) == nil && !passes(device.function) {
      guard case .untranslated = handle(device).route else { continue }
      add([0 ..< .max], device: device.function, "its DMA", mask: device.dmaMask ?? .max)
    }
    return passers
  }

  /// A unit says that the device passes.
  private func passes(_ device: PCI.Function) -> Bool {
    machine.passages.contains { passage in
      switch passage.devices {
      case .all: true
      case .buses(let buses): device.segment == 0 && buses.contains(device.requester.bus)
      case .behindUnit: machine.units.count == 1
      }
    }
  }
}
