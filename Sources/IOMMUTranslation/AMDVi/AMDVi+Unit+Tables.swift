import IOMMUFormats

extension AMDVi {
  /// More address spaces of requests with PASID are left out, and said to be: no machine has so many, a
  /// broken dump may. Those for requests without PASID are never left out.
  package static let addressSpaceLimit = 1 << 18
}

extension AMDVi.Unit {
  /// What one device table entry says.
  package struct Device: Sendable {
    package var requester: Requester
    package var entryAddress: PhysicalAddress
    package var entry: AMDVi.DeviceTableEntry
  }

  /// Every entry of the device table that memory holds, ascending, and the entries that it does not.
  ///
  /// - Complexity: O(entries of the table).
  package func forEachDevice(
    in memory: some PhysicalMemory, _ body: (Device) -> Void, missing: (ClosedRange<UInt16>) -> Void
  ) {
    for (index, segment) in tableSegments.enumerated() {
      guard let segment else {
        let span = UInt32(0xffff) >> UInt32(segmentBits)
        let first = UInt32(index) * (span + 1)
        missing(UInt16(first)...UInt16(first + span))
        continue
      }
      var firstMissing: UInt16?
      for number in segment.devices {
        let place = PhysicalAddress(
          segment.start.rawValue
            &+ UInt64(number - segment.first) &* AMDVi.deviceTableEntryByteCount)
        if let entry = AMDVi.DeviceTableEntry(from: memory, at: place) {
          if let first = firstMissing {
            missing(first...number - 1)
            firstMissing = nil
          }
          body(Device(requester: Requester(rawValue: number), entryAddress: place, entry: entry))
        } else if firstMissing == nil {
          firstMissing = number
        }
      }
      if let first = firstMissing { missing(first...segment.devices.upperBound) }
    }
  }

  /// The tables in force, and what of them is not known. What cannot be translated at all has no table
  /// and is left out.
  package func tables(in memory: some PhysicalMemory) -> TablesInForce {
    guard translates else { return TablesInForce() }
    var scan = TableScan(self, memory)
    forEachCountedDevice(
      in: memory, { scan.add($0) }, missing: { scan.addMissing($0, entryOf: $1) })
    return scan.finish()
  }

  /// Every device with the entry that counts for it, ascending: an alias's is that of the number that it
  /// sends, whatever its own says.
  ///
  /// - Parameters:
  ///   - memory: Memory that holds the device table.
  ///   - body: Told of each device.
  ///   - missing: Told of devices whose entry memory does not hold, and of the first whose entry it is.
  func forEachCountedDevice(
    in memory: some PhysicalMemory, _ body: (Device) -> Void,
    missing: (ClosedRange<UInt16>, _ entryOf: Requester) -> Void
  ) {
    let aliases = scope?.aliases ?? []
    var next = 0
    /// Tells of the aliases below a number.
    func tellAliases(below end: UInt32) {
      while next < aliases.count, aliases[next].device.rawValue < end {
        let (device, source) = aliases[next]
        next += 1
        let place: PhysicalAddress
        switch entryPlace(of: source) {
        case .beyond: continue
        case .unknown:
          missing(device.rawValue...device.rawValue, source)
          continue
        case .at(let address): place = address
        }
        if let entry = AMDVi.DeviceTableEntry(from: memory, at: place) {
          body(Device(requester: device, entryAddress: place, entry: entry))
        } else {
          missing(device.rawValue...device.rawValue, source)
        }
      }
    }
    func isAlias(_ number: UInt32) -> Bool {
      next < aliases.count && UInt32(aliases[next].device.rawValue) == number
    }
    forEachDevice(
      in: memory,
      { device in
        let number = UInt32(device.requester.rawValue)
        tellAliases(below: number)
        if isAlias(number) { tellAliases(below: number + 1) } else { body(device) }
      },
      missing: { range in
        var first = UInt32(range.lowerBound)
        let end = UInt32(range.upperBound) + 1
        tellAliases(below: first)
        while first < end {
          let stop =
            next < aliases.count ? min(end, UInt32(aliases[next].device.rawValue)) : end
          if first < stop {
            missing(UInt16(first)...UInt16(stop - 1), Requester(rawValue: UInt16(first)))
          }
          first = stop
          if first < end {
            tellAliases(below: first + 1)
            first += 1
          }
        }
      })
    tellAliases(below: 1 << 16)
  }

