import IOMMUFormats

/// Which remapping unit stands above which device: a DMAR table over the machine's PCI segments.
///
/// The paths are followed once, when the value is made: bus numbers that change later are not seen.
public struct RemappingHardware: Sendable {
  /// What a scope came to.
  struct Target: Sendable {
    var type: VTd.DMAR.ScopeType
    var enumerationID: UInt8
    var requester: Requester
  }

  struct Listed<Structure: Sendable>: Sendable {
    var structure: Structure
    var targets: [Target]
  }

  /// A scope that leads nowhere: the device is absent, or firmware is wrong.
  public struct Unresolved: Sendable, Equatable {
    public var scope: VTd.DMAR.DeviceScope
    public var error: DeviceScopeError
  }

  private let topologies: [UInt16: PCI.Topology]
  private var units: [Listed<VTd.DMAR.HardwareUnit>] = []
  private var regions: [Listed<VTd.DMAR.ReservedMemoryRegion>] = []
  private var ports: [Listed<VTd.DMAR.RootPortATS>] = []
  /// Scopes whose paths lead nowhere, in the order of the table. They match no device.
  public private(set) var unresolved: [Unresolved] = []

  /// - Parameters:
  ///   - table: The DMAR table, whose scopes are looked up.
  ///   - topologies: One for each segment; segments that only the table knows are empty.
  public init(_ table: VTd.DMAR, topologies: [PCI.Topology]) {
    self.topologies = Dictionary(topologies.map { ($0.segment, $0) }) { first, _ in first }
    for structure in table.structures {
      switch structure {
      case .hardwareUnit(let unit):
        units.append(Listed(structure: unit, targets: resolve(unit.scopes, unit.segment)))
      case .reservedMemory(let region):
        regions.append(Listed(structure: region, targets: resolve(region.scopes, region.segment)))
      case .rootPortATS(let list):
        ports.append(Listed(structure: list, targets: resolve(list.scopes, list.segment)))
      default: break
      }
    }
  }

  private mutating func resolve(
    _ scopes: [VTd.DMAR.DeviceScope], _ segment: UInt16
  ) -> [Target] {
    let topology = topologies[segment] ?? PCI.Topology(segment: segment)
    var targets: [Target] = []
    for scope in scopes {
      do {
        targets.append(
          Target(
            type: scope.type, enumerationID: scope.enumerationID,
            requester: try topology.resolve(scope)))
      } catch {
        unresolved.append(Unresolved(scope: scope, error: error))
      }
    }
    return targets
  }

  // MARK: Questions

  /// The unit that translates a requester's DMA; `nil` when none does.
  ///
  /// An exact entry counts most, then a listed bridge above the device, then the unit of all PCI
  /// devices. A virtual function belongs to its physical function's unit. Requests that a bridge to
  /// conventional PCI has taken over carry a number that no function need have: they belong to the
  /// bridge's unit, or to that of a device listed below it (*assumed*: firmware lists all devices
  /// of such a bus under one unit). Specification: Intel VT-d 8.3, 8.3.1.
  public func unit(of requester: Requester, segment: UInt16 = 0) -> VTd.DMAR.HardwareUnit? {
    let units = units.filter { $0.structure.segment == segment }
    let way = way(from: requester, segment)
    return units.first { $0.targets.contains { $0.isEndpoint(way.own) } }?.structure
      ?? units.first { $0.targets.contains { $0.isAbove(way.own, way.bridges) } }?.structure
      ?? units.first { $0.targets.contains { $0.isOn(way.takenOverBus) } }?.structure
      ?? units.first(where: \.structure.includesAllPCI)?.structure
  }

