import IOMMUFormats
import IOMMUTestSupport
import IOMMUTranslation
import Testing

@testable import IOMMUKdump

@Suite struct SetUpTests {
  /// The proposal's own numbers: 32K entries, 256 KiB, of 1024K entries, 8 MiB.
  @Test func `on Calgary 128 MiB take 32,768 of 1,048,576 TCEs in every table`() throws {
    let primary = try PrimaryKernel(try defaultConfiguration(.calgary))
    let report = try primary.applyRule()
    #expect(report.tables.map { "\($0.table)" } == ["bus:00", "bus:01", "bus:02"])
    for table in report.tables {
      #expect(table.identityEntryCount == 32_768)
      #expect(table.identityEntryByteCount == 262_144)
      #expect(table.entryCount == 1_048_576)
      #expect(table.tableByteCount == 8_388_608)
      #expect(table.reservedPageCount == 32_768)
      #expect(table.shareOfSpace == 0.03125)
    }
    #expect(report.writtenEntryCount == 3 * 32_768)
  }

  /// Vector T32: first and last TCE of 16..<144 MiB.
  @Test func `the identity TCEs have the manual's bytes at the manual's places`() throws {
    let primary = try PrimaryKernel(try defaultConfiguration(.calgary))
    try primary.applyRule()
    for table in primary.machine.tables(in: primary.memory).tables {
      let start = try #require(table.root).rawValue
      #expect(
        primary.memory.bytes(at: PhysicalAddress(start + 0x8000), count: 8)
          == [0, 0, 0, 0, 0x01, 0, 0, 0x03])
      #expect(
        primary.memory.bytes(at: PhysicalAddress(start + 0x47ff8), count: 8)
          == [0, 0, 0, 0, 0x08, 0xff, 0xf0, 0x03])
      // One before and one after are free.
      #expect(primary.memory.quadword(at: PhysicalAddress(start + 0x7ff8)) == 0)
      #expect(primary.memory.quadword(at: PhysicalAddress(start + 0x48000)) == 0)
    }
  }

  @Test(arguments: [
    (PageSizePolicy.largest, 64 as UInt64, "SS-PDE"), (.smallest, 32_768, "SS-PTE"),
  ])
  func `on VT-d 128 MiB take 64 large or 32,768 small pages for each device`(
    policy: PageSizePolicy, count: UInt64, name: String
  ) throws {
    var configuration = try defaultConfiguration(.vtd)
    configuration.pageSize = policy
    let report = try PrimaryKernel(configuration).applyRule()
    #expect(report.tables.map { "\($0.table)" } == ["01:01.0", "02:01.0", "00:03.0"])
    #expect(report.tables.map(\.identityEntryCount) == [count, count, count])
    #expect(report.tables.map(\.entryName) == [name, name, name])
  }

  @Test(arguments: [3, 4, 5])
  func `the Rule holds with tables of three, four and five levels`(levels: Int) throws {
    var configuration = try smallConfiguration(.vtd)
    configuration.vtd.levels = levels
    #expect(try CrashSimulation().play(configuration, applyingRule: true).report.ruleHolds)
    #expect(try !CrashSimulation().play(configuration, applyingRule: false).report.ruleHolds)
  }

  @Test func `the largest pages are used where a range is not aligned to them`() throws {
    // 4 KiB before 2 MiB, 2 MiB, 4 KiB after it.
    let range = PhysicalAddress(0x3ff_f000)..<PhysicalAddress(0x420_1000)
    let report = try PrimaryKernel(smallConfiguration(.vtd, crashKernel: [range])).applyRule()
    #expect(report.tables[0].identityEntryCount == 3)
    #expect(report.tables[0].entryName == "SS-PDE+SS-PTE")
  }

  @Test(arguments: PageSizePolicy.allCases, [3, 4, 5])
  func `a crooked range is mapped to itself to its last page and no further`(
    policy: PageSizePolicy, levels: Int
  ) throws {
    // Two ranges, in one last-level table and over the ends of several.
    let ranges = [0x201_3000..<0x201_6000, 0x39f_f000..<0x460_1000].map {
      PhysicalAddress($0.lowerBound)..<PhysicalAddress($0.upperBound)
    }
    var configuration = try smallConfiguration(.vtd, crashKernel: ranges)
    configuration.pageSize = policy
    configuration.vtd.levels = levels
    let primary = try PrimaryKernel(configuration)
    let report = try primary.applyRule()
    let pageCount = ranges.reduce(0) { $0 + $1.byteCount / 4096 }
    // 0x3a00000..<0x4600000 are six pages of 2 MiB.
    let entryCount = policy == .smallest ? pageCount : pageCount - 6 * 511
    #expect(report.tables.map(\.identityEntryCount) == [entryCount, entryCount, entryCount])
    #expect(report.tables.map(\.writtenEntryCount) == [entryCount, entryCount, entryCount])
    #expect(
      report.tables.map(\.entryName)
        == Array(repeating: policy == .smallest ? "SS-PTE" : "SS-PDE+SS-PTE", count: 3))
    let tables = primary.machine.tables(in: primary.memory).tables
    #expect(tables.count == 3)
    for table in tables {
      var budget = EnumerationBudget(for: primary.memory)
      #expect(
        primary.machine.mappings(of: table, in: primary.memory, budget: &budget).runs
          == ranges.map {
            MappingRun(
              iova: $0.mapBounds(to: IOVA.self), physical: $0.lowerBound, permissions: .readWrite)
          })
    }
  }

  @Test func `a crash kernel beyond three levels is refused`() throws {
    let range = PhysicalAddress(0x7f_fff0_0000)..<PhysicalAddress(0x80_0010_0000)
    var configuration = try smallConfiguration(
      .vtd, crashKernel: [range], ramByteCount: 1 << 40)
    configuration.vtd.levels = 3
    let primary = try PrimaryKernel(configuration)
    #expect(
      throws: SetUpError.beyondTable(
        name: "01:01.0", range: range, coverage: 0x80_0000_0000,
        wayOut: "use tables with more levels or move the crash kernel down")
    ) { try primary.applyRule() }
  }

  @Test func `a kernel without pages for tables says which table it lacks`() throws {
    let ram = [PhysicalAddress(0)..<PhysicalAddress(0x10_3000)]
    let pages = PagePool(
      memory: try FlatMemory(ram: ram), map: try MemoryMap(ram: ram, crashKernel: []))
    let writer = SecondStageWriter(
      pages: pages, format: VTd.SecondStageFormat(levels: 4, limits: .permissive))
    let root = try pages.allocateTable(4096, what: "a root")
    #expect(throws: SetUpError.outOfMemory(what: "a VT-d page table")) {
      try writer.mapIdentity(PhysicalAddress(0)..<PhysicalAddress(4096), root: root)
    }
    #expect(
      throws: SetUpError.beyondTable(
        name: "a VT-d domain",
        range: PhysicalAddress(0xffff_ffff_f000)..<PhysicalAddress(0x1_0000_0000_1000),
        coverage: 0x1_0000_0000_0000, wayOut: "use tables with more levels")
    ) {
      try writer.mapIdentity(
        PhysicalAddress(0xffff_ffff_f000)..<PhysicalAddress(0x1_0000_0000_1000), root: root)
    }
  }

  @Test func `1 GiB of crash kernel is one entry`() throws {
    let range = PhysicalAddress(0x4000_0000)..<PhysicalAddress(0x8000_0000)
    let report = try PrimaryKernel(
      smallConfiguration(.vtd, crashKernel: [range], ramByteCount: 3 << 30)
    ).applyRule()
    #expect(report.tables[0].identityEntryCount == 1)
    #expect(report.tables[0].entryName == "SS-PDPE")
  }

  @Test(arguments: TranslationMode.allCases)
  func `doing it again writes nothing`(mode: TranslationMode) throws {
    let primary = try PrimaryKernel(smallConfiguration(mode))
    let first = try primary.applyRule()
    let touched = primary.memory.touchedRanges()
    let second = try primary.applyRule()
    #expect(second.writtenEntryCount == 0)
    #expect(second.identityEntryCount == first.identityEntryCount)
    #expect(primary.memory.touchedRanges() == touched)
  }

  @Test func `an IOVA in use is named and nothing is changed`() throws {
    let disk = Device.usual[0]
    let primary = try PrimaryKernel(smallConfiguration(.calgary))
    var inside: MappedBuffer?
    while inside == nil {
      let buffer = try primary.mapNewBuffer(byteCount: 1 << 20, for: disk, direction: .fromDevice)
      if buffer.iovas.upperBound > IOVA(0x200_0000) { inside = buffer }
    }
    let before = primary.machine.tables(in: primary.memory).tables.map {
      primary.memory.bytes(at: $0.root!, count: 0x10_0000)
    }
    let conflict = try #require(inside)
    let first = max(conflict.iova.rawValue, 0x200_0000)
    #expect(
      throws: SetUpError.conflict(
        name: "bus:01", iova: IOVA(first),
        mappedTo: PhysicalAddress(
          conflict.target.lowerBound.rawValue + first - conflict.iova.rawValue))
    ) { try primary.applyRule() }
    let after = primary.machine.tables(in: primary.memory).tables.map {
      primary.memory.bytes(at: $0.root!, count: 0x10_0000)
    }
    #expect(before == after)
  }

  @Test func `a VT-d conflict is named and makes no domain`() throws {
    let disk = Device.usual[0]
    let range = PhysicalAddress(0xbff0_0000)..<PhysicalAddress(0xc000_0000)
    let primary = try PrimaryKernel(
      smallConfiguration(.vtd, crashKernel: [range], ramByteCount: 3 << 30))
    // Top down from 4 GiB: 1 GiB and more of mappings reach the range below 3 GiB.
    var last: MappedBuffer
    let buffer = PhysicalAddress(0x1000_0000)..<PhysicalAddress(0x1400_0000)
    repeat {
      last = try primary.map(buffer, for: disk, direction: .fromDevice)
    } while last.iova.rawValue >= 0xc000_0000
    #expect(
      throws: SetUpError.conflict(
        name: "01:01.0", iova: IOVA(0xbff0_0000), mappedTo: PhysicalAddress(0x13f0_0000))
    ) { try primary.applyRule() }
    // The NIC had no domain and still has none.
    let nic = Device.usual[1].requester
    #expect(
      primary.machine.translate(nic, IOVA(0), access: .read, in: primary.memory)
        == .fault(.vtd(.rootEntryNotPresent, isRecorded: true)))
  }

  // K12: which TCE tables can hold 128 MiB at 16 MiB.
  @Test(arguments: [
    (Calgary.TableSize.kib64, false), (.kib128, false), (.kib256, false), (.kib512, true),
    (.mib1, true), (.mib8, true),
  ])
  func `a 512 KiB TCE table is the smallest that holds 128 MiB at 16 MiB`(
    size: Calgary.TableSize, fits: Bool
  ) throws {
    var configuration = try defaultConfiguration(.calgary)
    configuration.calgary.tableSize = size
    let primary = try PrimaryKernel(configuration)
    if fits {
      try primary.applyRule()
    } else {
      let error = #expect(throws: SetUpError.self) { try primary.applyRule() }
      #expect("\(error!)".contains("use a table of at least 512 KiB"))
    }
  }

  @Test func `crash kernels that make no sense are refused with the way out`() throws {
    let ram = try MemoryMap.ram(byteCount: 4 << 30)
    func refused(_ ranges: [(UInt64, UInt64)]) -> SetUpError? {
      #expect(throws: SetUpError.self) {
        try MemoryMap(
          ram: ram, crashKernel: ranges.map { PhysicalAddress($0.0)..<PhysicalAddress($0.1) })
      }
    }
    #expect("\(refused([(0x100_0800, 0x200_0000)])!)".contains("not a multiple of 4 KiB"))
    #expect("\(refused([(0x100_0000, 0x100_0000)])!)".contains("no bytes"))
    #expect("\(refused([(0xbff0_0000, 0xc010_0000)])!)".contains("not in RAM"))
    #expect(
      "\(refused([(0x100_0000, 0x300_0000), (0x200_0000, 0x400_0000)])!)".contains("overlap"))
  }

  @Test func `a crash kernel without offset goes to 16 MiB or the next multiple that fits`() throws
  {
    let ram = try MemoryMap.ram(byteCount: 4 << 30)
    #expect(
      try MemoryMap.place(crashKernelOf: 128 << 20, in: ram)
        == PhysicalAddress(0x100_0000)..<PhysicalAddress(0x900_0000))
    #expect(throws: SetUpError.noRoomForCrashKernel(byteCount: 4 << 30)) {
      try MemoryMap.place(crashKernelOf: 4 << 30, in: ram)
    }
  }

  @Test func `a crash kernel where the chip does not translate is refused`() throws {
    // 640 KiB to 1 MiB is no RAM here, so the range starts below it only in a custom map.
    let ram = [PhysicalAddress(0)..<PhysicalAddress(0x1000_0000)]
    let map = try MemoryMap(
      ram: ram, crashKernel: [PhysicalAddress(0x9_0000)..<PhysicalAddress(0x20_0000)])
    let primary = try PrimaryKernel(MachineConfiguration(mode: .calgary, map: map))
    let error = #expect(throws: SetUpError.self) { try primary.applyRule() }
    #expect("\(error!)".contains("0xa0000..<0x100000, which bus:00 does not translate"))
  }
}

