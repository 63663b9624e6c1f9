import IOMMUFormats
import Testing

@Suite struct RegisterOffsetTests {
  @Test func `T23: the registers of the third host bridge`() {
    #expect(Calgary.RegisterOffset.tableAddress(2) == 0x590)
    #expect(Calgary.RegisterOffset.splitQueue(2) == 0x6870)
    #expect(Calgary.RegisterOffset.stuff(2) == 0x6020)
    #expect(Calgary.RegisterOffset.channelStatus(2) == 0xa110)
    #expect(Calgary.RegisterOffset.plssr(2) == 0xa120)
    #expect(Calgary.RegisterOffset.configuration(2) == 0xa160)
    #expect(Calgary.RegisterOffset.arbitration(2) == 0xa200)
  }

  @Test func `the windows of the first host bridge`() {
    #expect(Calgary.RegisterOffset.memory1Low(0) == 0x8190)
    #expect(Calgary.RegisterOffset.memory1High(0) == 0x81a0)
    #expect(Calgary.RegisterOffset.memory1Last(0) == 0x81c0)
    #expect(Calgary.RegisterOffset.memory2Low(0) == 0x82b0)
    #expect(Calgary.RegisterOffset.memory2High(0) == 0x82c0)
    #expect(Calgary.RegisterOffset.memory2LastHigh(0) == 0x82d0)
    #expect(Calgary.RegisterOffset.memory2LastLow(0) == 0x82e0)
  }

  @Test func `the table address registers follow each other`() {
    #expect(
      (0..<4).map { Calgary.RegisterOffset.tableAddress($0) } == [0x580, 0x588, 0x590, 0x598])
  }

  @Test func `the registers of the other units`() {
    #expect(GART.RegisterOffset.apertureControl == 0x90)
    #expect(GART.RegisterOffset.apertureBase == 0x94)
    #expect(GART.RegisterOffset.tableBase == 0x98)
    #expect(GART.RegisterOffset.cacheControl == 0x9c)
    #expect(VTd.RegisterOffset.capability == 0x008)
    #expect(VTd.RegisterOffset.extendedCapability == 0x010)
    #expect(VTd.RegisterOffset.globalCommand == 0x018)
    #expect(VTd.RegisterOffset.globalStatus == 0x01c)
    #expect(VTd.RegisterOffset.rootTableAddress == 0x020)
  }
}
