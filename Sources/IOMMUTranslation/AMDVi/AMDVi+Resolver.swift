import IOMMUFormats

extension AMDVi {
  /// Finds the way from a request to its page tables, step by step in the manual's order.
  ///
  /// Holds what a unit's registers make of the tables. Made once for a state of the registers, used for
  /// any number of requests. A unit with caches takes the steps one by one:
  ///
  /// 1. ``deviceTableEntry(of:in:observer:)``: *device table cache.*
  /// 2. ``binding(of:isSupervisor:entry:in:observer:)``: the entry judged, and for guest tables the GCR3 entries.
  /// 3. ``Binding/answer(to:byteCount:for:isExecute:in:marker:observer:)``, or the page from a *page-walk
  ///    cache* or an *IOTLB*.
  ///
  /// Specification: AMD IOMMU 2.2.
  public struct Resolver: Sendable {
    public let unit: AMDVi.Unit
    public let limits: AMDVi.Limits
    let reserved: AMDVi.DeviceTableEntry

    public init(_ unit: AMDVi.Unit) {
      var unit = unit
      // Whose device it is has been decided by then, and a resolver is copied often.
      unit.scope = nil
      self.unit = unit
      limits = AMDVi.Limits(unit.features)
      reserved = AMDVi.DeviceTableEntry.reservedMasks(limits)
    }

    /// A device's entry as it lies in memory. Nothing in it is judged.
    public func deviceTableEntry(
      of device: Requester, in memory: some PhysicalMemory, observer: inout some WalkObserver
    ) -> Result<AMDVi.DeviceTableEntry, AMDVi.RequestFault> {
      let place: PhysicalAddress
      switch unit.entryPlace(of: device) {
      case .at(let address): place = address
      case .beyond: return .failure(AMDVi.RequestFault(.deviceBeyondTable))
      case .unknown: return .failure(AMDVi.RequestFault(.deviceTableUnreadable))
      }
      guard let entry = AMDVi.DeviceTableEntry(from: memory, at: place) else {
        return .failure(
          AMDVi.RequestFault(.deviceTableUnreadable, address: place.rawValue))
      }
      observer.read(
        entry, at: place, in: .upper(AMDVi.deviceTableKind), index: UInt64(device.rawValue),
        as: limits)
      return .success(entry)
    }

    /// What an entry makes of requests.
    ///
    /// - Parameters:
    ///   - pasid: What they carry; `nil` for requests without PASID.
    ///   - isSupervisor: Of requests with PASID: they are of supervisor privilege.
    ///   - entry: The device's.
    ///   - memory: Memory that holds GCR3 tables.
    ///   - observer: Shown every GCR3 entry read, and those of the host's table on the way.
    public func binding(
      of pasid: PASID? = nil, isSupervisor: Bool = false, entry: AMDVi.DeviceTableEntry,
      in memory: some PhysicalMemory, observer: inout some WalkObserver
    ) -> AMDVi.Binding {
      guard entry.isValid else { return .untranslated }
      // Illegal entries are told without their domain.
      if entry.quadwords[0] & reserved.quadwords[0] != 0
        || entry.quadwords[1] & reserved.quadwords[1] != 0
      {
        return .stopped(AMDVi.RequestFault(.deviceTableEntryReserved))
      }
      guard entry.portControl != 3 else {
        return .stopped(AMDVi.RequestFault(.portControlReserved))
      }
      var rules = AMDVi.Rules(
        domainID: entry.domainID, isReported: !entry.suppressesFaults,
        isReportedOnce: entry.suppressesFurtherFaults, permissions: entry.permissions,
        hasPASID: pasid != nil, isSupervisor: pasid != nil && isSupervisor,
        exclusion: entry.usesExclusionRange || unit.exclusionBase.allowsAll ? unit.exclusion : 0..<0
      )
      guard entry.isTranslationValid else {
        return .stopped(rules.fault(.translationInvalid))
      }
      func stopped(_ reason: AMDVi.FaultReason, at address: UInt64? = nil) -> AMDVi.Binding {
        .host(
          AMDVi.HostTable(
            root: entry.root, levels: 0, rules: rules,
            stop: rules.fault(reason, address: address)))
      }
      let isGuest =
        entry.usesGuestTables && unit.translatesGuests
        && (pasid != nil || entry.usesGuestTablesWithoutPASID)
      if pasid != nil { rules.exclusion = 0..<0 }
      guard pasid == nil || isGuest else { return stopped(.pasidNotEnabled) }
      guard entry.mode <= 6, entry.mode <= limits.hostLevels else { return stopped(.modeIllegal) }
      let host = AMDVi.HostTable(
        root: entry.root, levels: entry.mode, rules: rules, marks: hostMarks(of: entry))
      guard isGuest else { return .host(host) }
      return guestBinding(
        of: pasid, entry: entry, host: host, rules, in: memory, observer: &observer,
        stopped: stopped)
    }

