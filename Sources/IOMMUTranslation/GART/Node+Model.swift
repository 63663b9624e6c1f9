import IOMMUFormats

extension TranslationUnit {
  public static func gart(_ node: GART.Node) -> TranslationUnit { TranslationUnit(node) }
}

extension GART.Node: UnitModel {
  public func claim(
    on _: Requester, pasid _: PASID?, in _: some PhysicalMemory, observer _: inout some WalkObserver
  ) -> RouteClaim {
    // Every node carries the same aperture and table; the first that translates answers.
    window.map { .possible(.table(.gatt($0)), isKnown: true) } ?? .none
  }

  public func tables(in _: some PhysicalMemory) -> TablesInForce {
    TablesInForce(tables: window.map { [DMATable(owner: .aperture, table: .gatt($0))] } ?? [])
  }

  public var translates: Bool { window != nil }

  public var passages: [Passage] {
    guard let window else { return [Passage(.all)] }
    let end = window.base.addingReportingOverflow(window.byteCount)
    return [
      Passage(
        .all,
        addresses: [0..<window.base, (end.overflow ? .max : end.partialValue) ..< .max]
          .filter { !$0.isEmpty })
    ]
  }
}
