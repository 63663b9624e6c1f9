import IOMMUFormats
import IOMMUTestSupport
import IOMMUTesting
import IOMMUTranslation
import Testing

@Suite struct TableExpectationTests {
  typealias Builder = VTd.Tables<FlatMemory>

  /// Four pages at 0x1000 for 00:03.0, the third one read-only; as many bytes of memory.
  func tables(_ byteCount: UInt64 = 1 << 20) throws -> Builder {
    let tables = try VTd.Tables(in: try FlatMemory(byteCount: byteCount))
    try tables.map("00:03.0", at: IOVA(0x1000), physical(0x8000..<0xa000), .readWrite)
    try tables.map("00:03.0", at: IOVA(0x3000), physical(0xa000..<0xb000), .read)
    return tables
  }

  func physical(_ range: Range<UInt64>) -> Range<PhysicalAddress> {
    PhysicalAddress(range.lowerBound)..<PhysicalAddress(range.upperBound)
  }

  func mismatch(_ body: () throws(TableMismatch) -> Void) -> String {
    do {
      try body()
      return "none"
    } catch {
      return "\(error)"
    }
  }

  @Test func `tables that translate alike are the same wherever they lie`() throws {
    try requireSameMappings(tables(), tables())
    try requireSameMappings(tables(), tables(2 << 20))
    try requireSameBytes(tables(), tables())
  }

  @Test func `a permission is told by its field`() throws {
    let mine = try tables()
    try mine.remap("00:03.0", at: IOVA(0x3000), physical(0xa000..<0xb000), .readWrite)
    let expected = try tables(2 << 20)
    // The leaf table is the fourth page from the end: root, three tables above it.
    #expect(
      mismatch { () throws(TableMismatch) in try requireSameMappings(mine, expected) } == """
        00:03.0: IOVA 0x3000..<0x4000 leads to 0xa000 rw, expected: leads to 0xa000 r-
        SS-PTE [0x3] of 00:03.0 at 0xfb018, expected as at 0x1fb018 (Intel VT-d 9.8)
          W (bit 1) is 0x1, expected 0x0
          0x000000000000a003, expected 0x000000000000a001
        """)
  }

  @Test func `a page that is missing and one too many are told with their entries`() throws {
    let (mine, expected) = (try tables(), try tables())
    try mine.unmap("00:03.0", IOVA(0x2000)..<IOVA(0x3000))
    try mine.map("00:03.0", at: IOVA(0x9000), physical(0xb000..<0xc000), .readWrite)
    let text = mismatch { () throws(TableMismatch) in try requireSameMappings(mine, expected) }
    #expect(
      text.hasPrefix(
        "00:03.0: IOVA 0x2000..<0x3000 is not mapped, expected: leads to 0x9000 rw\n"
          + "SS-PTE [0x2] of 00:03.0 at 0xfb010 "))
    #expect(text.hasSuffix("\nand 1 more"))
  }

  @Test func `a device without a table has no entry to tell`() throws {
    let (mine, expected) = (try tables(), try tables())
    try expected.map("00:04.0", at: IOVA(0x1000), physical(0x8000..<0x9000), .readWrite)
    let text = mismatch { () throws(TableMismatch) in try requireSameMappings(mine, expected) }
    #expect(text.hasPrefix("00:04.0: "))
  }

  @Test func `the first byte that differs is told with the entry that it lies in`() throws {
    let (mine, expected) = (try tables(), try tables())
    // R of the leaf for 0x1000, and a byte in no table.
    mine.memory.write([0x02], at: PhysicalAddress(0xf_b008))
    #expect(
      mismatch { () throws(TableMismatch) in try requireSameBytes(mine, expected) } == """
        the byte at 0xfb008 is 0x02, expected 0x03
        SS-PTE of 00:03.0 for IOVA 0x1000 at 0xfb008 (Intel VT-d 9.8)
          R (bit 0) is 0x0, expected 0x1
          0x0000000000008002, expected 0x0000000000008003
        """)
    mine.memory.write([0x03], at: PhysicalAddress(0xf_b008))
    mine.memory.write([0x55], at: PhysicalAddress(0x4000))
    try requireSameBytes(mine, expected)
    #expect(
      mismatch { () throws(TableMismatch) in
        try requireSameBytes(mine, expected, in: [physical(0x4000..<0x5000)])
      } == "the byte at 0x4000 is 0x55, expected 0x00")
  }

  @Test func `memory that ends is not there`() throws {
    let (mine, expected) = (try tables(), try tables())
    let short = MachineInMemory(expected.machine, in: try FlatMemory(byteCount: 0x1000))
    #expect(
      mismatch { () throws(TableMismatch) in
        try requireSameBytes(short, mine, in: [physical(0x1000..<0x1001)])
      } == "the byte at 0x1000 is not there, expected 0x00")
    let text = mismatch { () throws(TableMismatch) in try requireSameMappings(short, mine) }
    #expect(text != "none", "nothing is the same as what nobody can see")
  }

  @Test func `a hexdump of the tables is a golden text`() throws {
    let golden = try tables().annotatedHexdump()
    #expect(golden.contains("000fb010  03 90 00 00 00 00 00 00  01 a0 00 00 00 00 00 00"))
    try requireSameHexdump(tables(), golden)
    let other = try tables()
    try other.unmap("00:03.0", IOVA(0x2000)..<IOVA(0x3000))
    let text = mismatch { () throws(TableMismatch) in try requireSameHexdump(other, golden) }
    #expect(text.contains("of the tables' hexdump is '000fb010  00 00 00 00 00 00 00 00  01 a0"))
  }

  @Test func `the page on testing shows what its code throws`() throws {
    let text = Repository.text("docs/testing.md")
    let code = try #require(text.split(separator: "```swift\n").dropFirst().first)
      .split(separator: "```")[0]
    let source = Repository.text("Tests/IOMMUTestingTests/TableExpectationTests.swift")
    for line in code.split(separator: "\n") {
      #expect(source.contains("\n      \(line)\n"), "\(line)")
    }
    let page = physical(0x8000..<0x9000)
    let mine = try VTd.Tables(in: FlatMemory(byteCount: 1 << 20))
    try mine.map("00:03.0", at: IOVA(0x1000), page, .readWrite)
    let (machine, memory) = (mine.machine, mine.memory)
    func example() throws {
      let expected = try VTd.Tables(in: FlatMemory(byteCount: 2 << 20))
      try expected.map("00:03.0", at: IOVA(0x1000), page, .read)
      try requireSameMappings(MachineInMemory(machine, in: memory), expected)
    }
    do {
      try example()
      Issue.record("the tables are not alike")
    } catch {
      #expect(text.contains("\n```\n\(error)\n```\n"), "\(error)")
    }
  }
}
