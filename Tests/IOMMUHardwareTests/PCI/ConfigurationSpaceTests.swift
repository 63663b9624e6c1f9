import IOMMUFormats
import IOMMUHardware
import Testing

@Suite struct ConfigurationSpaceTests {
  static let conventional = PCI.ConfigurationSpace(
    vendorID: 0x8086, deviceID: 0x2922, classCode: 0x01_0601, revision: 2)
  static let express = PCI.ConfigurationSpace(
    vendorID: 0x8086, deviceID: 0x1521, classCode: 0x02_0000, isExpress: true)

  @Test func `an endpoint's header has these bytes`() {
    let space = Self.conventional
    #expect(space.bytes.count == 256)
    #expect(
      space.bytes[0..<16] == [
        0x86, 0x80, 0x22, 0x29, 0x00, 0x00, 0x00, 0x00, 0x02, 0x01, 0x06, 0x01, 0x00, 0x00, 0x00,
        0x00,
      ])
    #expect(space.doubleword(at: 0) == 0x2922_8086)
    #expect(!space.isBridge)
    #expect(space.busNumbers == nil)
    #expect(Self.express.bytes.count == 4096)
  }

  @Test func `past the end there are ones`() {
    #expect(Self.conventional.doubleword(at: 252) == 0)
    for offset in [253, 256, 4096, -1, -4, .max, .min] {
      #expect(Self.conventional.doubleword(at: offset) == .max)
    }
    #expect(Self.conventional.byte(at: 256) == 0xff)
  }

  @Test func `a write over the bus changes the writable bits alone`() {
    var space = Self.conventional
    space.write(0xffff_ffff, at: 0x00)
    #expect(space.doubleword(at: 0x00) == 0x2922_8086)
    space.write(0xffff_ffff, at: 0x04)
    #expect(space.doubleword(at: 0x04) == 0x0000_0547)
    #expect(space.commandStatus.isBusMaster)
    space.write(0, at: 0x04)
    #expect(!space.commandStatus.isBusMaster)
    space.makeWritable(0x00f0_000f, at: 0x90)
    space.write(0xffff_ffff, at: 0x90)
    #expect(space.doubleword(at: 0x90) == 0x00f0_000f)
    // Not aligned, or past the end: vanishes.
    let before = space
    space.write(0, at: 0x92)
    space.write(0, at: 256)
    space.write(0, at: -4)
    #expect(space == before)
  }

  @Test func `capabilities are linked in the order they were added`() {
    var space = Self.conventional
    #expect(space.capabilityOffsets.isEmpty)
    let first = space.addCapability(.powerManagement, body: [0xc823_0000, 0])
    let second = space.addCapability(.msi, body: [0x0080_0000, 0, 0, 0])
    #expect(first == 0x40)
    #expect(second == 0x48)
    #expect(space.byte(at: 0x34) == 0x40)
    #expect(space.doubleword(at: 0x40) == 0xc823_4801)
    #expect(space.doubleword(at: 0x48) == 0x0080_0005)
    #expect(space.capabilityOffsets == [0x40, 0x48])
    #expect(space.offset(of: PCI.CapabilityID.msi) == 0x48)
    #expect(space.offset(of: PCI.CapabilityID.agp) == nil)
    #expect(space.commandStatus.hasCapabilities)
  }

  @Test func `extended capabilities start at 0x100`() {
    var space = Self.express
    #expect(space.extendedCapabilityOffsets.isEmpty)
    space.addExpressCapability(.endpoint)
    space.addExtendedCapability(.alternativeRoutingID, body: [0])
    space.addAddressTranslationServices(invalidateQueueDepth: 32)
    #expect(space.doubleword(at: 0x100) == 0x1081_000e)
    #expect(space.doubleword(at: 0x108) == 0x0001_000f)
    #expect(space.doubleword(at: 0x10c) == 0x0000_0020)
    #expect(space.extendedCapabilityOffsets == [0x100, 0x108])
    #expect(space.portType == .endpoint)
    #expect(space.addressTranslationServices?.isEnabled == false)
    space.write(0xffff_ffff, at: 0x10c)
    #expect(space.doubleword(at: 0x10c) == 0x801f_0020)
    #expect(space.addressTranslationServices?.isEnabled == true)
    #expect(Self.conventional.addressTranslationServices == nil)
  }

  @Test func `a list that goes in circles ends`() {
    var space = Self.express
    space.addCapability(.msi, body: [0])
    space.store(0x0000_4005, at: 0x40)
    #expect(space.capabilityOffsets == [0x40])
    space.store(0x0000_4405, at: 0x40)
    space.store(0x0000_4011, at: 0x44)
    #expect(space.capabilityOffsets == [0x40, 0x44])
    // Into the header, and to no multiple of four.
    space.store(0x0000_1011, at: 0x44)
    #expect(space.capabilityOffsets == [0x40, 0x44])
    space.store(0x1001_000f, at: 0x100)
    #expect(space.extendedCapabilityOffsets == [0x100])
    space.store(0xffff_ffff, at: 0x100)
    #expect(space.extendedCapabilityOffsets.isEmpty)
  }

  @Test(arguments: seeds)
  func `walks through random bytes end`(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    for _ in 0..<50 {
      var space = Self.express
      for offset in stride(from: 4, to: 4096, by: 4) {
        space.store(UInt32(truncatingIfNeeded: generator.next()), at: offset)
      }
      space.commandStatus.hasCapabilities = true
      #expect(space.capabilityOffsets.count <= 48)
      #expect(space.extendedCapabilityOffsets.count <= 960)
      _ = space.portType
      #expect(space.virtualFunctionOffsets.count <= 0xffff)
    }
  }

  @Test func `a store outside the space stops the program`() async {
    await #expect(processExitsWith: .failure) {
      var space = PCI.ConfigurationSpace(vendorID: 1, deviceID: 2, classCode: 0)
      space.store(0, at: 256)
    }
  }
}