@Suite struct LowCrashKernelTests {
  @Test func `a crash kernel above 4 GiB brings 256 MiB below, or 8 MiB more than the pool`() {
    #expect(MemoryMap.automaticLowCrashKernel(bouncePool: 64 << 20) == 268_435_456)
    // swiotlb=131072: 256 MiB of bounce buffers.
    #expect(MemoryMap.automaticLowCrashKernel(bouncePool: 256 << 20) == 276_824_064)
  }
}

@Suite struct AllocatorTests {
  // T28, T29: fresh tables with their reserved regions.
  @Test func `a fresh Calgary table gives out 0x20, then 0x21, then 0x100`() {
    var bitmap = NextFitBitmap(count: 1_048_576)
    bitmap.reserve(0..<0x20)
    bitmap.reserve(0xa0..<0x100)
    #expect(bitmap.allocate(1) == 0x20)
    #expect(bitmap.allocate(96) == 0x21)
    #expect(bitmap.allocate(129) == 0x100)
  }

  @Test func `a fresh CalIOC2 table gives out 0x100 first`() {
    var bitmap = NextFitBitmap(count: 1_048_576)
    bitmap.reserve(0..<0x100)
    #expect(bitmap.allocate(1) == 0x100)
  }

  // T30
  @Test func `the last entry is never given out`() {
    var bitmap = NextFitBitmap(count: 8192)
    bitmap.setHint(8190)
    #expect(bitmap.allocate(1) == 8190)
    #expect(bitmap.wrapCount == 0)
    #expect(bitmap.allocate(1) == 0)
    #expect(bitmap.wrapCount == 1)
    var full = NextFitBitmap(count: 8192)
    full.reserve(0..<8191)
    #expect(full.allocate(1) == nil)
  }