  /// The regions that a device uses on firmware's behalf, in the order of the table.
  public func reservedMemory(
    of requester: Requester, segment: UInt16 = 0
  ) -> [VTd.DMAR.ReservedMemoryRegion] {
    let way = way(from: requester, segment)
    return regions.compactMap { region in
      guard region.structure.segment == segment else { return nil }
      let isListed = region.targets.contains {
        $0.isEndpoint(way.own) || $0.isAbove(way.own, way.bridges)
      }
      return isListed ? region.structure : nil
    }
  }

  /// Whether the root port above a device passes ATS requests.
  public func allowsATS(of requester: Requester, segment: UInt16 = 0) -> Bool {
    let way = way(from: requester, segment)
    return ports.contains { list in
      list.structure.segment == segment
        && (list.structure.meansAllPorts && !way.bridges.isEmpty
          || list.targets.contains { $0.isAbove(way.own, way.bridges) })
    }
  }

  /// The unit that remaps an I/O APIC's interrupts, and the source-id that they carry.
  ///
  /// - Parameter id: The I/O APIC's id in the MADT.
  public func ioapic(_ id: UInt8) -> (unit: VTd.DMAR.HardwareUnit, sourceID: Requester)? {
    source(.ioapic, id)
  }

  /// The unit that remaps a timer's interrupts, and the source-id that they carry.
  public func hpet(_ number: UInt8) -> (unit: VTd.DMAR.HardwareUnit, sourceID: Requester)? {
    source(.hpet, number)
  }

  /// The unit of a device that only the ACPI name space knows, and its source-id.
  ///
  /// - Parameter number: The one that ANDD gives the device.
  public func namespaceDevice(
    _ number: UInt8
  ) -> (unit: VTd.DMAR.HardwareUnit, sourceID: Requester)? {
    source(.namespaceDevice, number)
  }

  private func source(
    _ type: VTd.DMAR.ScopeType, _ id: UInt8
  ) -> (unit: VTd.DMAR.HardwareUnit, sourceID: Requester)? {
    for unit in units {
      if let target = unit.targets.first(where: { $0.type == type && $0.enumerationID == id }) {
        return (unit.structure, target.requester)
      }
    }
    return nil
  }

  // MARK: The way up

  /// Where a request comes from: the function listed for it, and the bridges above.
  private struct Way {
    var own: Requester
    var bridges: [Requester]
    /// The bus behind a bridge to conventional PCI that has taken the request over.
    var takenOverBus: UInt8?
  }

  private func way(from requester: Requester, _ segment: UInt16) -> Way {
    guard let topology = topologies[segment] else { return Way(own: requester, bridges: []) }
    func above(_ bridges: [PCI.Topology.Function]) -> [Requester] {
      bridges.compactMap { topology.requester(of: $0) }
    }
    if let function = topology.function(at: requester)
      ?? topology.physicalFunction(ofVirtual: requester)
    {
      return Way(
        own: topology.requester(of: function) ?? requester,
        bridges: above(topology.bridges(above: function)))
    }
    // No function has this number: hot-plugged, an ARI function, or a bridge speaks for its bus.
    guard let bus = topology.bus(numbered: requester.bus) else {
      return Way(own: requester, bridges: [])
    }
    let isTakenOver =
      topology.bridge(above: bus).map { topology[$0].portType == .expressToPCIBridge } ?? false
    return Way(
      own: requester, bridges: above(topology.bridges(upFrom: bus)),
      takenOverBus: isTakenOver ? requester.bus : nil)
  }
}

extension RemappingHardware.Target {
  /// The scope names this very device.
  func isEndpoint(_ requester: Requester) -> Bool {
    (type == .endpoint || type == .namespaceDevice) && self.requester == requester
  }

  /// The scope names a bridge that is the device itself or above it.
  func isAbove(_ requester: Requester, _ bridges: [Requester]) -> Bool {
    type == .subHierarchy && (self.requester == requester || bridges.contains(self.requester))
  }

  /// The scope names a device on this bus.
  func isOn(_ bus: UInt8?) -> Bool {
    type == .endpoint && requester.bus == bus
  }
}
