import IOMMUFormats
import Testing

@testable import IOMMUTranslation

/// What becomes of tables that lead to themselves, and of sound ones beside those and beside ones that
/// use up what is looked at.
@Suite struct LimitTests {
  /// Root and context table of bus 0 at 0x1000 and 0x2000; second-stage tables of four levels, device
  /// by device from 00:01.0 on.
  static func machine(_ memory: FlatMemory, roots: UInt64...) -> Machine {
    memory.store(0x2001, at: 0x1000)
    for (index, root) in roots.enumerated() {
      let place = 0x2000 + 16 * 8 * UInt64(index + 1)
      memory.store(root | 1, at: place)
      memory.store(2 | UInt64(index + 1) << 8, at: place + 8)
    }
    return vtdMachine(
      .unit(hostAddressWidth: 46, guestAddressWidth: 48, widths: 0b00100), rootTableAddress: 0x1000)
  }

  /// A page at IOVA 0 by four tables in a row from `root` on.
  static func storeChain(_ memory: FlatMemory, _ root: UInt64, to page: UInt64) {
    for table: UInt64 in 0..<3 {
      memory.store(root + table << 12 + 0x1003, at: root + table << 12)
    }
    memory.store(page | 3, at: root + 0x3000)
  }

  static func mappings(
    _ machine: Machine, in memory: some PhysicalMemory, runs: Int64 = .max
  ) -> [TableMappings] {
    var budget = EnumerationBudget(for: memory)
    budget.remainingRuns = min(budget.remainingRuns, runs)
    var all: [TableMappings] = []
    machine.forEachTable(machine.tables(in: memory).tables, in: memory, budget: &budget) {
      all.append($0.mappings.told(as: $0.table.owner))
    }
    return all
  }

  static func addresses(_ device: String, _ range: Range<UInt64>) -> TableGap.Scope {
    .addresses(
      .requester(PCI.Function(Requester(device)!)), IOVA(range.lowerBound)..<IOVA(range.upperBound))
  }

  static let page = EnumerationTests.run(0..<0x1000, 0x5_0000, .readWrite)

