import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import Testing

@testable import IOMMUKdump

@Suite struct ApertureSearchTests {
  // Firmware's aperture

  @Test func `64 MiB in the hole are taken as they are`() throws {
    let machine = try GARTMachine(nodeCount: 2)
    let driver = try machine.primary()
    #expect(driver.idleness == nil)
    #expect(machine.registers(0x90) == [0x03, 0x03])
    #expect(machine.registers(0x94) == [0x68, 0x68])
    #expect(driver.active?.aperture.isFixed == false)
  }

  @Test func `Linux 4 4 sets the bit against walk probes`() throws {
    let machine = try GARTMachine(nodeCount: 2)
    _ = try machine.primary { $0.version = .linux4_4 }
    #expect(machine.registers(0x90) == [0x43, 0x43])
  }

  @Test(arguments: [
    // None, 32 MiB, order 7 (Q1), beyond 4 GiB, ends beyond 4 GiB, over RAM.
    (0x00 as UInt32, 0x00 as UInt32), (0x00, 0x68), (0x0e, 0x68), (0x02, 0x7fff), (0x0a, 0x7f),
    (0x02, 0x40),
  ])
  func `an aperture that is none is replaced by 64 MiB of RAM at 512 MiB`(
    control: UInt32, base: UInt32
  ) throws {
    let machine = try GARTMachine(nodeCount: 2, control: control, base: base)
    let driver = try machine.primary()
    #expect(machine.registers(0x90) == [0x03, 0x03])
    #expect(machine.registers(0x94) == [0x10, 0x10])
    #expect(driver.active?.aperture.isOverRAM == true)
    #expect(driver.active?.aperture.isFixed == true)
  }

  @Test func `Linux 4 4 takes RAM from the top`() throws {
    let machine = try GARTMachine(control: 0, base: 0)
    _ = try machine.primary { $0.version = .linux4_4 }
    // 0xbc000000, the last 64 MiB below the hole.
    #expect(machine.registers(0x94) == [0x5e])
    #expect(machine.registers(0x90) == [0x43])
  }

  @Test func `nodes that disagree get one aperture`() throws {
    let machine = try GARTMachine(nodeCount: 2)
    machine.hardware.load(0x70, node: 1, at: 0x94)
    _ = try machine.primary()
    #expect(machine.registers(0x94) == [0x10, 0x10])
    #expect(machine.registers(0x90) == [0x03, 0x03])
  }

  @Test func `memaper lays 128 MiB over RAM whatever firmware left`() throws {
    let machine = try GARTMachine()
    let driver = try machine.primary { $0.apertureOrder = 2 }
    #expect(machine.registers(0x90) == [0x05])
    #expect(machine.registers(0x94) == [0x10])
    #expect(driver.active?.bitmap.count == 32_768)
  }

  @Test func `memaper beyond 5 is 1 GiB, aligned to its size`() throws {
    let machine = try GARTMachine()
    _ = try machine.primary { $0.apertureOrder = 7 }
    #expect(machine.registers(0x90) == [0x0b])
    #expect(machine.registers(0x94) == [0x20])
  }

  @Test func `an aperture over RAM keeps clear of the crash kernel and of buffers`() throws {
    let machine = try GARTMachine(control: 0, base: 0, crashKernel: [0x2100_0000..<0x2900_0000])
    let pages = PagePool(memory: machine.memory, map: machine.map)
    _ = try GARTDriver(pages: pages, map: machine.map, hardware: machine.hardware)
    // 0x20000000, 0x24000000 and 0x28000000 meet the crash kernel.
    #expect(machine.registers(0x94) == [0x16])
    let taken = PhysicalAddress(0x2c00_0000)..<PhysicalAddress(0x3000_0000)
    #expect(!pages.take(taken))
    #expect(pages.take(PhysicalAddress(0x3000_0000)..<PhysicalAddress(0x3400_0000)))
  }

