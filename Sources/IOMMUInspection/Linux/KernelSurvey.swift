import IOMMUFormats
import IOMMULinux
import IOMMUTranslation

/// What a kernel knows of its devices beside what the tables in memory say of them.
public struct KernelSurvey: Sendable {
  /// Ranges of an allocator's tree, each counted in one of these.
  public struct Counts: Hashable, Sendable {
    /// Given out, and mapped.
    public var live = 0
    /// Given back, and kept for use again.
    public var cached = 0
    /// Given back, and waiting until units have forgotten them.
    public var waiting = 0
    /// Kept for good: no memory is behind them for devices.
    public var reserved = 0
  }

  /// A device, as the kernel and the tables have it.
  public struct Device: Sendable {
    public var device: KernelDevice
    /// The domain that its driver is attached to; that of its group where the driver has attached none.
    public var domain: KernelDomain?
    /// What the tables in memory say of its requester.
    public var seen: Seen
    /// Levels of the table in force; `nil` where that is not known.
    public var levels: Int?
    /// Pages of 4 KiB that the table in force maps; `nil` where that is not known.
    public var pageCount: UInt64?
    /// `nil` for a domain without an allocator, and where the table is not known.
    public var counts: Counts?
    /// What has become of an earlier kernel's tables.
    public var handOver: HandOver?
  }

  /// What tables say of a requester.
  public enum Seen: Hashable, Sendable {
    case table(PhysicalAddress, domainID: UInt16?)
    /// It reaches all of memory.
    case passes
    /// No entry is there for it: its requests are blocked.
    case none
    /// Nobody walks such tables, or the dump lacks what would tell.
    case unknown
  }

  /// What a capture kernel has done with what an earlier kernel had set up for a device.
  public enum HandOver: String, Sendable {
    /// The device's table is that of the old kernel, in its memory.
    case left = "old table"
    /// A table of the capture kernel's own.
    case replaced
    /// No table any more.
    case blocked
  }

  /// A place where the kernel and the tables differ, or where numbers are not what they should be.
  public struct Finding: Hashable, Sendable {
    public enum Kind: String, Sendable, CaseIterable {
      case otherTable = "other table"
      case otherLevels = "other levels"
      case otherDomainID = "other domain id"
      case mappedNotAllocated = "mapped, not allocated"
      case allocatedNotMapped = "allocated, not mapped"
      case freedStillMapped = "freed, still mapped"
      case sharedTable = "shared table"
      case oldTable = "old table"
      case unknownDevice = "no such device"
    }

    public var kind: Kind
    /// The device's name.
    public var device: String
    public var text: String
  }

  public var role: LinuxKernels.Role
  public var state: IOMMUState
  public var devices: [Device]
  public var findings: [Finding]
  /// What could not be looked at, in words.
  public var unknown: [String]

  /// Findings of one kind and device that name their place; the rest are counted.
  private static let toldLimit = 4