    private func guestBinding(
      of pasid: PASID?, entry: AMDVi.DeviceTableEntry, host: AMDVi.HostTable, _ rules: AMDVi.Rules,
      in memory: some PhysicalMemory, observer: inout some WalkObserver,
      stopped: (AMDVi.FaultReason, UInt64?) -> AMDVi.Binding
    ) -> AMDVi.Binding {
      guard let format = guestRootFormat(of: entry), let levels = guestLevels(of: entry) else {
        return stopped(.guestModeIllegal, nil)
      }
      let number = pasid ?? PASID(0)
      guard UInt64(number.rawValue) < format.pasidCount else {
        return stopped(.pasidBeyondTable, nil)
      }
      // The host's rules are for the guest's tables too, but for what the device may do with pages.
      var rootObserver = GuestRootObserver(inner: observer)
      defer { observer = rootObserver.inner }
      let address = AMDVi.GuestRootFormat.address(of: number)
      let walk: Walk
      if host.isDirect || hasPhysicalGuestRoots {
        var access = PlainAccess()
        walk = format.walk(
          address, from: format.start(at: entry.guestRootTable), in: memory, through: &access,
          observer: &rootObserver)
      } else {
        var access = GuestRootAccess(host: host, memory: memory)
        walk = format.walk(
          address, from: format.start(at: entry.guestRootTable), in: memory, through: &access,
          observer: &rootObserver)
        if let fault = access.refusal {
          return .host(
            AMDVi.HostTable(root: entry.root, levels: 0, rules: rules, stop: fault))
        }
      }
      switch walk.end {
      case .page: break
      case .unreadable: return stopped(.guestRootUnreadable, walk.entryAddress.rawValue)
      default: return stopped(.guestRootNotValid, nil)
      }
      let guest = AMDVi.GuestTable(
        root: walk.page, levels: levels, rules: rules, checksCanonical: number.rawValue != 0,
        marks: guestMarks)
      return host.isDirect ? .guest(guest) : .nested(AMDVi.NestedTables(guest: guest, host: host))
    }

    /// GCR3 pointers are the host's addresses, whatever the host's table says.
    var hasPhysicalGuestRoots: Bool { unit.control?.hasPhysicalGuestRoots ?? false }

    /// The GCR3 table of an entry; `nil` where GLX is reserved or more than the unit has.
    func guestRootFormat(of entry: AMDVi.DeviceTableEntry) -> AMDVi.GuestRootFormat? {
      let levels = entry.guestRootLevelCode + 1
      return levels <= limits.guestRootLevels ? AMDVi.GuestRootFormat(levels: levels) : nil
    }

    /// Levels of the guest tables of an entry; `nil` where they are reserved or more than the unit has.
    func guestLevels(of entry: AMDVi.DeviceTableEntry) -> Int? {
      let levels = entry.guestPagingModeCode + 4
      return levels <= limits.guestLevels ? levels : nil
    }

    /// HAD: 11b sets A and D, 01b A; 10b is reserved, and sets nothing (*assumed*). Source: FreeBSD
    /// `amd_reg.h`.
    private func hostMarks(of entry: AMDVi.DeviceTableEntry) -> StageMarks {
      typealias Entry = AMDVi.PageTableEntry
      guard entry.hostMarks & 1 != 0 else { return .none }
      return StageMarks(
        accessed: Entry.accessedBit, dirty: entry.hostMarks == 3 ? Entry.dirtyBit : 0,
        isSnooped: true)
    }

