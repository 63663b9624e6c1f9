import IOMMUFormats
import IOMMUTranslation

/// The thirteen checks of the Kdump IO Rule.
public enum RuleID: Int, CaseIterable, Sendable, Comparable, CustomStringConvertible {
  case identity = 1
  case noOtherNumber, reservedFirst, leftoverDisjoint, noRegisterWrites, fitsMasks, lowPart
  case deviceHasTable, tablesSound, interrupts, cpuView, deviceHarmless, exposure

  public var description: String { "R\(rawValue)" }
  public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }

  /// What must hold.
  public var statement: String {
    switch self {
    case .identity: "every page of the crash kernel is mapped to itself, read and write"
    case .noOtherNumber: "no other number maps into the crash kernel"
    case .reservedFirst: "the crash kernel's numbers were reserved before anything was mapped there"
    case .leftoverDisjoint: "leftover DMA and the crash kernel have no number and no byte in common"
    case .noRegisterWrites: "the kdump kernel writes no IOMMU register"
    case .fitsMasks: "the crash kernel's addresses fit the devices' masks"
    case .lowPart: "a crash kernel above 4 GiB has a low part, and it is covered too"
    case .deviceHasTable: "every device that the kdump kernel needs has a table"
    case .tablesSound: "the tables are outside the crash kernel, in use, and undamaged"
    case .interrupts: "interrupts of devices reach the kdump kernel"
    case .cpuView: "the CPU's view of memory is undisturbed"
    case .deviceHarmless: "devices are reset, or harmless, before a driver re-programs them"
    case .exposure: "no device can write the crash kernel before the crash"
    }
  }

  /// The Rule itself breaks this one: the identity map lets any device write the crash kernel.
  public var isBrokenByDesign: Bool { self == .exposure }
}

/// What one check found.
public struct RuleFinding: Sendable, Equatable {
  public var requester: Requester?
  public var table: String?
  public var iova: IOVA?
  public var entryAddress: PhysicalAddress?
  public var text: String

  init(
    requester: Requester? = nil, table: String? = nil, iova: IOVA? = nil,
    entryAddress: PhysicalAddress? = nil, _ text: String
  ) {
    self.requester = requester
    self.table = table
    self.iova = iova
    self.entryAddress = entryAddress
    self.text = text
  }
}

/// One check with its findings.
public struct RuleVerdict: Sendable, Equatable {
  public enum Outcome: String, Sendable, Codable {
    case holds
    case broken
    /// What is known of the machine does not tell.
    case unknown
    /// Nothing on this machine can break it.
    case notApplicable = "not applicable"
  }

  public var rule: RuleID
  public var outcome: Outcome
  public var findings: [RuleFinding]
}

/// What is known of a machine at its crash: registers, and as much of the history as somebody kept.
///
/// A dump has registers and memory only; a simulated crash knows all. Optional parts are `nil`
/// where nobody knows, and checks that need them answer *unknown*.
public struct RuleEvidence: Sendable {
  /// DMA that a device still does, and where it is meant to end.
  public struct Leftover: Sendable, Equatable {
    public var requester: Requester
    public var iova: Range<IOVA>
    public var target: Range<PhysicalAddress>
    public init(requester: Requester, iova: Range<IOVA>, target: Range<PhysicalAddress>) {
      self.requester = requester
      self.iova = iova
      self.target = target
    }
  }

  /// Numbers that the kdump kernel has handed to a device.
  public struct Numbers: Sendable, Equatable {
    public var requester: Requester
    public var iova: Range<IOVA>
    public init(requester: Requester, iova: Range<IOVA>) {
      self.requester = requester
      self.iova = iova
    }
  }

  /// A write to a register of an IOMMU.
  public struct RegisterWrite: Sendable, Equatable {
    public var unit: String
    public var offset: UInt64
    public var value: UInt64
    public init(unit: String, offset: UInt64, value: UInt64) {
      self.unit = unit
      self.offset = offset
      self.value = value
    }
  }

  public var machine: Machine
  public var devices: [Device]
  public var allocatorEvents: [AllocatorEvent]?
  public var leftovers: [Leftover]?
  public var freedTables: [Range<PhysicalAddress>]?
  public var registerWritesByKdump: [RegisterWrite]?
  public var kdumpNumbers: [Numbers]?
  public var devicesResetByKdump: Set<Requester>?

