import IOMMUFormats
import IOMMUKdump
import IOMMURule
import IOMMUTranslation
import Testing

/// R9. On a plain dump it never holds: which tables were given back is not in it.
@Suite struct TablesSoundTests {
  static let freedText = "which tables were given back is not known"

  @Test func `on a dump it is unknown for what was given back, and holds where that is known`()
    throws
  {
    #expect(try Dump.vtd().check().tablesSound().texts == [Self.freedText])
    #expect(try Dump.vtd().check { $0.freedTables = [] }.tablesSound().outcome == .holds)
    #expect(try Dump.gart().check().tablesSound().texts == [Self.freedText])
  }

  @Test func `on a dump it is broken by a table in the crash kernel, of whichever kind`() throws {
    for (page, text) in [
      (0x1000, "root table at 0x1000 lies in the crash kernel"),
      (0x2000, "context table at 0x2000 lies in the crash kernel"),
      (0x5000, "00:03.0: table at 0x5000 lies in the crash kernel"),
    ] as [(UInt64, String)] {
      let verdict = try Dump.vtd().check {
        $0.machine.crashKernel = [.addresses(page..<page + 0x1000)]
      }.tablesSound()
      #expect(verdict.outcome == .broken)
      #expect(verdict.texts == [text, Self.freedText])
      #expect(verdict.findings[0].entryAddress == PhysicalAddress(page))
    }
  }

  @Test func `on a dump it is broken by PASID directories and tables in the crash kernel too`()
    throws
  {
    // Scalable mode: root entry, context entry 00:00.0, directory, PASID table with PASID 0 in
    // pass-through.
    let dump = try Dump(
      [Dump.unit(scalable: true)],
      words: [
        (0x1000, 0x2001), (0x2000, 0x1_2001), (0x1_2000, 0x1_3001), (0x1_3000, 0x101),
        (0x1_3008, 5),
      ])
    func texts(_ page: UInt64) throws -> [String] {
      try dump.check(devices: []) {
        $0.machine.crashKernel = [.addresses(page..<page + 0x1000)]
        $0.freedTables = []
      }.tablesSound().texts
    }
    #expect(try texts(0x20_0000) == [])
    #expect(try texts(0x1_2000) == ["00:00.0: PASID directory at 0x12000 lies in the crash kernel"])
    #expect(try texts(0x1_3000) == ["00:00.0: PASID table at 0x13000 lies in the crash kernel"])
  }

