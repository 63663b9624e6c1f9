import IOMMUFormats
import Testing

@testable import IOMMUTranslation

@Suite struct EnumerationTests {
  static func runs(
    _ machine: Machine, in memory: FlatMemory, tables: UInt64? = nil
  ) throws -> [MappingRun] {
    var budget =
      tables.map { EnumerationBudget(remainingTables: $0) } ?? EnumerationBudget(for: memory)
    let found = machine.tables(in: memory)
    #expect(found.tables.count == 1)
    #expect(found.gaps.isEmpty)
    let mappings = machine.mappings(of: found.tables[0], in: memory, budget: &budget)
    if let gap = mappings.gaps.first { throw Unknown(gap: gap) }
    return mappings.runs
  }

  /// Not all of a table could be gone through.
  struct Unknown: Error { var gap: TableGap }

  static func run(
    _ iova: Range<UInt64>, _ physical: UInt64, _ permissions: Permissions
  ) -> MappingRun {
    MappingRun(
      iova: IOVA(iova.lowerBound)..<IOVA(iova.upperBound), physical: PhysicalAddress(physical),
      permissions: permissions)
  }

  /// One page as the runs have it.
  struct Page: Equatable {
    var physical: UInt64
    var permissions: Permissions
  }

  /// The runs page by page; records an issue when they overlap or do not ascend.
  static func pages(_ runs: [MappingRun]) -> [UInt64: Page] {
    var pages: [UInt64: Page] = [:]
    var end: UInt64 = 0
    for run in runs {
      #expect(run.iova.lowerBound.rawValue >= end && !run.iova.isEmpty)
      end = run.iova.upperBound.rawValue
      for offset: UInt64 in stride(from: 0, to: run.iova.byteCount, by: 4096) {
        pages[run.iova.lowerBound.rawValue + offset] = Page(
          physical: run.physical.rawValue + offset, permissions: run.permissions)
      }
    }
    return pages
  }

  /// What two requests to one page say together.
  static func page(
    _ machine: Machine, _ iova: UInt64, from requester: Requester = device, in memory: FlatMemory
  ) -> Page? {
    var page: Page?
    let handle = machine.resolve(requester, in: memory)
    for access in Access.allCases {
      guard
        case .mapped(let physical, _) = handle.translate(
          IOVA(iova), byteCount: 1, access: access, in: memory)
      else { continue }
      page = Page(
        physical: physical.rawValue, permissions: (page?.permissions ?? []).union(access.permission)
      )
    }
    return page
  }