  /// Looks at the tables of a kernel's units, and at each domain's numbers.
  ///
  /// - Parameters:
  ///   - state: What the kernel knows of its units, devices and domains.
  ///   - role: What it is to the crash.
  ///   - resources: The kernel's map of addresses: windows of PCI buses are no memory for devices.
  ///   - old: The state of the kernel that was there before, for a capture kernel.
  ///   - memory: The dump with the tables.
  /// - Complexity: O(*n*) in the entries of all tables and the ranges of all allocators.
  public init(
    _ state: IOMMUState, role: LinuxKernels.Role, resources: KernelResources?,
    after old: IOMMUState? = nil,
    in memory: some PhysicalMemory
  ) {
    self.state = state
    self.role = role
    devices = []
    findings = []
    unknown = state.problems
    let machine = KernelMachine(state, in: memory)
    unknown += machine.unknown
    let tables = machine.machine.tables(in: memory)
    let passages = machine.machine.passages(in: memory)
    unknown += tables.gaps.map { "\($0.subjectText): \($0.causeText)" }
    var own: [PCI.Function: DMATable] = [:]
    for table in tables.tables where table.pasid == nil {
      if let function = table.owner.device { own[function] = own[function] ?? table }
    }
    var maps: [PhysicalAddress: [Range<UInt64>]] = [:]
    var budget = EnumerationBudget(for: memory)
    var gaps: [String] = []
    machine.machine.forEachTable(tables.tables, in: memory, budget: &budget) { mapped in
      let (table, mappings) = (mapped.table, mapped.mappings)
      guard table.pasid == nil, let root = table.root, maps[root] == nil else { return }
      maps[root] = mappings.runs.map { $0.iova.lowerBound.rawValue..<$0.iova.upperBound.rawValue }
      gaps += mappings.gaps.map { "\($0.subjectText): \($0.causeText)" }
    }
    unknown += gaps
    let windows = Self.windows(resources)
    let oldRoots = Set(old?.domains.compactMap(\.root) ?? [])
    var judged: [UInt64: Counts] = [:]
    for device in state.devices {
      var found = Device(device: device, seen: .unknown)
      if case .domain(let address) = device.attachment {
        found.domain = state.domain(at: address)
      }
      if let requester = device.requester {
        found.seen = machine.seen(
          requester, own[requester], unit: device.unit,
          passes: passages.contains { $0.isWhole && $0.devices.include(requester) },
          isHidden: tables.gaps.contains { $0.concerns(requester) })
        if case .table = found.seen { found.levels = own[requester]?.table?.any.format.levels }
      }
      if case .table(let root, _) = found.seen, let runs = maps[root] {
        found.pageCount = runs.reduce(0) { $0 &+ ($1.upperBound - $1.lowerBound) / 4096 }
        if let domain = found.domain, domain.root == root, let iova = domain.iova {
          if judged[domain.address] == nil {
            judged[domain.address] = judge(iova, of: device, against: runs, windows)
          }
          found.counts = judged[domain.address]
        }
      }
      if role == .capture { found.handOver = Self.handOver(found, oldRoots) }
      compare(found)
      devices.append(found)
    }
    compareShared()
    let names = Set(
      state.devices.flatMap { [$0.requester, $0.function].compactMap { $0 } + $0.aliases })
    for function in own.keys.sorted() where !names.contains(function) {
      // A bridge from PCI Express takes its secondary bus's number for devices behind it.
      let isBridge = devices.contains { found in
        guard let device = found.device.function, case .table(let root, _) = found.seen else {
          return false
        }
        return device.segment == function.segment && device.requester.bus == function.requester.bus
          && function.requester.deviceFunction == 0 && own[function]?.root == root
      }
      if isBridge { continue }
      findings.append(
        Finding(
          kind: .unknownDevice, device: "\(function)",
          text: "the unit has a table for a requester that is no device of the kernel's"))
    }
  }

  // MARK: Devices

  private mutating func compare(_ found: Device) {
    func add(_ kind: Finding.Kind, _ text: String) {
      findings.append(Finding(kind: kind, device: found.device.shortName, text: text))
    }
    if found.handOver == .left, case .table(let root, let id) = found.seen {
      add(
        .oldTable,
        "its entry leads to the old kernel's table at \(root)" + (id.map { ", domain \($0)" } ?? "")
          + "; no driver has attached it")
      return
    }
    guard let domain = found.domain, domain.isPaging == true, let root = domain.root else { return }
    switch found.seen {
    case .unknown: break
    case .none:
      add(
        .otherTable,
        "the kernel has attached the table at \(root), and the unit has no entry for it")
    case .passes:
      add(.otherTable, "the kernel has attached the table at \(root), and the unit lets it pass")
    case .table(let seen, let id):
      guard seen == root else {
        add(
          .otherTable,
          "the kernel has attached the table at \(root), and the unit has that at \(seen)")
        return
      }
      if let levels = domain.levels, let walked = found.levels, levels != walked {
        add(
          .otherLevels,
          "the kernel's table at \(root) has \(countText(levels, "level")), and the unit walks \(walked)"
        )
      }
      if let id, let known = found.domainID(in: domain), known != UInt32(id) {
        add(.otherDomainID, "the kernel says domain \(known), and the unit has \(id)")
      }
    }
  }

  /// Devices that share a table share a group, or one is behind the other.
  private mutating func compareShared() {
    var first: [PhysicalAddress: Device] = [:]
    for found in devices {
      guard case .table(let root, _) = found.seen, found.handOver != .left else { continue }
      guard let other = first[root] else {
        first[root] = found
        continue
      }
      guard other.device.requester != found.device.requester,
        other.device.group != found.device.group,
        // An unmanaged domain may hold many groups: a program has put them together.
        found.domain?.type != 1
      else { continue }
      findings.append(
        Finding(
          kind: .sharedTable, device: found.device.shortName,
          text: "shares the table at \(root) with \(other.device.shortName), of another group"))
    }
  }

  private static func handOver(_ found: Device, _ oldRoots: Set<PhysicalAddress>) -> HandOver? {
    switch found.seen {
    case .table(let root, _):
      let isOwn = found.domain?.root == root
      return isOwn
        ? .replaced : oldRoots.contains(root) || found.device.attachment == .none ? .left : nil
    case .none: return .blocked
    case .passes, .unknown: return nil
    }
  }

