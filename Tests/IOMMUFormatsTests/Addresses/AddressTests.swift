import IOMMUFormats
import Testing

@Suite struct AddressTests {
  @Test func `advancing past the last byte of the address space gives nothing`() {
    let last = PhysicalAddress(0xffff_ffff_ffff_ffff)
    #expect(last.advanced(byBytes: 0) == last)
    #expect(last.advanced(byBytes: 1) == nil)
    #expect(PhysicalAddress(1).advanced(byBytes: 0xffff_ffff_ffff_ffff) == nil)
    #expect(PhysicalAddress(0).advanced(byBytes: 0xffff_ffff_ffff_ffff) == last)
    #expect(
      PhysicalAddress(0xffff_ffff_ffff_f000).advanced(byBytes: 0xfff) == last)
  }

  @Test func `aligning down clears the bits below the alignment`() {
    #expect(IOVA(0x1234_5678).alignedDown(to: 4096) == IOVA(0x1234_5000))
    #expect(IOVA(0xffff_ffff_ffff_ffff).alignedDown(to: 0x20_0000) == IOVA(0xffff_ffff_ffe0_0000))
    #expect(IOVA(0x1234_5678).alignedDown(to: 1) == IOVA(0x1234_5678))
    #expect(IOVA(0x1fff).alignedDown(to: 1 << 63) == IOVA(0))
  }

  @Test func `an address is aligned when it is a multiple`() {
    #expect(PhysicalAddress(0).isAligned(to: 1 << 63))
    #expect(PhysicalAddress(0x20_0000).isAligned(to: 0x20_0000))
    #expect(!PhysicalAddress(0x20_1000).isAligned(to: 0x20_0000))
    #expect(!PhysicalAddress(1).isAligned(to: 2))
  }

  @Test func `page number and offset put together are the address`() {
    #expect(IOVA(0x00ab_c123).pageNumber == 0xabc)
    #expect(IOVA(0x00ab_c123).offsetInPage == 0x123)
    #expect(IOVA(0xffff_ffff_ffff_ffff).pageNumber == 0xf_ffff_ffff_ffff)
    #expect(IOVA(0xffff_ffff_ffff_ffff).offsetInPage == 0xfff)
  }

  @Test func `addresses compare as unsigned numbers`() {
    #expect(PhysicalAddress(0x7fff_ffff_ffff_ffff) < PhysicalAddress(0x8000_0000_0000_0000))
    #expect(!(PhysicalAddress(5) < PhysicalAddress(5)))
  }

  @Test func `addresses are written in hexadecimal without leading zeros`() {
    #expect("\(PhysicalAddress(0))" == "0x0")
    #expect("\(IOVA(0x1234_5678))" == "0x12345678")
    #expect(
      (PhysicalAddress(0x100_0000)..<PhysicalAddress(0x900_0000)).text == "0x1000000..<0x9000000")
  }

  @Test func `a range that would end past the address space cannot be made`() {
    let page = PhysicalAddress(0xffff_ffff_ffff_f000)
    #expect(Range(start: page, byteCount: 0x1000) == nil)
    #expect(Range(start: page, byteCount: 0xfff)?.byteCount == 0xfff)
    #expect(Range(start: page, byteCount: 0)?.isEmpty == true)
  }

  @Test func `a range keeps its numbers when taken as the other kind of address`() {
    let physical = PhysicalAddress(0x1000)..<PhysicalAddress(0x3000)
    #expect(physical.mapBounds(to: IOVA.self) == IOVA(0x1000)..<IOVA(0x3000))
  }

  @Test func `hexadecimal text is filled to its width and never cut`() {
    #expect(hexadecimal(0x1f) == "0x1f")
    #expect(hexadecimal(UInt8(5), digits: 2) == "05")
    #expect(hexadecimal(0x12345, digits: 4) == "12345")
    #expect(hexadecimal(UInt64.max, digits: 16) == "ffffffffffffffff")
    #expect(hexadecimal(0, digits: 0) == "0")
  }
}
