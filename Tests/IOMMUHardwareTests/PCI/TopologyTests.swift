import IOMMUFormats
import IOMMUHardware
import Testing

@Suite struct TopologyTests {
  /// Two root buses. Below the first: a root port with a switch of two slots, a bridge from PCI
  /// Express to PCI with a conventional bridge behind it, and a conventional bridge of the chipset.
  struct Example {
    var topology = PCI.Topology()
    let graphics, disk, nic, pciCard, deepCard, chipsetCard, far: PCI.Topology.Function

    init() throws {
      let root = topology.addRootBus(0)
      let second = topology.addRootBus(0x80)
      graphics = topology.addEndpoint(device: 2, on: root, portType: .rootComplexEndpoint)
      let port = topology.addBridge(.rootPort, device: 0x1c, on: root)
      let upstream = topology.addBridge(.upstreamPort, device: 0, on: port)
      let slot0 = topology.addBridge(.downstreamPort, device: 0, on: upstream)
      let slot1 = topology.addBridge(.downstreamPort, device: 1, on: upstream)
      disk = topology.addEndpoint(device: 0, on: slot0)
      nic = topology.addEndpoint(device: 0, function: 1, on: slot1)
      topology.addEndpoint(device: 0, on: slot1)
      let port4 = topology.addBridge(.rootPort, device: 0x1c, function: 4, on: root)
      let pci = topology.addBridge(.expressToPCIBridge, device: 0, on: port4)
      pciCard = topology.addEndpoint(device: 3, function: 1, on: pci, portType: nil)
      topology.addEndpoint(device: 3, on: pci, portType: nil)
      let behind = topology.addBridge(nil, device: 4, on: pci)
      deepCard = topology.addEndpoint(device: 5, on: behind, portType: nil)
      let old = topology.addBridge(nil, device: 0x1e, on: root)
      chipsetCard = topology.addEndpoint(device: 1, on: old, portType: nil)
      far = topology.addEndpoint(device: 1, on: second, portType: .rootComplexEndpoint)
      try topology.assignBusNumbers()
    }
  }

