import IOMMUFormats
import Testing

@Suite struct PageCountTests {
  struct Buffer: Sendable {
    var address: UInt64
    var byteCount: UInt64
    var pages: UInt64
  }

  @Test(
    "T31: a buffer takes every page it touches",
    arguments: [
      Buffer(address: 0x1234_5ff8, byteCount: 16, pages: 2),
      Buffer(address: 0x1234_5000, byteCount: 4096, pages: 1),
      Buffer(address: 0x1234_5001, byteCount: 4096, pages: 2),
    ])
  func covering(buffer: Buffer) {
    #expect(
      PageCount(coveringBytes: buffer.byteCount, atOffset: buffer.address)
        == PageCount(buffer.pages))
  }

  @Test func `nothing at offset 0 takes no page and nothing elsewhere takes one`() {
    #expect(PageCount(coveringBytes: 0) == PageCount(0))
    #expect(PageCount(coveringBytes: 0, atOffset: 1) == PageCount(1))
    #expect(PageCount(coveringBytes: 1, atOffset: 4095) == PageCount(1))
    #expect(PageCount(coveringBytes: 2, atOffset: 4095) == PageCount(2))
  }

  @Test func `a count that would overflow cannot be made`() {
    #expect(PageCount(coveringBytes: .max) == PageCount(0x10_0000_0000_0000))
    #expect(PageCount(coveringBytes: .max, atOffset: 1) == nil)
    #expect(PageCount(coveringBytes: .max - 4094, atOffset: 4095) == nil)
    #expect(PageCount(coveringBytes: .max - 4095, atOffset: 4095) == PageCount(0x10_0000_0000_0000))
  }

  @Test func `pages beyond the address space have no byte count`() {
    #expect(PageCount(32_768).byteCount == 134_217_728)
    #expect(PageCount(0xf_ffff_ffff_ffff).byteCount == 0xffff_ffff_ffff_f000)
    #expect(PageCount(0x10_0000_0000_0000).byteCount == nil)
  }

  @Test func `counts compare and print as numbers`() {
    #expect(PageCount(1) < PageCount(2))
    #expect("\(PageCount(32_768))" == "32768")
  }
}