  /// Devices behind the unit whose entries are of a kind, in ranges, ascending.
  func devices(
    in memory: some PhysicalMemory, where isIncluded: (AMDVi.DeviceTableEntry) -> Bool
  ) -> [ClosedRange<UInt16>] {
    var ranges: [ClosedRange<UInt16>] = []
    forEachCountedDevice(
      in: memory,
      { device in
        let number = device.requester.rawValue
        guard scope?.answer(for: device.requester) != .outside, isIncluded(device.entry) else {
          return
        }
        if let last = ranges.last, UInt32(last.upperBound) + 1 == number {
          ranges[ranges.count - 1] = last.lowerBound...number
        } else {
          ranges.append(number...number)
        }
      }, missing: { _, _ in })
    return ranges
  }

  /// A look at all tables under way.
  private struct TableScan<Memory: PhysicalMemory> {
    let unit: AMDVi.Unit
    let memory: Memory
    let resolver: AMDVi.Resolver
    let segment: UInt32
    var all = TablesInForce()
    var spacesLeft = AMDVi.addressSpaceLimit
    var budget: EnumerationBudget
    var clashes = Clashes()
    /// Memory holds some entry of the device table.
    private var hasEntry = false

    init(_ unit: AMDVi.Unit, _ memory: Memory) {
      self.unit = unit
      self.memory = memory
      resolver = AMDVi.Resolver(unit)
      segment = UInt32(unit.segment ?? 0)
      budget = EnumerationBudget(for: memory)
    }

    mutating func addMissing(_ devices: ClosedRange<UInt16>, entryOf source: Requester) {
      let place: PhysicalAddress
      var cause = TableGap.Cause.absent
      switch unit.entryPlace(of: source) {
      case .at(let address): place = address
      case .beyond: place = unit.deviceTable.address
      case .unknown:
        cause = .unseen
        place = unit.base
      }
      add(
        TableGap(
          cause, .requesters(devices), in: .upper(AMDVi.deviceTableKind), at: place))
    }

    mutating func add(_ gap: TableGap) {
      var gap = gap
      gap.segment = segment
      all.gaps.append(gap)
    }

    mutating func add(_ device: AMDVi.Unit.Device) {
      hasEntry = true
      guard device.entry.isValid, unit.scope?.answer(for: device.requester) != .outside else {
        return
      }
      add(device, pasid: nil)
      guard device.entry.usesGuestTables, unit.translatesGuests else { return }
      addAddressSpaces(of: device)
    }

    private mutating func add(_ device: AMDVi.Unit.Device, pasid: PASID?) {
      var observer = Unobserved()
      let entry = device.entry
      let binding = resolver.binding(of: pasid, entry: entry, in: memory, observer: &observer)
      let usesPASIDZero = entry.usesGuestTables && entry.usesGuestTablesWithoutPASID
      let space = pasid ?? (usesPASIDZero && binding.isGuest ? PASID(0) : nil)
      let owner = TableOwner.requester(
        PCI.Function(segment: segment, device.requester), addressSpace: space)
      func append(_ table: Table?, _ permissions: Permissions = .readWrite) {
        var table = DMATable(
          owner: owner, pasid: pasid, table: table, domainID: device.entry.domainID)
        table.permissions = permissions
        clashes.add(table)
        all.tables.append(table)
      }
      switch binding {
      case .untranslated: break
      case .stopped(let fault): addDamage(fault, device)
      case .host(let table):
        if let stop = table.stop {
          addDamage(stop, device)
        } else if table.isDirect {
          if !table.rules.permissions.isEmpty { append(nil, table.rules.permissions) }
        } else if table.blocker == nil {
          append(.amdHost(table))
        }
      case .guest(let table): append(.amdGuest(table))
      case .nested(let tables): append(.amdNested(tables))
      }
    }