  @Test func `buses are numbered depth first and ascending`() throws {
    let example = try Example()
    let topology = example.topology
    let numbers = topology.functions.compactMap { function -> String? in
      guard let buses = topology[function].busNumbers else { return nil }
      return "\(topology.requester(of: function)!) \(buses.primary) \(buses.secondary) "
        + "\(buses.subordinate)"
    }
    #expect(
      numbers.sorted() == [
        "00:1c.0 0 1 4", "00:1c.4 0 5 7", "00:1e.0 0 8 8", "01:00.0 1 2 4", "02:00.0 2 3 3",
        "02:01.0 2 4 4", "05:00.0 5 6 7", "06:04.0 6 7 7",
      ])
    #expect(topology.requester(of: example.disk) == Requester("03:00.0"))
    #expect(topology.requester(of: example.nic) == Requester("04:00.1"))
    #expect(topology.requester(of: example.far) == Requester("80:01.0"))
  }

  @Test func `configuration accesses find their way by the bridges' registers`() throws {
    let example = try Example()
    var topology = example.topology
    for function in topology.functions {
      let requester = try #require(topology.requester(of: function))
      #expect(topology.function(at: requester) == function)
      #expect(topology.readConfiguration(requester, at: 0) == topology[function].doubleword(at: 0))
    }
    for text in ["00:03.0", "09:00.0", "7f:00.0", "81:00.0", "ff:1f.7"] {
      #expect(topology.readConfiguration(Requester(text)!, at: 0) == .max)
    }
    // Taking the numbers from the root port cuts off all that hangs below it.
    topology.writeConfiguration(0, to: Requester("00:1c.0")!, at: 0x18)
    #expect(topology.function(at: Requester("03:00.0")!) == nil)
    #expect(topology.number(of: topology.bus(of: example.disk)) == 3)
    #expect(topology.function(at: Requester("06:03.1")!) == example.pciCard)
  }

  @Test func `bus mastering is switched by a write over the bus`() throws {
    var example = try Example()
    let nic = Requester("04:00.1")!
    example.topology.writeConfiguration(0x0000_0006, to: nic, at: 0x04)
    #expect(example.topology[example.nic].commandStatus.isBusMaster)
    #expect(example.topology.readConfiguration(nic, at: 0x04) & 0xffff == 0x0006)
  }

  @Test func `before they are numbered buses below bridges have no number`() {
    var topology = PCI.Topology()
    let slot = topology.addBridge(.rootPort, device: 1, on: topology.addRootBus(0))
    let disk = topology.addEndpoint(device: 0, on: slot)
    #expect(topology.requester(of: disk) == nil)
    #expect(topology.dmaAliases(of: disk) == [])
    #expect(topology.bus(numbered: 1) == nil)
    #expect(topology.bus(numbered: 0) == topology.rootBuses[0])
  }

  @Test func `bridges are told from the nearest to the root complex`() throws {
    let example = try Example()
    let above = example.topology.bridges(above: example.disk)
    #expect(
      above.map { example.topology.requester(of: $0) } == [
        Requester("02:00.0"), Requester("01:00.0"), Requester("00:1c.0"),
      ])
    #expect(example.topology.bridges(above: example.graphics).isEmpty)
  }

  @Test func `a bridge to PCI takes requests over, ports do not`() throws {
    let example = try Example()
    func aliases(_ function: PCI.Topology.Function) -> [String] {
      example.topology.dmaAliases(of: function).map { "\($0)" }
    }
    #expect(aliases(example.graphics) == ["00:02.0"])
    #expect(aliases(example.disk) == ["03:00.0"])
    #expect(aliases(example.pciCard) == ["06:03.1", "06:00.0"])
    #expect(aliases(example.deepCard) == ["07:05.0", "06:04.0", "06:00.0"])
    #expect(aliases(example.chipsetCard) == ["08:01.0", "00:1e.0"])
    #expect(example.topology.dmaRequester(of: example.deepCard) == Requester("06:00.0"))
  }

  @Test func `a scan finds functions past 0 only where function 0 says there are`() throws {
    var example = try Example()
    #expect(example.topology.scan(bus: 4) == [Requester("04:00.0")!, Requester("04:00.1")!])
    let first = example.topology.function(at: Requester("04:00.0")!)!
    example.topology[first].headerType.isMultiFunction = false
    #expect(example.topology.scan(bus: 4) == [Requester("04:00.0")!])
    #expect(example.topology.scan(bus: 9) == [])
  }

  @Test func `virtual functions are counted on from their physical function`() throws {
    var topology = PCI.Topology()
    let slot = topology.addBridge(.rootPort, device: 1, on: topology.addRootBus(0))
    var space = PCI.ConfigurationSpace(
      vendorID: 0x8086, deviceID: 0x1521, classCode: 0x02_0000, isExpress: true)
    space.addExpressCapability(.endpoint)
    // As Intel's 82576 has them: 128 above, every second one.
    space.addVirtualFunctions(count: 7, firstOffset: 0x180, stride: 4)
    let nic = topology.add(space, device: 0, on: slot)
    try topology.assignBusNumbers()
    #expect(topology.physicalFunction(ofVirtual: Requester("02:10.0")!) == nic)
    #expect(topology.physicalFunction(ofVirtual: Requester("02:13.0")!) == nic)
    #expect(topology.physicalFunction(ofVirtual: Requester("02:13.4")!) == nil)
    #expect(topology.physicalFunction(ofVirtual: Requester("02:10.1")!) == nil)
  }

  @Test func `more buses than numbers are an error`() throws {
    var topology = PCI.Topology()
    let root = topology.addRootBus(0)
    topology.addRootBus(2)
    topology.addBridge(.rootPort, device: 1, on: root)
    try topology.assignBusNumbers()
    topology.addBridge(.rootPort, device: 2, on: root)
    #expect(throws: PCI.TopologyError.busNumbersUsedUp(rootBus: 0, last: 1)) {
      try topology.assignBusNumbers()
    }
    #expect(
      PCI.TopologyError.busNumbersUsedUp(rootBus: 0, last: 1).description
        == "more buses below root bus 00 than numbers up to 01: move the next root bus up or use "
        + "fewer bridges")
  }

  @Test func `a chain of 255 bridges uses every number`() throws {
    var topology = PCI.Topology()
    var bus = topology.addRootBus(0)
    for _ in 1...255 { bus = topology.addBridge(nil, device: 0, on: bus) }
    let last = topology.addEndpoint(device: 1, on: bus, portType: nil)
    try topology.assignBusNumbers()
    #expect(topology.requester(of: last) == Requester("ff:01.0"))
    #expect(topology.function(at: Requester("ff:01.0")!) == last)
    #expect(topology.dmaRequester(of: last) == Requester("00:00.0"))
    topology.addBridge(nil, device: 2, on: bus)
    #expect(throws: PCI.TopologyError.busNumbersUsedUp(rootBus: 0, last: 255)) {
      try topology.assignBusNumbers()
    }
  }

  @Test func `two functions at one place stop the program`() async {
    await #expect(processExitsWith: .failure) {
      var topology = PCI.Topology()
      let root = topology.addRootBus(0)
      topology.addEndpoint(device: 1, on: root)
      topology.addEndpoint(device: 1, on: root)
    }
  }
}
