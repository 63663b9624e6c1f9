import IOMMUFormats
import IOMMUTranslation

/// Explains faults against one machine's tables.
public struct FaultExplainer<Memory: PhysicalMemory> {
  let machine: Machine
  let memory: Memory
  /// Every table's mappings, for looking a number up elsewhere; shared tables once.
  private let maps: [TableMaps]
  /// The root table is a capture kernel's copy.
  private let isCopy: Bool

  /// What lies above the page tables and is not known.
  public let gaps: [TableGap]
  /// The same, and what of the tables is not known.
  public let blindness: Blindness

  private let names: DeviceNames

  /// Reads all tables once.
  public init(_ machine: Machine, in memory: Memory, names: DeviceNames = .none) {
    self.names = names
    self.machine = machine
    self.memory = memory
    var maps: [TableMaps] = []
    let report = MapsReport(all: machine, in: memory, names: names)
    report.forEachTable(in: memory) { maps.append($0) }
    gaps = report.gaps
    blindness = Blindness(gaps + maps.filter { $0.sharedWith == nil }.flatMap(\.gaps))
    self.maps = maps
    isCopy = machine.units(of: VTd.Unit.self).contains { unit in
      let root = unit.rootTableAddress.rootTable
      return VTd.RootTableFinder.owner(of: root, in: memory) == .captureKernel
    }
  }

  /// Explains one fault.
  public func explain(_ fault: LoggedFault) -> FaultExplanation {
    var explanation = explained(fault)
    explanation.driver = fault.record.device.flatMap { names[$0] }
    return explanation
  }

  private func explained(_ fault: LoggedFault) -> FaultExplanation {
    let record = fault.record
    switch record.source {
    case .calgary: return calgary(fault)
    case .vtdInterrupt: return interrupt(fault)
    case .amdvi(let event, _):
      guard record.isAMDViRequest else { return amdvi(fault, event) }
    case .amdviPageRequest:
      return FaultExplanation(fault, walk: nil, now: "page tables have no say in it")
    case .smmuv3:
      return FaultExplanation(
        fault, walk: nil, now: "SMMUv3 tables are not read from dumps: this is what the event says")
    case .vtdStatus, .vtdQueue:
      return FaultExplanation(fault, walk: nil, now: "tables have no say in it")
    case .vtd: break
    }
    guard let device = record.device, let iova = record.requestAddress,
      let access = record.access ?? record.likelyAccess, !machine.units.isEmpty
    else {
      return FaultExplanation(fault, walk: nil, now: "the log names no DMA request")
    }
    let walk: ToldWalk
    do {
      walk = try ToldWalk(
        device, pasid: record.pasid.map { PASID($0) }, iova, access: access, machine: machine,
        in: memory, names: names)
    } catch {
      return FaultExplanation(fault, walk: nil, now: "unknown: \(error)")
    }
    return FaultExplanation(
      fault, walk: walk, now: now(walk, record), stoppedBy: stoppedBy(walk),
      remedy: Remedy(walk).text,
      hints: domainHints(record, walk.steps)
        + (walk.bypass == nil ? hints(device, iova, access, record) : []))
  }

  /// An event of AMD-Vi that no page table decides about: an interrupt, a command, memory that did not
  /// answer.
  private func amdvi(_ fault: LoggedFault, _ event: AMDVi.Event) -> FaultExplanation {
    let nothing = "page tables have no say in it"
    guard let device = fault.record.device, event.isInterruptRequest || event.isOfDeviceTLB,
      // Any request reads the entry.
      let walk = try? ToldWalk(
        device, IOVA(0), access: .read, machine: machine, in: memory, names: names),
      let step = walk.steps.first, let entry = step.deviceTableEntry
    else { return FaultExplanation(fault, walk: nil, now: nothing) }
    let place = "\(step.titleText) at \(step.address)"
    guard event.isInterruptRequest else {
      return FaultExplanation(
        fault, walk: nil,
        now: entry.allowsDeviceTLB
          ? "\(place) allows it (I): it was written after the event, or the unit still had an older "
            + "one in its cache" : "the same: \(place) has I clear")
    }
    let isMissing = event.code == .pageFault && !event.isPresent
    return FaultExplanation(
      fault, walk: nil, now: "\(place): \(entry.interruptMeaning)",
      remedy: isMissing && entry.isInterruptValid && entry.interruptControl == .remap
        ? "an entry with RemapEn in this table, at the index that the message's data has" : nil,
      hints: domainHints(fault.record, [step]))
  }

