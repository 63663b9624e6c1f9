import IOMMUFormats

/// A table that was found where it lies, and of which the dump lacks what would say where it begins or
/// ends: it may be any device's, and nobody knows what it maps.
package struct PartialTable: Hashable, Sendable {
  /// Where it seems to begin.
  package var start: PhysicalAddress
  /// The page that the dump lacks.
  package var missing: PhysicalAddress

  package init(at start: PhysicalAddress, missing: PhysicalAddress) {
    self.start = start
    self.missing = missing
  }
}

extension PartialTable: UnitModel {
  package func claim(
    on _: Requester, pasid _: PASID?, in _: some PhysicalMemory, observer _: inout some WalkObserver
  ) -> RouteClaim {
    .possible(.blocked(.unitUnseen), isKnown: true)
  }

  /// No table, and a gap for everybody.
  package func tables(in _: some PhysicalMemory) -> TablesInForce {
    TablesInForce(gaps: [TableGap(.absent, .unit, in: .level(1), at: missing)])
  }

  package var translates: Bool { true }
  package var passages: [Passage] { [] }
  package var blocksDevices: Bool { true }
  package var interrupts: InterruptPassage { .notRemapped }
}
