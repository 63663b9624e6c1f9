import IOMMUFormats

extension Calgary {
  /// A TCE table that was found where it lies: no register says whose buses it serves.
  package struct FoundTable: Hashable, Sendable {
    package var table: TCETable

    /// A table of which nothing is known but where it lies and how long it is: no address is taken
    /// for a hole.
    package init(at table: PhysicalAddress, size: Calgary.TableSize) {
      self.table = TCETable(
        table: table, size: size, refusesDualAddressCycles: true,
        holes: TCETable.Holes(legacy: 0..<0, memory1: 0..<0, memory2: 0..<0))
    }
  }
}

extension Calgary.FoundTable: UnitModel {
  package func claim(
    on _: Requester, pasid _: PASID?, in _: some PhysicalMemory, observer _: inout some WalkObserver
  ) -> RouteClaim {
    // It may serve any device.
    .possible(.table(.tce(table)), isKnown: true)
  }

  package func tables(in _: some PhysicalMemory) -> TablesInForce {
    TablesInForce(tables: [DMATable(owner: .table(table.root), table: .tce(table))])
  }

  package var translates: Bool { true }
  package var passages: [Passage] { [] }
  /// Nobody knows which devices are behind it, and whether their slots are enabled.
  package var blocksDevices: Bool { true }
  package var interrupts: InterruptPassage { .notRemapped }
}