  public init(
    machine: Machine, devices: [Device], allocatorEvents: [AllocatorEvent]? = nil,
    leftovers: [Leftover]? = nil, freedTables: [Range<PhysicalAddress>]? = nil,
    registerWritesByKdump: [RegisterWrite]? = nil, kdumpNumbers: [Numbers]? = nil,
    devicesResetByKdump: Set<Requester>? = nil
  ) {
    self.machine = machine
    self.devices = devices
    self.allocatorEvents = allocatorEvents
    self.leftovers = leftovers
    self.freedTables = freedTables
    self.registerWritesByKdump = registerWritesByKdump
    self.kdumpNumbers = kdumpNumbers
    self.devicesResetByKdump = devicesResetByKdump
  }
}

/// Judges a machine and its memory by the Rule: a simulated crash and somebody else's dump alike.
///
/// Each check is a function of its own; none changes anything.
public struct RuleCheck<Memory: PhysicalMemory> {
  public let evidence: RuleEvidence
  public let memory: Memory
  private var machine: Machine { evidence.machine }
  private var crashKernel: [Range<PhysicalAddress>] { evidence.machine.crashKernel }
  private var kdumpDevices: [Device] { evidence.devices.filter(\.isNeededByKdump) }

  public init(evidence: RuleEvidence, memory: Memory) {
    self.evidence = evidence
    self.memory = memory
  }

  /// All thirteen, in order.
  public func all() -> [RuleVerdict] {
    [
      identity(), noOtherNumber(), reservedFirst(), leftoverDisjoint(), noRegisterWrites(),
      fitsMasks(), lowPart(), deviceHasTable(), tablesSound(), interrupts(), cpuView(),
      deviceHarmless(), exposure(),
    ]
  }

  private func verdict(_ rule: RuleID, _ findings: [RuleFinding]) -> RuleVerdict {
    RuleVerdict(rule: rule, outcome: findings.isEmpty ? .holds : .broken, findings: findings)
  }

  private func handle(_ device: Device) -> DeviceHandle {
    machine.resolve(device.requester, dmaMask: .max, in: memory)
  }

  private func overlapsCrashKernel(_ range: Range<PhysicalAddress>) -> Bool {
    crashKernel.contains { $0.overlaps(range) }
  }

  private func overlapsCrashKernel(_ range: Range<IOVA>) -> Bool {
    overlapsCrashKernel(range.mapBounds(to: PhysicalAddress.self))
  }

  /// R1: every page of the crash kernel is mapped read and write at its own number, in every table
  /// that a kdump device uses.
  ///
  /// - Complexity: O(pages of the crash kernel × devices) walks.
  public func identity() -> RuleVerdict {
    var findings: [RuleFinding] = []
    for device in kdumpDevices {
      let handle = handle(device)
      for range in crashKernel {
        var missing = 0
        var first: (iova: IOVA, text: String)?
        for page in range.lowerBound.pageNumber..<range.upperBound.pageNumber {
          let iova = IOVA(page * 4096)
          guard let text = whyNotIdentity(handle, iova) else { continue }
          missing += 1
          if first == nil { first = (iova, text) }
        }
        guard let first else { continue }
        findings.append(
          RuleFinding(
            requester: device.requester, iova: first.iova,
            "\(missing) of \(range.byteCount / 4096) pages are not mapped to themselves; "
              + "the first: \(first.text)"))
      }
    }
    return verdict(.identity, findings)
  }

  private func whyNotIdentity(_ handle: DeviceHandle, _ iova: IOVA) -> String? {
    for access in Access.allCases {
      switch handle.translate(iova, byteCount: 4096, access: access, in: memory) {
      case .mapped(let physical, let byteCount):
        if physical.rawValue != iova.rawValue { return "\(access) goes to \(physical)" }
        if byteCount != 4096 { return "\(access) reaches only \(byteCount) bytes of the page" }
      case .interruptMessage:
        return "\(access) is an interrupt message"
      case .fault(let fault):
        return "\(access) faults: \(fault.meaning)"
      }
    }
    return nil
  }

  /// R2: no number but a page's own maps into the crash kernel, in any table of the machine.
  public func noOtherNumber() -> RuleVerdict {
    var findings: [RuleFinding] = []
    var budget = EnumerationBudget(for: memory)
    for table in machine.tables(in: memory).tables {
      for run in machine.mappings(of: table, in: memory, budget: &budget).runs {
        guard run.iova.lowerBound.rawValue != run.physical.rawValue,
          overlapsCrashKernel(run.physicalRange)
        else { continue }
        findings.append(
          RuleFinding(
            table: table.name, iova: run.iova.lowerBound,
            "\(run.iova.text) maps to \(run.physical), in the crash kernel"))
      }
    }
    return verdict(.noOtherNumber, findings)
  }