  /// Whether the domain that an event of AMD-Vi names is still that of the device.
  private func domainHints(_ record: FaultRecord, _ steps: [WalkStep]) -> [String] {
    guard case .amdvi(let event, hasFlags: true) = record.source, event.code == .pageFault,
      !event.isGuest, let step = steps.first(where: { $0.deviceTableEntry != nil }),
      let entry = step.deviceTableEntry, entry.isValid, entry.domainID != event.domainID
    else { return [] }
    return [
      "the event names domain \(hexadecimal(event.domainID)), and \(step.titleText) has "
        + "\(hexadecimal(entry.domainID)): it was written after the fault, or the unit still had an "
        + "older one in its cache"
    ]
  }

  // MARK: What is

  private func now(_ walk: ToldWalk, _ record: FaultRecord) -> String {
    if walk.isUnknown { return walk.endText }
    if record.isIllegalDeviceEntry, !walk.endsAtIllegalDeviceEntry {
      return
        "the device table entry is legal by what is known of the unit: it was written after the "
        + "event, or the unit still had an older one in its cache. The request \(walk.endText)"
    }
    switch walk.end {
    case .memory(let address, _):
      if let bypass = walk.bypass {
        return
          "allowed: \(bypass), so that it reaches \(address). That was written after the fault, or "
          + "the unit still had something older in its caches"
      }
      return
        "allowed: the tables lead to \(address). Mapped after the fault, or the unit still had "
        + "an older translation in its caches"
    case .interruptMessage: return "an interrupt, not memory"
    case .notInDump, .unitUnseen: return walk.endText
    case .fault(let fault):
      guard let isSame = record.isBorneOut(by: fault) else { return walk.endText }
      return isSame
        ? "the same: \(walk.endText)"
        : "another fault than then, so that the tables have changed: \(walk.endText)"
    }
  }

  private func stoppedBy(_ walk: ToldWalk) -> String? {
    guard !walk.reachesMemory, let step = walk.steps.last else { return nil }
    return "\(step.titleText) at \(step.address), raw \(step.entry.rawText): "
      + ([step.entry.meaning] + step.entry.violations).joined(separator: ", ")
  }

  // MARK: What else is known of a number

  private func hints(
    _ device: PCI.Function, _ iova: IOVA, _ access: Access, _ record: FaultRecord
  ) -> [String] {
    var hints: [String] = []
    let own = maps.first { $0.table.owner.covers(device) == true }
    // A pass-through has no table.
    if let own, own.table.table != nil { hints += neighbours(of: iova, in: own) }
    hints += gaps.filter { $0.concerns(device) }.map { $0.text(names) }
    let isMapped = own?.runs.contains { $0.iova.contains(iova) } ?? false
    let isUnknown =
      gaps.contains { $0.concerns(device) } || own?.gaps.contains { $0.covers(iova) } ?? false
    // What devices share is looked through once.
    let mapping = Set(
      maps.filter { $0.sharedWith == nil && $0.runs.contains { $0.iova.contains(iova) } }
        .compactMap(\.number))
    let others = maps.filter { maps in
      maps.table.owner.covers(device) != true && maps.number.map(mapping.contains) == true
    }
    if !others.isEmpty {
      let titles = others.prefix(4).map(\.title)
      let more = others.count - titles.count
      let list = more > 0 ? "\(titles.joined(separator: ", ")) and \(more) more" : listText(titles)
      hints.append(
        isMapped
          ? "mapped for \(list) too"
          : isUnknown
            ? "mapped for \(list); whether for this device is not known"
            : "mapped for \(list), but not for this device")
    }
    if let range = machine.crashKernel.first(where: { $0.contains(PhysicalAddress(iova.rawValue)) })
    {
      hints.append(
        "the number lies in the crash kernel \(range.text): a kernel there that knows of no IOMMU "
          + "uses physical addresses")
    } else if machine.ram.contains(where: { $0.contains(PhysicalAddress(iova.rawValue)) }) {
      hints.append(FaultExplanation.isRAM + ": perhaps a physical address that was never mapped")
    }
    if isCopy {
      hints.append(
        "root and context tables are a capture kernel's copies: devices without a new driver still "
          + "use the dead kernel's page tables")
    }
    return hints
  }

