import IOMMUFormats

extension TranslationUnit {
  public static func amdvi(_ unit: AMDVi.Unit) -> TranslationUnit { TranslationUnit(unit) }
}

extension AMDVi.Unit: UnitModel {
  package func claim(
    on requester: Requester, pasid: PASID?, in memory: some PhysicalMemory,
    observer: inout some WalkObserver
  ) -> RouteClaim {
    let answer = scope?.answer(for: requester) ?? .unlisted
    guard answer != .outside else { return .none }
    let route =
      translates
      ? route(of: scope?.source(of: requester) ?? requester, pasid: pasid, in: memory, &observer)
      : .untranslated
    if answer == .inside { return .certain(route) }
    return .possible(route, isKnown: !saysNothing(route))
  }

  /// What the device table says of a device, by the number that the unit sees.
  private func route(
    of device: Requester, pasid: PASID?, in memory: some PhysicalMemory,
    _ observer: inout some WalkObserver
  ) -> DeviceHandle.Route {
    let resolver = AMDVi.Resolver(self)
    switch resolver.deviceTableEntry(of: device, in: memory, observer: &observer) {
    case .failure(let fault): return .blocked(fault.fault)
    case .success(let entry):
      return resolver.binding(of: pasid, entry: entry, in: memory, observer: &observer).route
    }
  }

  /// Whether a route tells nothing of whose device the requester is: all entries are there, and those of
  /// devices that are none of the unit's pass or block everything.
  private func saysNothing(_ route: DeviceHandle.Route) -> Bool {
    switch route {
    case .table, .passThrough: false
    case .untranslated: true
    case .blocked(let fault):
      [.deviceBeyondTable, .deviceNotPermitted, .translationInvalid].contains(fault.amdviReason)
    }
  }

  package func ambiguity(of owner: TableOwner) -> TableGap? {
    guard case .requester(let device, _) = owner else { return nil }
    let number = device.requester.rawValue
    var gap = TableGap(
      .severalUnits, .requesters(number...number), in: .upper(AMDVi.deviceTableKind),
      at: deviceTable.address)
    gap.segment = device.segment
    return gap
  }

  package var passages: [Passage] { translates ? [] : [Passage(.behindUnit(base))] }

  package func passages(in memory: some PhysicalMemory) -> [Passage] {
    guard translates else { return passages }
    return untranslatedDevices(in: memory).map {
      Passage(.requesters(segment: UInt32(segment ?? 0), $0))
    }
  }

  /// A device whose entry is beyond the table, or allows nothing.
  package var blocksDevices: Bool { translates }

  package func upperTableExtents(in memory: some PhysicalMemory) -> [UpperTableExtent] {
    guard translates else { return [] }
    let segment = UInt32(segment ?? 0)
    var extents = tableSegments.compactMap { part -> UpperTableExtent? in
      guard let part, let range = Range(start: part.start, byteCount: part.byteCount) else {
        return nil
      }
      return UpperTableExtent(
        kind: AMDVi.deviceTableKind, scope: .requesters(part.devices), segment: segment,
        range: range)
    }
    let entryByteCount: UInt64 = control?.usesWideInterruptEntries == true ? 16 : 4
    var seen: Set<PhysicalAddress> = []
    forEachDevice(
      in: memory,
      { device in
        let entry = device.entry
        let number = device.requester.rawValue
        if entry.isValid, entry.usesGuestTables, translatesGuests,
          entry.mode == 0 || control?.hasPhysicalGuestRoots == true,
          let range = Range(start: entry.guestRootTable, byteCount: 4096)
        {
          extents.append(
            UpperTableExtent(
              kind: AMDVi.guestRootTableKind(level: min(3, entry.guestRootLevelCode + 1)),
              scope: .requesters(number...number), segment: segment, range: range))
        }
        if entry.isInterruptValid, entry.interruptControl == .remap,
          seen.insert(entry.interruptTable).inserted,
          let range = Range(
            start: entry.interruptTable,
            byteCount: entryByteCount << UInt64(entry.interruptTableLengthCode))
        {
          extents.append(
            UpperTableExtent(
              kind: AMDVi.interruptTableKind,
              scope: .interrupts(0...(1 << UInt32(entry.interruptTableLengthCode) - 1)),
              segment: segment, range: range))
        }
      }, missing: { _ in })
    return extents
  }

  /// Each device's entry says it.
  package var interrupts: InterruptPassage {
    translates
      ? .unknown(
        "AMD-Vi remaps interrupts device by device; which of them the unit at \(base) lets pass is not "
          + "looked at")
      : .notRemapped
  }
}