  @Test func `on a dump it is broken by entries above the page tables that stop every request`()
    throws
  {
    let dump = try Dump.vtd()
    // Intel VT-d 9.3: bit 4 of a context entry is reserved. 9.1: so is bit 1 of a root entry.
    dump.store(0x6011, at: 0x2200)
    dump.store(0x9003, at: 0x1050)
    let verdict = try dump.check { $0.freedTables = [] }.tablesSound()
    #expect(
      verdict.texts == [
        "bus 05: every request faults 0xa, reserved bit set in the root entry: root table entry at 0x1050",
        "00:04.0: every request faults 0xb, reserved bit set in the context entry: context table entry "
          + "at 0x2200",
      ])
    #expect(
      verdict.findings.map(\.entryAddress) == [PhysicalAddress(0x1050), PhysicalAddress(0x2200)])
  }

  @Test func `on a dump it is broken by an interrupt remapping table in the crash kernel`() throws {
    let dump = try Dump([Dump.unit(status: 0xc300_0000, interruptTable: 0x5007)])
    let verdict = try dump.check(devices: []) {
      $0.machine.crashKernel = [.addresses(0x5000..<0x6000)]
      $0.freedTables = []
    }.tablesSound()
    #expect(verdict.texts == ["interrupt remapping table at 0x5000 lies in the crash kernel"])
  }

  @Test func `on a dump it is broken by two tables under one domain`() throws {
    // Domains 3 and 4, then 3 for both; their tables are different ones.
    let dump = try Dump.vtd()
    #expect(try dump.check { $0.freedTables = [] }.tablesSound().texts == [])
    dump.store(0x301, at: 0x2208)
    let clashing = try dump.check { $0.freedTables = [] }.tablesSound()
    #expect(clashing.outcome == .broken)
    #expect(
      clashing.texts == [
        "00:04.0: domain 3 is that of different tables, 0x3000 (00:03.0) and 0x6000 (00:04.0): what is "
          + "cached of one answers for the others"
      ])
    // One table for both is as it should be.
    dump.store(0x3001, at: 0x2200)
    #expect(try dump.check { $0.freedTables = [] }.tablesSound().texts == [])
  }

  @Test func `first-stage tables are told apart by PASID too`() throws {
    // Scalable mode, 00:00.0: PASIDs 0 and 1 in domain 9, first-stage tables of four levels.
    let dump = try Dump(
      [Dump.unit(scalable: true)],
      words: [
        (0x1000, 0x2001), (0x2000, 0x1_2001), (0x1_2000, 0x1_3001),
        (0x1_3000, 0x41), (0x1_3008, 9), (0x1_3010, 0x1_5000),
        (0x1_3040, 0x41), (0x1_3048, 9), (0x1_3050, 0x1_6000),
        // 00:01.0: PASID 0 in the same domain, of another table.
        (0x2100, 0x2_2001), (0x2_2000, 0x2_3001),
        (0x2_3000, 0x41), (0x2_3008, 9), (0x2_3010, 0x2_5000),
      ])
    #expect(
      try dump.check(devices: []) { $0.freedTables = [] }.tablesSound().texts == [
        "00:01.0/0: domain 9 is that of different tables, 0x15000 (00:00.0/0) and 0x25000 "
          + "(00:01.0/0): what is cached of one answers for the others"
      ])
  }

  @Test func `on a dump it is broken by an entry with a reserved bit, and one in no memory`() throws
  {
    let dump = try Dump.vtd()
    // A page of 1 GiB that begins at 4 KiB.
    dump.store(0x4000_1083, at: 0x3008)
    // A table where the machine has no memory.
    dump.store(0x7fff_0003, at: 0x6008)
    #expect(
      try dump.check().tablesSound().texts == [
        "00:03.0: entry at 0x3008, level 3, has a reserved bit set",
        "00:04.0: entry at 0x7fff0000, level 2, lies where no memory answers",
        Self.freedText,
      ])
  }

  @Test func `on a dump it is broken by a root table where the machine has no memory`() throws {
    var dump = try Dump.vtd()
    dump.machine.ram = [.addresses(0x3000..<0x100_0000)]
    #expect(
      try dump.check(lacking: [0x1000]).tablesSound().texts == [
        "no memory answers at 0x1000, in the root table", Self.freedText,
      ])
  }

  @Test func `on a dump it is unknown where a table is missing`() throws {
    #expect(
      try Dump.vtd().check(lacking: [0x5000]).tablesSound().texts == [
        "00:03.0: 0x200000..<0x400000: unknown, the table of level 1 at 0x5000 is not in this dump",
        Self.freedText,
      ])
    #expect(
      try Dump.vtd().check(lacking: [0x1000]).tablesSound().texts == [
        "all devices: unknown, the root table at 0x1000 is not in this dump", Self.freedText,
      ])
  }

  @Test func `an entry for addresses beyond the width in force is nobody's concern`() throws {
    // CAP: ND 6, 48-bit tables, MGAW 39. The second entry of the uppermost table, for IOVA 2^39,
    // leads where no memory is.
    let limits = VTd.Limits(
      capability: VTd.Capability(rawValue: 0x26_0000_0406 & 0x3f_ffff | 38 << 16),
      extendedCapability: VTd.ExtendedCapability(rawValue: 0))
    let dump = try Dump(
      [Dump.unit(limits: limits)],
      words: [
        (0x1000, 0x2001), (0x2180, 0x3001), (0x2188, 0x302), (0x3000, 0x4003),
        (0x3008, 0x7fff_0003),
      ])
    #expect(try dump.check(devices: ["00:03.0"]) { $0.freedTables = [] }.tablesSound().texts == [])
  }

  @Test func `a guest's first stage is its own, what lies under it is judged`() throws {
    // PASID 0 of 00:00.0: nested, first stage at guest 0x1000, second stage 0x6000 of three levels,
    // whose last entry has its reserved bits set.
    let dump = try Dump(
      [Dump.unit(scalable: true)],
      words: [
        (0x1000, 0x2001), (0x2000, 0x1_2001), (0x1_2000, 0x1_3001), (0x1_3000, 0x60c5),
        (0x1_3008, 0x5), (0x1_3010, 0x1000), (0x6000, 0x4000_1083),
      ])
    #expect(
      try dump.check(devices: []) { $0.freedTables = [] }.tablesSound().texts == [
        "00:00.0/0: entry at 0x6000, level 3, has a reserved bit set"
      ])
  }

  @Test func `it does not apply where nothing is translated`() throws {
    #expect(try Dump.nommu().check().tablesSound().outcome == .notApplicable)
    #expect(try Dump.vtd(status: 0).check().tablesSound().outcome == .notApplicable)
    #expect(check(try crash(.swiotlb)).tablesSound().outcome == .notApplicable)
  }

  @Test(arguments: [TranslationMode.gart, .calgary, .vtd, .amdvi])
  func `in a live crash it holds for tables that are outside the crash kernel and sound`(
    mode: TranslationMode
  ) throws {
    #expect(check(try crash(mode)).tablesSound().outcome == .holds)
  }

  @Test func `in a live crash it is broken by a table in the crash kernel, and one given back`()
    throws
  {
    let primary = try crash(.vtd)
    let iova = try #require(primary.mapped.first { $0.device == disk }).iova.rawValue
    let table = lastEntry(primary, iova).alignedDown(to: 4096)
    let page = table..<PhysicalAddress(table.rawValue + 4096)
    let inside = check(primary) { $0.machine.crashKernel = [page] }.tablesSound()
    #expect(inside.texts == ["01:01.0: table at \(table) lies in the crash kernel"])
    let freed = check(primary) { $0.freedTables = [page] }.tablesSound()
    #expect(freed.texts == ["01:01.0: table at \(table) has been given back and is still used"])
  }

  @Test func `in a live crash it is broken by a damaged entry`() throws {
    let primary = try crash(.vtd)
    let iova = try #require(primary.mapped.first { $0.device == disk }).iova.rawValue
    let entry = lastEntry(primary, iova)
    // Bit 62 is reserved in this unit.
    primary.memory.store(primary.memory.quadword(at: entry)! | 1 << 62, at: entry)
    let damaged = check(primary).tablesSound()
    #expect(damaged.outcome == .broken)
    #expect(damaged.findings.map(\.entryAddress) == [entry])
  }

  @Test func `in a live crash it is unknown of a table that leads to itself`() throws {
    let primary = try crash(.vtd)
    // 32 entries of the disk's uppermost table lead to that table: 32^3 ways through four levels.
    let root = try #require(primary.rootOfDisk)
    for index in UInt64(0)..<32 {
      primary.memory.store(root.rawValue | 3, at: PhysicalAddress(root.rawValue + index * 8))
    }
    let verdict = check(primary).tablesSound()
    #expect(verdict.outcome == .unknown)
    #expect(verdict.findings.count == 1)
    #expect(
      verdict.findings[0].text.hasSuffix(
        "leads to itself (entry at \(root))"))
  }
}

extension PrimaryKernel {
  /// The uppermost table of the disk.
  fileprivate var rootOfDisk: PhysicalAddress? {
    guard case .table(let table) = machine.resolve(disk.requester, in: memory).route else {
      return nil
    }
    return table.root
  }
}