  /// R3: allocators had the crash kernel's numbers taken out before any was handed out.
  public func reservedFirst() -> RuleVerdict {
    guard !machine.tables(in: memory).tables.isEmpty else {
      return RuleVerdict(rule: .reservedFirst, outcome: .notApplicable, findings: [])
    }
    // A GART gives out numbers of its aperture only, never any of RAM.
    if machine.units.allSatisfy({ $0.model is GART.Node }) {
      return RuleVerdict(rule: .reservedFirst, outcome: .notApplicable, findings: [])
    }
    guard let events = evidence.allocatorEvents else {
      return RuleVerdict(rule: .reservedFirst, outcome: .unknown, findings: [])
    }
    var findings: [RuleFinding] = []
    for case .mapped(let requester, let range) in events where overlapsCrashKernel(range) {
      findings.append(
        RuleFinding(
          requester: requester, iova: range.lowerBound,
          "\(range.text), in the crash kernel's numbers, was handed out"))
    }
    for device in kdumpDevices {
      let isReserved = events.contains { event in
        guard case .reserved(let table, let range) = event else { return false }
        return covers(table, device)
          && crashKernel.contains { $0.mapBounds(to: IOVA.self) == range }
      }
      if !isReserved {
        findings.append(
          RuleFinding(requester: device.requester, "the crash kernel's numbers were never reserved")
        )
      }
    }
    return verdict(.reservedFirst, findings)
  }

  /// Whether a table of this name translates for the device.
  private func covers(_ table: String, _ device: Device) -> Bool {
    if table == "\(device.requester)" || table == "gart" { return true }
    return machine.units.contains { unit in
      guard let chip = unit.as(Calgary.Chip.self),
        let bridge = chip.hostBridge(above: device.requester.bus)
      else { return false }
      return table == "bus:" + hexadecimal(bridge.buses.lowerBound, digits: 2)
    }
  }

  /// R4: what devices still do lies outside the crash kernel, in number and in memory.
  public func leftoverDisjoint() -> RuleVerdict {
    guard let leftovers = evidence.leftovers else {
      return RuleVerdict(rule: .leftoverDisjoint, outcome: .unknown, findings: [])
    }
    return verdict(
      .leftoverDisjoint,
      leftovers.flatMap { leftover -> [RuleFinding] in
        var findings: [RuleFinding] = []
        if overlapsCrashKernel(leftover.iova) {
          findings.append(
            RuleFinding(
              requester: leftover.requester, iova: leftover.iova.lowerBound,
              "leftover DMA at \(leftover.iova.text) has numbers of the crash kernel"))
        }
        if overlapsCrashKernel(leftover.target) {
          findings.append(
            RuleFinding(
              requester: leftover.requester, iova: leftover.iova.lowerBound,
              "leftover DMA ends at \(leftover.target.text), in the crash kernel"))
        }
        return findings
      })
  }

  /// R5: the kdump kernel leaves every register of every IOMMU alone.
  public func noRegisterWrites() -> RuleVerdict {
    guard let writes = evidence.registerWritesByKdump else {
      return RuleVerdict(rule: .noRegisterWrites, outcome: .unknown, findings: [])
    }
    return verdict(
      .noRegisterWrites,
      writes.map {
        RuleFinding(
          "\($0.unit): register \(hexadecimal($0.offset)) was written with \(hexadecimal($0.value))"
        )
      })
  }

  /// R6: every device that the kdump kernel needs reaches some crash kernel range whole, and the
  /// first of them, where the kernel runs.
  public func fitsMasks() -> RuleVerdict {
    verdict(
      .fitsMasks,
      kdumpDevices.flatMap { device in
        crashKernel.filter { $0.upperBound.rawValue - 1 > device.dmaMask }.map { range in
          RuleFinding(
            requester: device.requester,
            "\(range.text) is beyond the device's mask \(hexadecimal(device.dmaMask))")
        }
      })
  }