  // GART 6.3: 8,160 entries are free, 8,159 of them can be had.
  @Test func `a window of 8,192 entries gives out 8,159`() {
    var bitmap = NextFitBitmap(count: 8192)
    bitmap.reserve(0..<32)
    var count = 0
    while bitmap.allocate(1) != nil { count += 1 }
    #expect(count == 8159)
  }

  @Test func `no run crosses a segment boundary`() {
    var bitmap = NextFitBitmap(count: 1024)
    bitmap.setHint(250)
    #expect(bitmap.allocate(16, boundary: 256) == 256)
  }

  @Test(arguments: seeds)
  func `a bitmap keeps which entries are taken, one by one`(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    var bitmap = NextFitBitmap(count: 500)
    var taken = Set<Int>()
    for _ in 0..<400 {
      let start = Int.random(in: 0...500, using: &generator)
      let range = start..<Int.random(in: start...500, using: &generator)
      switch Int.random(in: 0..<3, using: &generator) {
      case 0 where range.count < 100:
        bitmap.reserve(range)
        taken.formUnion(range)
      case 1:
        bitmap.free(range)
        taken.subtract(range)
      default:
        #expect(bitmap.firstTaken(in: range) == range.first { taken.contains($0) })
      }
      #expect((0..<500).allSatisfy { bitmap.isTaken($0) == taken.contains($0) })
    }
  }