    private mutating func addDamage(_ fault: AMDVi.RequestFault, _ device: AMDVi.Unit.Device) {
      if fault.reason.isUnanswered {
        let number = device.requester.rawValue
        return add(
          TableGap(
            .absent, .requesters(number...number), in: .upper(AMDVi.guestRootTableKind(level: 1)),
            at: PhysicalAddress(fault.address ?? 0)))
      }
      guard fault.reason.isOfDamage else { return }
      guard all.damages.count < TableDamage.limit else {
        all.omittedDamageCount += 1
        return
      }
      let number = device.requester.rawValue
      all.damages.append(
        TableDamage(
          scope: .requesters(number...number), segment: segment, kind: AMDVi.deviceTableKind,
          entryAddress: device.entryAddress, fault: fault.fault))
    }

    /// Adds the address spaces of requests with PASID: those that the GCR3 table has.
    private mutating func addAddressSpaces(of device: AMDVi.Unit.Device) {
      var collector = RootCollector(limit: spacesLeft)
      let isExhausted = resolver.collectRoots(
        of: device.entry, in: memory, budget: &budget, into: &collector)
      let skipsZero = device.entry.usesGuestTablesWithoutPASID
      for pasid in collector.pasids where !(skipsZero && pasid.rawValue == 0) {
        spacesLeft -= 1
        add(device, pasid: pasid)
      }
      func gap(
        _ cause: TableGap.Cause, _ pasids: ClosedRange<UInt32>, _ level: Int,
        _ place: PhysicalAddress
      ) {
        add(
          TableGap(
            cause, .addressSpaces(device.requester, pasids),
            in: .upper(AMDVi.guestRootTableKind(level: level)), at: place))
      }
      for missing in collector.missing {
        gap(.absent, missing.pasids, missing.level, missing.place)
      }
      if let first = collector.firstLeftOut ?? isExhausted {
        let last = UInt32(1) << 20 - 1
        gap(.tooMany, first...max(first, last), 1, device.entry.guestRootTable)
      }
    }

    mutating func finish() -> TablesInForce {
      if !hasEntry, unit.segmentBits == 0, !all.gaps.isEmpty {
        // Requests of devices beyond the table are stopped: of none that may pass anything is known.
        all.gaps = []
        add(
          TableGap(
            .absent, .unit, in: .upper(AMDVi.deviceTableKind), at: unit.deviceTable.address))
      }
      all.clashes = clashes.all
      return all
    }
  }

  /// Different tables under one number: host entries are cached by domain, guest entries by domain and
  /// PASID. Specification: AMD IOMMU 2.4.
  private struct Clashes {
    private struct Tag: Hashable {
      var domainID: UInt16
      var pasid: PASID?
    }
    private var starts: [Tag: Set<Table>] = [:]
    private var clashes: [Tag: DomainClash] = [:]
    private var order: [Tag] = []

    /// Those with more than one table, in the order of the tables.
    var all: [DomainClash] {
      order.compactMap { tag in
        starts[tag].map { $0.count > 1 } == true ? clashes[tag] : nil
      }
    }

    mutating func add(_ used: DMATable) {
      guard let domainID = used.domainID, let table = used.table else { return }
      var tag = Tag(domainID: domainID)
      switch table {
      case .amdGuest: tag.pasid = used.pasid ?? PASID(0)
      case .amdNested(let tables):
        add(
          used, Tag(domainID: domainID),
          .amdHost(AMDVi.HostTable(root: tables.host.root, levels: tables.host.format.levels)))
        tag.pasid = used.pasid ?? PASID(0)
      default: break
      }
      add(used, tag, table.start)
    }

