import IOMMUFormats
import IOMMUImages
import Testing

/// The RAM that a dump lists; the ranges are those of a guest of 512 MiB with crashkernel=160M.
@Suite struct ListedRAMTests {
  let scratch = TemporaryDirectory()

  static let ram: [Range<UInt64>] = [
    0x1000..<0x9_f000, 0x10_0000..<0x1500_0000, 0x1f00_0000..<0x1ffc_d000,
  ]

  @Test func `program headers list RAM, and the hole of the capture kernel`() throws {
    let core = TinyELF(
      Self.ram.map { TinyELF.Load(physical: $0.lowerBound, memorySize: UInt64($0.count)) })
    let image = try MemoryImage(path: scratch.file("vmcore", core.bytes))
    let listed = try #require(image.listedRAM)
    #expect(listed.byteCount == 0x15f6_b000)
    #expect(listed.holes == [.physical(0x1500_0000..<0x1f00_0000)])
  }

  @Test func `the bitmap of a packed dump lists RAM with the pages that were left out`() throws {
    // Frames 1, 2 and 8192: 32 MiB less two pages lie between.
    var dump = TinyKdump()
    dump.frameCount = 8200
    dump.excluded = [1, 2]
    dump.pages = [TinyKdump.Page(frame: 8192, data: [UInt8](repeating: 7, count: 4096))]
    let image = try MemoryImage(path: scratch.file("kdump", dump.bytes))
    let listed = try #require(image.listedRAM)
    #expect(listed.byteCount == 3 * 4096)
    #expect(listed.holes == [.physical(0x3000..<0x200_0000)])
  }

  /// The second segment's bytes and the bitmap's end are missing.
  @Test func `what a dump has lost is RAM, and a list that is cut off is none`() throws {
    let core = TinyELF([
      .init(physical: 0x1000, data: [1, 2, 3]),
      .init(physical: 0x200_0000, data: [4, 5, 6, 7]),
      .init(physical: 0x400_0000, memorySize: 0x1000),
    ]).bytes
    let image = try MemoryImage(path: scratch.file("vmcore", Array(core.dropLast(4))))
    let listed = try #require(image.listedRAM)
    #expect(listed.byteCount == 0x1007)
    #expect(
      listed.holes == [.physical(0x1003..<0x200_0000), .physical(0x200_0004..<0x400_0000)])
    let headers = try MemoryImage(path: scratch.file("vmcore", Array(core[..<(64 + 2 * 56)])))
    #expect(headers.listedRAM == nil)
    var dump = TinyKdump()
    dump.frameCount = 8200
    dump.excluded = [1, 2, 8192]
    let bitmap = try MemoryImage(path: scratch.file("kdump", Array(dump.bytes[..<0x2080])))
    #expect(bitmap.listedRAM == nil)
  }

  @Test func `a hole below 16 MiB is none`() throws {
    let core = TinyELF([
      TinyELF.Load(physical: 0, memorySize: 0x1000),
      TinyELF.Load(physical: 0x100_0fff, memorySize: 0x1000),
    ])
    let image = try MemoryImage(path: scratch.file("vmcore", core.bytes))
    let listed = try #require(image.listedRAM)
    #expect(listed.byteCount == 0x2000)
    #expect(listed.holes.isEmpty)
  }

  @Test func `raw memory lists nothing`() throws {
    let image = try MemoryImage(path: scratch.file("raw", [UInt8](repeating: 1, count: 8192)))
    #expect(image.listedRAM == nil)
  }

  @Test func `one bitmap is of the pages in the file, and lists nothing`() throws {
    var dump = TinyKdump()
    dump.hasOneBitmap = true
    dump.frameCount = 32768
    dump.pages = [TinyKdump.Page(frame: 1, data: [UInt8](repeating: 7, count: 4096))]
    let image = try MemoryImage(path: scratch.file("kdump", dump.bytes))
    #expect(image.listedRAM == nil)
  }
}
