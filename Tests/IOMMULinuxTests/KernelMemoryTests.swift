import IOMMUFormats
import Testing

@testable import IOMMULinux

@Suite struct KernelMemoryTests {
  @Test func `numbers and strings go over the ends of pages`() throws {
    let kernel = TinyKernel()
    kernel.put(
      little(0x1122_3344_5566_7788, 8) + Array("name\0rest".utf8), at: TinyKernel.text + 0x5ffc)
    let memory = try kernel.reader()
    #expect(try memory.quadword(at: TinyKernel.text + 0x5ffc) == 0x1122_3344_5566_7788)
    #expect(try memory.doubleword(at: TinyKernel.text + 0x5ffe) == 0x3344_5566)
    #expect(try memory.unsigned(at: TinyKernel.text + 0x5fff, byteCount: 2) == 0x4455)
    #expect(try memory.string(at: TinyKernel.text + 0x6004) == "name")
    #expect(try memory.string(at: TinyKernel.text + 0x6004, limit: 2) == "na")
    #expect(memory.touchedPageCount == 2)
  }

  @Test func `a page that was left out is told with its place, and what stands before it is read`()
    throws
  {
    let kernel = TinyKernel()
    kernel.put(Array("0123456789".utf8), at: TinyKernel.text + 0x5ff8)
    let memory = try kernel.reader(without: [0x6000])
    let (bytes, error) = memory.prefix(at: TinyKernel.text + 0x5ff8, count: 10)
    #expect(bytes == Array("01234567".utf8))
    #expect(
      error
        == .absent(address: TinyKernel.text + 0x6000, physical: PhysicalAddress(0x6000), .absent))
    #expect(error?.isAbsence == true)
    #expect(
      readError { () throws(KernelReadError) in try memory.quadword(at: TinyKernel.text + 0x5ffc) }
        == error)
    #expect(
      readError { () throws(KernelReadError) in try memory.string(at: 0) } == .null)
  }

  @Test func `nothing is read past the last address, and nothing at addresses of programs`() throws
  {
    let memory = try TinyKernel().reader()
    #expect(memory.prefix(at: .max - 3, count: 16).bytes.isEmpty)
    #expect(memory.prefix(at: 0, count: 16).error == .unmapped(0))
    #expect(
      readError { () throws(KernelReadError) in try memory.quadword(at: 0x7fff_0000_1000) }
        == .unmapped(0x7fff_0000_1000))
  }
}
