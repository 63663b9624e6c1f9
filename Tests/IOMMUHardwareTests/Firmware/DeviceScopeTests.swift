import IOMMUFormats
import IOMMUHardware
import Testing

@Suite struct DeviceScopeTests {
  /// Bus 0 with a root port 1c.0 (disk behind it), a root port 1c.4 with a bridge to PCI at 00.0
  /// behind it (cards at 3.1 and 3.0 of its bus), and devices of the chip at 2.0 and 4.0.
  static func topology() throws -> PCI.Topology {
    var topology = PCI.Topology()
    let root = topology.addRootBus(0)
    topology.addEndpoint(device: 2, on: root, portType: .rootComplexEndpoint)
    topology.addEndpoint(device: 4, on: root, portType: .rootComplexEndpoint)
    let port = topology.addBridge(.rootPort, device: 0x1c, on: root)
    topology.addEndpoint(device: 0, on: port)
    let port4 = topology.addBridge(.rootPort, device: 0x1c, function: 4, on: root)
    let pci = topology.addBridge(.expressToPCIBridge, device: 0, on: port4)
    topology.addEndpoint(device: 3, on: pci, portType: nil)
    topology.addEndpoint(device: 3, function: 1, on: pci, portType: nil)
    try topology.assignBusNumbers()
    return topology
  }

  static func step(_ device: UInt8, _ function: UInt8) -> VTd.DMAR.PathStep {
    VTd.DMAR.PathStep(device: device, function: function)
  }

  static func table(_ structures: [VTd.DMAR.Structure]) -> VTd.DMAR {
    VTd.DMAR(
      header: ACPI.TableHeader(
        revision: 1, oemID: "EXAMPL", oemTableID: "VTDTABLE", creatorID: "TEST"),
      platform: VTd.DMAR.Platform(hostAddressWidth: 39), structures: structures)
  }

  static func unit(
    _ base: UInt64, all: Bool = false, _ scopes: [VTd.DMAR.DeviceScope] = []
  ) -> VTd.DMAR.Structure {
    .hardwareUnit(
      VTd.DMAR.HardwareUnit(base: PhysicalAddress(base), includesAllPCI: all, scopes: scopes))
  }

  @Test func `a path goes through the secondary bus of each bridge`() throws {
    let topology = try Self.topology()
    // 00:1c.4 leads to bus 2, its bridge at 00.0 to bus 3.
    let scope = VTd.DMAR.DeviceScope(
      .endpoint, path: [Self.step(0x1c, 4), Self.step(0, 0), Self.step(3, 1)])
    #expect(try topology.resolve(scope) == Requester("03:03.1"))
    let card = try #require(topology.function(at: Requester("03:03.1")!))
    #expect(topology.scope(.endpoint, of: card) == scope)
    #expect(scope.bytes == hexdump("010c000000001c0400000301"))
  }

  @Test func `one step is a source-id that needs no bus`() throws {
    let topology = PCI.Topology()
    let ioapic = VTd.DMAR.DeviceScope(.ioapic, Requester("f0:1f.7")!, enumerationID: 2)
    #expect(try topology.resolve(ioapic) == Requester(rawValue: 0xf0ff))
    // As firmware with a bug has it: the device's own bus instead of the root bus.
    let late = VTd.DMAR.DeviceScope(.endpoint, Requester("03:03.1")!)
    #expect(try topology.resolve(late) == Requester("03:03.1"))
  }