  @Test func `a reservation past the end is cut off`() {
    var bitmap = NextFitBitmap(count: 64)
    bitmap.reserve(60..<1000)
    #expect(bitmap.isTaken(63))
    #expect(!bitmap.isTaken(59))
  }

  @Test func `addresses go out from the top, aligned, around what is taken`() {
    var allocator = TopDownAllocator(space: [0x1000..<0x1_0000_0000])
    #expect(allocator.allocate(0x1000, alignment: 0x1000) == 0xffff_f000)
    #expect(allocator.allocate(0x3000, alignment: 0x4000) == 0xffff_c000)
    #expect(allocator.allocate(0x1000, alignment: 0x1000) == 0xffff_b000)
    allocator.free(0xffff_f000..<0x1_0000_0000)
    #expect(allocator.allocate(0x1000, alignment: 0x1000) == 0xffff_f000)
    #expect(allocator.allocate(0x1000, alignment: 0x1000, below: 0x2000) == 0x1000)
    #expect(allocator.allocate(0x1000, alignment: 0x1000, below: 0x2000) == nil)
  }

  @Test(arguments: seeds)
  func `random use of the top-down allocator never gives out a byte twice`(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    var allocator = TopDownAllocator(space: [0x1000..<0x40_0000, 0x80_0000..<0x100_0000])
    var live: [Range<UInt64>] = []
    for _ in 0..<3000 {
      if Bool.random(using: &generator), !live.isEmpty {
        let index = Int.random(in: 0..<live.count, using: &generator)
        allocator.free(live.remove(at: index))
      } else {
        let size = UInt64.random(in: 1...16, using: &generator) << 12
        guard let start = allocator.allocate(size, alignment: 4096) else { continue }
        let range = start..<(start + size)
        #expect(!live.contains { $0.overlaps(range) })
        live.append(range)
      }
    }
  }
}