  /// How a number lies to the runs of the device's own table.
  private func neighbours(of iova: IOVA, in maps: TableMaps) -> [String] {
    if let run = maps.runs.first(where: { $0.iova.contains(iova) }) {
      return ["mapped \(run.access) in \(run.iova.text) -> \(run.physicalRange.text)"]
    }
    var hints: [String] = []
    if let below = maps.runs.last(where: { $0.iova.upperBound <= iova }) {
      let distance = iova.rawValue - below.iova.upperBound.rawValue
      if distance < 1 << 20 {
        hints.append(
          "\(byteCountText(distance)) past the end of \(below.iova.text) \(below.access): "
            + "a device that runs over its buffer looks like this")
      }
    }
    if maps.runs.isEmpty, maps.gaps.isEmpty {
      hints.append("the device's table maps nothing at all")
    }
    return hints + maps.gaps.filter { $0.covers(iova) }.map(\.text)
  }

  // MARK: Records without an address

  private func interrupt(_ fault: LoggedFault) -> FaultExplanation {
    // Interrupts in this format have no index, whatever the kernel makes of their address.
    if fault.record.source == .vtdInterrupt(.compatibilityInterruptBlocked) {
      return FaultExplanation(
        fault, walk: nil, now: "tables have no say in it",
        remedy: "an interrupt in the format that is remapped, or none")
    }
    return FaultExplanation(
      fault, walk: nil,
      now: fault.record.address.map { entry($0) } ?? "the log names no entry",
      remedy: "an entry of the interrupt remapping table with this index, for this device")
  }

  /// What the interrupt remapping tables say of an index now.
  private func entry(_ index: UInt64) -> String {
    let texts = machine.units.compactMap { unit -> String? in
      guard let table = unit.words.describedInterruptTable else { return nil }
      let count = table.byteCount / table.entryByteCount
      guard index < count else { return "the table of the \(unit.name) has \(count) entries" }
      guard let words = table.words(at: index, others: 0, in: memory) else {
        return "unknown: the \(table.place) at \(table.start) is not in this dump"
      }
      return "\(words.title): \(words.statement)"
    }
    return texts.isEmpty
      ? "unknown: no interrupt remapping table is known" : texts.joined(separator: "; ")
  }

  private func calgary(_ fault: LoggedFault) -> FaultExplanation {
    let bus = fault.record.bus ?? 0
    let name = "bus:" + hexadecimal(bus, digits: 2)
    let table = maps.first { maps in
      guard case .buses(let buses) = maps.table.owner else { return false }
      return buses.contains(bus)
    }
    let now: String
    if let table {
      now =
        "\(table.heading) for \(name): \(countText(table.runs.count, "run")), "
        + byteCountText(table.byteCount)
    } else if maps.contains(where: { $0.table.owner.device == nil }) {
      now = "unknown: which TCE table is that of \(name)"
    } else {
      now = "no TCE table in force for \(name)"
    }
    return FaultExplanation(
      fault, walk: nil, now: now,
      remedy: "a TCE with the page and R or W for each number that the device uses",
      hints: [
        "the chip keeps no address: 'iommu maps' shows which numbers the table knows",
        "the driver disables the bus's slots after this: registers from before let 'iommu walk' pass",
      ])
  }
}

extension TableGap {
  /// An address of the table depends on it.
  fileprivate func covers(_ iova: IOVA) -> Bool {
    if case .addresses(_, let range) = scope { range.contains(iova) } else { false }
  }
}
