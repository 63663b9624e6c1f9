import Glibc
import IOMMUFormats
import Testing

@testable import IOMMUImages

/// Dumps of machines with 256 GiB: sparse files that the tests make.
@Suite(.serialized) struct VastImageTests {
  static let byteCount: UInt64 = 256 << 30
  static let pageCount = byteCount / 4096
  let scratch = TemporaryDirectory()

  /// A file of a length, holes but for the bytes given at their offsets.
  func sparse(_ name: String, byteCount: UInt64, _ parts: [(UInt64, [UInt8])]) -> String {
    let path = scratch.file(name, [])
    let descriptor = Glibc.open(path, O_WRONLY)
    ftruncate(descriptor, off_t(byteCount))
    for (offset, bytes) in parts { pwrite(descriptor, bytes, bytes.count, off_t(offset)) }
    close(descriptor)
    return path
  }

  /// Memory of this process that is not a file's, in bytes.
  var anonymousByteCount: UInt64 {
    let text = String(
      decoding: (try? InputFile(path: "/proc/self/status").contents(atMost: 1 << 16)) ?? [],
      as: UTF8.self)
    let line = text.split(separator: "\n").first { $0.hasPrefix("RssAnon:") } ?? ""
    return 1024 * (UInt64(line.filter { "0"..."9" ~= $0 }) ?? 0)
  }

  /// Opens a dump and reads two words of it; neither may take long or much memory.
  func open(_ path: String, _ words: [(UInt64, UInt64?)]) throws -> MemoryImage {
    let before = anonymousByteCount
    let clock = ContinuousClock()
    let start = clock.now
    let image = try MemoryImage(path: path)
    for (address, word) in words {
      #expect(image.quadword(at: PhysicalAddress(address)) == word)
    }
    let time = clock.now - start
    print("\(image.format) of 256 GiB: opened in \(time)")
    // Unoptimised code on a busy machine, and other tests' memory; measured are milliseconds.
    #expect(time < .seconds(10))
    #expect(anonymousByteCount < before + 128 << 20)
    return image
  }

  @Test func `a raw image of 256 GiB opens at once`() throws {
    let path = sparse(
      "raw", byteCount: Self.byteCount, [(Self.byteCount - 8, [1, 0, 0, 0, 0, 0, 0, 2])])
    let image = try open(path, [(0, 0), (Self.byteCount - 8, 0x0200_0000_0000_0001)])
    #expect(image.backedRanges == [.physical(0..<Self.byteCount)])
  }

  @Test func `an ELF core of 256 GiB opens at once`() throws {
    let header = TinyELF([
      .init(physical: 0x10_0000, memorySize: Self.byteCount, fileSize: Self.byteCount, offset: 4096)
    ]).bytes
    let end = 4096 + Self.byteCount
    let path = sparse("elf", byteCount: end, [(0, header), (end - 8, [7, 0, 0, 0, 0, 0, 0, 0])])
    _ = try open(path, [(0x10_0000, 0), (0x10_0000 + Self.byteCount - 8, 7), (0, nil)])
  }

  /// All pages are dumped, and only the last one's descriptor was written.
  @Test func `a kdump-compressed dump of 256 GiB opens at once`() throws {
    let bitmap = Self.pageCount / 8
    let blocks = 2 * bitmap / 4096
    var small = TinyKdump(pages: [.init(frame: 1, data: [])])
    small.frameCount = Self.pageCount
    var header = Array(small.bytes[..<8192])
    header.replaceSubrange(436..<440, with: TinyKdump.little(blocks, 4))
    let table = 8192 + 2 * bitmap
    let data = table + 24 * Self.pageCount
    let path = sparse(
      "kdump", byteCount: data + 4096,
      [
        (0, header), (8192, [UInt8](repeating: 0xff, count: Int(2 * bitmap))),
        (data - 24, TinyKdump.little(data, 8) + TinyKdump.little(4096, 4)),
        (data, PackedPage.plain),
      ])
    let image = try open(path, [(Self.byteCount - 4096, PackedPage.quadword)])
    let last = Self.byteCount - 4096
    #expect(image.backedRanges == [.physical(last..<Self.byteCount)])
    #expect(image.storedRanges == image.backedRanges)
    #expect(image.presence(of: PhysicalAddress(0)) == .cutOff)
    #expect(image.incompleteness.first?.missingByteCount == last)
    // The block of 4 KiB that holds the descriptor has room for 170 and a part.
    #expect(image.storedPageCount == 171)
  }

