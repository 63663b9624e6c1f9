import IOMMUFormats
import IOMMUImages
import IOMMUTestSupport
import Testing

@testable import IOMMUInspection

@Suite struct PieceLookTests {
  static func range(_ start: UInt64, _ end: UInt64) -> Range<PhysicalAddress> {
    PhysicalAddress(start)..<PhysicalAddress(end)
  }

  @Test func `ranges are cut at multiples of 256 KiB`() {
    let ranges = [
      Self.range(0x1000, 0x3000), Self.range(0xff_f000, 0x108_0010),
      Self.range(0x100_0000_0000, 0x100_0004_0000), Self.range(.max - 0xfff, .max),
    ]
    #expect(
      Array(MemoryPieces(ranges)) == [
        Self.range(0x1000, 0x3000),
        Self.range(0xff_f000, 0x100_0000), Self.range(0x100_0000, 0x104_0000),
        Self.range(0x104_0000, 0x108_0000), Self.range(0x108_0000, 0x108_0010),
        Self.range(0x100_0000_0000, 0x100_0004_0000), Self.range(.max - 0xfff, .max),
      ])
    #expect(Array(MemoryPieces([])).isEmpty)
  }

  @Test func `a signature that lies across two pieces is seen once`() throws {
    let memory = try FlatMemory(byteCount: 0x20_0000)
    // "DM" and "AR".
    memory.store(0x4d44_0000 as UInt32, at: PhysicalAddress(0xf_fffc))
    memory.store(0x0000_5241 as UInt32, at: PhysicalAddress(0x10_0000))
    let look = PieceLook()
    let places = MemoryPieces([Self.range(0, 0x20_0000)]).flatMap {
      look.sights(in: $0, of: memory).signatures.map(\.place.rawValue)
    }
    #expect(places == [0xf_fffe])
  }

  /// A TCE table and a signature across a cut among 3 MiB of pages that are no tables, in a file.
  @Test func `a search finds the same whatever the number of threads`() throws {
    var generator = SeededGenerator(seed: 5)
    let pages = (0..<8).map { _ in (0..<512).map { _ in generator.next() } }
    let zeros = [UInt64](repeating: 0, count: 512)
    var words = (0..<768).flatMap { $0 % 3 == 0 ? zeros : pages[$0 % 8] }
    for index in 0..<0x1_0000 / 8 { words[0x10_0000 / 8 + index] = 0 }
    for index in 32..<200 {
      words[0x10_0000 / 8 + index] = (0x10_0000 + UInt64(index) << 12 | 3).byteSwapped
    }
    var bytes = words.withUnsafeBytes { Array($0) }
    bytes.replaceSubrange(0x1f_fffe..<0x20_0002, with: Array("DMAR".utf8))
    let directory = TemporaryDirectory()
    let path = directory.file("image", TinyELF([.init(physical: 0, data: bytes)]).bytes)
    let image = try MemoryImage(path: path)
    let searches = [1, 2, 3, 8].map { TableSearch(in: image, threadCount: $0) }
    #expect(searches[0].candidates.contains { $0.address.rawValue == 0x10_0000 && $0.isCertain })
    for search in searches {
      #expect(search.candidates.map { "\($0)" } == searches[0].candidates.map { "\($0)" })
      #expect(search.byteCount == UInt64(bytes.count))
    }
  }
}
