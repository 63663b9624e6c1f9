import IOMMUFormats
import Testing

@Suite struct AGPBridgeTests {
  @Test(arguments: [
    (0xf00 as UInt32, 3), (0xf20, 2), (0xf30, 1), (0x730, 1), (0xf38, 0), (0x738, 0), (0x000, 7),
    (0xfff, 0), (0xffff_0f30, 1),
  ])
  func `APSIZE is an order as Linux counts its bits`(value: UInt32, order: Int) {
    #expect(AGP.ApertureSize(rawValue: value).order == order)
  }

  @Test func `the base is a multiple of 4 MiB, type bits do not count`() {
    #expect(AGP.ApertureBase(rawValue: 0xf000_0008).address == 0xf000_0000)
    #expect(AGP.ApertureBase(rawValue: 0x1_f03f_ffff).address == 0x1_f000_0000)
  }
}
