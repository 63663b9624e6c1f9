import IOMMUFormats
import IOMMUImages
import Testing

@testable import IOMMULinux

@Suite struct VMCoreInfoTests {
  @Test func `each kind of line has its own form of number`() {
    let info = VMCoreInfo(
      Array(
        """
        OSRELEASE=6.1.0-56-amd64
        PAGESIZE=4096
        SYMBOL(_stext)=ffffffff84000000
        NUMBER(phys_base)=167772160
        NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129
        NUMBER(VMALLOC_START)=0xffffce48c0000000
        OFFSET(prb_desc_ring.count_bits)=0
        SIZE(printk_info)=88
        LENGTH(printk_info_device)=48
        KERNELOFFSET=3000000
        NUMBER(wrong)=12x
        SYMBOL(wrong)=-1

        """.utf8))
    #expect(info.release == "6.1.0-56-amd64")
    #expect(info.pageByteCount == 4096)
    #expect(info.symbol("_stext") == 0xffff_ffff_8400_0000)
    #expect(info.number("phys_base") == 0xa00_0000)
    #expect(info.number("PAGE_BUDDY_MAPCOUNT_VALUE") == 0xffff_ffff_ffff_ff7f)
    #expect(info.number("VMALLOC_START") == 0xffff_ce48_c000_0000)
    #expect(info.offset("prb_desc_ring.count_bits") == 0)
    #expect(info.size("printk_info") == 88)
    #expect(info.length("printk_info_device") == 48)
    #expect(info.kernelOffset == 0x300_0000)
    #expect(info.number("wrong") == nil && info.symbol("wrong") == nil && info.size("none") == nil)
  }

  /// The header of the note is the one that stands before the text in every kernel.
  private static let note = hexBytes("0b000000 00010000 00000000") + Array("VMCOREINFO\0\0".utf8)
  private static let text = "OSRELEASE=6.1.0\nSYMBOL(_stext)=ffffffff81000000\n"

  @Test func `texts are found at the beginning of pages, and behind headers of notes`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    _ = memory.write(Array(Self.text.utf8), at: PhysicalAddress(0x4000))
    _ = memory.write(
      Self.note + Array(Self.text.replacing("81000000", with: "84000000").utf8),
      at: PhysicalAddress(0x9000))
    // The same once more, one that is not at the beginning of a page, and half a text.
    _ = memory.write(Self.note + Array(Self.text.utf8), at: PhysicalAddress(0xa000))
    _ = memory.write(Array("OSRELEASE=5\nSYMBOL(_stext)=1\n".utf8), at: PhysicalAddress(0xb100))
    _ = memory.write(Array("OSRELEASE=4\n".utf8), at: PhysicalAddress(0xc000))
    let search = VMCoreInfoSearch(in: memory)
    #expect(search.found.map(\.address.rawValue) == [0x4000, 0x9018])
    #expect(
      search.found.map { $0.info.symbol("_stext") } == [
        0xffff_ffff_8100_0000, 0xffff_ffff_8400_0000,
      ])
    #expect(search.pageCount == 256)
    let part = VMCoreInfoSearch(
      in: memory, ranges: [PhysicalAddress(0x8000)..<PhysicalAddress(0xa000)])
    #expect(part.found.map(\.address.rawValue) == [0x9018] && part.pageCount == 2)
  }

  @Test func `a text may be longer than a page, and ends at the end of memory`() throws {
    let memory = try FlatMemory(byteCount: 0x8000)
    let long = Self.text + String(repeating: "X=1\n", count: 2000) + "LAST=1\n"
    _ = memory.write(Array(long.utf8), at: PhysicalAddress(0x1000))
    _ = memory.write(Array("OSRELEASE=7\nSYMBOL(_stext)=2\nY=".utf8), at: PhysicalAddress(0x7000))
    _ = memory.write([UInt8](repeating: 0x41, count: 4000), at: PhysicalAddress(0x7060))
    let search = VMCoreInfoSearch(in: memory)
    #expect(search.found.map { $0.info["LAST"] } == ["1", nil])
    #expect(search.found.map(\.info.release) == ["6.1.0", "7"])
  }
}
