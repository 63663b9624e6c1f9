import IOMMUFormats

extension AMDVi {
  /// A unit that an IVRS table lists, and of whose registers nobody knows anything.
  package struct UnseenUnit: Sendable, Hashable {
    /// Where it is and whose requests it may translate.
    package var scope: UnitScope

    package init(_ scope: UnitScope) { self.scope = scope }
  }
}

extension AMDVi.UnseenUnit: UnitModel {
  package func claim(
    on requester: Requester, pasid _: PASID?, in _: some PhysicalMemory,
    observer _: inout some WalkObserver
  ) -> RouteClaim {
    scope.answer(for: requester) == .inside ? .certain(.blocked(.unitUnseen)) : .none
  }

  /// No table, and a gap for whoever is behind the unit.
  package func tables(in _: some PhysicalMemory) -> TablesInForce {
    TablesInForce(
      gaps: scope.devices.map { devices in
        var gap = TableGap(
          .unseen, .requesters(devices), in: .upper(AMDVi.deviceTableKind), at: scope.base)
        gap.segment = UInt32(segment ?? 0)
        return gap
      })
  }

  package var translates: Bool { true }
  package var segment: UInt16? { scope.segment }
  package var passages: [Passage] { [] }
  package var blocksDevices: Bool { true }
  package var unknownInterruptTable: String? {
    "the registers of the unit at \(scope.base) are not"
  }

  package var interrupts: InterruptPassage {
    .unknown(
      "whether the unit at \(scope.base) remaps interrupts is not known: its registers are not")
  }
}
