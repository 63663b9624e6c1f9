import IOMMUFormats
import IOMMUTranslation

/// A machine with Calgary chips as firmware hands it to a kernel: chips with buses, a Rio table that
/// names them, and PCI configuration space in which each root bus begins with a host bridge.
///
/// Where the chips of real machines lay and what their tables held was never published; what is
/// built here is legal (*assumed*).
public struct CalgaryFirmware {
  /// In the order of the Rio table.
  public let units: [CalgaryUnit]
  public let rioTable: Calgary.RioTable
  /// Root buses with their host bridges; devices are added to it.
  public var topology: PCI.Topology

  public static let vendorID: UInt16 = 0x1014

  /// One chip of a machine.
  public struct Chip {
    /// BBAR: a multiple of 1 MiB below 4 GiB.
    public var base: PhysicalAddress
    /// One range for each of four PHBs at most; `nil` for a PHB without a bus of its own.
    public var buses: [ClosedRange<UInt8>?]

    public init(base: PhysicalAddress, buses: [ClosedRange<UInt8>?]) {
      precondition(
        base.isAligned(to: 1 << 20) && base.rawValue < 1 << 32, "a BBAR is 1 MiB below 4 GiB")
      precondition(buses.count <= Calgary.hostBridgeCount, "a chip has four PHBs")
      self.base = base
      self.buses = buses
    }
  }

  /// - Parameters:
  ///   - model: What all chips are.
  ///   - chassis: The chips of each chassis, one or two; the first is the one with the
  ///     compatibility bus.
  ///   - version: The Rio table's.
  ///   - options: What all chips do where nobody has published it.
  public init(
    model: Calgary.Chip.Model, chassis: [[Chip]], version: Calgary.RioTable.Version = .three,
    options: CalgaryOptions = CalgaryOptions()
  ) {
    precondition(
      !chassis.isEmpty && chassis.allSatisfy { 1...2 ~= $0.count },
      "a chassis has one chip or two")
    var units: [CalgaryUnit] = []
    var rioNodes: [Calgary.RioTable.RioNode] = []
    var topology = PCI.Topology()
    for (number, chips) in chassis.enumerated() {
      for (place, chip) in chips.enumerated() {
        let unit = CalgaryUnit(model: model, base: chip.base, options: options)
        unit.setUpBuses(chip.buses)
        units.append(unit)
        let kind: Calgary.RioTable.RioKind = place == 0 ? .compatibilityCalgary : .alternateCalgary
        rioNodes.append(
          .init(
            identifier: UInt8(2 + rioNodes.count), base: UInt32(chip.base.rawValue),
            type: kind.rawValue, owner: UInt8(number),
            ports: [.init(node: UInt8(number), port: UInt8(place)), .none],
            wpIndex: 1, chassis: UInt8(number + 1)))
        for case .some(let buses) in chip.buses {
          let bus = topology.addRootBus(buses.lowerBound)
          topology.add(
            PCI.ConfigurationSpace(
              vendorID: Self.vendorID, deviceID: model.deviceID, classCode: 0x06_0000), device: 0,
            on: bus)
        }
      }
    }
    let nodes = chassis.indices.map { number in
      Calgary.RioTable.ScalabilityNode(
        identifier: UInt8(number), base: 0xfde0_0000 - UInt32(number) << 23,
        ports: [.none, .none, .none], chassis: UInt8(number + 1))
    }
    self.units = units
    self.topology = topology
    rioTable = Calgary.RioTable(version: version, scalabilityNodes: nodes, rioNodes: rioNodes)
  }
}

extension Calgary.Chip.Model {
  /// The PCI device number of the chip's host bridges.
  public var deviceID: UInt16 { self == .calgary ? 0x02a1 : 0x0308 }

  /// - Parameter deviceID: `nil` for any other device.
  public init?(deviceID: UInt16) {
    switch deviceID {
    case 0x02a1: self = .calgary
    case 0x0308: self = .calioc2
    default: return nil
    }
  }
}