  @Test func `a table that leads to itself is named, and silences no other`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    Self.storeChain(memory, 0x1_0000, to: 0x5_0000)
    for index: UInt64 in 0..<512 { memory.store(0x2_0003, at: 0x2_0000 + 8 * index) }
    let machine = Self.machine(memory, roots: 0x2_0000, 0x1_0000)
    let all = Self.mappings(machine, in: memory)
    let loop = TableLoop(from: PhysicalAddress(0x2_0000), to: PhysicalAddress(0x2_0000))
    #expect(
      all == [
        TableMappings(
          gaps: [
            TableGap(
              .loop(loop), Self.addresses("00:01.0", 0..<1 << 48), in: .level(4),
              at: PhysicalAddress(0x2_0000))
          ]),
        TableMappings(runs: [Self.page]),
      ])
    // Hardware goes from level to level, and through the same table down to its last.
    #expect(
      machine.translate(Requester("00:01.0")!, IOVA(0x1234), access: .write, in: memory)
        == .to(0x2_0234))
  }

  @Test func `what is sound of a table with loops is told`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    Self.storeChain(memory, 0x1_0000, to: 0x5_0000)
    // The directory has entries for the table above it, for itself, and for the root.
    memory.store(0x1_1003, at: 0x1_2008)
    memory.store(0x1_2003, at: 0x1_2010)
    memory.store(0x1_0003, at: 0x1_2020)
    let machine = Self.machine(memory, roots: 0x1_0000)
    let all = Self.mappings(machine, in: memory)
    #expect(all.map(\.runs) == [[Self.page]])
    #expect(
      all[0].gaps.map(\.text) == [
        "00:01.0 IOVA 0x200000..<0x400000: unknown, the table of level 2 at 0x12000 leads back to "
          + "the one at 0x11000, above it (entry at 0x12008)",
        "00:01.0 IOVA 0x400000..<0x600000: unknown, the table of level 2 at 0x12000 leads to itself "
          + "(entry at 0x12010)",
        "00:01.0 IOVA 0x800000..<0xa00000: unknown, the table of level 2 at 0x12000 leads back to "
          + "the one at 0x10000, above it (entry at 0x12020)",
      ])
  }

  @Test func `a table that is shared is no loop`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    Self.storeChain(memory, 0x1_0000, to: 0x5_0000)
    memory.store(0x1_3003, at: 0x1_2008)
    memory.store(0x1_2003, at: 0x1_1008)
    Self.storeChain(memory, 0x2_0000, to: 0x5_0000)
    memory.store(0x1_2003, at: 0x2_1000)
    let all = Self.mappings(
      Self.machine(memory, roots: 0x1_0000, 0x2_0000), in: memory)
    #expect(all.allSatisfy { $0.gaps.isEmpty })
    #expect(all.map(\.runs.count) == [4, 2])
  }

  @Test func `a guest's table that leads to itself is named by its place in memory`() throws {
    let tables = try ScalableTables()
    let memory = tables.memory
    // Second stage: the guest's first 2 MiB lie at 0x200000.
    memory.store(0x13_1003, at: 0x13_0000)
    memory.store(0x13_2003, at: 0x13_1000)
    memory.store(0x20_0083, at: 0x13_2000)
    // First stage in guest memory at 0x50000: two ways down, one of them back.
    memory.store(0x5_1007, at: 0x25_0000)
    memory.store(0x5_0007, at: 0x25_1000)
    memory.store(0x5_2007, at: 0x25_1008)
    memory.store(0x5_3007, at: 0x25_2000)
    memory.store(0x6_0007, at: 0x25_3000)
    let nested = Table.nested(
      VTd.NestedTables(
        firstStage: VTd.FirstStageTable(
          root: PhysicalAddress(0x5_0000),
          format: VTd.FirstStageFormat(levels: 4, isNested: true, limits: .permissive),
          rules: VTd.Rules(isScalable: true), marks: .none),
        secondStage: VTd.SecondStageTable(
          root: PhysicalAddress(0x13_0000),
          format: VTd.SecondStageFormat(levels: 4, limits: .permissive), addressWidth: 48,
          isReported: true)))
    var budget = EnumerationBudget(for: memory)
    let mappings = DMATable(owner: .table(PhysicalAddress(0)), table: nested)
      .mappings(in: memory, budget: &budget)
    #expect(mappings.runs.map(\.physical) == [PhysicalAddress(0x26_0000)])
    #expect(
      mappings.gaps.map(\.causeText) == [
        "the table of level 3 at 0x251000 leads back to the one at 0x250000, above it (entry at "
          + "0x251000)"
      ])
  }

  /// Sixteen tables for each of three levels, all entries of each lead to one of the next sixteen, and
  /// no page to the next one's neighbour: 512^3 runs in 200 KiB.
  static func storeMaze(_ memory: FlatMemory, root: UInt64) {
    for index: UInt64 in 0..<512 {
      memory.store(root + 0x1_0000 + (index % 16) << 12 | 3, at: root + 8 * index)
    }
    for table: UInt64 in 0..<48 {
      let isLast = table >= 32
      let next = root + 0x1_0000 + (table / 16 + 1) << 16
      for index: UInt64 in 0..<512 {
        memory.store(
          (isLast ? 0x100_0000 + (index * 7 % 512) << 13 : next + (index % 16) << 12) | 3,
          at: root + 0x1_0000 + table << 12 + 8 * index)
      }
    }
  }

  @Test func `tables that use up what is looked at leave the others what they need`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    Self.storeMaze(memory, root: 0x4_0000)
    Self.storeChain(memory, 0x1_0000, to: 0x5_0000)
    let machine = Self.machine(memory, roots: 0x4_0000, 0x1_0000)
    let all = Self.mappings(machine, in: memory, runs: 40_000)
    #expect(all[1] == TableMappings(runs: [Self.page]))
    // Half of all, and 32,768 that nobody is denied, up to the end of a table.
    #expect((52_768...53_280).contains(all[0].runs.count))
    // What was gone through is known; what is not begins where it ended.
    #expect(all[0].gaps.map(\.cause) == [.tooManyReferences])
    let end = try #require(all[0].runs.last).iova.upperBound
    guard case .addresses(_, let range)? = all[0].gaps.first?.scope else {
      Issue.record("a gap of addresses")
      return
    }
    #expect(range == end..<IOVA(1 << 48))
  }

  @Test func `a budget is shared out evenly, and what one leaves is for all`() {
    var shares = EnumerationShares(
      EnumerationBudget(remainingTables: 6000, remainingRuns: 600_000), treeCount: 3)
    func spend(_ tables: UInt64) -> UInt64 {
      shares.spend { budget in
        defer { budget.remainingTables -= min(tables, budget.remainingTables) }
        return budget.remainingTables
      }
    }
    #expect(spend(10) == 4000)
    #expect(spend(.max) == 4000)
    #expect(spend(.max) == 1000)
    #expect(shares.rest.remainingTables == 990)
    // With a reserve of a million, not 64 for each: 2^20 + 2^20 tables and runs, however many trees.
    var many = EnumerationShares(
      EnumerationBudget(remainingTables: 1 << 20, remainingRuns: 1 << 20), treeCount: 65536)
    var first: EnumerationBudget?
    var total: (tables: UInt64, runs: Int64) = (0, 0)
    for _ in 0..<65536 {
      many.spend { budget in
        if first == nil { first = budget }
        total.tables += budget.remainingTables
        total.runs += budget.remainingRuns
        budget = EnumerationBudget(remainingTables: 0, remainingRuns: 0)
      }
    }
    #expect(first?.remainingTables == 524_352 && first?.remainingRuns == 557_056)
    #expect(total.tables == 2_097_152 && total.runs == 2_097_152)
    var one = EnumerationShares(EnumerationBudget(remainingTables: 7), treeCount: 1)
    #expect(one.spend { $0.remainingTables } == 7)
  }

  @Test func `gaps of a broken table are bounded, and none is lost`() {
    var gaps: [TableGap] = []
    for index: UInt64 in 0..<100_000 {
      gaps.add(
        TableGap(
          .absent, Self.addresses("00:01.0", index * 0x2000..<index * 0x2000 + 0x1000),
          in: .level(1), at: PhysicalAddress(0)))
    }
    #expect(gaps.count == 1 << 16)
    #expect(gaps.last?.cause == .tooMany)
    #expect(
      gaps.last?.scope == Self.addresses("00:01.0", 65_535 * 0x2000..<99_999 * 0x2000 + 0x1000))
  }
}