    private var guestMarks: StageMarks {
      typealias Entry = AMDVi.GuestPageTableEntry
      let control = unit.control ?? AMDVi.Control(rawValue: 0)
      return StageMarks(
        accessed: control.leavesGuestAccessed ? 0 : Entry.accessedBit,
        dirty: control.leavesGuestDirty ? 0 : Entry.dirtyBit, isSnooped: true)
    }
  }

  /// What stands between a device and memory, as its device table entry says.
  @frozen
  public enum Binding: Hashable, Sendable {
    /// V is clear: nothing.
    case untranslated
    /// Every request faults, wherever it goes.
    case stopped(AMDVi.RequestFault)
    case host(AMDVi.HostTable)
    case guest(AMDVi.GuestTable)
    case nested(AMDVi.NestedTables)

    /// Answers an untranslated request, up to the end of its page.
    public func answer(
      to address: UInt64, byteCount: UInt64, for operation: VTd.Request.Operation,
      isExecute: Bool = false, in memory: some PhysicalMemory, marker: some EntryMarker,
      observer: inout some WalkObserver
    ) -> AMDVi.Answer {
      switch self {
      case .untranslated: .mapped(PhysicalAddress(address), byteCount: byteCount)
      case .stopped(let fault): .fault(fault)
      case .host(let table):
        table.answer(
          to: address, byteCount: byteCount, for: operation, in: memory, marker: marker,
          observer: &observer)
      case .guest(let table):
        table.answer(
          to: address, byteCount: byteCount, for: operation, isExecute: isExecute, in: memory,
          marker: marker, observer: &observer)
      case .nested(let tables):
        tables.answer(
          to: address, byteCount: byteCount, for: operation, isExecute: isExecute, in: memory,
          marker: marker, observer: &observer)
      }
    }

    /// The same for `DeviceHandle`.
    public var route: DeviceHandle.Route {
      switch self {
      case .untranslated: .untranslated
      case .stopped(let fault): .blocked(fault.fault)
      case .host(let table):
        // Where nothing gets past the entry there is no table to speak of.
        if let fault = table.blocker { .blocked(fault.fault) } else { .table(.amdHost(table)) }
      case .guest(let table): .table(.amdGuest(table))
      case .nested(let tables): .table(.amdNested(tables))
      }
    }
  }
}

/// Shows GCR3 entries as those of tables above the page tables.
private struct GuestRootObserver<Inner: WalkObserver>: WalkObserver {
  var inner: Inner

  mutating func read<Entry: TableEntry>(
    _ entry: Entry, at address: PhysicalAddress, in place: TablePlace, index: UInt64,
    as variant: @autoclosure () -> Entry.Variant
  ) {
    if Entry.self == AMDVi.GuestRootEntry.self, let level = place.level {
      inner.read(
        entry, at: address, in: .upper(AMDVi.guestRootTableKind(level: level)), index: index,
        as: variant())
    } else {
      inner.read(entry, at: address, in: place, index: index, as: variant())
    }
  }
}

/// Reaches GCR3 entries through the host's table.
private struct GuestRootAccess<Memory: PhysicalMemory>: TableAccess {
  let host: AMDVi.HostTable
  let memory: Memory
  var refusal: AMDVi.RequestFault?

  init(host: AMDVi.HostTable, memory: Memory) {
    self.host = host
    self.memory = memory
  }

  mutating func locate(
    _ place: PhysicalAddress, level _: Int, observer: inout some WalkObserver
  ) -> PhysicalAddress? {
    switch host.page(
      of: place.rawValue, needs: .read, writes: false, in: memory, marker: NoMarks(),
      observer: &observer)
    {
    case .page(let page):
      return IOMMUTranslation.place(place.rawValue, in: page.page, sizeLog2: page.sizeLog2)
    case .fault(var fault):
      if fault.address == nil { fault.address = place.rawValue }
      refusal = fault
      return nil
    }
  }

  mutating func use(
    _ entry: UInt64, _: EntryUse, observer _: inout some WalkObserver
  ) -> UseOutcome { .proceed(entry) }
}
