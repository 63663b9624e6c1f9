import IOMMUFormats

extension PCI {
  /// The functions and bridges of one PCI segment, as they are wired.
  ///
  /// Which function hangs below which bridge is fixed; bus numbers are registers of the bridges,
  /// and configuration accesses find their way by them, as on a real bus. A value: a copy is
  /// another machine.
  ///
  /// ```swift
  /// var topology = PCI.Topology()
  /// let root = topology.addRootBus(0)
  /// let slot = topology.addBridge(.rootPort, device: 0x1c, on: root)
  /// let disk = topology.addEndpoint(device: 0, on: slot, vendorID: 0x8086, deviceID: 0x2922)
  /// try topology.assignBusNumbers()
  /// topology.requester(of: disk)  // 01:00.0
  /// ```
  public struct Topology: Sendable {
    /// A bus of this topology: a root bus, or the one below a bridge.
    public struct Bus: Hashable, Sendable {
      let index: Int
    }

    /// A function of this topology.
    public struct Function: Hashable, Sendable {
      let index: Int
    }

    struct BusNode: Sendable {
      /// The bridge above; `nil` for a root bus.
      var bridge: Function?
      /// The number of a root bus; others are numbered by their bridge.
      var rootNumber: UInt8 = 0
      /// Functions on the bus, ascending by device and function.
      var functions: [Function] = []
    }

    struct FunctionNode: Sendable {
      var bus: Bus
      var device: UInt8
      var function: UInt8
      var below: Bus?
      var configuration: ConfigurationSpace
    }

    /// Segment group number of ACPI.
    public let segment: UInt16
    /// Ascending by number.
    public private(set) var rootBuses: [Bus] = []
    var buses: [BusNode] = []
    var nodes: [FunctionNode] = []

    public init(segment: UInt16 = 0) { self.segment = segment }

    // MARK: Building

    /// Adds the bus below a host bridge.
    ///
    /// - Precondition: no root bus has this number.
    @discardableResult
    public mutating func addRootBus(_ number: UInt8) -> Bus {
      precondition(
        !rootBuses.contains { buses[$0.index].rootNumber == number },
        "two root buses of a segment have different numbers")
      let bus = Bus(index: buses.count)
      buses.append(BusNode(bridge: nil, rootNumber: number))
      rootBuses.append(bus)
      rootBuses.sort { buses[$0.index].rootNumber < buses[$1.index].rootNumber }
      return bus
    }

    /// Adds a function with the configuration space that it has.
    ///
    /// A second function of a device makes its function 0 say so.
    ///
    /// - Precondition: `device` is below 32, `function` below 8, and nothing else is there.
    @discardableResult
    public mutating func add(
      _ configuration: ConfigurationSpace, device: UInt8, function: UInt8 = 0, on bus: Bus
    ) -> Function {
      precondition(device < 32 && function < 8, "a PCI device is 0 to 31 and a function 0 to 7")
      precondition(
        self.function(device: device, function: function, on: bus) == nil,
        "one function at a place")
      let added = Function(index: nodes.count)
      nodes.append(
        FunctionNode(
          bus: bus, device: device, function: function, below: nil, configuration: configuration))
      if configuration.isBridge {
        nodes[added.index].below = Bus(index: buses.count)
        buses.append(BusNode(bridge: added))
      }
      buses[bus.index].functions.append(added)
      buses[bus.index].functions.sort {
        (nodes[$0.index].device, nodes[$0.index].function)
          < (nodes[$1.index].device, nodes[$1.index].function)
      }
      let siblings = buses[bus.index].functions.filter { nodes[$0.index].device == device }
      if siblings.count > 1, let first = siblings.first, nodes[first.index].function == 0 {
        nodes[first.index].configuration.headerType.isMultiFunction = true
      }
      return added
    }