  /// R7: with a crash kernel above 4 GiB there is a range below it, mapped as well.
  public func lowPart() -> RuleVerdict {
    let limit = PhysicalAddress(1 << 32)
    guard crashKernel.contains(where: { $0.upperBound > limit }) else {
      return RuleVerdict(rule: .lowPart, outcome: .notApplicable, findings: [])
    }
    let low = crashKernel.filter { $0.upperBound <= limit }
    guard !low.isEmpty else {
      return verdict(
        .lowPart, [RuleFinding("the crash kernel is above 4 GiB and has no part below it")])
    }
    var findings: [RuleFinding] = []
    for device in kdumpDevices {
      let handle = handle(device)
      for range in low {
        for page in [range.lowerBound.pageNumber, range.upperBound.pageNumber - 1] {
          guard let text = whyNotIdentity(handle, IOVA(page * 4096)) else { continue }
          findings.append(
            RuleFinding(
              requester: device.requester, iova: IOVA(page * 4096),
              "low part \(range.text): \(text)"))
          break
        }
      }
    }
    return verdict(.lowPart, findings)
  }

  /// R8: no device that the kdump kernel needs is refused before a table is even looked at.
  public func deviceHasTable() -> RuleVerdict {
    verdict(
      .deviceHasTable,
      kdumpDevices.compactMap { device in
        guard case .blocked(let fault) = handle(device).route else { return nil }
        return RuleFinding(
          requester: device.requester, "\(device.name) has no table: \(fault.meaning)")
      })
  }

  /// R9: every table page lies outside the crash kernel, has not been given back, and can be
  /// walked.
  public func tablesSound() -> RuleVerdict {
    let tables = machine.tables(in: memory).tables
    guard machine.units.contains(where: \.model.translates) else {
      return RuleVerdict(rule: .tablesSound, outcome: .notApplicable, findings: [])
    }
    var inspector = TableInspector(crashKernel: crashKernel, freed: evidence.freedTables ?? [])
    for unit in machine.units(of: VTd.Unit.self) where unit.status.translates {
      inspector.table = "root table"
      inspector.enter(
        table: unit.rootTableAddress.rootTable, byteCount: 4096, level: 0, address: 0)
      if memory.quadword(at: unit.rootTableAddress.rootTable) == nil {
        inspector.findings.append(
          RuleFinding(
            table: "root table", entryAddress: unit.rootTableAddress.rootTable,
            "no memory answers at the root table"))
      }
      let used = Set(unit.requesters(in: memory).map(\.bus))
      for table in unit.upperTables(in: memory).tables {
        switch table.kind {
        case .root: continue
        case .contexts(let bus, _):
          guard used.contains(bus) else { continue }
          inspector.table = "context table of bus " + hexadecimal(bus, digits: 2)
        case .pasidDirectory(let requester): inspector.table = "PASID directory of \(requester)"
        case .pasids(let requester, _): inspector.table = "PASID table of \(requester)"
        }
        inspector.enter(
          table: table.start, byteCount: table.byteCount, level: 0, address: 0)
      }
    }
    var budget = EnumerationBudget(for: memory)
    for table in tables {
      inspector.table = table.name
      do {
        // A guest's first stage is its own, and lies in its memory.
        if case .nested(let tables)? = table.table {
          try Table.secondStage(tables.secondStage).forEachEntry(
            in: memory, budget: &budget, visitor: &inspector)
        } else {
          try table.table?.forEachEntry(in: memory, budget: &budget, visitor: &inspector)
        }
      } catch {
        inspector.findings.append(RuleFinding(table: table.name, "\(error)"))
      }
    }
    return verdict(.tablesSound, inspector.findings)
  }

  /// R10: where interrupt remapping is on, the compatibility-format messages of a kdump kernel that
  /// knows nothing of it still pass.
  public func interrupts() -> RuleVerdict {
    var isApplicable = false
    var findings: [RuleFinding] = []
    for unit in machine.units(of: VTd.Unit.self) where unit.status.remapsInterrupts {
      isApplicable = true
      if !unit.status.passesCompatibilityInterrupts {
        findings.append(
          RuleFinding(
            table: "unit at \(unit.base)",
            "interrupt remapping is on and blocks interrupts in the compatibility format (CFIS=0)"))
      }
    }
    guard isApplicable else {
      return RuleVerdict(rule: .interrupts, outcome: .notApplicable, findings: [])
    }
    return verdict(.interrupts, findings)
  }

