import IOMMUFormats

extension TranslationUnit {
  public static func vtd(_ unit: VTd.Unit) -> TranslationUnit { TranslationUnit(unit) }
}

extension VTd.Unit: UnitModel {
  package func claim(
    on requester: Requester, pasid: PASID?, in memory: some PhysicalMemory,
    observer: inout some WalkObserver
  ) -> RouteClaim {
    let answer = scope?.answer(for: requester) ?? .unlisted
    guard answer != .outside else { return .none }
    let route =
      translates
      ? resolve(requester, pasid: pasid, in: memory, observer: &observer) : .untranslated
    if answer == .inside { return .certain(route) }
    return .possible(route, isKnown: !saysNothing(route), isListed: answer == .undecided)
  }

  /// Whether a route tells nothing of whose device the requester is: a unit that is off lets all pass,
  /// one without a context entry blocks it.
  private func saysNothing(_ route: DeviceHandle.Route) -> Bool {
    guard translates else { return true }
    if case .blocked(let fault) = route { return fault.vtdReason?.saysUnknownRequester == true }
    return false
  }

  package func ambiguity(of owner: TableOwner) -> TableGap? {
    guard case .requester(let device, _) = owner else { return nil }
    let number = device.requester.rawValue
    var gap = TableGap(
      .severalUnits, .requesters(number...number), in: .upper(VTd.rootTable),
      at: rootTableAddress.rootTable)
    gap.segment = device.segment
    return gap
  }

  package var passages: [Passage] { translates ? [] : [Passage(.behindUnit(base))] }

  /// `the unit at 0xfed90000`; by its table where nobody knows the unit's place.
  package var sentenceName: String {
    base.rawValue == 0
      ? "the unit of the root table at \(rootTableAddress.rootTable)" : "the unit at \(base)"
  }

  /// A device without a context entry.
  package var blocksDevices: Bool { translates }

  package func upperTableExtents(in memory: some PhysicalMemory) -> [UpperTableExtent] {
    let aboveTables = translates ? upperTables(in: memory).tables : []
    let extents = aboveTables.compactMap { table in
      Range(start: table.start, byteCount: table.byteCount).map {
        UpperTableExtent(
          kind: table.place, scope: table.scope, segment: UInt32(segment ?? 0), range: $0)
      }
    }
    guard let interrupts = interruptTable else { return extents }
    return extents + [
      UpperTableExtent(
        kind: VTd.interruptTable, scope: .interrupts(0...UInt32(interrupts.entryCount - 1)),
        segment: UInt32(segment ?? 0), range: interrupts.range)
    ]
  }
}

extension VTd.UpperTable {
  /// What depends on the table.
  var scope: TableGap.Scope {
    switch kind {
    case .root: return .unit
    case .contexts(let bus, let first):
      let start = UInt16(bus) << 8 | UInt16(first)
      return .requesters(start...(start | (isScalable ? 0x7f : 0xff)))
    case .pasidDirectory(let requester):
      return .requesters(requester.rawValue...requester.rawValue)
    case .pasids(let requester, let first):
      return .addressSpaces(requester, first.rawValue...first.rawValue + 63)
    }
  }
}

extension VTd.FaultReason {
  /// The unit has no context entry for the requester.
  fileprivate var saysUnknownRequester: Bool {
    switch self {
    case .rootEntryNotPresent, .contextEntryNotPresent, .scalableRootEntryNotPresent,
      .scalableContextEntryNotPresent:
      true
    default: false
    }
  }
}
