import IOMMUFormats

extension TranslationUnit {
  public static func calgary(_ chip: Calgary.Chip) -> TranslationUnit { TranslationUnit(chip) }
}

extension Calgary.Chip: UnitModel {
  package func claim(
    on requester: Requester, pasid _: PASID?, in _: some PhysicalMemory,
    observer _: inout some WalkObserver
  ) -> RouteClaim {
    // A later chip that claims the bus overrules an earlier one, as in the Linux driver.
    hostBridge(above: requester.bus).map { .certain($0.route) } ?? .none
  }

  package func tables(in _: some PhysicalMemory) -> TablesInForce {
    var bridges: [UInt8: HostBridge] = [:]
    for case .some(let bridge) in hostBridges { bridges[bridge.buses.lowerBound] = bridge }
    return TablesInForce(
      tables: bridges.sorted { $0.key < $1.key }.compactMap { _, bridge in
        bridge.table.map { DMATable(owner: .buses(bridge.buses), table: .tce($0)) }
      })
  }

  package var translates: Bool { hostBridges.contains { $0?.table != nil } }

  package var passages: [Passage] {
    hostBridges.compactMap { bridge in
      guard let bridge, !bridge.configuration.areSlotsDisabled else { return nil }
      guard let table = bridge.table else { return Passage(.buses(bridge.buses)) }
      let passing = table.space.passing
      return passing.isEmpty ? nil : Passage(.buses(bridge.buses), addresses: passing)
    }
  }

  package var blocksDevices: Bool {
    hostBridges.contains { $0?.configuration.areSlotsDisabled == true }
  }

  package var interrupts: InterruptPassage { .notRemapped }
}
