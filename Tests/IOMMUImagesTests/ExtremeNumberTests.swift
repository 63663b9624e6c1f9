import IOMMUFormats
import IOMMUTestSupport
import Testing

@testable import IOMMUImages

/// Every number of a container's headers in its turn is as small or as large as it can be: the dump is
/// refused, or read as far as it goes, and nothing traps.
@Suite struct ExtremeNumberTests {
  private static let words: [UInt64] = [
    0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 52, UInt64(Int64.max), 1 << 63,
    UInt64.max - 4095, .max - 1, .max,
  ]

  /// Tries each word at each multiple of four of the bytes.
  ///
  /// - Returns: How many of them were read all the same.
  private func tryAll(_ bytes: [UInt8], in places: Range<Int>, name: String) -> Int {
    let directory = TemporaryDirectory()
    var readCount = 0
    for place in stride(from: places.lowerBound, to: places.upperBound, by: 4) {
      for (width, words) in [(4, Self.words.prefix(5)), (8, Self.words.suffix(6))]
      where place % width == 0 && place + width <= bytes.count {
        for word in words {
          var changed = bytes
          changed.replaceSubrange(place..<place + width, with: TinyELF.little(word, width))
          let path = directory.file(name, changed)
          guard let image = try? MemoryImage(path: path) else { continue }
          readCount += 1
          _ = image.summary()
          _ = image.storedPageRanges
          for range in image.backedRanges.prefix(4) {
            _ = image.quadword(at: range.lowerBound)
            _ = image.bytes(at: range.lowerBound, count: 5000)
            _ = image.quadword(at: PhysicalAddress((range.upperBound.rawValue &- 8) & ~7))
          }
        }
      }
    }
    return readCount
  }

  @Test func `of an ELF core`() {
    let core = TinyELF([
      .note("VMCOREINFO", "PAGESIZE=4096\n"),
      .init(physical: 0x1000, data: [UInt8](repeating: 1, count: 4096)),
      .init(physical: 0x4000, data: [UInt8](repeating: 2, count: 4096), memorySize: 8192),
    ]).bytes
    #expect(tryAll(core, in: 0..<64 + 3 * 56 + 44, name: "core") > 100)
  }

  @Test func `of a kdump-compressed dump`() {
    var dump = TinyKdump()
    dump.vmcoreInfo = "PAGESIZE=4096\n"
    dump.excluded = [3]
    dump.pages = [
      .init(frame: 1, data: [UInt8](repeating: 1, count: 4096)),
      .init(frame: 4, data: [UInt8](repeating: 2, count: 4096)),
    ]
    let bytes = dump.bytes
    // The end of the header, the sub header, and the two descriptors.
    #expect(tryAll(bytes, in: 424..<448, name: "dump") > 10)
    #expect(tryAll(bytes, in: 4096..<4096 + 112, name: "dump") > 10)
    #expect(tryAll(bytes, in: 4 * 4096..<4 * 4096 + 48, name: "dump") > 10)
  }

  @Test func `of a flattened stream`() {
    let core = TinyELF([.init(physical: 0x1000, data: [UInt8](repeating: 1, count: 4096))]).bytes
    let records = [core[..<512], core[512...]].map { (Int64($0.startIndex), Array($0)) }
    let stream = TinyFlattened(records: records.map { (offset: $0.0, data: $0.1) }).bytes
    #expect(tryAll(stream, in: 4096..<4112, name: "stream") >= 0)
    #expect(tryAll(stream, in: 4096 + 16 + 512..<4096 + 32 + 512, name: "stream") > 0)
  }
}
