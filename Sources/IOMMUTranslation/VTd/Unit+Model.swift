import IOMMUFormats

extension TranslationUnit {
  public static func vtd(_ unit: VTd.Unit) -> TranslationUnit { TranslationUnit(unit) }
}

extension VTd.Unit: UnitModel {
  public func claim(
    on requester: Requester, pasid: PASID?, in memory: some PhysicalMemory,
    observer: inout some WalkObserver
  ) -> RouteClaim {
    // A unit that is off says nothing of any device.
    guard translates else { return .possible(.untranslated, isKnown: false) }
    let route = resolve(requester, pasid: pasid, in: memory, observer: &observer)
    if case .blocked(let fault) = route, fault.vtdReason?.saysUnknownRequester == true {
      return .possible(route, isKnown: false)
    }
    return .possible(route, isKnown: true)
  }

  public var passages: [Passage] { translates ? [] : [Passage(.behindUnit(base))] }

  /// A device without a context entry.
  public var blocksDevices: Bool { translates }

  public func upperTableExtents(in memory: some PhysicalMemory) -> [UpperTableExtent] {
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
