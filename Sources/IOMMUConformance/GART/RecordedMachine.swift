import IOMMUFormats
import IOMMUHardware
import IOMMUImages
import IOMMUTranslation

/// The machine on which a recorded GART driver runs again: memory, northbridges, and the other PCI
/// registers that the driver looked at.
///
/// A register that nobody has written takes the first value that the driver read there as the
/// firmware's. The northbridges are there twice, with the same writes: once as the driver sees
/// them, and once for the devices' accesses, so that walk errors and cache contents of accesses
/// that nobody recorded do not show in registers that somebody did.
struct RecordedMachine {
  let memory: FlatMemory
  let hardware: Northbridges
  let deviceSide: Northbridges
  /// Bytes of registers that hold a known value.
  private var known: Set<RegisterByte> = []
  /// The firmware's bytes of GART registers, which come back after power was lost.
  private var firmware: [RegisterByte: UInt8] = [:]
  /// Registers of which nothing is modelled but that they keep their value.
  private var plain: [RegisterByte: UInt8] = [:]

  private struct RegisterByte: Hashable {
    var function: Requester
    var offset: UInt64
  }

  /// - Parameter functions: Function 3 of every northbridge.
  init(memory: FlatMemory, functions: [Requester], cache: GARTCache.Geometry) {
    self.memory = memory
    var model = Northbridge.Model()
    hardware = Northbridges(nodes: functions.map { Northbridge(function: $0, model: model) })
    model.cache = cache
    deviceSide = Northbridges(nodes: functions.map { Northbridge(function: $0, model: model) })
  }

  /// Where the first node's table lies.
  var table: PhysicalAddress { hardware.nodes.first?.tableBase.table ?? PhysicalAddress(0) }

  /// What the driver gets when it makes this read.
  ///
  /// - Returns: The value, and how many bytes of it were taken from the recording as firmware's.
  mutating func read(_ access: ConfigurationAccess) -> (value: UInt64, firmwareByteCount: Int) {
    let node = node(access)
    var seeded = 0
    for index in 0..<UInt64(access.byteCount) {
      let place = RegisterByte(function: access.function, offset: access.offset + index)
      guard known.insert(place).inserted else { continue }
      let byte = UInt8(truncatingIfNeeded: access.value >> (8 * index))
      seeded += 1
      if let node {
        firmware[place] = byte
        load(byte, node: node, at: place.offset)
      } else {
        plain[place] = byte
      }
    }
    if node != nil {
      _ = deviceSide.readConfiguration(
        access.function, at: Int(access.offset), byteCount: access.byteCount)
      let value = hardware.readConfiguration(
        access.function, at: Int(access.offset), byteCount: access.byteCount)
      return (value, seeded)
    }
    let value = (0..<UInt64(access.byteCount)).reduce(0 as UInt64) { value, index in
      let place = RegisterByte(function: access.function, offset: access.offset + index)
      return value | UInt64(plain[place] ?? 0) << (8 * index)
    }
    return (value, seeded)
  }

  mutating func write(_ access: ConfigurationAccess) {
    for index in 0..<UInt64(access.byteCount) {
      let place = RegisterByte(function: access.function, offset: access.offset + index)
      known.insert(place)
      plain[place] = UInt8(truncatingIfNeeded: access.value >> (8 * index))
    }
    guard node(access) != nil else { return }
    for side in [hardware, deviceSide] {
      side.writeConfiguration(
        access.value, to: access.function, at: Int(access.offset), byteCount: access.byteCount)
    }
  }

  /// What firmware left in a GART register; zeros where nobody has looked.
  func firmwareRegister(of function: Requester, at offset: UInt64) -> UInt32 {
    (0..<4).reduce(0) { value, index in
      let place = RegisterByte(function: function, offset: offset + UInt64(index))
      return value | UInt32(firmware[place] ?? 0) << UInt32(8 * index)
    }
  }

  /// The functions that the driver has looked at, with what it has seen of them; the northbridges
  /// left out. Every bus is a root bus.
  func otherFunctions() -> PCI.Topology {
    var topology = PCI.Topology()
    var buses: [UInt8: PCI.Topology.Bus] = [:]
    let places = Dictionary(grouping: plain.keys.filter { $0.offset < 256 }, by: \.function)
    for function in places.keys.sorted()
    where !hardware.nodes.contains(where: { $0.function == function }) {
      var space = PCI.ConfigurationSpace(vendorID: 0, deviceID: 0, classCode: 0)
      for place in places[function] ?? [] {
        let doubleword = Int(place.offset & ~3)
        // A bridge's header layout would ask for a bus below it; nothing here depends on one.
        guard doubleword != PCI.RegisterOffset.headerType else { continue }
        space.store(firmwareValue(of: function, at: doubleword), at: doubleword)
      }
      var header = PCI.HeaderType(layout: .endpoint)
      header.isMultiFunction =
        PCI.HeaderType(
          rawValue: firmwareValue(of: function, at: PCI.RegisterOffset.headerType)
        ).isMultiFunction
      space.store(header.rawValue, at: PCI.RegisterOffset.headerType)
      let bus = buses[function.bus] ?? topology.addRootBus(function.bus)
      buses[function.bus] = bus
      topology.add(space, device: function.device, function: function.function, on: bus)
    }
    return topology
  }

  /// A doubleword of a function that the driver has looked at; zeros where it has not.
  func firmwareValue(of function: Requester, at offset: Int) -> UInt32 {
    (0..<4).reduce(0) { value, index in
      let place = RegisterByte(function: function, offset: UInt64(offset + index))
      return value | UInt32(plain[place] ?? 0) << UInt32(8 * index)
    }
  }

  /// The northbridges lose their power and firmware sets them up as it did at boot.
  mutating func losePower() {
    for side in [hardware, deviceSide] { side.powerCycle() }
    let functions = Set(hardware.nodes.map(\.function))
    known = known.filter { !functions.contains($0.function) || firmware[$0] != nil }
    for (place, byte) in firmware {
      guard let node = hardware.nodes.firstIndex(where: { $0.function == place.function }) else {
        continue
      }
      load(byte, node: node, at: place.offset)
    }
  }

  /// Puts the registers back to what they were at another time; the caches of the devices' side are
  /// then as after power-on.
  mutating func restore(_ nodes: [Northbridge]) {
    hardware.restore(nodes)
    deviceSide.powerCycle()
    for (index, node) in nodes.enumerated() {
      for offset in Self.registers {
        deviceSide.load(node.register(at: Int(offset)), node: index, at: offset)
      }
    }
  }

  static let registers = [
    GART.RegisterOffset.apertureControl, GART.RegisterOffset.apertureBase,
    GART.RegisterOffset.tableBase, GART.RegisterOffset.cacheControl,
  ]

  /// The node whose GART registers the access touches; `nil` for any other register.
  private func node(_ access: ConfigurationAccess) -> Int? {
    let end = Self.registers[3] + 4
    guard access.offset >= Self.registers[0], access.offset < end else { return nil }
    return hardware.nodes.firstIndex { $0.function == access.function }
  }

  /// Puts one byte of a register to the firmware's value.
  private func load(_ byte: UInt8, node: Int, at offset: UInt64) {
    let doubleword = offset & ~3
    let shift = 8 * (offset & 3)
    for side in [hardware, deviceSide] {
      let old = side.nodes[node].register(at: Int(doubleword))
      let value = old & ~(0xff << UInt32(shift)) | UInt32(byte) << UInt32(shift)
      side.load(value, node: node, at: doubleword)
    }
  }
}
