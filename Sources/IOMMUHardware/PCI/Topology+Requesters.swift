import IOMMUFormats

extension PCI.Topology {
  /// A segment in which functions have these numbers: root bus 0, and a root port for every other
  /// bus.
  ///
  /// Root ports take the places of bus 0 that are left, from device 1Fh down.
  ///
  /// - Throws: ``NoRoomForRootPort`` when bus 0 has no room for a root port for each other bus.
  public init(functionsAt requesters: [Requester]) throws(NoRoomForRootPort) {
    self.init()
    let root = addRootBus(0)
    let wanted = Set(requesters)
    for requester in wanted.sorted() where requester.bus == 0 {
      addEndpoint(
        device: requester.device, function: requester.function, on: root,
        portType: .rootComplexEndpoint)
    }
    // Whole devices that are free; each of their eight functions is a port.
    let taken = Set(wanted.filter { $0.bus == 0 }.map(\.device))
    var places = (0..<UInt8(32)).reversed().filter { !taken.contains($0) }.flatMap { device in
      (0..<UInt8(8)).map { (device: device, function: $0) }
    }[...]
    for number in Set(wanted.map(\.bus)).subtracting([0]).sorted() {
      guard let place = places.popFirst() else { throw NoRoomForRootPort(bus: number) }
      let bus = addBridge(.rootPort, device: place.device, function: place.function, on: root)
      self[bridge(above: bus)!].busNumbers = PCI.BusNumbers(
        primary: 0, secondary: number, subordinate: number)
      for requester in wanted.sorted() where requester.bus == number {
        addEndpoint(device: requester.device, function: requester.function, on: bus)
      }
    }
  }
}

extension PCI.Topology {
  /// Bus 0 has devices in all its slots, and none is left for a root port.
  public struct NoRoomForRootPort: Error, Hashable {
    /// The bus that the root port would lead to.
    public let bus: UInt8
  }
}