  /// R11: no GART translates the CPU's own accesses to RAM.
  public func cpuView() -> RuleVerdict {
    var isApplicable = false
    var findings: [RuleFinding] = []
    for node in machine.units(of: GART.Node.self) where node.control.translatesCPU {
      guard let aperture = node.aperture?.mapBounds(to: PhysicalAddress.self) else { continue }
      isApplicable = true
      if let ram = machine.ram.first(where: { $0.overlaps(aperture) }) {
        findings.append(
          RuleFinding(
            table: "gart",
            "the aperture \(aperture.text) of \(node.device) lies over RAM \(ram.text) and the CPU "
              + "reads it through the GART (DisGartCpu=0)"))
      }
    }
    guard isApplicable else {
      return RuleVerdict(rule: .cpuView, outcome: .notApplicable, findings: [])
    }
    return verdict(.cpuView, findings)
  }

  /// R12: a device that still works when its driver takes it has no number in common with what the
  /// kdump kernel has handed out.
  ///
  /// Not a task of the Rule, but what its reservation achieves.
  public func deviceHarmless() -> RuleVerdict {
    guard let leftovers = evidence.leftovers, let numbers = evidence.kdumpNumbers,
      let reset = evidence.devicesResetByKdump
    else { return RuleVerdict(rule: .deviceHarmless, outcome: .unknown, findings: []) }
    return verdict(
      .deviceHarmless,
      leftovers.compactMap { leftover in
        guard !reset.contains(leftover.requester) else { return nil }
        let clash = numbers.first {
          $0.requester == leftover.requester && $0.iova.overlaps(leftover.iova)
        }
        return clash.map {
          RuleFinding(
            requester: leftover.requester, iova: leftover.iova.lowerBound,
            "not reset, and its leftover DMA at \(leftover.iova.text) meets the kdump kernel's "
              + "buffer at \($0.iova.text)")
        }
      })
  }

  /// R13: before the crash, no device could write the crash kernel. The Rule breaks this on
  /// purpose.
  ///
  /// Looks at the first and the last page of each range and at 64 pages between them.
  public func exposure() -> RuleVerdict {
    verdict(
      .exposure,
      evidence.devices.compactMap { device in
        let handle = machine.resolve(device.requester, dmaMask: device.dmaMask, in: memory)
        for range in crashKernel {
          let first = range.lowerBound.pageNumber
          let last = range.upperBound.pageNumber - 1
          let step = max(1, (last - first) / 64)
          for page in [last] + stride(from: first, through: last, by: Int(step)) {
            let translation = handle.translate(
              IOVA(page * 4096), byteCount: 1, access: .write, in: memory)
            if case .mapped(let physical, _) = translation, range.contains(physical) {
              return RuleFinding(
                requester: device.requester, iova: IOVA(page * 4096),
                "\(device.name) can write the crash kernel at any time")
            }
          }
        }
        return nil
      })
  }
}

/// Collects what is wrong with table pages.
private struct TableInspector: TableVisitor {
  let crashKernel: [Range<PhysicalAddress>]
  let freed: [Range<PhysicalAddress>]
  var table = ""
  var findings: [RuleFinding] = []

  init(crashKernel: [Range<PhysicalAddress>], freed: [Range<PhysicalAddress>]) {
    self.crashKernel = crashKernel
    self.freed = freed
  }

  mutating func enter(
    table start: PhysicalAddress, byteCount: UInt64, level _: Int, address: UInt64
  ) {
    guard let range = Range(start: start, byteCount: byteCount) else { return }
    if crashKernel.contains(where: { $0.overlaps(range) }) {
      findings.append(
        RuleFinding(
          table: table, iova: IOVA(address), entryAddress: start,
          "table at \(start) lies in the crash kernel"))
    }
    if freed.contains(where: { $0.overlaps(range) }) {
      findings.append(
        RuleFinding(
          table: table, iova: IOVA(address), entryAddress: start,
          "table at \(start) has been given back and is still used"))
    }
  }

  mutating func leaf(_: Leaf) {}

  mutating func obstacle(_ obstacle: Obstacle) {
    let (entryAddress, level, address) = (obstacle.entryAddress, obstacle.level, obstacle.address)
    let what =
      obstacle.end == .malformed ? "has a reserved bit set" : "lies where no memory answers"
    findings.append(
      RuleFinding(
        table: table, iova: IOVA(address), entryAddress: entryAddress,
        "entry at \(entryAddress), level \(level), \(what)"))
  }
}