  @Test func `where there is no room for an aperture the kernel stops`() throws {
    let machine = try GARTMachine(control: 0, base: 0, ramByteCount: 256 << 20)
    #expect(throws: SetUpError.outOfMemory(what: "an aperture; the kernel stops")) {
      try machine.primary { $0.isForced = true }
    }
  }

  // Whether the GART is needed

  @Test func `with all memory below 4 GiB the registers stay as they were`() throws {
    let machine = try GARTMachine(ramByteCount: 2 << 30)
    let driver = try machine.primary()
    #expect(driver.idleness == .notNeeded)
    #expect(machine.hardware.configurationWrites.isEmpty)
    let none = try GARTMachine(control: 0, base: 0, ramByteCount: 2 << 30)
    #expect(try none.primary().idleness == .noAperture)
  }

  @Test func `iommu off leaves a sound aperture alone`() throws {
    let machine = try GARTMachine()
    #expect(try machine.primary { $0.isOff = true }.idleness == .notNeeded)
    #expect(machine.hardware.configurationWrites.isEmpty)
  }

  @Test func `Q10: without a northbridge there is no help, and no bounce buffer either`() throws {
    let machine = try GARTMachine()
    let hardware = Northbridges(nodes: [])
    let driver = try GARTDriver(
      pages: PagePool(memory: machine.memory, map: machine.map), map: machine.map,
      hardware: hardware)
    #expect(driver.idleness == .noNorthbridge)
    #expect(
      throws: MappingFailure.beyondDeviceMask(PhysicalAddress(0x1_4000_0000), mask: 0xffff_ffff)
    ) { try driver.map(0x1_4000_0000, 4096) }
  }

  @Test func `a chip whose identifier is unknown is no northbridge`() throws {
    let machine = try GARTMachine { $0.deviceID = 0x1303 }
    #expect(try machine.primary().idleness == .noNorthbridge)
    let family10h = try GARTMachine { $0.deviceID = 0x1203 }
    #expect(try family10h.primary().idleness == nil)
  }

  // AGP

  @Test func `32 MiB are enough where the AGP bridge says the same`() throws {
    let machine = try GARTMachine(
      control: 0x00, base: 0x78, topology: agpBridge(base: 0xf000_0000, size: 0xf38))
    let driver = try machine.primary()
    #expect(machine.registers(0x94) == [0x78])
    #expect(driver.active?.window == 0xf100_0000..<0xf200_0000)
  }

  @Test func `the AGP bridge's aperture mends that of the nodes`() throws {
    let machine = try GARTMachine(
      control: 0x00, base: 0, topology: agpBridge(base: 0xf000_0000, size: 0xf30))
    let driver = try machine.primary()
    #expect(machine.registers(0x90) == [0x03])
    #expect(machine.registers(0x94) == [0x78])
    #expect(driver.active?.aperture.isFixed == true)
    #expect(driver.active?.aperture.isOverRAM == false)
  }

  @Test func `a bridge that claims 4 GiB is not believed`() throws {
    let machine = try GARTMachine(
      control: 0x02, base: 0x78, topology: agpBridge(base: 0xf000_0000, size: 0x000))
    let driver = try machine.primary()
    #expect(driver.active?.aperture.order == 1)
    #expect(driver.active?.sharesWithAGP == true)
  }

  @Test func `noagp takes no notice of a bridge`() throws {
    let machine = try GARTMachine(topology: agpBridge(base: 0xd000_0000, size: 0xf30))
    let driver = try machine.primary { $0.ignoresAGP = true }
    #expect(driver.active?.window == 0xd000_0000..<0xd400_0000)
  }

  @Test func `a capability list that bites its tail ends`() throws {
    var bridge = PCI.ConfigurationSpace(vendorID: 0x1022, deviceID: 1, classCode: 0x06_0000)
    bridge.addCapability(.powerManagement, body: [0])
    bridge.store(0x0000_4001, at: 0x40)
    var topology = PCI.Topology()
    topology.add(bridge, device: 0, on: topology.addRootBus(0))
    let machine = try GARTMachine(topology: topology)
    #expect(try machine.primary().active?.sharesWithAGP == false)
  }

  // What a kernel before this one left

  @Test func `2 6 27 leaves a sound aperture on and clears an impossible one`() throws {
    let sound = try GARTMachine(control: 0x03, ramByteCount: 2 << 30)
    _ = try sound.primary()
    #expect(sound.registers(0x90) == [0x03])
    let impossible = try GARTMachine(control: 0x03, base: 0x7fff, ramByteCount: 2 << 30)
    _ = try impossible.primary()
    #expect(impossible.registers(0x90) == [0x02])
    let apart = try GARTMachine(nodeCount: 2, control: 0x03, ramByteCount: 2 << 30)
    apart.hardware.load(0x02, node: 1, at: 0x90)
    _ = try apart.primary()
    #expect(apart.registers(0x90) == [0x02, 0x02])
  }

  @Test func `2 6 27 takes RAM behind an inherited aperture out of use`() throws {
    let machine = try GARTMachine(control: 0x03, base: 0x10, ramByteCount: 2 << 30)
    let pages = PagePool(memory: machine.memory, map: machine.map)
    _ = try GARTDriver(pages: pages, map: machine.map, hardware: machine.hardware)
    #expect(!pages.take(PhysicalAddress(0x2000_0000)..<PhysicalAddress(0x2000_1000)))
    #expect(pages.take(PhysicalAddress(0x2400_0000)..<PhysicalAddress(0x2400_1000)))
  }

  @Test func `today a GART that is on is switched off, but not beside AGP`() throws {
    let machine = try GARTMachine(control: 0x43, ramByteCount: 2 << 30)
    _ = try machine.primary { $0.version = .linux7_0 }
    #expect(machine.registers(0x90) == [0x42])
    let shared = try GARTMachine(
      control: 0x43, topology: agpBridge(base: 0xd000_0000, size: 0xf30), ramByteCount: 2 << 30)
    let search = ApertureSearch(
      hardware: shared.hardware, map: shared.map, options: GARTOptions(version: .linux7_0),
      pages: PagePool(memory: shared.memory, map: shared.map))
    search.clearInheritedGART()
    #expect(shared.registers(0x90) == [0x43])
  }
}
