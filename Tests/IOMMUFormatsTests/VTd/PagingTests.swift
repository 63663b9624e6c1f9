import IOMMUFormats
import Testing

@Suite struct PagingTests {
  @Test(arguments: [(1, 12, 21), (2, 21, 30), (3, 30, 39), (4, 39, 48), (5, 48, 57)])
  func `a level adds nine bits of address`(level: Int, sizeLog2: Int, width: Int) {
    #expect(VTd.Paging.sizeLog2(level: level) == sizeLog2)
    #expect(VTd.Paging.addressWidth(levels: level) == width)
  }

  @Test(arguments: [(1, 0x145), (2, 0x1a2), (3, 0x0d1), (4, 0x68), (5, 0x134)])
  func `an address chooses one entry of each level`(level: Int, index: UInt64) {
    // 0x134, 0x068, 0x0d1, 0x1a2, 0x145 in nine bits each, then an offset of 0x678.
    #expect(VTd.Paging.index(of: 0xff34_3434_7454_5678, level: level) == index)
  }

  @Test(
    arguments: [
      (0xfedf_ffff, false), (0xfee0_0000, true), (0xfeef_ffff, true), (0xfef0_0000, false),
      (0, false),
      (0xfffe_e000_0000, false), (0x1_fee0_0000, false), (.max, false),
    ] as [(UInt64, Bool)])
  func `interrupt messages go to one MiB below 4 GiB`(address: UInt64, isInterrupt: Bool) {
    #expect(VTd.isInterruptAddress(address) == isInterrupt)
    #expect(VTd.interruptAddresses.contains(address) == isInterrupt)
  }
}