  // MARK: Numbers

  /// Addresses that stand for no memory: windows of PCI buses, interrupt messages, and on AMD's machines
  /// what HyperTransport uses.
  private static func windows(_ resources: KernelResources?) -> [ClosedRange<UInt64>] {
    let buses = resources?.lines.filter { $0.name.hasPrefix("PCI Bus ") }.map(\.addresses) ?? []
    return buses + [0xfee0_0000...0xfeef_ffff, 0xfd_0000_0000...0xff_ffff_ffff]
  }

  /// Puts each range of the tree where it belongs, and tells what does not fit.
  private mutating func judge(
    _ iova: IOVAAllocator, of device: KernelDevice, against runs: [Range<UInt64>],
    _ windows: [ClosedRange<UInt64>]
  ) -> Counts {
    var counts = Counts()
    func isMapped(_ range: Range<UInt64>) -> Bool {
      let index = runs.partitioningIndex { $0.upperBound > range.lowerBound }
      return index < runs.count && runs[index].lowerBound < range.upperBound
    }
    var freedMapped: [Range<UInt64>] = []
    var unmapped: [Range<UInt64>] = []
    for (pages, state) in iova.states {
      guard let range = iova.bytes(pages) else { continue }
      let isUsed = isMapped(range)
      switch state {
      case .cached:
        counts.cached += 1
        if isUsed { freedMapped.append(range) }
      case .waiting:
        counts.waiting += 1
        if isUsed { freedMapped.append(range) }
      case .taken where isUsed:
        counts.live += 1
      case .taken:
        counts.reserved += 1
        let isWindow = windows.contains {
          $0.lowerBound <= range.lowerBound && range.upperBound - 1 <= $0.upperBound
        }
        if !isWindow { unmapped.append(range) }
      }
    }
    counts.reserved -= unmapped.count
    counts.live += unmapped.count
    tell(.freedStillMapped, freedMapped, of: device, "was given back, and is mapped")
    tell(.allocatedNotMapped, unmapped, of: device, "is allocated, and nothing is mapped there")
    // An allocator that was not read to its end knows less than it should.
    if iova.problems.isEmpty {
      let allocated = iova.ranges.compactMap(iova.bytes)
      let stray = runs.filter { run in
        let index = allocated.partitioningIndex { $0.upperBound > run.lowerBound }
        guard index < allocated.count, allocated[index].lowerBound <= run.lowerBound else {
          return true
        }
        var end = allocated[index].upperBound
        var next = index + 1
        while end < run.upperBound, next < allocated.count, allocated[next].lowerBound == end {
          end = allocated[next].upperBound
          next += 1
        }
        return end < run.upperBound
      }
      tell(.mappedNotAllocated, stray, of: device, "is mapped, and not allocated in whole")
    }
    return counts
  }

  private mutating func tell(
    _ kind: Finding.Kind, _ ranges: [Range<UInt64>], of device: KernelDevice, _ text: String
  ) {
    for range in ranges.prefix(Self.toldLimit) {
      findings.append(
        Finding(
          kind: kind, device: device.shortName,
          text: "\(hexadecimal(range.lowerBound))..<\(hexadecimal(range.upperBound)) \(text)"))
    }
    guard ranges.count > Self.toldLimit else { return }
    findings.append(
      Finding(
        kind: kind, device: device.shortName,
        text: "and \(ranges.count - Self.toldLimit) more of which the same is true"))
  }
}

extension KernelSurvey.Device {
  /// By which the device's unit is to know the translations of a domain's tables, as the kernel has it.
  func domainID(in domain: KernelDomain?) -> UInt32? {
    // The device's own is that of tables of version 2.
    if let id = device.ownDomainID, domain?.isFirstStage == true { return id }
    return domain?.ids.first { $0.unit == device.unit }?.id
  }
}

extension KernelDevice {
  /// `00:03.0`, as the tables' readers call it; the kernel's own name for a device that is on no PCI bus.
  public var shortName: String { function.map { "\($0)" } ?? name }
}