    private mutating func add(_ used: DMATable, _ tag: Tag, _ start: Table) {
      guard starts[tag, default: []].insert(start).inserted else { return }
      if clashes[tag] == nil {
        clashes[tag] = DomainClash(domainID: tag.domainID, tables: [])
        order.append(tag)
      }
      clashes[tag]?.tables.append((used.owner, start.root))
    }
  }
}

extension Table {
  /// The same tables without what the device table entry allows: what caches see.
  fileprivate var start: Table {
    func bare(_ table: AMDVi.HostTable) -> AMDVi.HostTable {
      AMDVi.HostTable(root: table.root, levels: table.format.levels)
    }
    func bare(_ table: AMDVi.GuestTable) -> AMDVi.GuestTable {
      AMDVi.GuestTable(root: table.root, levels: table.format.levels, checksCanonical: true)
    }
    return switch self {
    case .amdHost(let table): .amdHost(bare(table))
    case .amdGuest(let table): .amdGuest(bare(table))
    case .amdNested(let tables):
      .amdNested(AMDVi.NestedTables(guest: bare(tables.guest), host: bare(tables.host)))
    default: self
    }
  }
}

extension AMDVi.Binding {
  /// Requests go through a guest table, or would.
  var isGuest: Bool {
    switch self {
    case .guest, .nested: true
    case .untranslated, .stopped, .host: false
    }
  }
}

/// Collects the PASIDs that a GCR3 table has guest tables for.
private struct RootCollector: TableVisitor {
  let limit: Int
  var pasids: [PASID] = []
  /// The first PASID that is left out.
  var firstLeftOut: UInt32?
  var missing: [(pasids: ClosedRange<UInt32>, level: Int, place: PhysicalAddress)] = []

  init(limit: Int) { self.limit = limit }

  /// A table of three levels has entries for more PASIDs than there are.
  private static let end: UInt64 = 1 << 20

  mutating func leaf(_ leaf: Leaf) {
    let number = leaf.address >> 12
    guard number < Self.end else { return }
    guard pasids.count < limit else {
      firstLeftOut = firstLeftOut ?? UInt32(number)
      return
    }
    pasids.append(PASID(UInt32(number)))
  }

  mutating func obstacle(_ obstacle: Obstacle) {
    let first = obstacle.address >> 12
    guard obstacle.cause != .malformed, first < Self.end, missing.count < 1 << 10 else { return }
    let last = min(Self.end - 1, (obstacle.address + obstacle.byteCount - 1) >> 12)
    missing.append(
      (UInt32(first)...UInt32(last), obstacle.level, obstacle.entryAddress))
  }
}

extension AMDVi.Resolver {
  /// Goes through the GCR3 table of a device.
  ///
  /// - Returns: The first PASID that was not gone through, when tables point at each other.
  fileprivate func collectRoots(
    of entry: AMDVi.DeviceTableEntry, in memory: some PhysicalMemory,
    budget: inout EnumerationBudget, into collector: inout RootCollector
  ) -> UInt32? {
    var observer = Unobserved()
    // Whether requests with PASID get past the entry at all, one of them says as well as any.
    let probe = binding(of: PASID(0), entry: entry, in: memory, observer: &observer)
    if case .stopped = probe { return nil }
    guard let format = guestRootFormat(of: entry), guestLevels(of: entry) != nil,
      entry.mode <= 6, entry.mode <= limits.hostLevels
    else { return nil }
    do throws(EnumerationExhausted) {
      if entry.mode == 0 || hasPhysicalGuestRoots {
        try format.forEachEntry(
          from: entry.guestRootTable, in: memory, budget: &budget, visitor: &collector)
      } else {
        let host = AMDVi.HostTable(root: entry.root, levels: entry.mode)
        try format.forEachEntry(
          from: entry.guestRootTable, in: GuestMemory(host, memory: memory), budget: &budget,
          visitor: &collector)
      }
      return nil
    } catch {
      return UInt32(min(error.address >> 12, 1 << 20 - 1))
    }
  }
}