  @Test func `a path that leads nowhere says where it ends`() throws {
    var topology = try Self.topology()
    func resolve(_ steps: VTd.DMAR.PathStep...) throws(DeviceScopeError) -> Requester {
      try topology.resolve(VTd.DMAR.DeviceScope(.endpoint, path: steps))
    }
    #expect(throws: DeviceScopeError.noFunction(Requester("00:1d.0")!)) {
      try resolve(Self.step(0x1d, 0), Self.step(0, 0))
    }
    #expect(throws: DeviceScopeError.notABridge(Requester("00:02.0")!)) {
      try resolve(Self.step(2, 0), Self.step(0, 0))
    }
    topology.writeConfiguration(0, to: Requester("00:1c.0")!, at: 0x18)
    #expect(throws: DeviceScopeError.notNumbered(Requester("00:1c.0")!)) {
      try resolve(Self.step(0x1c, 0), Self.step(0, 0))
    }
    for error in [
      DeviceScopeError.badStep(Self.step(32, 0)), .noFunction(Requester("00:1d.0")!),
      .notABridge(Requester("00:02.0")!), .notNumbered(Requester("00:1c.0")!),
    ] {
      #expect(error.description.contains(";"), "every error names a way out")
    }
  }

  @Test func `an exact entry counts more than a bridge, and a bridge more than all`() throws {
    let topology = try Self.topology()
    let hardware = RemappingHardware(
      Self.table([
        Self.unit(0x1000, [VTd.DMAR.DeviceScope(.subHierarchy, Requester("00:1c.4")!)]),
        Self.unit(
          0x2000,
          [
            VTd.DMAR.DeviceScope(
              .endpoint, path: [Self.step(0x1c, 4), Self.step(0, 0), Self.step(3, 1)])
          ]),
        Self.unit(0x3000, all: true),
      ]), topologies: [topology])
    func base(_ text: String) -> UInt64? {
      hardware.unit(of: Requester(text)!)?.base.rawValue
    }
    #expect(base("03:03.1") == 0x2000)
    #expect(base("03:03.0") == 0x1000)
    #expect(base("00:1c.4") == 0x1000, "the bridge itself belongs to its hierarchy")
    #expect(base("02:00.0") == 0x1000)
    #expect(base("01:00.0") == 0x3000)
    #expect(base("00:02.0") == 0x3000)
    // A device that was plugged in later, and a number that the bridge to PCI uses.
    #expect(base("03:1f.0") == 0x1000)
    #expect(base("03:00.0") == 0x1000)
    #expect(base("01:05.0") == 0x3000)
    #expect(base("77:00.0") == 0x3000)
    #expect(hardware.unresolved.isEmpty)
  }

  @Test func `a device listed nowhere has no unit without INCLUDE_PCI_ALL`() throws {
    let hardware = RemappingHardware(
      Self.table([Self.unit(0x1000, [VTd.DMAR.DeviceScope(.endpoint, Requester("00:02.0")!)])]),
      topologies: [try Self.topology()])
    #expect(hardware.unit(of: Requester("00:02.0")!)?.base.rawValue == 0x1000)
    #expect(hardware.unit(of: Requester("00:04.0")!) == nil)
    #expect(hardware.unit(of: Requester("00:02.0")!, segment: 1) == nil)
  }

  @Test func `requests that a bridge to PCI takes over belong to the devices behind it`() throws {
    let hardware = RemappingHardware(
      Self.table([
        Self.unit(
          0x1000,
          [
            VTd.DMAR.DeviceScope(
              .endpoint, path: [Self.step(0x1c, 4), Self.step(0, 0), Self.step(3, 0)])
          ]), Self.unit(0x2000, all: true),
      ]), topologies: [try Self.topology()])
    // 03:00.0 is what the IOMMU sees of 03:03.0; nothing has that number itself.
    #expect(hardware.unit(of: Requester("03:00.0")!)?.base.rawValue == 0x1000)
    #expect(hardware.unit(of: Requester("01:00.0")!)?.base.rawValue == 0x2000)
  }

  @Test func `a virtual function belongs to its physical function's unit`() throws {
    var topology = PCI.Topology()
    let slot = topology.addBridge(.rootPort, device: 1, on: topology.addRootBus(0))
    var space = PCI.ConfigurationSpace(
      vendorID: 0x8086, deviceID: 0x10c9, classCode: 0x02_0000, isExpress: true)
    space.addExpressCapability(.endpoint)
    space.addVirtualFunctions(count: 4, firstOffset: 0x180, stride: 2)
    topology.add(space, device: 0, on: slot)
    try topology.assignBusNumbers()
    let hardware = RemappingHardware(
      Self.table([
        Self.unit(
          0x1000, [VTd.DMAR.DeviceScope(.endpoint, path: [Self.step(1, 0), Self.step(0, 0)])]),
        Self.unit(0x2000, all: true),
      ]), topologies: [topology])
    // 01:00.0 + 180h is 02:10.0, on a bus that no bridge has as its secondary one.
    #expect(hardware.unit(of: Requester("02:10.0")!)?.base.rawValue == 0x1000)
    #expect(hardware.unit(of: Requester("02:10.6")!)?.base.rawValue == 0x1000)
    #expect(hardware.unit(of: Requester("02:11.0")!)?.base.rawValue == 0x2000)
  }

  @Test func `reserved memory and ATS are found by the same paths`() throws {
    let memory = PhysicalAddress(0x8b00_0000)..<PhysicalAddress(0x8f80_0000)
    let region = VTd.DMAR.ReservedMemoryRegion(
      memory,
      scopes: [
        VTd.DMAR.DeviceScope(.endpoint, Requester("00:02.0")!),
        VTd.DMAR.DeviceScope(.endpoint, path: [Self.step(0x1e, 0), Self.step(0, 0)]),
      ])
    let ports = VTd.DMAR.RootPortATS(
      scopes: [VTd.DMAR.DeviceScope(.subHierarchy, Requester("00:1c.0")!)])
    let hardware = RemappingHardware(
      Self.table([
        Self.unit(0x1000, all: true), .reservedMemory(region), .rootPortATS(ports),
      ]), topologies: [try Self.topology()])
    #expect(hardware.reservedMemory(of: Requester("00:02.0")!).map(\.memory) == [memory])
    #expect(hardware.reservedMemory(of: Requester("00:04.0")!).isEmpty)
    #expect(hardware.allowsATS(of: Requester("01:00.0")!))
    #expect(!hardware.allowsATS(of: Requester("03:03.0")!))
    #expect(hardware.unresolved.map(\.error) == [.noFunction(Requester("00:1e.0")!)])
    let all = RemappingHardware(
      Self.table([Self.unit(0x1000, all: true), .rootPortATS(.allPorts())]),
      topologies: [try Self.topology()])
    #expect(all.allowsATS(of: Requester("03:03.0")!))
    #expect(!all.allowsATS(of: Requester("00:02.0")!), "no root port above")
  }

  @Test func `interrupt sources have the number that their scope gives them`() throws {
    let hardware = RemappingHardware(
      Self.table([
        Self.unit(
          0x2000, all: true,
          [
            VTd.DMAR.DeviceScope(.ioapic, Requester("f0:1f.7")!, enumerationID: 2),
            VTd.DMAR.DeviceScope(.hpet, Requester("00:1f.0")!),
            VTd.DMAR.DeviceScope(.namespaceDevice, Requester("00:15.0")!, enumerationID: 1),
          ])
      ]), topologies: [try Self.topology()])
    #expect(hardware.ioapic(2)?.sourceID == Requester(rawValue: 0xf0ff))
    #expect(hardware.ioapic(2)?.unit.base.rawValue == 0x2000)
    #expect(hardware.ioapic(0) == nil)
    #expect(hardware.hpet(0)?.sourceID == Requester("00:1f.0"))
    #expect(hardware.namespaceDevice(1)?.sourceID == Requester("00:15.0"))
  }
}
