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
    guard status.translates else { return .possible(.untranslated, isKnown: false) }
    let route = resolve(requester, pasid: pasid, in: memory, observer: &observer)
    if case .blocked(let fault) = route, fault.vtdReason?.saysUnknownRequester == true {
      return .possible(route, isKnown: false)
    }
    return .possible(route, isKnown: true)
  }

  public var translates: Bool { status.translates }

  public var passages: [Passage] { status.translates ? [] : [Passage(.behindUnit(base))] }
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
