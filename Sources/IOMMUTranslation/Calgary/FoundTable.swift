import IOMMUFormats

extension Calgary {
  /// A TCE table that was found where it lies: no register says whose buses it serves.
  public struct FoundTable: Hashable, Sendable {
    public var table: TCETable

    /// A table of which nothing is known but where it lies and how long it is: no address is taken
    /// for a hole.
    public init(at table: PhysicalAddress, size: Calgary.TableSize) {
      self.table = TCETable(
        table: table, size: size, refusesDualAddressCycles: true,
        holes: TCETable.Holes(legacy: 0..<0, memory1: 0..<0, memory2: 0..<0))
    }
  }
}

extension Calgary.FoundTable: UnitModel {
  public func claim(
    on _: Requester, pasid _: PASID?, in _: some PhysicalMemory, observer _: inout some WalkObserver
  ) -> RouteClaim {
    // It may serve any device.
    .possible(.table(.tce(table)), isKnown: true)
  }

  public func tables(in _: some PhysicalMemory) -> TablesInForce {
    TablesInForce(tables: [DMATable(owner: .table(table.root), table: .tce(table))])
  }

  public var translates: Bool { true }
  public var passages: [Passage] { [] }
  /// Nobody knows which devices are behind it, and whether their slots are enabled.
  public var blocksDevices: Bool { true }
  public var interrupts: InterruptPassage { .notRemapped }
}
