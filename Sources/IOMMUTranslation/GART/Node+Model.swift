import IOMMUFormats

extension TranslationUnit {
  public static func gart(_ node: GART.Node) -> TranslationUnit { TranslationUnit(node) }
}

extension GART.Node: UnitModel {
  package func claim(
    on _: Requester, pasid _: PASID?, in _: some PhysicalMemory, observer _: inout some WalkObserver
  ) -> RouteClaim {
    // Every node carries the same aperture and table; the first that translates answers.
    window.map { .possible(.table(.gatt($0)), isKnown: true) } ?? .none
  }

  package func tables(in _: some PhysicalMemory) -> TablesInForce {
    TablesInForce(tables: window.map { [DMATable(owner: .aperture, table: .gatt($0))] } ?? [])
  }

  package var translates: Bool { window != nil }

  package var passages: [Passage] {
    [window.map { Passage(.all, addresses: $0.space.passing) } ?? Passage(.all)]
  }

  package var blocksDevices: Bool { false }
  package var interrupts: InterruptPassage { .notRemapped }

  package var cpuAperture: CPUAperture? {
    guard control.translatesCPU, let aperture else { return nil }
    return CPUAperture(
      addresses: aperture.mapBounds(to: PhysicalAddress.self),
      text: "the aperture \(aperture.text) of \(device) is the CPU's too (DisGartCpu=0)")
  }
}