/// PASID directories and tables that lead nowhere, beside those that do.
@Suite struct AddressSpaceLimitTests {
  /// Context tables at 0x2000 and 0x3000; PASID directories of 262,144 address spaces.
  private struct Decoys {
    let memory: FlatMemory
    let machine: Machine

    init(passing: Bool) throws {
      memory = try FlatMemory(byteCount: 1 << 21)
      let memory = memory
      memory.store(0x2001, at: 0x1000)
      memory.store(0x3001, at: 0x1008)
      // 00:00.0 to 00:0f.7: a directory at 0x10000, each of whose entries leads to the table at
      // 0x4000, full of entries of a reserved type, or of pass-through.
      for function: UInt64 in 0..<128 { memory.store(0x1_0a09, at: 0x2000 + 32 * function) }
      for index: UInt64 in 0..<4096 { memory.store(0x4001, at: 0x1_0000 + 8 * index) }
      for index: UInt64 in 0..<64 {
        memory.store(passing ? 0x101 : 0x141, at: 0x4000 + 64 * index)
        memory.store(1, at: 0x4008 + 64 * index)
      }
      // 00:1f.7: one table, PASID 0 in second-stage table 0x20000, PASID 5 too.
      memory.store(0x1_8009, at: 0x3000 + 32 * 127)
      memory.store(0x5001, at: 0x1_8000)
      for pasid: UInt64 in [0, 5] {
        memory.store(0x2_0089, at: 0x5000 + 64 * pasid)
        memory.store(2, at: 0x5008 + 64 * pasid)
      }
      LimitTests.storeChain(memory, 0x2_0000, to: 0x5_0000)
      machine = Machine(
        name: "decoys",
        units: [
          .vtd(
            VTd.Unit(
              base: PhysicalAddress(0),
              rootTableAddress: VTd.RootTableAddress(rawValue: 0x1400),
              status: VTd.GlobalStatus(rawValue: 0xc000_0000), limits: .permissive))
        ])
    }
  }

  @Test func `address spaces that cannot translate hide none that can`() throws {
    let decoys = try Decoys(passing: false)
    let found = decoys.machine.tables(in: decoys.memory)
    #expect(found.tables.map(\.name) == ["00:1f.7/0", "00:1f.7/5"])
    #expect(found.gaps.isEmpty)
  }

  @Test func `of too many that translate those for requests without PASID are told all the same`()
    throws
  {
    let decoys = try Decoys(passing: true)
    let unit = try #require(decoys.machine.units[0].as(VTd.Unit.self))
    let upper = unit.upperTables(in: decoys.memory, limit: 1000)
    #expect(upper.addressSpaces.count == 1000 + 129)
    #expect(
      upper.addressSpaces.last
        == VTd.AddressSpace(
          requester: Requester("00:1f.7")!, pasid: PASID(0), isForRequestsWithoutPASID: true))
    #expect(upper.addressSpaces.count(where: \.isForRequestsWithoutPASID) == 129)
    // All of what is left out is told, device by device: of the first what comes behind 1,001 PASIDs.
    #expect(upper.gaps.allSatisfy { $0.cause == .tooMany })
    #expect(upper.gaps.count == 129)
    #expect(upper.gaps.first?.scope == .addressSpaces(Requester("00:00.0")!, 960...262_143))
    #expect(upper.gaps.last?.scope == .addressSpaces(Requester("00:1f.7")!, 0...8191))
  }
}
