import IOMMUFormats
import Testing

/// Entries of interrupt tables, X1 to X4, byte for byte, and messages, X5 to X11.
@Suite struct AMDViInterruptFormatTests {
  typealias A = AMDVi

  @Test func `X1 and X2: entries of 32 bits`() {
    let logical = A.InterruptEntry(vector: 0x31, destination: 0x0f, isLogical: true)
    #expect(logical.bytes == [0x41, 0x0f, 0x31, 0x00])
    #expect(logical.remaps && logical.isLogical && logical.typeCode == 0 && !logical.isGuest)
    let arbitrated = A.InterruptEntry(
      vector: 0x41, destination: 2, isLogical: false, isArbitrated: true)
    #expect(arbitrated.bytes == [0x05, 0x02, 0x41, 0x00])
    #expect(arbitrated.typeCode == 1 && arbitrated.destination == 2 && arbitrated.vector == 0x41)
    #expect(A.InterruptEntry(rawValue: 0x2).suppressesFaults)
    #expect(
      A.InterruptEntry(rawValue: 0x20).requestsEnd && A.InterruptEntry(rawValue: 0x80).isGuest)
    #expect(A.InterruptEntry.reservedMasks(OnlyVariant()).low == 0xff00_0000)
  }

  @Test func `X3: an entry of 128 bits with an x2APIC id`() {
    let entry = A.WideInterruptEntry(vector: 0x31, destination: 0x1234_5678, isLogical: false)
    #expect(entry.low == 0x3456_7801 && entry.high == 0x1200_0000_0000_0031)
    #expect(
      entry.bytes == [0x01, 0x78, 0x56, 0x34, 0, 0, 0, 0, 0x31, 0, 0, 0, 0, 0, 0, 0x12])
    #expect(entry.destination == 0x1234_5678 && entry.vector == 0x31 && !entry.isGuest)
  }

  @Test func `X4: an entry for a guest`() {
    let entry = A.WideInterruptEntry(
      guestVector: 0x55, page: PhysicalAddress(0x9abc_d000), tag: 0xcafe, destination: 3,
      isRunning: true, isLogged: true)
    #expect(
      entry.bytes == [
        0xc5, 0x03, 0, 0, 0xfe, 0xca, 0, 0, 0x55, 0xd0, 0xbc, 0x9a, 0, 0, 0, 0,
      ])
    #expect(entry.isGuest && entry.isRunning && entry.isLogged && entry.tag == 0xcafe)
    #expect(entry.page.rawValue == 0x9abc_d000 && entry.vector == 0x55 && entry.destination == 3)
  }

  @Test func `reserved bits depend on GuestMode, ignored ones on XTEn`() {
    func masks(_ isGuest: Bool, _ isExtended: Bool) -> [UInt64] {
      let masks = A.WideInterruptEntry.reservedMasks(
        .init(isGuest: isGuest, usesExtendedDestinations: isExtended))
      return [masks.low, masks.high]
    }
    #expect(masks(false, true) == [0xffff_ffff_0000_0000, 0x00ff_ffff_ffff_ff00])
    #expect(masks(false, false) == [0xffff_ffff_0000_0000, 0x00ff_ffff_ffff_ff00])
    #expect(masks(true, true) == [0x38, 0x00f0_0000_0000_0f00])
    #expect(masks(true, false) == [0x38, 0x00f0_0000_0000_0f00])
  }

  @Test(arguments: [
    (0x25, 0x25, A.InterruptDeliveryMode.fixed),
    (0x1ff, 0x1ff, .arbitrated),
    (0x7ff, 0x7ff, .external),
    (0x4041, 0x41, .fixed),
    (0x100, 0x100, .arbitrated),
    (0x200, 0x200, .systemManagement),
    (0x431, 0x431, .nonMaskable),
    (0x500, 0x500, .initialize),
  ])
  func `X5 to X11: the data has the index, and in it the delivery mode`(
    data: UInt32, index: Int, mode: A.InterruptDeliveryMode
  ) {
    let request = A.InterruptRequest(address: 0xfee0_0000, data: data)
    #expect(request.index == index && request.deliveryMode == mode && !request.isLogical)
  }

  @Test func `the address says where an interrupt goes that is not remapped`() {
    #expect(A.InterruptRequest(address: 0xfee0_1004, data: 0).isLogical)
    #expect(A.InterruptRequest(index: 0xffff) == .init(address: 0xfee0_0000, data: 0x7ff))
    #expect(A.isInterruptAddress(0xfee0_0000) && A.isInterruptAddress(0xfeef_ffff))
    #expect(!A.isInterruptAddress(0xfedf_ffff) && !A.isInterruptAddress(0xfef0_0000))
    #expect(!A.isInterruptAddress(0x1_fee0_0000))
  }
}