  @Test func `holes of a raw file and of a PT_LOAD are not stored`() throws {
    let end = Self.byteCount - 4096
    let raw = try MemoryImage(
      path: sparse("raw", byteCount: Self.byteCount, [(1 << 30, [1]), (end, [2])]))
    #expect(
      raw.storedRanges == [
        .physical(1 << 30..<1 << 30 + 4096), .physical(end..<Self.byteCount),
      ])
    #expect(raw.storedPageCount == 2)
    #expect(raw.summary().storedByteCount == 2 * 4096)
    #expect(raw.summary().zeroByteCount == Self.byteCount - 2 * 4096)
    let header = TinyELF([
      .init(physical: 0x10_0000, memorySize: 1 << 60, fileSize: Self.byteCount, offset: 4096)
    ]).bytes
    let core = try MemoryImage(
      path: sparse("elf", byteCount: 4096 + Self.byteCount, [(0, header), (4096 + end, [7])]))
    #expect(core.storedRanges == [.physical(0x10_0000 + end..<0x10_0000 + Self.byteCount)])
    #expect(core.backedRanges == [.physical(0x10_0000..<0x10_0000 + 1 << 60)])
    #expect(core.storedPageCount == 1)
  }

  @Test func `a sparse file of 64 GiB is converted without its holes`() throws {
    let path = sparse("raw", byteCount: 64 << 30, [(1 << 30, [1])])
    let image = try MemoryImage(path: path)
    let report = try ImageConverter.write(image, to: scratch.path("elf"), as: .elf)
    #expect(report.byteCount == 4096)
    #expect(report.fileByteCount == 8192)
    let elf = try MemoryImage(path: scratch.path("elf"))
    #expect(elf.backedRanges == [.physical(0..<64 << 30)])
    #expect(elf.quadword(at: PhysicalAddress(1 << 30)) == 1)
    let raw = try ImageConverter.write(elf, to: scratch.path("raw2"), as: .raw)
    #expect(raw.byteCount == 4096)
    #expect(raw.fileByteCount == 64 << 30)
    #expect(try MemoryImage(path: scratch.path("raw2")).storedPageCount == 1)
  }

  /// 2^40 frames, the most that are read, take 256 GiB of bitmaps; all but one are holes.
  @Test func `a bitmap of holes costs nothing`() throws {
    let frames: UInt64 = 1 << 40
    let bitmap = frames / 8
    var small = TinyKdump(pages: [.init(frame: 1, data: [])])
    small.frameCount = frames
    // Blocks of 64 KiB: their number has 32 bits.
    small.block = 65_536
    var header = Array(small.bytes[..<(2 * 65_536)])
    header.replaceSubrange(436..<440, with: TinyKdump.little(2 * bitmap / 65_536, 4))
    let start: UInt64 = 2 * 65_536
    let table = start + 2 * bitmap
    let path = sparse(
      "holes", byteCount: table + 24 + 65_536,
      [
        (0, header), (start + 2 * bitmap - 1, [0x80]),
        (table, TinyKdump.little(table + 24, 8) + TinyKdump.little(65_536, 4)),
        (table + 24, PackedPage.plain),
      ])
    let last = (frames - 1) << 16
    let image = try open(path, [(last, PackedPage.quadword), (0, nil)])
    #expect(image.backedRanges == [.physical(last..<last + 65_536)])
  }
}
