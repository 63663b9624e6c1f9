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
    // In a segment of the table of which nobody knows where it is.
    guard entryPlace(of: device) != .unknown else { return .blocked(.unitUnseen) }
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
      translates ? .severalUnits : .unitOff, .requesters(number...number),
      in: .upper(AMDVi.deviceTableKind), at: translates ? deviceTable.address : base)
    gap.segment = device.segment
    return gap
  }

  package var mayPassOthersDevices: Bool { !translates }

  package var passages: [Passage] { translates ? [] : [Passage(.behindUnit(base))] }

  package func passages(in memory: some PhysicalMemory) -> [Passage] {
    guard translates else { return passages }
    let segment = UInt32(segment ?? 0)
    let excluded = exclusion
    return devices(in: memory) { !$0.isValid }.map {
      Passage(.requesters(segment: segment, $0))
    }
      + (excluded.isEmpty
        ? []
        : devices(in: memory) {
          $0.isValid && $0.isTranslationValid
            && ($0.usesExclusionRange || exclusionBase.allowsAll)
        }.map { Passage(.requesters(segment: segment, $0), addresses: [excluded]) })
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
      ? .unknown("\(sentenceName) remaps interrupts device by device") : .notRemapped
  }

  /// Interrupts of devices whose entries remap or stop them do not pass: to software that knows nothing of
  /// it their numbers are vectors, and to the unit places in a table.
  package func interrupts(in memory: some PhysicalMemory) -> InterruptPassage {
    guard translates else { return .notRemapped }
    var remapped = DeviceCount()
    var stopped = DeviceCount()
    var hasPassing = false
    var hasMissing = false
    forEachDevice(
      in: memory,
      { device in
        // Kernels fill the table for devices that there are not, and stop all that they might send.
        let entry = device.entry
        guard !entry.isValid || entry.isTranslationValid && !entry.permissions.isEmpty else {
          return
        }
        guard entry.isInterruptValid else {
          hasPassing = true
          return
        }
        switch device.entry.interruptControl {
        case .remap where device.entry.interruptTableLengthCode < 12:
          remapped.add(device.requester)
        case .forward: hasPassing = true
        default: stopped.add(device.requester)
        }
      }, missing: { _ in hasMissing = true })
    let parts =
      (remapped.text.map { ["remaps interrupts of \($0)"] } ?? [])
      + (stopped.text.map { ["stops those of \($0)"] } ?? [])
    if !parts.isEmpty {
      return .blocks("\(sentenceName) \(parts.joined(separator: " and "))")
    }
    if hasMissing { return interrupts }
    return hasPassing ? .passesCompatibilityFormat : .notRemapped
  }

  /// `the unit at 0xfed80000`; by its table where nobody knows the unit's place.
  private var sentenceName: String {
    base.rawValue == 0
      ? "the unit of the device table at \(deviceTable.address)" : "the unit at \(base)"
  }

  /// Devices of which one is named.
  private struct DeviceCount {
    private var first: Requester?
    private var count = 0

    mutating func add(_ device: Requester) {
      first = first ?? device
      count += 1
    }

    var text: String? {
      first.map {
        count == 1 ? "\($0)" : "\($0) and \(count - 1) more device" + (count == 2 ? "" : "s")
      }
    }
  }
}
