import IOMMUFormats
import Testing

@Suite struct TableSizeTests {
  struct Row: Sendable {
    var code: UInt8
    var byteCount: UInt64
    var entryCount: UInt64
    var coverage: UInt64
  }

  @Test(arguments: [
    Row(code: 0, byteCount: 0x1_0000, entryCount: 8_192, coverage: 33_554_432),
    Row(code: 1, byteCount: 0x2_0000, entryCount: 16_384, coverage: 67_108_864),
    Row(code: 2, byteCount: 0x4_0000, entryCount: 32_768, coverage: 134_217_728),
    Row(code: 3, byteCount: 0x8_0000, entryCount: 65_536, coverage: 268_435_456),
    Row(code: 4, byteCount: 0x10_0000, entryCount: 131_072, coverage: 536_870_912),
    Row(code: 5, byteCount: 0x20_0000, entryCount: 262_144, coverage: 1_073_741_824),
    Row(code: 6, byteCount: 0x40_0000, entryCount: 524_288, coverage: 2_147_483_648),
    Row(code: 7, byteCount: 0x80_0000, entryCount: 1_048_576, coverage: 4_294_967_296),
  ])
  func `a size code is a number of entries, bytes and addresses`(row: Row) throws {
    let size = try #require(Calgary.TableSize(rawValue: row.code))
    #expect(size.entryCount == row.entryCount)
    #expect(size.byteCount == row.byteCount)
    #expect(size.coverage == row.coverage)
  }

  @Test func `there are eight size codes`() {
    #expect(Calgary.TableSize.allCases.count == 8)
    #expect(Calgary.TableSize(rawValue: 8) == nil)
    #expect(Calgary.TableSize.kib64 < .mib8)
  }

  /// T27, and the table of confirmed numbers.
  static let chosen: [(end: UInt64, code: UInt8)] = [
    (0x4000_0000, 5), (0x8000_0000, 6), (0x8000_1000, 6), (0x8000_2000, 7), (0x1_9800_0000, 7),
    (0x1_0000_0000, 7), (0x2_0000_0000, 7), (0x4_0000_0000, 7), (0x800_0000, 2), (0x1000_0000, 3),
    (0x2000_0000, 4), (0x6000_0000, 6), (0xc000_0000, 7), (0, 7), (.max, 7),
  ]

  @Test(arguments: chosen)
  func `T27: Linux chooses by the end of RAM, divided by 8 KiB`(end: UInt64, code: UInt8) {
    #expect(Calgary.TableSize.chosenByLinux(endOfRAM: end).rawValue == code)
  }

  /// The rule in words: the least order of pages that holds `end >> 13` bytes.
  @Test(arguments: seeds)
  func `the choice is the smallest order that holds the bytes`(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    for _ in 0..<2000 {
      let end = UInt64.random(in: 0x2000...0x4_0000_0000, using: &generator)
      var order: UInt8 = 0
      while 4096 << UInt64(order) < end >> 13 { order += 1 }
      #expect(Calgary.TableSize.chosenByLinux(endOfRAM: end).rawValue == min(7, order), "\(end)")
    }
  }

  @Test func `the smallest table that covers a limit`() {
    #expect(Calgary.TableSize.smallest(covering: 0) == .kib64)
    #expect(Calgary.TableSize.smallest(covering: 0x200_0000) == .kib64)
    #expect(Calgary.TableSize.smallest(covering: 0x200_0001) == .kib128)
    #expect(Calgary.TableSize.smallest(covering: 0x900_0000) == .kib512)
    #expect(Calgary.TableSize.smallest(covering: 0x1_0000_0000) == .mib8)
    #expect(Calgary.TableSize.smallest(covering: 0x1_0000_0001) == nil)
  }
}
