import IOMMUFormats
import IOMMUTranslation

/// The northbridges of one machine, one for each node, and the rest of its PCI functions.
///
/// A kernel reaches them by configuration accesses, devices and the CPU through
/// ``translate(_:byteCount:access:by:enteringAt:in:)``; nothing else goes between them. One object,
/// because kernels and devices act on the same hardware; ``nodes`` is a value that can be kept and
/// put back.
public final class Northbridges {
  /// Node 0 first.
  public private(set) var nodes: [Northbridge]
  /// All other functions; an AGP bridge is one of them.
  public var topology: PCI.Topology
  /// Keeps a list of configuration writes. Off: a guest may write for ever.
  package var keepsConfigurationWrites = false
  /// Those that were kept: how a kernel that was to keep its hands off shows.
  package private(set) var configurationWrites: [ConfigurationWrite] = []

  /// One configuration write of software.
  package struct ConfigurationWrite: Sendable, Hashable {
    package var function: Requester
    package var offset: Int
    package var byteCount: Int
    package var value: UInt64

    package init(function: Requester, offset: Int, byteCount: Int, value: UInt64) {
      self.function = function
      self.offset = offset
      self.byteCount = byteCount
      self.value = value
    }
  }

  /// - Precondition: No two northbridges are the same function.
  public init(nodes: [Northbridge], topology: PCI.Topology = PCI.Topology()) {
    precondition(
      Set(nodes.map(\.function)).count == nodes.count, "one northbridge at a configuration address")
    self.nodes = nodes
    self.topology = topology
  }

  /// Northbridges at 00:18.3, 00:19.3 and so on, after power-on.
  ///
  /// - Parameters:
  ///   - nodeCount: 1 to 8.
  ///   - model: What all of them are.
  ///   - topology: All other functions of the machine.
  public convenience init(
    nodeCount: Int, model: Northbridge.Model = Northbridge.Model(),
    topology: PCI.Topology = PCI.Topology()
  ) {
    precondition(1...8 ~= nodeCount, "a machine has one to eight nodes")
    self.init(
      nodes: (0..<nodeCount).map {
        Northbridge(
          function: Requester(bus: 0, device: UInt8(0x18 + $0), function: GART.function),
          model: model)
      }, topology: topology)
  }

  /// The registers of all nodes, as units of a machine.
  public var units: [TranslationUnit] { nodes.map { .gart($0.registers) } }

  /// Puts a register of one node to what firmware left.
  ///
  /// - Parameters:
  ///   - value: What the register holds then; reserved bits stay zero.
  ///   - node: The index of a node, from 0.
  ///   - offset: A multiple of four inside the configuration space.
  public func load(_ value: UInt32, node: Int, at offset: UInt64) {
    nodes[node].load(value, at: Int(offset))
  }

  /// Puts an aperture in all nodes, as firmware leaves it.
  public func load(control: GART.ApertureControl, base: GART.ApertureBase) {
    for node in nodes.indices {
      load(base.rawValue, node: node, at: GART.RegisterOffset.apertureBase)
      load(control.rawValue, node: node, at: GART.RegisterOffset.apertureControl)
    }
  }

  /// Takes the power away from all nodes and brings it back, as suspend to RAM does. Firmware has
  /// its turn after this.
  public func powerCycle() {
    for index in nodes.indices { nodes[index].powerCycle() }
  }

  /// Puts nodes back to what they were when ``nodes`` was read.
  package func restore(_ nodes: [Northbridge]) { self.nodes = nodes }

  // MARK: Software's side

  /// A configuration read of any width and alignment, little-endian; ones where no function is.
  ///
  /// - Parameters:
  ///   - function: Bus, device and function.
  ///   - offset: Of the first byte, in the configuration space.
  ///   - byteCount: 0 to 8.
  public func readConfiguration(_ function: Requester, at offset: Int, byteCount: Int = 4)
    -> UInt64
  {
    if let index = nodes.firstIndex(where: { $0.function == function }) {
      return nodes[index].readConfiguration(at: offset, byteCount: byteCount)
    }
    var value: UInt64 = 0
    forEachDoubleword(at: offset, byteCount: byteCount) { doubleword, mask, shift in
      let word = UInt64(topology.readConfiguration(function, at: doubleword) & mask)
      value |= shift >= 0 ? word << UInt64(shift) : word >> UInt64(-shift)
    }
    return value
  }

  /// A configuration write of any width and alignment, little-endian; nothing where no function is.
  ///
  /// - Parameters:
  ///   - value: The bytes, the first one lowest; those above `byteCount` do not count.
  ///   - function: Bus, device and function.
  ///   - offset: Of the first byte, in the configuration space.
  ///   - byteCount: 0 to 8.
  public func writeConfiguration(
    _ value: UInt64, to function: Requester, at offset: Int, byteCount: Int = 4
  ) {
    if keepsConfigurationWrites {
      configurationWrites.append(
        ConfigurationWrite(function: function, offset: offset, byteCount: byteCount, value: value))
    }
    if let index = nodes.firstIndex(where: { $0.function == function }) {
      nodes[index].writeConfiguration(value, at: offset, byteCount: byteCount)
      return
    }
    forEachDoubleword(at: offset, byteCount: byteCount) { doubleword, mask, shift in
      let word = UInt32(
        truncatingIfNeeded: shift >= 0 ? value >> UInt64(shift) : value << UInt64(-shift))
      let old = topology.readConfiguration(function, at: doubleword)
      topology.writeConfiguration(old & ~mask | word & mask, to: function, at: doubleword)
    }
  }

  // MARK: The devices' side

  /// What an access comes to.
  ///
  /// *Assumed*: the first node that translates for the initiator answers, because all of them carry
  /// the same aperture and table.
  ///
  /// - Parameters:
  ///   - address: The first byte, as it is on the bus.
  ///   - byteCount: At least 1; the answer ends with the page.
  ///   - access: Whether it reads or writes.
  ///   - initiator: Who makes the access.
  ///   - node: The node by which the access enters; `nil` as assumed above.
  ///   - memory: Memory that holds the table.
  public func translate(
    _ address: IOVA, byteCount: UInt64, access: Access,
    by initiator: Northbridge.Initiator = .device, enteringAt node: Int? = nil,
    in memory: some PhysicalMemory
  ) -> Translation {
    let index =
      node ?? nodes.firstIndex { initiator == .device ? $0.translatesIO : $0.translatesCPU }
    guard let index else { return .mapped(PhysicalAddress(address.rawValue), byteCount: byteCount) }
    return nodes[index].translate(
      address, byteCount: byteCount, access: access, by: initiator, in: memory)
  }
}

extension Northbridges: DMAPort {
  /// Every device is below the northbridges; outside the aperture its requests pass unchanged.
  public func translate(_ request: DMARequest, in memory: FlatMemory) -> Translation? {
    translate(request.address, byteCount: request.byteCount, access: request.access, in: memory)
  }
}

extension Northbridge {
  fileprivate var translatesIO: Bool { registers.window != nil }
  fileprivate var translatesCPU: Bool { registers.cpuWindow != nil }
}
