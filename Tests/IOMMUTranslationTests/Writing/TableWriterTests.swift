import IOMMUFormats
import IOMMUTranslation
import Testing

/// What holds of every format that tables are written in.
@Suite struct TableWriterTests {
  static let formats: [any WritableTableFormat] =
    (3...5).map { VTd.SecondStageFormat(levels: $0, limits: .permissive) }
    + (4...5).map { VTd.FirstStageFormat(levels: $0, limits: .permissive) }
    + (2...6).map { AMDVi.HostFormat(levels: $0) }
    + (4...5).map { AMDVi.GuestFormat(levels: $0) }
    + [
      VTd.SecondStageFormat(
        levels: 4, limits: .unit(widths: 0b00100, pages2MiB: false, pages1GiB: true)),
      Calgary.TCEFormat(size: .kib128), GART.GATTFormat(apertureByteCount: 64 << 20),
      GART.GATTFormat(
        apertureByteCount: 32 << 20,
        clearedEntry: GART.GATTEntry(page: PhysicalAddress(0x7ab_c000))),
    ]

  static let root: UInt64 = 0x40_0000

  /// Memory with an empty root, and pages for more.
  static func tables<Format: WritableTableFormat>(
    of format: Format
  ) throws -> (FlatMemory, TestPages) {
    let memory = try FlatMemory(byteCount: 8 << 20)
    for index in 0..<format.entryCount(level: format.levels)
    where format.clearedEntry.low != 0 {
      format.clearedEntry.store(
        to: memory,
        at: PhysicalAddress(Self.root + index * UInt64(Format.Entry.byteCount)))
    }
    return (memory, TestPages(in: memory, 0x10_0000..<0x30_0000))
  }

  /// Nothing that a walk of a cleared entry finds is a mapping.
  static func page<Format: WritableTableFormat>(
    _ number: UInt64, _ format: Format, _ memory: FlatMemory
  ) -> MappingModel.Page? {
    let found = format.page(of: number, from: PhysicalAddress(root), in: memory)
    if let found, format.levels == 1, format.clearedEntry.low != 0,
      found.target == 0x7ab_c000
    {
      return nil
    }
    return found
  }

  @Test(arguments: formats.indices)
  func `every page size and permission is mapped as it was asked for`(index: Int) throws {
    func check<Format: WritableTableFormat>(_ format: Format) throws {
      for size in 12...min(52, format.largestPageSizeLog2)
      where format.hasPages(ofSizeLog2: size) && format.level(ofPageSizeLog2: size) <= format.levels
        && (format.addresses[0].upperBound >> 1) >> UInt64(size) > 0
      {
        for permissions: Permissions in [.read, .write, .readWrite]
        where format.expresses(permissions) {
          let (memory, pages) = try Self.tables(of: format)
          let byteCount: UInt64 = 1 << UInt64(size)
          let target = min(format.physicalLimit, 1 << 52) - byteCount
          let iova = IOVA(byteCount)
          try format.map(
            physical(target..<(target + byteCount)), at: iova, permissions,
            sizes: .upTo(log2: size), root: PhysicalAddress(Self.root), in: memory,
            release: pages.release, allocateTable: pages.allocate)
          for offset in [0, byteCount / 2, byteCount - 4096] {
            var observer = Unobserved()
            let walk = format.walk(
              iova.rawValue + offset, from: PhysicalAddress(Self.root), in: memory,
              observer: &observer)
            #expect(walk.end == .page, "\(format), 2^\(size)")
            #expect(walk.sizeLog2 == size)
            #expect(walk.page == PhysicalAddress(target))
            #expect(walk.permissions.intersection(.readWrite) == permissions)
          }
          #expect(pages.inUse.count == format.levels - format.level(ofPageSizeLog2: size))
          try format.unmap(
            iova..<IOVA(iova.rawValue + byteCount), root: PhysicalAddress(Self.root), in: memory,
            release: pages.release)
          #expect(pages.inUse.isEmpty, "no table is left")
          #expect(Self.page(iova.pageNumber, format, memory) == nil)
        }
      }
    }
    try check(Self.formats[index])
  }

