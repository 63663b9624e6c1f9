import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

@testable import IOMMUKdump

/// 8 GiB of RAM with the hole at 3 GiB, and 128 MiB of crash kernel at 16 MiB.
struct GARTMachine {
  static let controller = Device(
    name: "32-bit controller", requester: Requester("00:03.0")!, dmaMask: 0xffff_ffff)
  static let disk = Device(name: "disk", requester: Requester("01:01.0")!)

  let memory: FlatMemory
  let map: MemoryMap
  let hardware: Northbridges

  init(
    nodeCount: Int = 1, control: UInt32 = 0x02, base: UInt32 = 0x68,
    topology: PCI.Topology = PCI.Topology(), ramByteCount: UInt64 = 8 << 30,
    crashKernel: [Range<UInt64>] = [0x100_0000..<0x900_0000],
    _ change: (inout Northbridge.Model) -> Void = { _ in }
  ) throws {
    var model = Northbridge.Model()
    change(&model)
    let ram = try MemoryMap.ram(byteCount: ramByteCount)
    map = try MemoryMap(
      ram: ram,
      crashKernel: crashKernel.map {
        PhysicalAddress($0.lowerBound)..<PhysicalAddress($0.upperBound)
      })
    memory = try FlatMemory(ram: ram)
    hardware = Northbridges(nodeCount: nodeCount, model: model, topology: topology)
    hardware.keepsConfigurationWrites = true
    hardware.load(control: .init(rawValue: control), base: .init(rawValue: base))
  }

  /// The kernel that runs before the crash.
  func primary(_ change: (inout GARTOptions) -> Void = { _ in }) throws -> GARTDriver {
    var options = GARTOptions()
    change(&options)
    return try GARTDriver(
      pages: PagePool(memory: memory, map: map), map: map, hardware: hardware, options: options)
  }

  /// The kernel that runs after it: its RAM is the first 640 KiB and the crash kernel.
  func capture(_ version: GARTDriverVersion) throws -> GARTDriver {
    let map = try MemoryMap(
      ram: [PhysicalAddress(0)..<PhysicalAddress(0xa_0000)] + map.crashKernel, crashKernel: [])
    return try GARTDriver(
      pages: PagePool(memory: memory, map: map), map: map, hardware: hardware,
      options: GARTOptions(version: version))
  }

  /// A register of every node.
  func registers(_ offset: Int) -> [UInt32] {
    hardware.nodes.map { $0.register(at: offset) }
  }

  func bytes(at address: UInt64, count: Int) -> [UInt8]? {
    memory.bytes(at: PhysicalAddress(address), count: count)
  }

  /// DMA of a device through the northbridges.
  func bus() -> DMABus { DMABus(memory: memory, ports: [hardware]) }
}

extension GARTDriver {
  func map(
    _ address: UInt64, _ byteCount: UInt64, for device: Device = GARTMachine.controller,
    direction: DMADirection = .bidirectional
  ) throws(MappingFailure) -> MappedBuffer {
    try map(
      PhysicalAddress(address)..<PhysicalAddress(address + byteCount), for: device,
      direction: direction)
  }
}

/// An AGP bridge at 00:00.0 with its aperture at `base`.
func agpBridge(base: UInt32, size: UInt32) -> PCI.Topology {
  var bridge = PCI.ConfigurationSpace(vendorID: 0x1022, deviceID: 0x7454, classCode: 0x06_0000)
  bridge.addCapability(.agp, body: [0x0030_0000, 0, 0, 0, 0, size])
  bridge.store(base, at: 0x10)
  var topology = PCI.Topology()
  let root = topology.addRootBus(0)
  topology.add(bridge, device: 0, on: root)
  return topology
}
