import IOMMUFormats

extension VTd {
  /// A unit that a DMAR table lists, and of whose registers nobody knows anything; or several of them.
  package struct UnseenUnit: Sendable, Hashable {
    /// Where it is and whose requests it may translate.
    package var scope: UnitScope

    /// The unit of a scope.
    package init(_ scope: UnitScope) { self.scope = scope }
  }
}

extension VTd.UnseenUnit: UnitModel {
  package func claim(
    on requester: Requester, pasid _: PASID?, in _: some PhysicalMemory,
    observer _: inout some WalkObserver
  ) -> RouteClaim {
    switch scope.answer(for: requester) {
    case .inside: .certain(.blocked(.unitUnseen))
    case .undecided: .possible(.blocked(.unitUnseen), isKnown: false, isListed: true)
    case .outside, .unlisted: .none
    }
  }

  /// No table, and a gap for whoever is behind the unit.
  package func tables(in _: some PhysicalMemory) -> TablesInForce {
    func gap(_ scope: TableGap.Scope) -> TableGap {
      var gap = TableGap(.unseen, scope, in: .upper(VTd.rootTable), at: self.scope.bases[0])
      gap.segment = UInt32(segment ?? 0)
      return gap
    }
    guard let requesters = scope.allRequesters else {
      return TablesInForce(gaps: [gap(.units(scope.bases))])
    }
    return TablesInForce(gaps: requesters.map { gap(.requesters($0.rawValue...$0.rawValue)) })
  }

  package var translates: Bool { true }
  package var segment: UInt16? { scope.segment }
  package var passages: [Passage] { [] }
  package var blocksDevices: Bool { true }
  package var unknownInterruptTable: String? {
    "the registers of the unit at \(scope.bases.map { "\($0)" }.joined(separator: " or ")) are not"
  }

  package var mayPostInterrupts: Bool { true }

  package var interrupts: InterruptPassage {
    let places = scope.bases.map { "\($0)" }.joined(separator: " or ")
    return .unknown(
      "whether the unit at \(places) remaps interrupts is not known: its registers are not")
  }
}

extension Fault {
  /// Nobody knows what the unit above the device does with its requests.
  package static var unitUnseen: Fault {
    Fault(scheme: FaultSchemes.platform, code: 1, isRecorded: false)
  }
}

extension VTd.DMAR {
  /// A machine's units with what the table says of them: who is behind which, PCI segment and host
  /// address width, and those that the machine does not know.
  ///
  /// A unit is the one that the table lists at the same place. Of those that nobody knows the place of
  /// (``VTd/Unit/base`` 0) one is the one that is left, several are each any that are left. A segment
  /// that is known stays. What the machine does not know comes last, a ``VTd/UnseenUnit`` for each
  /// segment.
  ///
  /// - Parameter hasOwnWidth: Whether the host address width of the unit at an index is known, and stays.
  package func completing(
    _ units: [TranslationUnit], hasOwnWidth: (Int) -> Bool = { _ in false }
  ) -> [TranslationUnit] {
    let nowhere = PhysicalAddress(0)
    var completed = units.filter { $0.as(VTd.UnseenUnit.self) == nil }
    let known = Dictionary(
      completed.compactMap { $0.as(VTd.Unit.self) }.map { ($0.base, 1) }, uniquingKeysWith: +)
    let unplacedCount = known[nowhere] ?? 0
    var listed: Set<PhysicalAddress> = []
    let left = hardwareUnits.filter { listed.insert($0.base).inserted && known[$0.base] == nil }
    let open = left.map(\.base)
    // One scope serves all that are at one of the same places.
    let anywhere = open.isEmpty ? nil : VTd.UnitScope(self, bases: open, isUncertain: true)
    for index in completed.indices {
      guard var unit = completed[index].as(VTd.Unit.self) else { continue }
      if unit.base == nowhere, unplacedCount == 1, open.count == 1 { unit.base = open[0] }
      let scope =
        unit.base == nowhere
        ? anywhere
        : listed.contains(unit.base)
          ? VTd.UnitScope(
            self, bases: [unit.base], isUncertain: (known[unit.base] ?? 1) > 1) : nil
      guard let scope else { continue }
      let isNew = unit.scope == nil
      unit.scope = scope
      unit.segment = unit.segment ?? scope.segment
      if let width = scope.hostAddressWidth, isNew, !hasOwnWidth(index) {
        unit.limits.hostAddressWidth = width
      }
      completed[index] = .vtd(unit)
    }
    guard open.count > unplacedCount else { return completed }
    let unseen =
      unplacedCount > 0
      ? [VTd.UnitScope(self, bases: open, isUncertain: true)]
      : Dictionary(grouping: left, by: \.segment).sorted { $0.key < $1.key }
        .map { VTd.UnitScope(self, bases: $0.value.map(\.base)) }
    return completed + unseen.map { TranslationUnit(VTd.UnseenUnit($0)) }
  }
}
