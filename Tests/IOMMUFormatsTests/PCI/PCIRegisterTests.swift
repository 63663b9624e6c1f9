import IOMMUFormats
import Testing

@Suite struct PCIRegisterTests {
  @Test func `the identity is vendor below device`() {
    // IBM Calgary: vendor 1014h, device 02a1h.
    let identity = PCI.Identity(rawValue: 0x02a1_1014)
    #expect(identity.vendorID == 0x1014)
    #expect(identity.deviceID == 0x02a1)
    #expect(!identity.isAbsent)
    #expect(PCI.Identity(vendorID: 0x1014, deviceID: 0x02a1) == identity)
    #expect(PCI.Identity(rawValue: 0xffff_ffff).isAbsent)
  }

  @Test func `bus mastering is bit 2 and the list of capabilities bit 20`() {
    var register = PCI.CommandStatus(rawValue: 0)
    register.isBusMaster = true
    #expect(register.rawValue == 0x0000_0004)
    register.hasCapabilities = true
    #expect(register.rawValue == 0x0010_0004)
  }

  @Test func `the class is the upper three bytes`() {
    let register = PCI.ClassRevision(rawValue: 0x0106_0102)
    #expect(register.classCode == 0x01_0601)
    #expect(register.revisionID == 2)
    #expect(PCI.ClassRevision(classCode: 0x01_0601, revision: 2) == register)
  }

  @Test func `the header type is the third byte, its top bit says multi-function`() {
    let register = PCI.HeaderType(rawValue: 0x0081_0010)
    #expect(register.layout == .bridge)
    #expect(register.isMultiFunction)
    #expect(PCI.HeaderType(rawValue: 0x0002_0000).layout == nil)
    #expect(PCI.HeaderType(layout: .bridge).rawValue == 0x0001_0000)
  }

  @Test func `a bridge passes on what lies between its secondary and subordinate bus`() {
    let register = PCI.BusNumbers(rawValue: 0x0005_0300)
    #expect(register.primary == 0)
    #expect(register.secondary == 3)
    #expect(register.subordinate == 5)
    #expect((0...7).filter { register.contains($0) } == [3, 4, 5])
    #expect(PCI.BusNumbers(primary: 0, secondary: 3, subordinate: 5) == register)
  }

  @Test func `a bridge without numbers passes nothing on`() {
    let register = PCI.BusNumbers(rawValue: 0x00ff_0000)
    #expect((UInt8.min...UInt8.max).filter { register.contains($0) }.isEmpty)
  }

  @Test func `the port type is bits 23 to 20 of the PCI Express capability`() {
    // QEMU's pcie-root-port: version 2, root port, slot implemented.
    let register = PCI.ExpressCapability(rawValue: 0x0142_0010)
    #expect(register.portType == .rootPort)
    #expect(PCI.ExpressCapability(portType: .expressToPCIBridge).rawValue == 0x0072_0010)
    #expect(PCI.ExpressCapability(rawValue: 0x00f2_0010).portType == nil)
  }

  @Test func `pointers to capabilities have no low bits`() {
    #expect(PCI.CapabilityHeader(rawValue: 0x0000_5305).next == 0x50)
    #expect(PCI.CapabilityHeader(rawValue: 0x0000_5305).id == .msi)
    #expect(PCI.ExtendedCapabilityHeader(rawValue: 0x1431_000f).next == 0x140)
    #expect(
      PCI.ExtendedCapabilityHeader(rawValue: 0x1431_000f).id == .addressTranslationServices)
  }

  @Test func `an invalidate queue depth of 0 means 32`() {
    #expect(PCI.AddressTranslationServices(rawValue: 0).invalidateQueueDepth == 32)
    #expect(PCI.AddressTranslationServices(rawValue: 1).invalidateQueueDepth == 1)
    #expect(PCI.AddressTranslationServices(rawValue: 31).invalidateQueueDepth == 31)
    let register = PCI.AddressTranslationServices(
      invalidateQueueDepth: 32, isPageAligned: true, supportsGlobalInvalidate: false)
    #expect(register.rawValue == 0x20)
    #expect(!register.isEnabled)
    #expect(PCI.AddressTranslationServices(rawValue: 0x8000_0020).isEnabled)
  }

  @Test func `virtual functions start at an offset and go on by a stride`() {
    let register = PCI.VirtualFunctionRouting(rawValue: 0x0002_0080)
    #expect(register.firstOffset == 0x80)
    #expect(register.stride == 2)
    #expect(PCI.VirtualFunctionRouting(firstOffset: 0x80, stride: 2) == register)
  }
}