  @Test(arguments: formats.indices, seeds)
  func `random changes are what a dictionary says`(index: Int, seed: UInt64) throws {
    func check<Format: WritableTableFormat>(_ format: Format) throws {
      var generator = SeededGenerator(seed: seed)
      let (memory, pages) = try Self.tables(of: format)
      let root = PhysicalAddress(Self.root)
      var model = MappingModel()
      // Over the end of a table of 1 GiB and, of signed addresses, in the upper half.
      let half = format.addresses.last!
      let window: UInt64 = 6 << 20
      let base =
        format.levels == 1
        ? 0
        : format.addresses.count > 1
          ? half.lowerBound : min((1 << 30) - (2 << 20), format.reach - window)
      let pageCount = window >> 12
      for step in 0..<20 {
        let count = min(
          pageCount, [1, 1 + generator.next() % 40, 512, 1024].randomElement(using: &generator)!)
        let first =
          (generator.next() % (pageCount - count + 1)) & (generator.next() % 2 == 0 ? ~0 : ~511)
        let iova = IOVA(base &+ first << 12)
        // As often as not congruent to the IOVA, so that large pages are possible.
        var target = (generator.next() % (min(format.physicalLimit, 1 << 46) >> 23)) << 23
        target += first << 12
        if generator.next() % 2 == 0 { target &+= 0x3000 }
        target = min(target, format.physicalLimit - count << 12)
        let range = physical(target..<(target + count << 12))
        let permissions: [Permissions] = [.read, .write, .readWrite].filter(format.expresses)
        let permission = permissions.randomElement(using: &generator)!
        let sizes: PageSizes = [.smallest, .largest, .largest.keepingTables].randomElement(
          using: &generator)!
        switch generator.next() % 4 {
        case 0:
          let end = IOVA(iova.rawValue + count << 12)
          try format.unmap(
            iova..<end, root: root, in: memory, release: pages.release,
            allocateTable: pages.allocate)
          model.unmap(iova..<end)
        case 1 where model.isFree(iova.pageNumber, count):
          try format.map(
            range, at: iova, permission, sizes: sizes, root: root, in: memory,
            release: pages.release, allocateTable: pages.allocate)
          model.map(range, at: iova, permission)
        case 1:
          #expect(throws: TableMappingError.self) {
            try format.map(
              range, at: iova, permission, sizes: sizes, root: root, in: memory,
              release: pages.release, allocateTable: pages.allocate)
          }
        default:
          try format.remap(
            range, at: iova, permission, sizes: sizes, root: root, in: memory,
            release: pages.release, allocateTable: pages.allocate)
          model.map(range, at: iova, permission)
        }
        let wrong = (0..<pageCount).first {
          let number = base >> 12 + $0
          return Self.page(number, format, memory) != model.pages[number]
        }
        #expect(
          wrong == nil,
          "seed \(seed), \(format), step \(step), page \(wrong.map { String($0) } ?? "")")
        if wrong != nil { return }
      }
      try format.unmap(
        IOVA(base)..<IOVA(base &+ window), root: root, in: memory, release: pages.release,
        allocateTable: pages.allocate)
      #expect(pages.inUse.isEmpty, "seed \(seed): every table is given back")
    }
    try check(Self.formats[index])
  }

  // MARK: Larger pages in part

  static let secondStage = VTd.SecondStageFormat(levels: 4, limits: .permissive)

  /// A 1 GiB page at 1 GiB, to itself.
  static func gibibyte() throws -> (FlatMemory, TestPages) {
    let (memory, pages) = try tables(of: secondStage)
    try secondStage.map(
      physical(0x4000_0000..<0x8000_0000), at: IOVA(0x4000_0000), .read,
      attributes: [.snooped, .memoryType(6)], sizes: .largest, root: PhysicalAddress(root),
      in: memory, release: pages.release, allocateTable: pages.allocate)
    #expect(memory.quadword(at: PhysicalAddress(0x10_0008)) == 0x4000_08b1)
    return (memory, pages)
  }

  @Test func `a larger page is split down to the pages that change, with all that it says`() throws
  {
    let (memory, pages) = try Self.gibibyte()
    try Self.secondStage.unmap(
      iovas(0x4020_1000..<0x4020_2000), root: PhysicalAddress(Self.root), in: memory,
      release: pages.release, allocateTable: pages.allocate)
    // SS-PDPE → table 0x101000 of 2 MiB pages, whose second is table 0x102000 of 4 KiB pages.
    #expect(memory.quadword(at: PhysicalAddress(0x10_0008)) == 0x10_1003)
    #expect(memory.quadword(at: PhysicalAddress(0x10_1000)) == 0x4000_08b1)
    #expect(memory.quadword(at: PhysicalAddress(0x10_1008)) == 0x10_2003)
    #expect(memory.quadword(at: PhysicalAddress(0x10_1ff8)) == 0x7fe0_08b1)
    #expect(memory.quadword(at: PhysicalAddress(0x10_2000)) == 0x4020_0831)
    #expect(memory.quadword(at: PhysicalAddress(0x10_2008)) == 0)
    #expect(memory.quadword(at: PhysicalAddress(0x10_2ff8)) == 0x403f_f831)
  }

  @Test func `a part of a larger page is refused, or takes all of it along, as one likes`() throws {
    let (memory, pages) = try Self.gibibyte()
    let part = iovas(0x4020_1000..<0x4020_2000)
    #expect(throws: TableMappingError.partOfLargerPage(IOVA(0x4020_1000), sizeLog2: 30)) {
      try Self.secondStage.unmap(
        part, partly: .refused, root: PhysicalAddress(Self.root), in: memory)
    }
    #expect(throws: TableMappingError.partOfLargerPage(IOVA(0x4000_0000), sizeLog2: 30)) {
      try Self.secondStage.remap(
        physical(0x1000..<0x2000), at: IOVA(0x4000_0000), .read, partly: .refused,
        root: PhysicalAddress(Self.root), in: memory, allocateTable: pages.allocate)
    }
    #expect(memory.quadword(at: PhysicalAddress(0x10_0008)) == 0x4000_08b1, "nothing was stored")
    #expect(throws: TableMappingError.noPageForTable(IOVA(0x4020_1000))) {
      try Self.secondStage.unmap(part, root: PhysicalAddress(Self.root), in: memory)
    }
    #expect(memory.quadword(at: PhysicalAddress(0x10_0008)) == 0x4000_08b1, "nothing was stored")
    try Self.secondStage.unmap(
      part, partly: .dropped, root: PhysicalAddress(Self.root), in: memory, release: pages.release)
    #expect(memory.quadword(at: PhysicalAddress(0x40_0000)) == 0)
    #expect(pages.inUse.isEmpty)
  }

  @Test func `an AMD-Vi page over several entries is split into one for each, then into a table`()
    throws
  {
    let format = AMDVi.HostFormat(levels: 2)
    let (memory, pages) = try Self.tables(of: format)
    // 64 KiB at 64 KiB: sixteen entries with the size in the address.
    try format.map(
      physical(0x5_0000..<0x6_0000), at: IOVA(0x1_0000), .readWrite, sizes: .largest,
      root: PhysicalAddress(Self.root), in: memory, allocateTable: pages.allocate)
    #expect(memory.quadword(at: PhysicalAddress(0x10_0080)) == 0x7000_0000_0005_7e01)
    #expect(memory.quadword(at: PhysicalAddress(0x10_00f8)) == 0x7000_0000_0005_7e01)
    try format.remap(
      physical(0x9000..<0xa000), at: IOVA(0x1_3000), .read, root: PhysicalAddress(Self.root),
      in: memory, allocateTable: pages.allocate)
    #expect(memory.quadword(at: PhysicalAddress(0x10_0080)) == 0x7000_0000_0005_0001)
    #expect(memory.quadword(at: PhysicalAddress(0x10_0098)) == 0x3000_0000_0000_9001)
    #expect(memory.quadword(at: PhysicalAddress(0x10_00f8)) == 0x7000_0000_0005_f001)
    // 4 MiB at 4 MiB, two entries of level 2; a hole in the second.
    try format.map(
      physical(0x80_0000..<0xc0_0000), at: IOVA(0x40_0000), .readWrite, sizes: .largest,
      root: PhysicalAddress(Self.root), in: memory, allocateTable: pages.allocate)
    #expect(memory.quadword(at: PhysicalAddress(0x40_0010)) == 0x7000_0000_009f_fe01)
    try format.unmap(
      iovas(0x60_0000..<0x60_1000), root: PhysicalAddress(Self.root), in: memory,
      allocateTable: pages.allocate)
    #expect(memory.quadword(at: PhysicalAddress(0x40_0010)) == 0x7000_0000_0080_0001)
    #expect(memory.quadword(at: PhysicalAddress(0x40_0018)) == 0x6000_0000_0010_1201)
    #expect(memory.quadword(at: PhysicalAddress(0x10_1000)) == 0)
    #expect(memory.quadword(at: PhysicalAddress(0x10_1008)) == 0x7000_0000_00a0_1001)
  }

  @Test func `a unit with 1 GiB pages and no 2 MiB pages splits into tables of 4 KiB pages`() throws
  {
    let format = VTd.SecondStageFormat(
      levels: 3, limits: .unit(pages2MiB: false, pages1GiB: true))
    let (memory, _) = try Self.tables(of: format)
    let pages = TestPages(in: memory, 0x50_0000..<0x80_0000)
    try format.map(
      physical(0x4000_0000..<0x8000_0000), at: IOVA(0), .readWrite, sizes: .largest,
      root: PhysicalAddress(Self.root), in: memory, allocateTable: pages.allocate)
    try format.unmap(
      iovas(0x3fff_f000..<0x4000_0000), root: PhysicalAddress(Self.root), in: memory,
      release: pages.release, allocateTable: pages.allocate)
    #expect(pages.inUse.count == 513)
    #expect(
      format.page(of: 0x3fffe, from: PhysicalAddress(Self.root), in: memory)?.target == 0x7fff_e000)
    #expect(format.page(of: 0x3ffff, from: PhysicalAddress(Self.root), in: memory) == nil)
    // Too few pages for it: the page stays, and none is lost.
    try format.remap(
      physical(0x4000_0000..<0x8000_0000), at: IOVA(0), .readWrite, sizes: .largest,
      root: PhysicalAddress(Self.root), in: memory, release: pages.release,
      allocateTable: pages.allocate)
    #expect(pages.inUse.isEmpty)
    pages.limit = 100
    #expect(throws: TableMappingError.noPageForTable(IOVA(0x1000))) {
      try format.unmap(
        iovas(0x1000..<0x2000), root: PhysicalAddress(Self.root), in: memory,
        release: pages.release, allocateTable: pages.allocate)
    }
    #expect(pages.inUse.isEmpty)
    #expect(memory.quadword(at: PhysicalAddress(Self.root)) == 0x4000_0083)
  }

  // MARK: Tables

  @Test
  func `the table displaced by a large page is released with all below it, and stays where asked`()
    throws
  {
    let (memory, pages) = try Self.tables(of: Self.secondStage)
    let root = PhysicalAddress(Self.root)
    func remap(_ sizes: PageSizes) throws {
      try Self.secondStage.remap(
        physical(0..<0x4000_0000), at: IOVA(0), .readWrite, sizes: sizes, root: root, in: memory,
        release: pages.release, allocateTable: pages.allocate)
    }
    try Self.secondStage.map(
      physical(0x7000..<0x8000), at: IOVA(0x20_0000), .read, root: root, in: memory,
      allocateTable: pages.allocate)
    #expect(pages.inUse.count == 3)
    try remap(.largest.keepingTables)
    #expect(pages.inUse.count == 3, "511 pages of 2 MiB beside the table of 4 KiB pages")
    #expect(memory.quadword(at: PhysicalAddress(0x10_1000)) == 0x83)
    #expect(memory.quadword(at: PhysicalAddress(0x10_1008)) == 0x10_2003)
    #expect(memory.quadword(at: PhysicalAddress(0x10_2000)) == 0x20_0003)
    try remap(.largest)
    #expect(pages.inUse == [PhysicalAddress(0x10_0000)])
    #expect(memory.quadword(at: PhysicalAddress(0x10_0000)) == 0x83)
  }

  @Test func `levels that an AMD-Vi pointer skips are put in where an address needs them`() throws {
    let format = AMDVi.HostFormat(levels: 4)
    let (memory, pages) = try Self.tables(of: format)
    // Level 4 leads straight to level 1: 2 MiB at 0.
    memory.store(0x6000_0000_0020_0201, at: Self.root)
    memory.store(0x7000_0000_0000_9001, at: 0x20_0008 as UInt64)
    try format.remap(
      physical(0xa000..<0xb000), at: IOVA(0x4020_0000), .read, root: PhysicalAddress(Self.root),
      in: memory, allocateTable: pages.allocate)
    #expect(memory.quadword(at: PhysicalAddress(Self.root)) == 0x6000_0000_0010_0601)
    #expect(memory.quadword(at: PhysicalAddress(0x10_0000)) == 0x6000_0000_0020_0201)
    #expect(
      format.page(of: 1, from: PhysicalAddress(Self.root), in: memory)?.target == 0x9000)
    #expect(
      format.page(of: 0x4_0200, from: PhysicalAddress(Self.root), in: memory)?.target == 0xa000)
    // The same where the page itself belongs to a level that is skipped.
    try format.remap(
      physical(0x40_0000..<0x60_0000), at: IOVA(0x20_0000), .read, sizes: .largest,
      root: PhysicalAddress(Self.root), in: memory, allocateTable: pages.allocate)
    #expect(
      format.page(of: 0x2ff, from: PhysicalAddress(Self.root), in: memory)?.target == 0x4f_f000)
    #expect(
      format.page(of: 1, from: PhysicalAddress(Self.root), in: memory)?.target == 0x9000)
  }

  @Test func `an AMD-Vi tree grows a level at a time at its top`() throws {
    let memory = try FlatMemory(byteCount: 8 << 20)
    let pages = TestPages(in: memory, 0x10_0000..<0x11_0000)
    var (format, root) = (AMDVi.HostFormat(levels: 1), PhysicalAddress(Self.root))
    try format.map(
      physical(0x5000..<0x6000), at: IOVA(0x3000), .readWrite, root: root, in: memory,
      allocateTable: pages.allocate)
    func grow(_ address: UInt64, _ maximum: Int = 6) throws {
      try AMDVi.HostFormat.grow(
        &format, root: &root, toReach: address, maximumLevels: maximum, in: memory,
        allocateTable: pages.allocate)
    }
    try grow(0x1f_ffff)
    #expect(format.levels == 1)
    let steps: [(address: UInt64, levels: Int)] = [
      (0x20_0000, 2), (0x4000_0000, 3), (0x7f_ffff_ffff, 3), (1 << 39, 4), (1 << 48, 5),
      (1 << 57, 6), (.max, 6),
    ]
    for step in steps {
      try grow(step.address)
      #expect(format.levels == step.levels)
      #expect(format.page(of: 3, from: root, in: memory)?.target == 0x5000)
      #expect(format.page(of: 4, from: root, in: memory) == nil)
    }
    // The last root leads to the five below it.
    #expect(memory.quadword(at: root) == 0x6000_0000_0010_3a01)
    (format, root) = (AMDVi.HostFormat(levels: 3), PhysicalAddress(Self.root))
    try grow(1 << 39, 3)
    #expect(format.levels == 3, "as far as the unit goes")
    pages.limit = 1
    #expect(throws: TableMappingError.noPageForTable(IOVA(1 << 48))) { try grow(1 << 48) }
    #expect(format.levels == 4, "levels that were put on stay")
  }

  @Test func `tables that lead to each other are gone through once`() throws {
    let format = Self.secondStage
    let memory = try FlatMemory(byteCount: 8 << 20)
    let root = PhysicalAddress(Self.root)
    // Every entry of four tables leads to the next; the last ones map nothing.
    for (table, next): (UInt64, UInt64) in [
      (Self.root, 0x10_0000), (0x10_0000, 0x10_1000), (0x10_1000, 0x10_2000),
    ] {
      memory.storeSeries(
        from: next | 3, step: 0, count: 512, isBigEndian: false, at: PhysicalAddress(table))
    }
    var released: [PhysicalAddress] = []
    try format.map(
      physical(0x1000..<0x2000), at: IOVA(0), .read, root: root, in: memory,
      allocateTable: { nil })
    #expect(throws: TableMappingError.alreadyMapped(IOVA(0))) {
      try format.map(
        physical(0..<1 << 40), at: IOVA(0), .read, root: root, in: memory, allocateTable: { nil })
    }
    try format.unmap(
      iovas(0..<1 << 48), keepingTables: true, root: root, in: memory,
      release: { released.append($0) })
    #expect(memory.quadword(at: PhysicalAddress(0x10_2000)) == 0)
    #expect(released.isEmpty)
    try format.unmap(
      iovas(0..<1 << 48), root: root, in: memory, release: { released.append($0) })
    #expect(released.map(\.rawValue).sorted() == [0x10_0000, 0x10_1000, 0x10_2000])
    #expect(memory.quadword(at: root) == 0)
  }

  // MARK: Bad input

  @Test func `bad arguments are refused before anything is stored, and the error says which`()
    throws
  {
    let format = VTd.SecondStageFormat(levels: 3, limits: .unit(hostAddressWidth: 36))
    let (memory, pages) = try Self.tables(of: format)
    func refusal(
      _ range: Range<UInt64> = 0..<0x1000, at iova: UInt64 = 0,
      _ permissions: Permissions = .readWrite, _ attributes: PageAttributes? = nil,
      _ sizes: PageSizes = .smallest, root: UInt64 = Self.root
    ) -> TableMappingError? {
      do throws(TableMappingError) {
        try format.map(
          physical(range), at: IOVA(iova), permissions, attributes: attributes, sizes: sizes,
          root: PhysicalAddress(root), in: memory, release: pages.release,
          allocateTable: pages.allocate)
        return nil
      } catch { return error }
    }
    #expect(refusal(8..<0x1000) == .unaligned(argument: "the range's start", 8))
    #expect(refusal(0..<0x1008) == .unaligned(argument: "the range's end", 0x1008))
    #expect(refusal(at: 0x800) == .unaligned(argument: "the IOVA", 0x800))
    #expect(refusal(root: 0x40_0008) == .unaligned(argument: "the root", 0x40_0008))
    #expect(
      refusal(0..<0x2000, at: 0x7f_ffff_f000)
        == .beyondTable(iovas(0x7f_ffff_f000..<0x80_0000_1000), reach: 0x80_0000_0000))
    #expect(
      refusal(0..<0x2000, at: .max - 0xfff)
        == .beyondTable(iovas(.max - 0xfff ..< .max), reach: 0x80_0000_0000))
    #expect(
      refusal(0xf_ffff_f000..<0x10_0000_1000)
        == .physicalBeyondEntries(
          physical(0xf_ffff_f000..<0x10_0000_1000), limit: 0x10_0000_0000))
    #expect(
      refusal(0..<0x1000, at: 0, [.read, .user])
        == .permissionsNotExpressible([.read, .user], tables: "a VT-d second-stage table"))
    #expect(
      refusal(0..<0x1000, at: 0, .read, [.snooped, .accessed])
        == .attributesNotExpressible(.snooped, tables: "a VT-d second-stage table"))
    #expect(
      refusal(0..<0x1000, at: 0, .read, nil, .upTo(log2: 22)) == .pageSizeMissing(sizeLog2: 22))
    #expect(
      refusal(root: 0x1000_0000) == .tableNotWritable(PhysicalAddress(0x1000_0000), for: IOVA(0)))
    #expect(pages.inUse.isEmpty)
    #expect(memory.touchedRanges().allSatisfy { $0.lowerBound.rawValue >= 0 })
    #expect(memory.quadword(at: PhysicalAddress(Self.root)) == 0)
    #expect(refusal(0x1000..<0x1000) == nil, "no pages, nothing to do")
    let texts = [
      TableMappingError.unaligned(argument: "the IOVA", 0x800),
      .physicalBeyondEntries(physical(0..<0x2000), limit: 0x1000), .pageSizeMissing(sizeLog2: 22),
      .permissionsNotExpressible(.write, tables: "a GATT"),
      .attributesNotExpressible([.snooped, .memoryType(6)], tables: "a TCE table"),
      .alreadyMapped(IOVA(0x1000)), .partOfLargerPage(IOVA(0x1000), sizeLog2: 21),
      .tableNotWritable(PhysicalAddress(0x5000), for: IOVA(0x1000)),
    ]
    #expect(
      texts.map(\.description) == [
        "the IOVA is 0x800: pages are mapped whole, at multiples of 4 KiB",
        "0x0..<0x2000 ends beyond 0x1000, and entries have no bits for that: map memory below it",
        "the unit has no pages of 2^22 bytes: choose another size, or the largest possible",
        "no entry of a GATT says -w: read and write together is what all can say",
        "no entry of a TCE table says this of a page: snooped, memory type 6",
        "0x1000 is mapped already: unmap it first, or remap",
        "0x1000 lies in a page of 2^21 bytes that would change only in part: "
          + "change all of it, or let it be split",
        "the entry at 0x5000, on the way to 0x1000, is not in memory that takes stores: "
          + "a damaged table, or another root",
      ])
  }

  @Test func `permissions that a format cannot express are refused`() {
    #expect(!VTd.FirstStageFormat(levels: 4, limits: .permissive).expresses(.write))
    #expect(!AMDVi.GuestFormat(levels: 4).expresses(.write))
    #expect(!GART.GATTFormat(apertureByteCount: 32 << 20).expresses(.read))
    #expect(!AMDVi.GuestRootFormat(levels: 1).expresses(.read))
    #expect(!Calgary.TCEFormat(size: .kib64).expresses([.read, .user]))
    #expect(AMDVi.HostFormat(levels: 3).expresses(.write))
  }

  @Test(arguments: formats.indices)
  func `a map that fails takes back all that it did`(index: Int) throws {
    func check<Format: WritableTableFormat>(_ format: Format) throws {
      guard format.levels > 1 else { return }
      let (memory, pages) = try Self.tables(of: format)
      let root = PhysicalAddress(Self.root)
      try format.map(
        physical(0x3000..<0x4000), at: IOVA(0), .readWrite, root: root, in: memory,
        release: pages.release, allocateTable: pages.allocate)
      let before = memory.bytes(at: PhysicalAddress(0), count: 8 << 20)
      let inUse = pages.inUse
      // The rest of the first table, and a second one for which there is no page.
      for limit in 0...2 {
        pages.limit = limit
        let end = min(format.reach, 0x20_0000 << UInt64(9 * limit / 2) + 0x1000)
        let range = 0x1000..<end
        do throws(TableMappingError) {
          try format.map(
            physical(range), at: IOVA(range.lowerBound), .readWrite, root: root, in: memory,
            release: pages.release, allocateTable: pages.allocate)
          return
        } catch {
          guard case .noPageForTable = error else {
            Issue.record("\(error)")
            return
          }
        }
        #expect(pages.inUse == inUse)
        for page in inUse.union([root]) {
          let offset = Int(page.rawValue)
          #expect(
            memory.bytes(at: page, count: 4096) == before.map { Array($0[offset..<offset + 4096]) },
            "\(format), \(page)")
        }
      }
    }
    try check(Self.formats[index])
  }

  @Test func `a remap that fails has changed what lies below the address that it names`() throws {
    let format = Self.secondStage
    let (memory, pages) = try Self.tables(of: format)
    pages.limit = 3
    #expect(throws: TableMappingError.noPageForTable(IOVA(0x20_0000))) {
      try format.remap(
        physical(0x1000..<0x3000), at: IOVA(0x1f_f000), .read, root: PhysicalAddress(Self.root),
        in: memory, allocateTable: pages.allocate)
    }
    #expect(
      format.page(of: 0x1ff, from: PhysicalAddress(Self.root), in: memory)?.target == 0x1000)
  }

  @Test func `a table that lies in no memory is named`() throws {
    let format = Self.secondStage
    let (memory, pages) = try Self.tables(of: format)
    memory.store(0x7000_0003, at: Self.root)
    for change in 0..<3 {
      #expect(
        throws: TableMappingError.tableNotWritable(PhysicalAddress(0x7000_0008), for: IOVA(1 << 30))
      ) {
        let (range, iova) = (physical(0x1000..<0x2000), IOVA(1 << 30))
        let root = PhysicalAddress(Self.root)
        switch change {
        case 0:
          try format.map(
            range, at: iova, .read, root: root, in: memory, allocateTable: pages.allocate)
        case 1:
          try format.remap(
            range, at: iova, .read, root: root, in: memory, allocateTable: pages.allocate)
        default:
          try format.unmap(iova..<IOVA(1 << 30 + 4096), root: root, in: memory)
        }
      }
    }
    // An allocator that gives what is no table.
    memory.store(0, at: Self.root)
    #expect(
      throws: TableMappingError.tableNotWritable(PhysicalAddress(0x7000_0000), for: IOVA(0))
    ) {
      try format.map(
        physical(0x1000..<0x2000), at: IOVA(0), .read, root: PhysicalAddress(Self.root),
        in: memory, allocateTable: { PhysicalAddress(0x7000_0000) })
    }
    #expect(throws: TableMappingError.unaligned(argument: "the new table", 0x10_0008)) {
      try format.map(
        physical(0x1000..<0x2000), at: IOVA(0), .read, root: PhysicalAddress(Self.root),
        in: memory, allocateTable: { PhysicalAddress(0x10_0008) })
    }
    #expect(memory.quadword(at: PhysicalAddress(Self.root)) == 0)
  }

  @Test func `a memory of one's own takes tables, word by word`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    let other = MarkingTests.PartlyReadOnly(memory: memory, readOnly: physical(0x5000..<0x6000))
    var free: [UInt64] = [0x5000, 0x4000, 0x3000, 0x2000]
    func map(_ iova: UInt64) throws {
      try Self.secondStage.map(
        physical(0x8000..<0xa000), at: IOVA(iova), .readWrite, root: PhysicalAddress(0x1000),
        in: other, allocateTable: { free.popLast().map { PhysicalAddress($0) } })
    }
    try map(0xf000)
    #expect(memory.quadword(at: PhysicalAddress(0x4078)) == 0x8003)
    #expect(memory.quadword(at: PhysicalAddress(0x4080)) == 0x9003)
    #expect(
      throws: TableMappingError.tableNotWritable(PhysicalAddress(0x5000), for: IOVA(0x20_0000))
    ) { try map(0x20_0000) }
  }
}