/// The machine that a kernel's units make.
package struct KernelMachine {
  package private(set) var machine = Machine(name: "kernel", units: [])
  /// Units, as ``KernelUnit/address`` has them, whose tables are in ``machine``.
  private(set) var known: Set<UInt64> = []
  /// Units that are left out, and why.
  package private(set) var unknown: [String] = []

  package init(_ state: IOMMUState, in memory: some PhysicalMemory) {
    for unit in state.units {
      guard unit.kind == .vtd || unit.kind == .amdvi else {
        if unit.kind != .other {
          unknown.append("\(unit.title): tables of this kind are not walked; pages are not counted")
        }
        continue
      }
      guard let base = unit.registerBase, let table = unit.table else {
        // Firmware may tell of a VT-d unit that the driver leaves alone.
        if unit.kind == .amdvi {
          unknown.append("\(unit.title): where its \(unit.kind.tableName) is, is not known")
        }
        continue
      }
      do {
        machine.units.append(
          unit.kind == .vtd
            ? try Self.intelUnit(unit, base, table, in: memory)
            : try Self.amdUnit(unit, base, table, in: memory))
        self.known.insert(unit.address)
      } catch {
        unknown.append("\(unit.title): its \(unit.kind.tableName) at \(table): \(error)")
      }
    }
  }

  private static func intelUnit(
    _ unit: KernelUnit, _ base: PhysicalAddress, _ table: PhysicalAddress,
    in memory: some PhysicalMemory
  ) throws -> TranslationUnit {
    let limits: VTd.Limits =
      if let capability = unit.capability, let extended = unit.extendedCapability {
        VTd.Limits(
          capability: VTd.Capability(rawValue: capability),
          extendedCapability: VTd.ExtendedCapability(rawValue: extended))
      } else {
        .permissive
      }
    let known = VTd.Unit(
      base: base, rootTableAddress: VTd.RootTableAddress(rootTable: table, mode: .legacy),
      status: unit.status,
      limits: limits, segment: unit.segment.map { UInt16(truncatingIfNeeded: $0) })
    // Whether the entries are those of legacy or of scalable mode, the table tells.
    let named = try NamedTable("vtd:\(table)@\(base)")
    return try named.unit(in: memory, TableHints(units: [.vtd(known)]))
  }

  /// The driver keeps no copy of the control register: a unit in its list is one that it has switched on.
  private static func amdUnit(
    _ unit: KernelUnit, _ base: PhysicalAddress, _ table: PhysicalAddress,
    in memory: some PhysicalMemory
  ) throws -> TranslationUnit {
    guard let byteCount = unit.tableByteCount else {
      throw NamedTableError("how long it is, is not known")
    }
    // The first units have no such register.
    let features = unit.extendedCapability.flatMap { $0 == 0 ? nil : $0 }
    let known = AMDVi.Unit(
      base: base, deviceTable: AMDVi.DeviceTableBase(rawValue: 0), control: nil,
      features: features.map { AMDVi.ExtendedFeatures(rawValue: $0) },
      segment: unit.segment.map { UInt16(truncatingIfNeeded: $0) })
    var named = try NamedTable("amdvi:\(table)@\(base)")
    named.byteCount = byteCount
    return try named.unit(in: memory, TableHints(units: [.amdvi(known)]))
  }

  /// What the tables say of a requester.
  ///
  /// - Parameters:
  ///   - passes: Its unit lets it reach all of memory without a table.
  ///   - isHidden: The dump lacks something that would tell.
  func seen(
    _ requester: PCI.Function, _ table: DMATable?, unit: UInt64?, passes: Bool, isHidden: Bool
  ) -> KernelSurvey.Seen {
    guard let unit, known.contains(unit) else { return .unknown }
    guard let table else { return isHidden ? .unknown : passes ? .passes : .none }
    guard let root = table.root else { return .passes }
    return .table(root, domainID: table.domainID)
  }
}

extension Passage {
  /// No address is left out.
  fileprivate var isWhole: Bool { addresses == [0 ..< .max] }
}

extension Passage.Devices {
  /// Whether a device is certain to be one of them.
  fileprivate func include(_ device: PCI.Function) -> Bool {
    switch self {
    case .all: true
    case .buses(let buses): device.segment == 0 && buses.contains(device.requester.bus)
    case .requesters(let segment, let range):
      device.segment == segment && range.contains(device.requester.rawValue)
    case .behindUnit: false
    }
  }
}

extension KernelUnit {
  /// VT-d: GSTS_REG, as it stands after what the driver has written to GCMD_REG last; `nil` where it is not
  /// known that translation is on.
  ///
  /// The driver keeps TE, QIE, IRE and CFI in the places that GSTS_REG has them in, and nothing of the root
  /// table: a unit that translates has one.
  fileprivate var status: VTd.GlobalStatus? {
    guard let command else { return nil }
    var status = VTd.GlobalStatus(translates: true)
    guard VTd.GlobalStatus(rawValue: command).translates else { return nil }
    status = VTd.GlobalStatus(rawValue: status.rawValue | command & 0x8680_0000)
    return status
  }

  /// What people call it.
  package var title: String {
    [name, registerBase.map { "at \($0)" }].compactMap { $0 }.joined(separator: " ")
  }
}
