import IOMMUFormats
import Testing

@testable import IOMMUTranslation

/// Tables whose entries say of which level the next table is, as AMD-Vi's do: bits 11:9 are the next
/// level, 0 for a page of the level's own size, 7 for a larger one whose size the address tells.
/// Bits 0 and 1 stand for read and write.
private struct SkippingFormat: TableFormat {
  typealias Entry = VTd.SecondStageEntry
  let levels: Int

  func entryCount(level _: Int) -> UInt64 { 512 }
  func sizeLog2(level: Int) -> Int { 3 + 9 * level }
  func index(of address: UInt64, level: Int) -> UInt64 {
    address >> UInt64(sizeLog2(level: level)) & 511
  }
  func permissions(of entry: Entry, level _: Int) -> Permissions { entry.permissions }
  func variant(of _: Entry, level: Int) -> Entry.Variant {
    Entry.Variant(level: min(level, 5), isLeaf: false, limits: .permissive)
  }

  func kind(of entry: Entry, level: Int) -> EntryKind {
    guard !entry.permissions.isEmpty else { return .empty }
    let next = Int(entry.rawValue >> 9 & 7)
    switch next {
    case 0: return .page(entry.address, sizeLog2: sizeLog2(level: level))
    case 7:
      // The lowest address bit that is clear, counted from bit 12, tells the size.
      let bits = entry.address.rawValue >> 12
      let sizeLog2 = 13 + (~bits).trailingZeroBitCount
      return .page(
        entry.address.alignedDown(to: 1 << UInt64(sizeLog2)), sizeLog2: sizeLog2,
        spanLog2: self.sizeLog2(level: level))
    default: return .table(entry.address, level: next)
    }
  }
}

@Suite struct SkippingFormatTests {
  /// 4 levels: entry 0 of the root leads to a table of level 1, entry 1 to one of level 2, entry 2 to
  /// one of its own level.
  ///
  ///   root[0] -> 0x2000 level 1: [0x10] page 0x50000; [8...15] one page of 32 KiB at 0x68000
  ///   root[1] -> 0x3000 level 2: [3] page of 2 MiB at 0x600000
  private func tables() throws -> FlatMemory {
    let memory = try FlatMemory(byteCount: 0x1_0000)
    memory.store(0x2000 | 1 << 9 | 3, at: 0x1000)
    memory.store(0x3000 | 2 << 9 | 3, at: 0x1008)
    memory.store(0x4000 | 4 << 9 | 3, at: 0x1010)
    memory.store(0x5_0003, at: 0x2080)
    for index: UInt64 in 8..<16 { memory.store(0x6_b000 | 7 << 9 | 1, at: 0x2000 + index * 8) }
    memory.store(0x60_0003, at: 0x3018)
    return memory
  }

  private let format = SkippingFormat(levels: 4)

  private static let walks: [(address: UInt64, end: Walk.End, level: Int, page: UInt64)] = [
    (0x1_0123, .page, 1, 0x5_0000),
    // A bit of address that the pointer to level 1 leaves out.
    (0x21_0123, .skippedBits, 4, 0),
    (0x40_0001_0123, .skippedBits, 4, 0),
    (0x80_0060_0000, .page, 2, 0x60_0000),
    (0x80_4060_0000, .skippedBits, 4, 0),
    // A pointer that does not lead down.
    (0x100_0000_0000, .malformed, 4, 0),
    // Eight entries in a row name one page.
    (0x8123, .page, 1, 0x6_8000), (0xf123, .page, 1, 0x6_8000),
  ]

  @Test(arguments: walks)
  func `a walk takes the level that an entry names`(
    address: UInt64, end: Walk.End, level: Int, page: UInt64
  ) throws {
    var observer = Unobserved()
    let walk = format.walk(
      address, from: PhysicalAddress(0x1000), in: try tables(), observer: &observer)
    #expect(walk.end == end)
    #expect(walk.level == level)
    #expect(walk.page == PhysicalAddress(page))
  }

  @Test func `a tour tells each address once, whatever the size of its page`() throws {
    struct Leaves: TableVisitor {
      var texts: [String] = []
      mutating func leaf(_ leaf: Leaf) {
        texts.append(
          "\(hexadecimal(leaf.address)) 2^\(leaf.sizeLog2) -> \(leaf.page) \(leaf.permissions)")
      }
      mutating func obstacle(_ obstacle: Obstacle) {
        texts.append(
          "\(obstacle.cause) \(hexadecimal(obstacle.address))+\(hexadecimal(obstacle.byteCount))")
      }
    }
    var leaves = Leaves()
    var budget = EnumerationBudget(remainingTables: 100)
    try format.forEachEntry(
      from: PhysicalAddress(0x1000), in: try tables(), budget: &budget, visitor: &leaves)
    #expect(
      leaves.texts == [
        "0x8000 2^12 -> 0x68000 r-", "0x9000 2^12 -> 0x69000 r-", "0xa000 2^12 -> 0x6a000 r-",
        "0xb000 2^12 -> 0x6b000 r-", "0xc000 2^12 -> 0x6c000 r-", "0xd000 2^12 -> 0x6d000 r-",
        "0xe000 2^12 -> 0x6e000 r-", "0xf000 2^12 -> 0x6f000 r-", "0x10000 2^12 -> 0x50000 rw",
        "0x8000600000 2^21 -> 0x600000 rw", "malformed 0x10000000000+0x8000000000",
      ])
  }
}
