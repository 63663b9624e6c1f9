import IOMMUFormats
import IOMMUTranslation
import Testing

@Suite struct SecondStageMappingTests {
  static let root: UInt64 = 0x1_0000

  /// Pages that follow the root, as ``TableBuilder`` takes them; `count` of them at most.
  static func pages(_ count: UInt64 = .max) -> () -> PhysicalAddress? {
    var next = root
    return {
      guard next < root + min(count, 1 << 20) << 12 else { return nil }
      next += 4096
      return PhysicalAddress(next)
    }
  }

  static func format(_ levels: Int) -> VTd.SecondStageFormat {
    VTd.SecondStageFormat(levels: levels, limits: .permissive)
  }

  static func range(_ range: Range<UInt64>) -> Range<PhysicalAddress> {
    PhysicalAddress(range.lowerBound)..<PhysicalAddress(range.upperBound)
  }

  /// The words of both memories are the same.
  static func expectSame(_ left: FlatMemory, _ right: FlatMemory, _ comment: Comment) {
    let difference = stride(from: 0, to: left.ram.last!.upperBound.rawValue, by: 8).first {
      left.quadword(at: PhysicalAddress($0)) != right.quadword(at: PhysicalAddress($0))
    }
    #expect(difference == nil, comment)
  }

  // Within one last-level table, over its end, whole ones, one page, the last page of all.
  @Test(
    arguments: [
      0x100_0000..<0x120_0000, 0x100_3000..<0x100_5000, 0x11f_f000..<0x120_1000,
      0x3fdf_d000..<0x4060_2000, 0x1000..<0x2000, 0x7f_ffff_f000..<0x80_0000_0000,
    ] as [Range<UInt64>], 3...5)
  func `an identity map is what page by page makes of it`(range: Range<UInt64>, levels: Int) throws
  {
    let memory = try FlatMemory(byteCount: 1 << 20)
    let expected = try FlatMemory(byteCount: 1 << 20)
    try Self.format(levels).mapIdentity(
      Self.range(range), root: PhysicalAddress(Self.root), in: memory, allocateTable: Self.pages())
    var builder = TableBuilder(in: expected, root: Self.root, levels: levels)
    for page in stride(from: range.lowerBound, to: range.upperBound, by: 4096) {
      builder.set(page | 3, for: page, level: 1)
    }
    Self.expectSame(memory, expected, "\(range), \(levels) levels")
  }

  @Test(arguments: seeds)
  func `random maps over each other are what page by page makes of them`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    for levels in 3...5 {
      let memory = try FlatMemory(byteCount: 1 << 20)
      let expected = try FlatMemory(byteCount: 1 << 20)
      var builder = TableBuilder(in: expected, root: Self.root, levels: levels)
      let allocate = Self.pages()
      for _ in 0..<12 {
        let iova =
          0x7fff_0000_0000 % (1 << UInt64(12 + 9 * levels)) &+ (generator.next() % 2048) << 12
        let page = (generator.next() % (1 << 40)) << 12
        let count = generator.next() % 1200
        let permissions = Permissions(rawValue: UInt8(generator.next() % 4))
        try Self.format(levels).remap(
          Self.range(page..<page + count << 12), at: IOVA(iova), permissions,
          root: PhysicalAddress(Self.root), in: memory, allocateTable: allocate)
        for index in 0..<count {
          builder.set(
            (page + index << 12) | UInt64(permissions.rawValue), for: iova + index << 12, level: 1)
        }
      }
      Self.expectSame(memory, expected, "seed \(seed), \(levels) levels")
    }
  }

  @Test func `a large page and a damaged entry on the way give way to a table`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    memory.store(0x11_003, at: 0x1_0000)
    memory.store(0x12_003, at: 0x1_1000)
    // 2 MiB at 2 MiB, and a pointer with a reserved bit for the next two.
    memory.store(0x20_0083, at: 0x1_2008)
    memory.store(0x4000_0000_0001_5003, at: 0x1_2010)
    var next: UInt64 = 0x1_3000
    try Self.format(4).mapIdentity(
      Self.range(0x3f_f000..<0x40_1000), partly: .dropped, root: PhysicalAddress(Self.root),
      in: memory
    ) {
      defer { next += 4096 }
      return PhysicalAddress(next)
    }
    #expect(memory.quadword(at: PhysicalAddress(0x1_2008)) == 0x1_3003)
    #expect(memory.quadword(at: PhysicalAddress(0x1_3ff8)) == 0x3f_f003)
    #expect(memory.quadword(at: PhysicalAddress(0x1_2010)) == 0x1_4003)
    #expect(memory.quadword(at: PhysicalAddress(0x1_4000)) == 0x40_0003)
    #expect(memory.quadword(at: PhysicalAddress(0x1_3ff0)) == 0)
    #expect(next == 0x1_5000)
  }

  @Test func `a range that ends beyond the table is refused and nothing is stored`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    let range = Self.range(0x7f_ffff_f000..<0x80_0000_1000)
    #expect(
      throws: TableMappingError.beyondTable(
        IOVA(0x7f_ffff_f000)..<IOVA(0x80_0000_1000), reach: 0x80_0000_0000)
    ) {
      try Self.format(3).mapIdentity(
        range, root: PhysicalAddress(Self.root), in: memory, allocateTable: Self.pages())
    }
    #expect(
      throws: TableMappingError.beyondTable(
        IOVA(0xffff_ffff_ffff_f000)..<IOVA(.max), reach: 0x200_0000_0000_0000)
    ) {
      try Self.format(5).map(
        Self.range(0..<0x2000), at: IOVA(0xffff_ffff_ffff_f000), .read,
        root: PhysicalAddress(Self.root), in: memory, allocateTable: Self.pages())
    }
    Self.expectSame(memory, try FlatMemory(byteCount: 1 << 20), "nothing is stored")
  }

  @Test func `without a page for a table, what lies below is mapped`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    let expected = try FlatMemory(byteCount: 1 << 20)
    // Levels 3, 2 and 1 for the first 2 MiB, and none for the second.
    #expect(throws: TableMappingError.noPageForTable(IOVA(0x20_0000))) {
      try Self.format(4).mapIdentity(
        Self.range(0x1f_e000..<0x20_1000), root: PhysicalAddress(Self.root), in: memory,
        allocateTable: Self.pages(3))
    }
    var builder = TableBuilder(in: expected, root: Self.root, levels: 4)
    builder.set(0x1f_e003, for: 0x1f_e000, level: 1)
    builder.set(0x1f_f003, for: 0x1f_f000, level: 1)
    Self.expectSame(memory, expected, "the first two pages")
  }

  @Test func `a range of no pages stores nothing`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    try Self.format(3).mapIdentity(
      Self.range(0x1000..<0x1000), root: PhysicalAddress(Self.root), in: memory,
      allocateTable: { nil })
    Self.expectSame(memory, try FlatMemory(byteCount: 1 << 20), "no pages")
  }
}
