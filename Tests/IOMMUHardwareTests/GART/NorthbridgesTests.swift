import IOMMUFormats
import IOMMUTranslation
import Testing

@testable import IOMMUHardware

@Suite struct NorthbridgesTests {
  private let node0 = Requester("00:18.3")!
  private let node1 = Requester("00:19.3")!

  @Test func `nodes are function 3 of devices 0x18 and up, everything else is absent`() {
    let hardware = Northbridges(nodeCount: 2)
    #expect(hardware.readConfiguration(node0, at: 0) == 0x1103_1022)
    #expect(hardware.readConfiguration(node1, at: 0) == 0x1103_1022)
    #expect(hardware.readConfiguration(Requester("00:1a.3")!, at: 0) == 0xffff_ffff)
    #expect(hardware.readConfiguration(Requester("00:18.2")!, at: 2, byteCount: 2) == 0xffff)
  }

  @Test func `each node has registers of its own`() {
    let hardware = Northbridges(nodeCount: 2)
    hardware.writeConfiguration(0, to: node1, at: 0x94)
    #expect(hardware.configurationWrites.isEmpty, "nobody asked for a list")
    hardware.keepsConfigurationWrites = true
    hardware.writeConfiguration(0x68, to: node1, at: 0x94)
    #expect(hardware.readConfiguration(node0, at: 0x94) == 0)
    #expect(hardware.readConfiguration(node1, at: 0x94) == 0x68)
    #expect(
      hardware.configurationWrites == [
        .init(function: node1, offset: 0x94, byteCount: 4, value: 0x68)
      ])
  }

  @Test func `other functions are read and written through the topology`() {
    var topology = PCI.Topology()
    let root = topology.addRootBus(0)
    topology.addEndpoint(device: 4, on: root, vendorID: 0x8086, deviceID: 0x100e)
    let hardware = Northbridges(nodeCount: 1, topology: topology)
    let device = Requester("00:04.0")!
    #expect(hardware.readConfiguration(device, at: 0) == 0x100e_8086)
    #expect(hardware.readConfiguration(device, at: 1, byteCount: 2) == 0x0e80)
    // Bus mastering: one byte of the command register.
    hardware.writeConfiguration(0x04, to: device, at: 4, byteCount: 1)
    #expect(hardware.readConfiguration(device, at: 4, byteCount: 2) & 4 == 4)
  }

  @Test func `the first node that translates answers, unless a node is named`() throws {
    let memory = try FlatMemory(byteCount: 2 << 20)
    memory.store(0x1234_5003 as UInt32, at: PhysicalAddress(0x10_0000))
    let hardware = Northbridges(nodeCount: 2)
    hardware.load(control: .init(rawValue: 0x02), base: .init(rawValue: 0x68))
    hardware.writeConfiguration(0x1000, to: node1, at: 0x98)
    hardware.writeConfiguration(0x03, to: node1, at: 0x90)
    func read(_ node: Int?) -> Translation {
      hardware.translate(
        IOVA(0xd000_0000), byteCount: 1, access: .read, enteringAt: node, in: memory)
    }
    #expect(read(nil) == .mapped(PhysicalAddress(0x1234_5000), byteCount: 1))
    #expect(read(0) == .mapped(PhysicalAddress(0xd000_0000), byteCount: 1))
    #expect(read(1) == .mapped(PhysicalAddress(0x1234_5000), byteCount: 1))
    hardware.writeConfiguration(0x13, to: node1, at: 0x90)
    #expect(
      hardware.translate(IOVA(0xd000_0000), byteCount: 1, access: .read, by: .cpu, in: memory)
        == .mapped(PhysicalAddress(0xd000_0000), byteCount: 1))
  }

  @Test func `nodes can be kept and put back`() {
    let hardware = Northbridges(nodeCount: 1)
    hardware.load(control: .init(rawValue: 0x03), base: .init(rawValue: 0x68))
    let kept = hardware.nodes
    hardware.powerCycle()
    #expect(hardware.readConfiguration(node0, at: 0x90) == 0)
    hardware.restore(kept)
    #expect(hardware.readConfiguration(node0, at: 0x90) == 0x03)
  }

  @Test func `two northbridges at one place stop the program`() async {
    await #expect(processExitsWith: .failure) {
      let node = Northbridge(function: Requester("00:18.3")!)
      _ = Northbridges(nodes: [node, node])
    }
  }
}