  @Test(arguments: seeds)
  func `runs of second-stage tables say what requests find`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    for levels in 3...5 {
      let memory = try FlatMemory(byteCount: 8 << 20)
      storeContext(table: 0x11_0000, widthCode: UInt64(levels - 2), in: memory)
      var builder = TableBuilder(in: memory, root: 0x11_0000, levels: levels)
      var regions: Set<UInt64> = []
      for _ in 0..<4 {
        let region = generator.next() % (1 << UInt64(12 + 9 * levels)) & ~0x1f_ffff
        if regions.contains(region) || region >> 20 == 0xfee { continue }
        regions.insert(region)
        if generator.oneIn(4) {
          builder.set(
            (generator.next() % 0x1000) << 21 | 0x80 | generator.next() % 4, for: region, level: 2)
          continue
        }
        var page = (generator.next() % 0xf_0000) << 12
        for index: UInt64 in 0..<512 where !generator.oneIn(5) {
          // Mostly the next page with the same permissions, so that there are runs to join.
          if generator.oneIn(10) { page = (generator.next() % 0xf_0000) << 12 }
          let permissions = generator.oneIn(10) ? generator.next() % 4 : 3
          let reserved: UInt64 = generator.oneIn(30) ? 1 << 62 : 0
          builder.set(page | permissions | reserved, for: region + index << 12, level: 1)
          page += 4096
        }
      }
      let machine = vtdMachine(
        .unit(hostAddressWidth: 46, guestAddressWidth: 57, widths: 0b01110))
      let pages = Self.pages(try Self.runs(machine, in: memory))
      var mappedCount = 0
      for region in regions {
        for iova in stride(from: region, to: region + 0x20_0000, by: 4096) {
          let page = Self.page(machine, iova, in: memory)
          #expect(pages[iova] == page, "\(IOVA(iova)), \(levels) levels")
          mappedCount += page == nil ? 0 : 1
        }
      }
      #expect(mappedCount == pages.count)
    }
  }

  @Test(arguments: seeds)
  func `runs of a TCE table say what requests find outside the holes`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let memory = try FlatMemory(byteCount: 2 << 20)
    var page: UInt64 = 0x100_0000
    for index: UInt64 in 0..<8192 where !generator.oneIn(3) {
      if generator.oneIn(5) { page = (generator.next() % 0x10_0000) << 12 }
      let entry = page | (generator.oneIn(10) ? generator.next() % 4 : 3)
      memory.store(bigEndian: entry, at: PhysicalAddress(0x10_0000 + index * 8))
      page += 4096
    }
    let machine = CalgaryChipTests.machine([CalgaryChipTests.bridge()])
    let pages = Self.pages(try Self.runs(machine, in: memory))
    for iova: UInt64 in stride(from: 0, to: 0x200_0000, by: 4096)
    where !(0xa_0000..<0x10_0000).contains(iova) {
      #expect(pages[iova] == Self.page(machine, iova, in: memory), "\(IOVA(iova))")
    }
  }

  @Test(arguments: seeds)
  func `runs of a GATT say what requests find`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let memory = try FlatMemory(byteCount: 2 << 20)
    var page: UInt64 = 0x100_0000
    for index: UInt64 in 0..<16_384 where !generator.oneIn(3) {
      if generator.oneIn(5) { page = (generator.next() % 0x10_0000) << 12 }
      memory.store(
        UInt32(truncatingIfNeeded: page | 2 | (generator.oneIn(10) ? 0 : 1)),
        at: PhysicalAddress(0x10_0000 + index * 4))
      page += 4096
    }
    let machine = GARTNodeTests.machine(GARTNodeTests.node())
    let pages = Self.pages(try Self.runs(machine, in: memory))
    for iova: UInt64 in stride(from: 0xd000_0000, to: 0xd400_0000, by: 4096) {
      #expect(pages[iova] == Self.page(machine, iova, in: memory), "\(IOVA(iova))")
    }
  }

  @Test func `an identity map of the crash kernel is one run`() throws {
    let memory = try FlatMemory(byteCount: 2 << 20)
    for page: UInt64 in 0x1000...0x8fff {
      memory.store(bigEndian: page << 12 | 3, at: PhysicalAddress(0x10_0000 + page * 8))
    }
    let machine = CalgaryChipTests.machine([CalgaryChipTests.bridge(size: 3)])
    let runs = try Self.runs(machine, in: memory)
    #expect(runs == [Self.run(0x100_0000..<0x900_0000, 0x100_0000, .readWrite)])
    #expect(runs[0].physicalRange == PhysicalAddress(0x100_0000)..<PhysicalAddress(0x900_0000))
  }

  @Test func `runs break where address, page or permissions do not go on`() throws {
    let memory = try FlatMemory(byteCount: 2 << 20)
    let entries: [(UInt64, UInt64)] = [
      (0, 0x18_0003), (1, 0x18_1003), (2, 0x18_2001), (3, 0x18_3001), (4, 0x19_0001),
      (6, 0x19_1001), (7, 0x19_2002), (8, 0x19_3000), (0x1fff, 0x18_0003),
    ]
    for (index, entry) in entries {
      memory.store(bigEndian: entry, at: PhysicalAddress(0x10_0000 + index * 8))
    }
    let runs = try Self.runs(
      CalgaryChipTests.machine([CalgaryChipTests.bridge()]), in: memory)
    #expect(
      runs == [
        Self.run(0..<0x2000, 0x18_0000, .readWrite), Self.run(0x2000..<0x4000, 0x18_2000, .read),
        Self.run(0x4000..<0x5000, 0x19_0000, .read), Self.run(0x6000..<0x7000, 0x19_1000, .read),
        Self.run(0x7000..<0x8000, 0x19_2000, .write),
        Self.run(0x1ff_f000..<0x200_0000, 0x18_0000, .readWrite),
      ])
  }

  @Test func `large pages are runs of their size`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    storeContext(table: 0x11_0000, widthCode: 1, in: memory)
    var builder = TableBuilder(in: memory, root: 0x11_0000, levels: 3)
    builder.set(0x40_0083, for: 0x3fe0_0000, level: 2)
    builder.set(0x4000_0083, for: 0x4000_0000, level: 3)
    builder.set(0x8000_0083, for: 0x8000_0000, level: 3)
    builder.set(0xc000_0003, for: 0xc000_0000, level: 1)
    builder.set(0x7f_c000_0081, for: 0x7f_c000_0000, level: 3)
    let runs = try Self.runs(vtdMachine(.unit()), in: memory)
    #expect(
      runs == [
        Self.run(0x3fe0_0000..<0x4000_0000, 0x40_0000, .readWrite),
        Self.run(0x4000_0000..<0xc000_1000, 0x4000_0000, .readWrite),
        Self.run(0x7f_c000_0000..<0x80_0000_0000, 0x7f_c000_0000, .read),
      ])
  }

  @Test func `addresses beyond the unit's width are no mappings`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    storeContext(table: 0x11_0000, widthCode: 2, in: memory)
    var builder = TableBuilder(in: memory, root: 0x11_0000, levels: 4)
    builder.set(0x20_0003, for: 0x7f_ffff_f000, level: 1)
    builder.set(0x20_1003, for: 0x80_0000_0000, level: 1)
    let runs = try Self.runs(
      vtdMachine(.unit(guestAddressWidth: 39, widths: 0b00110)), in: memory)
    #expect(runs == [Self.run(0x7f_ffff_f000..<0x80_0000_0000, 0x20_0000, .readWrite)])
  }

  @Test func `permissions of a run are those of all levels together`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    storeContext(table: 0x11_2000, widthCode: 1, in: memory)
    memory.store(0x11_3001, at: 0x11_2000)
    memory.store(0x11_4003, at: 0x11_3000)
    memory.store(0x11_4002, at: 0x11_3008)
    memory.store(0x20_0003, at: 0x11_4000)
    #expect(
      try Self.runs(vtdMachine(.unit()), in: memory) == [Self.run(0..<0x1000, 0x20_0000, .read)])
  }

  // MARK: Tables of a machine

  @Test func `a machine's tables have the names of buses, the GART and requesters`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    storeContext(table: 0x11_0000, widthCode: 1, in: memory)
    memory.store(hex: "0900000000000000 0105000000000000", at: 0x10_1210)
    memory.store(hex: "0d00000000000000 0105000000000000", at: 0x10_1220)
    memory.store(hex: "0200000000000000 0105000000000000", at: 0x10_1230)
    let chips = CalgaryChipTests.machine(
      [CalgaryChipTests.bridge(2...3), CalgaryChipTests.bridge(0...0)],
      [CalgaryChipTests.bridge(0x10...0x1f), CalgaryChipTests.bridge(9...9, configuration: 0)])
    let machine = Machine(
      name: "everything",
      units: vtdMachine(.unit()).units + [.gart(GARTNodeTests.node())] + chips.units)
    #expect(chips.tables(in: memory).tables.map(\.name) == ["bus:00", "bus:02", "bus:10"])
    #expect(vtdMachine(.unit()).tables(in: memory).tables.map(\.name) == ["00:04.0", "00:04.1"])
    // A chip that has bus 0 has its devices, whatever another unit's tables say of them.
    #expect(
      machine.tables(in: memory).tables.map(\.name) == ["gart", "bus:00", "bus:02", "bus:10"])
    let tables = vtdMachine(.unit()).tables(in: memory).tables
    #expect(tables.map(\.root) == [PhysicalAddress(0x11_0000), nil])
    var budget = EnumerationBudget(for: memory)
    #expect(machine.mappings(of: tables[1], in: memory, budget: &budget) == TableMappings())
  }

  @Test func `requesters are those with present root and context entries`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    storeContext(table: 0x11_0000, widthCode: 1, in: memory)
    memory.store(0x10_2001, at: 0x10_0ff0)
    memory.store(1, at: 0x10_2ff0)
    memory.store(0x7000_0001, at: 0x10_0500)
    let unit = try #require(vtdMachine(.unit()).units[0].as(VTd.Unit.self))
    #expect(
      unit.requesters(in: memory) == [Requester("00:04.0")!, Requester("ff:1f.7")!])
  }

  // MARK: Hostile tables

  @Test(arguments: [3, 4, 5])
  func `a table that points to itself everywhere ends the enumeration`(levels: Int) throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    storeContext(table: 0x11_0000, widthCode: UInt64(levels - 2), in: memory)
    for index: UInt64 in 0..<512 { memory.store(0x11_0003, at: 0x11_0000 + index * 8) }
    let machine = vtdMachine(
      .unit(hostAddressWidth: 46, guestAddressWidth: 57, widths: 0b01110))
    let start = ContinuousClock.now
    #expect(throws: Unknown.self) { try Self.runs(machine, in: memory, tables: 300) }
    #expect(ContinuousClock.now - start < .seconds(10))
    #expect(
      machine.translate(device, IOVA(0x1234_5678), access: .read, in: memory)
        == .to(0x11_0678))
  }

  @Test func `a chain of tables that all point to the next ends the enumeration`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    storeContext(table: 0x11_0000, widthCode: 3, in: memory)
    for table: UInt64 in 0..<5 {
      for index: UInt64 in 0..<512 {
        memory.store(0x11_1003 + table << 12, at: 0x11_0000 + table << 12 + index * 8)
      }
    }
    let machine = vtdMachine(
      .unit(hostAddressWidth: 46, guestAddressWidth: 57, widths: 0b01110))
    #expect(throws: Unknown.self) { try Self.runs(machine, in: memory, tables: 300) }
  }

  @Test func `a large page ends where the addresses of the unit do`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    storeContext(table: 0x11_0000, widthCode: 1, in: memory)
    memory.store(0x11_1003, at: 0x11_0000)
    // 2 MiB from 0 on, to a unit with 20 bits of address.
    memory.store(0x40_0083, at: 0x11_1000)
    let machine = vtdMachine(
      .unit(hostAddressWidth: 46, guestAddressWidth: 20, widths: 0b00110))
    #expect(
      try Self.runs(machine, in: memory) == [Self.run(0..<0x10_0000, 0x40_0000, .readWrite)])
  }

  @Test func `a budget of no tables allows none`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    storeContext(table: 0x11_0000, widthCode: 1, in: memory)
    let machine = vtdMachine(.unit())
    let table = machine.tables(in: memory).tables[0]
    var none = EnumerationBudget(remainingTables: 0)
    #expect(
      machine.mappings(of: table, in: memory, budget: &none).gaps == [
        TableGap(
          .tooManyReferences,
          .addresses(.requester(PCI.Function(Requester("00:04.0")!)), IOVA(0)..<IOVA(1 << 39)),
          in: .level(3),
          at: PhysicalAddress(0x11_0000))
      ])
    var one = EnumerationBudget(remainingTables: 1)
    #expect(machine.mappings(of: table, in: memory, budget: &one) == TableMappings())
    #expect(one.remainingTables == 0)
  }

  @Test(arguments: seeds)
  func `random tables never stop the program`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let memory = try WalkerTests.randomTables(using: &generator)
    for levels in 3...5 {
      let table = Table.secondStage(
        VTd.SecondStageTable(
          root: PhysicalAddress(0x3000),
          format: VTd.SecondStageFormat(levels: levels, limits: WalkerTests.limits[0]),
          addressWidth: 12 + 9 * levels, isReported: true))
      var budget = EnumerationBudget(remainingTables: 200)
      let mappings = DMATable(owner: .table(table.root), table: table)
        .mappings(in: memory, budget: &budget)
      #expect(mappings.gaps.contains { $0.cause == .tooManyReferences })
    }
  }
}
