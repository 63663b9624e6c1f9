import IOMMUFormats

/// Tables that a search did not come to: more places look like tables than any machine has, and they may be
/// those of devices that no table found knows.
package struct UnsearchedTables: Hashable, Sendable {
  package init() {}
}

extension UnsearchedTables: UnitModel {
  package func claim(
    on _: Requester, pasid _: PASID?, in _: some PhysicalMemory, observer _: inout some WalkObserver
  ) -> RouteClaim {
    .possible(.blocked(.unitUnseen), isKnown: false)
  }

  /// No table, and a gap for everybody.
  package func tables(in _: some PhysicalMemory) -> TablesInForce {
    TablesInForce(gaps: [TableGap(.tooMany, .unit, in: .level(1), at: PhysicalAddress(0))])
  }

  package var translates: Bool { true }
  package var passages: [Passage] { [] }
  package var blocksDevices: Bool { true }
  package var interrupts: InterruptPassage { .notRemapped }
}