    /// Adds an endpoint.
    ///
    /// - Parameters:
    ///   - device: 0 to 31.
    ///   - function: 0 to 7.
    ///   - bus: Where it sits.
    ///   - vendorID: The vendor; by default that of virtio devices.
    ///   - deviceID: The vendor's number for the device; by default a virtio network card's.
    ///   - classCode: Base class, subclass and interface, 24 bits.
    ///   - portType: `nil` for conventional PCI, with 256 bytes of configuration space.
    @discardableResult
    public mutating func addEndpoint(
      device: UInt8, function: UInt8 = 0, on bus: Bus, vendorID: UInt16 = 0x1af4,
      deviceID: UInt16 = 0x1000, classCode: UInt32 = 0x02_0000, portType: PortType? = .endpoint
    ) -> Function {
      var configuration = ConfigurationSpace(
        vendorID: vendorID, deviceID: deviceID, classCode: classCode, isExpress: portType != nil)
      if let portType { configuration.addExpressCapability(portType) }
      return add(configuration, device: device, function: function, on: bus)
    }

    /// Adds a bridge, a port of a switch, or a root port.
    ///
    /// - Parameters:
    ///   - portType: `nil` for a bridge between two conventional buses.
    ///   - device: 0 to 31.
    ///   - function: 0 to 7.
    ///   - bus: The bus above it.
    ///   - vendorID: The vendor; by default that of QEMU's bridges.
    ///   - deviceID: The vendor's number for the device; by default a QEMU root port's.
    /// - Returns: The bus below it. It has no number before ``assignBusNumbers()``.
    @discardableResult
    public mutating func addBridge(
      _ portType: PortType?, device: UInt8, function: UInt8 = 0, on bus: Bus,
      vendorID: UInt16 = 0x1b36, deviceID: UInt16 = 0x000c
    ) -> Bus {
      var configuration = ConfigurationSpace(
        vendorID: vendorID, deviceID: deviceID, classCode: 0x06_0400, layout: .bridge,
        isExpress: portType != nil)
      if let portType { configuration.addExpressCapability(portType) }
      let bridge = add(configuration, device: device, function: function, on: bus)
      return nodes[bridge.index].below!
    }

    // MARK: Looking

    /// Every function, bus by bus in the order the buses were added.
    public var functions: [Function] { buses.flatMap(\.functions) }

    /// The functions on a bus, ascending by device and function.
    public func functions(on bus: Bus) -> [Function] { buses[bus.index].functions }

    /// The function at a place of a bus; `nil` where there is none.
    public func function(device: UInt8, function: UInt8, on bus: Bus) -> Function? {
      buses[bus.index].functions.first {
        nodes[$0.index].device == device && nodes[$0.index].function == function
      }
    }

    /// A function's configuration space.
    public subscript(function: Function) -> ConfigurationSpace {
      get { nodes[function.index].configuration }
      set {
        precondition(
          newValue.isBridge == (nodes[function.index].below != nil),
          "a function does not turn into a bridge or out of one")
        nodes[function.index].configuration = newValue
      }
    }

    /// The bus that a function is on.
    public func bus(of function: Function) -> Bus { nodes[function.index].bus }

    /// The bus below a bridge; `nil` for any other function.
    public func bus(below function: Function) -> Bus? { nodes[function.index].below }

    /// The bridge above a bus; `nil` above a root bus.
    public func bridge(above bus: Bus) -> Function? { buses[bus.index].bridge }

    /// The bridges between a function and the root complex, the nearest first.
    public func bridges(above function: Function) -> [Function] {
      bridges(upFrom: bus(of: function))
    }

    /// The bridges between a bus and the root complex, the nearest first.
    public func bridges(upFrom bus: Bus) -> [Function] {
      var bridges: [Function] = []
      var bus = bus
      // Ends: a bridge is on a bus that was there before the bridge was.
      while let bridge = bridge(above: bus) {
        bridges.append(bridge)
        bus = self.bus(of: bridge)
      }
      return bridges
    }

    /// The number of a bus; `nil` before its bridge has one.
    public func number(of bus: Bus) -> UInt8? {
      guard let bridge = bridge(above: bus) else { return buses[bus.index].rootNumber }
      let secondary = self[bridge].busNumbers?.secondary ?? 0
      return secondary == 0 ? nil : secondary
    }

    /// The number that a function's requests carry on its own bus; `nil` before the bus has one.
    public func requester(of function: Function) -> Requester? {
      let node = nodes[function.index]
      return number(of: node.bus).map {
        Requester(bus: $0, device: node.device, function: node.function)
      }
    }
  }
}
