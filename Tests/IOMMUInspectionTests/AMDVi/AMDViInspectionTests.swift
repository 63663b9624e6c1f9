import IOMMUFormats
import IOMMUTestSupport
import IOMMUTranslation
import Testing

@testable import IOMMUInspection

/// A machine as Linux leaves it: 1,024 devices, most of them blocked, three with tables of three levels.
/// Everything is written as plain words.
private struct LinuxTables {
  let memory: FlatMemory
  static let deviceTable: UInt64 = 0x20_0000
  /// 00:03.0 and 00:03.1 share a table, 00:06.0 has one of its own; 00:07.0 passes.
  static let devices: [(number: UInt64, low: UInt64, domain: UInt64)] = [
    (0x18, 0x6000_0000_0030_0603, 2), (0x19, 0x6000_0000_0030_0603, 2),
    (0x30, 0x6000_0000_0031_0603, 3), (0x38, 0x6000_0000_0000_0003, 4),
  ]

  init(at table: UInt64 = deviceTable, in given: FlatMemory? = nil) throws {
    memory = try given ?? FlatMemory(byteCount: 8 << 20)
    func store(_ word: UInt64, _ address: UInt64) {
      memory.store(word, at: PhysicalAddress(address))
    }
    for number in 0..<UInt64(1024) { store(3, table + 32 * number) }
    for device in Self.devices {
      store(device.low, table + 32 * device.number)
      store(device.domain, table + 32 * device.number + 8)
      // Interrupts: 512 entries at 0x380000.
      store(0x2000_0000_0038_0013, table + 32 * device.number + 16)
    }
    for root in [0x30_0000, 0x31_0000] as [UInt64] {
      store(0x6000_0000_0000_0401 | root + 0x1000, root + 8 * 3)
      store(0x6000_0000_0000_0201 | root + 0x2000, root + 0x1000 + 8 * 511)
      // Four pages of 4 KiB, and one of 16 KiB in four entries.
      for index in 0..<UInt64(4) {
        store(0x7000_0000_0040_0001 + index << 12 + (root & 0x1_0000), root + 0x2000 + 8 * index)
        store(0x7000_0000_0048_1e01, root + 0x2000 + 8 * (8 + index))
      }
    }
  }

  var unit: AMDVi.Unit {
    AMDVi.Unit(
      base: PhysicalAddress(0xfed8_0000),
      deviceTable: AMDVi.DeviceTableBase(rawValue: Self.deviceTable | 7),
      control: AMDVi.Control(rawValue: 1))
  }

  var machine: Machine { Machine(name: "AMD", units: [.amdvi(unit)]) }
}

@Suite struct AMDViInspectionTests {
  @Test func `a device table is found, with the length that kernels allocate`() throws {
    let tables = try LinuxTables()
    let search = TableSearch(in: tables.memory)
    let first = try #require(search.candidates.first)
    #expect(first.kind == .deviceTable && first.score == 100)
    #expect(first.address == PhysicalAddress(0x20_0000) && first.byteCount == 0x8000)
    #expect(
      first.reasons == [
        "1024 of 1024 entries in use legal, 1020 of them alike", "lies at a multiple of its size",
        "2 of 2 page table trees sound, 16 pages mapped", "1 in pass-through",
      ])
    #expect(search.candidates.count { $0.isCertain } == 1)
    let selection = search.selection(in: tables.memory)
    #expect(selection.taken.map(\.address) == [PhysicalAddress(0x20_0000)])
    let unit = try #require(selection.units.first?.as(AMDVi.Unit.self))
    #expect(unit.deviceTable.rawValue == 0x20_0007 && unit.control == nil)
  }

  @Test func `entries behind the last device belong to the table`() throws {
    // Of eight pages the last three are empty.
    let tables = try LinuxTables()
    for page in 5..<UInt64(8) {
      for word in 0..<UInt64(512) {
        tables.memory.store(0 as UInt64, at: PhysicalAddress(0x20_0000 + page << 12 + word << 3))
      }
    }
    let first = try #require(TableSearch(in: tables.memory).candidates.first)
    #expect(first.byteCount == 0x8000 && first.isCertain)
    // Something else in the last page, and it ends where its entries do.
    tables.memory.store(0x1234 as UInt64, at: PhysicalAddress(0x20_7000))
    #expect(TableSearch(in: tables.memory).candidates.first?.byteCount == 0x5000)
  }

  @Test(arguments: [
    // V alone of a half-written entry; a reserved bit; Mode 7; IoCtl 11b; noise.
    (0, 0 as UInt64), (0, 0x6000_0000_0030_0607), (0, 0x6000_0000_0030_0e03), (1, 0x18_0000_0002),
    (0, 0x0123_4567_89ab_cdef), (2, 0x3f00_0000_0038_0019),
  ])
  func `one broken entry does not move the table`(word: Int, value: UInt64) throws {
    for page in [0, 3, 7] as [UInt64] {
      let tables = try LinuxTables()
      let entry = 0x20_0000 + page << 12 + 32 * 0x11
      if word > 0 { tables.memory.store(3 as UInt64, at: PhysicalAddress(entry)) }
      tables.memory.store(value, at: PhysicalAddress(entry + 8 * UInt64(word)))
      tables.memory.store(5 as UInt64, at: PhysicalAddress(entry + 8))
      let first = try #require(TableSearch(in: tables.memory).candidates.first)
      #expect(first.address == PhysicalAddress(0x20_0000) && first.byteCount == 0x8000)
      #expect(first.isCertain)
    }
  }

  @Test func `an exclusion range is nobody's table and everybody's way`() throws {
    let tables = try LinuxTables()
    var unit = tables.unit
    unit.exclusionBase = AMDVi.ExclusionBase(rawValue: 0x50_0003)
    unit.exclusionLimit = AMDVi.ExclusionLimit(rawValue: 0x50_f000)
    let machine = Machine(name: "", units: [.amdvi(unit)])
    let reach = ReachReport(
      PhysicalAddress(0x50_1000), writing: true, machine: machine, in: tables.memory)
    #expect(reach.ways.first?.table == "00:00.0 to 03:1f.7")
    var text = ""
    _ = MapsReport(all: machine, in: tables.memory).writeText(of: tables.memory, to: &text)
    #expect(text.contains("not translated: 00:00.0 to 03:1f.7 at 0x500000..<0x510000"))
  }

  @Test func `the last page of all has all of its bytes`() throws {
    let tables = try LinuxTables()
    // 00:03.0 with six levels, the last entry of each.
    func store(_ word: UInt64, _ address: UInt64) {
      tables.memory.store(word, at: PhysicalAddress(address))
    }
    store(0x6000_0000_0070_0c03, 0x20_0300)
    store(0x6000_0000_0070_1a01, 0x70_03f8)
    for level in 2..<UInt64(6) {
      store(
        0x6000_0000_0070_0001 | (7 - level) << 12 | (level - 1) << 9, 0x70_0ff8 | (6 - level) << 12)
    }
    store(0x6000_0000_0048_0001, 0x70_5ff8)
    var text = ""
    MapsReport(all: tables.machine, in: tables.memory).forEachTable(in: tables.memory) {
      if $0.table.name == "00:03.0" { $0.writeTSV(to: &text) }
    }
    #expect(text == "00:03.0\t0xfffffffffffff000\t0x1000\t0x480000\trw\n")
    let reach = ReachReport(
      PhysicalAddress(0x48_0fff), machine: tables.machine, in: tables.memory)
    #expect(reach.ways.contains { $0.table == "00:03.0" })
  }

  @Test func `pages that let no device do anything are no table`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    for number in 0..<UInt64(1024) {
      memory.store(3 as UInt64, at: PhysicalAddress(0x1_0000 + 32 * number))
    }
    #expect(TableSearch(in: memory).candidates.isEmpty)
  }

  @Test func `a copy shares page tables, and is the capture kernel's where its memory is known`()
    throws
  {
    let tables = try LinuxTables()
    _ = try LinuxTables(at: 0x60_0000, in: tables.memory)
    let crashKernel = [PhysicalAddress(0x60_0000)..<PhysicalAddress(0x70_0000)]
    let search = TableSearch(in: tables.memory, crashKernel: crashKernel)
    let certain = search.candidates.filter(\.isCertain)
    #expect(certain.map(\.address.rawValue) == [0x60_0000, 0x20_0000])
    #expect(certain.map(\.owner) == [.captureKernel, .deadKernel])
    #expect(
      certain[0].reasons.contains("shares page tables with the device table at 0x200000"))
    // Without that range nothing tells, and nobody guesses.
    #expect(TableSearch(in: tables.memory).candidates.allSatisfy { $0.owner == nil })
  }

  @Test func `without its whole device table nothing is known of a unit`() throws {
    let tables = try LinuxTables()
    let pages = (0..<8).map { 0x20_0000 + $0 << 12 } as [UInt64]
    let memory = LackingMemory(tables.memory, without: Set(pages))
    let text = "all devices: unknown, the device table at 0x200000 is not in this dump"
    let report = MapsReport(all: tables.machine, in: memory)
    #expect(report.tables.isEmpty && report.gaps.map(\.text) == [text])
    #expect(Blindness(report.gaps).hidesUnit)
    #expect(DumpReport(title: "", machine: tables.machine, in: memory).blindness.hidesUnit)
    #expect(Annotator(tables.machine, in: memory).gaps.map(\.text) == [text])
    #expect(FaultExplainer(tables.machine, in: memory).gaps.map(\.text) == [text])
    // One page is there: of its 128 devices something is known.
    let part = LackingMemory(tables.memory, without: Set(pages.dropFirst()))
    let known = MapsReport(all: tables.machine, in: part)
    #expect(
      known.gaps.map(\.text) == [
        "00:10.0 to 03:1f.7: unknown, the device table at 0x201000 is not in this dump"
      ])
    #expect(!Blindness(known.gaps).hidesUnit && known.tables.count == 4)
    // Of a table in two segments one is there.
    var unit = tables.unit
    unit.control = AMDVi.Control(rawValue: 1 | 1 << 34)
    unit.deviceTable = AMDVi.DeviceTableBase(rawValue: 0x20_0007)
    unit.furtherSegments = [AMDVi.DeviceTableSegmentBase(rawValue: 0x20_0007)]
    let halves = MapsReport(all: Machine(name: "", units: [.amdvi(unit)]), in: memory)
    #expect(
      halves.gaps.map(\.subjectText) == ["00:00.0 to 03:1f.7", "80:00.0 to 83:1f.7"])
  }

  @Test func `a table is named with its length and its unit`() throws {
    let tables = try LinuxTables()
    let named = try NamedTable("amdvi:200000+32K@fed80000")
    let unit = try #require(
      try named.unit(in: tables.memory, TableHints()).as(AMDVi.Unit.self))
    #expect(unit.base == PhysicalAddress(0xfed8_0000) && unit.deviceTable.byteCount == 0x8000)
    let found = try #require(
      try NamedTable("amdvi:200000").unit(in: tables.memory, TableHints()).as(AMDVi.Unit.self))
    #expect(found.deviceTable.byteCount == 0x8000)
    #expect(throws: NamedTableError.self) {
      try NamedTable("amdvi:200000+5000000").unit(in: tables.memory, TableHints())
    }
  }

  @Test func `registers that lead to another dump's table are doubted`() throws {
    let tables = try LinuxTables()
    #expect(tables.machine.doubts(in: tables.memory).isEmpty)
    var unit = tables.unit
    unit.deviceTable = AMDVi.DeviceTableBase(rawValue: 0x50_0007)
    #expect(
      Machine(name: "", units: [.amdvi(unit)]).doubts(in: tables.memory) == [
        "the device table at 0x500000 has a table for no device: is it of this dump? 'iommu find' lists "
          + "device tables"
      ])
  }

  @Test func `a summary counts pages by their own size`() throws {
    let tables = try LinuxTables()
    let summary = MapsSummary(MapsReport(all: tables.machine, in: tables.memory), in: tables.memory)
    #expect(summary.rows.map(\.table) == ["00:03.0", "00:03.1", "00:06.0", "00:07.0"])
    #expect(summary.rows[0].pagesText == "4 of 4 KiB, 1 of 16 KiB")
    #expect(summary.rows[0].byteCount == 0x8000 && summary.rows[0].runCount == 2)
    #expect(summary.rows[1].sharedWith == "00:03.0")
    #expect(summary.rows[3].heading == "pass-through")
    var text = ""
    MapsReport(all: tables.machine, in: tables.memory).forEachTable(in: tables.memory) {
      $0.writeTSV(to: &text)
    }
    #expect(text.hasSuffix("00:07.0\t*\t*\tpass-through\trw\n"))
  }

  @Test func `a walk tells every entry, and the event's number`() throws {
    let tables = try LinuxTables()
    let walk = ToldWalk(
      Requester(rawValue: 0x18), IOVA(0xffe0_9234), access: .write, machine: tables.machine,
      in: tables.memory)
    #expect(walk.route == "host page table 0x300000, 3 levels")
    #expect(
      walk.steps.map { "\($0.titleText) at \($0.address): \($0.entry.meaning)" } == [
        "device table entry [0x18] at 0x200300: host page table 0x300000, 3 levels, rw, domain 2; "
          + "interrupt table 0x380000, 512 entries",
        "PDE of level 3 [0x3] at 0x300018: table 0x301000 of level 2, read and write",
        "PDE of level 2 [0x1ff] at 0x301ff8: table 0x302000 of level 1, read and write",
        "PTE of level 1 [0x9] at 0x302048: 16 KiB page 0x480000, read and write",
      ])
    #expect(walk.end == .memory(PhysicalAddress(0x48_1234), byteCount: 0xdcc))
    let blocked = ToldWalk(
      Requester(rawValue: 0x1a), IOVA(0x1000), access: .read, machine: tables.machine,
      in: tables.memory)
    #expect(
      blocked.endText == "faults 0x2: the device table entry does not permit it (IR, IW)")
  }

  private func explained(_ line: String, _ tables: LinuxTables) throws -> FaultExplanation {
    let fault = try #require(log(line).faults.first)
    return FaultExplainer(tables.machine, in: tables.memory).explain(fault)
  }

  @Test func `an event is explained by the entry that stops the request`() throws {
    let tables = try LinuxTables()
    let absent = try explained(
      "AMD-Vi: Event logged [IO_PAGE_FAULT device=00:03.0 domain=0x0002 address=0xffe05000 "
        + "flags=0x0020]", tables)
    #expect(absent.now == "the same: faults 0x2: page table entry not present")
    #expect(absent.remedy == "the buffer's page here, with PR and IW")
    #expect(absent.isBorneOut)
    // A permission that is there now.
    let mapped = try explained(
      "AMD-Vi: Event logged [IO_PAGE_FAULT device=00:03.0 domain=0x0002 address=0xffe01000 "
        + "flags=0x0050]", tables)
    #expect(mapped.now?.hasPrefix("allowed: the tables lead to 0x401000") == true)
    // Present and not permitted, by the log; not present, by the dump.
    let other = try explained(
      "AMD-Vi: Event logged [IO_PAGE_FAULT device=00:03.0 domain=0x0002 address=0xffe05000 "
        + "flags=0x0050]", tables)
    #expect(other.now?.hasPrefix("another fault than then") == true && !other.isBorneOut)
    let unattached = try explained(
      "AMD-Vi: Event logged [IO_PAGE_FAULT device=00:04.0 domain=0x0000 address=0x1000 "
        + "flags=0x0050]", tables)
    #expect(unattached.now?.hasPrefix("the same: ") == true)
    #expect(
      unattached.remedy
        == "IR in the device table entry at 0x200400, and a page table or Mode 0, before the "
        + "device's first DMA")
    // What tables have no say in.
    let hardware = try explained(
      "AMD-Vi: Event logged [DEV_TAB_HARDWARE_ERROR device=00:03.0 address=0x200300 flags=0x0400]",
      tables)
    #expect(hardware.now == "page tables have no say in it" && hardware.walk == nil)
    let interrupt = try explained(
      "AMD-Vi: Event logged [IO_PAGE_FAULT device=00:14.0 domain=0x0000 address=0xfdf8a0ff00 "
        + "flags=0x0008]", tables)
    #expect(
      interrupt.now
        == "device table entry [0xa0] at 0x201400: interrupts pass as they are (IV clear)")
  }

  @Test func `every reason has a remedy or none by choice`() throws {
    let tables = try LinuxTables()
    let walk = ToldWalk(
      Requester(rawValue: 0x18), IOVA(0xffe0_5000), access: .read, machine: tables.machine,
      in: tables.memory)
    let without = AMDVi.FaultReason.allCases.filter { $0.remedy(walk) == nil }
    #expect(
      without == [
        .deviceTableUnreadable, .deviceTableEntryReserved, .tableUnreadable, .entryReserved,
        .guestRootUnreadable, .guestTableUnreadable, .guestEntryReserved,
        .interruptFieldsReserved, .interruptControlReserved, .interruptTableLengthIllegal,
        .interruptBeyondTable, .interruptTableUnreadable, .interruptNotPresent,
        .interruptEntryReserved, .interruptNotPassed,
      ])
  }

  @Test func `bytes of tables are told entry by entry`() throws {
    let tables = try LinuxTables()
    let annotator = Annotator(tables.machine, in: tables.memory)
    func text(_ address: UInt64) -> [String] {
      annotator.entries(at: PhysicalAddress(address), in: tables.memory).map(\.text)
    }
    #expect(
      text(0x20_0300) == [
        "device table entry 00:03.0: host page table 0x300000, 3 levels, rw, domain 2; interrupt table "
          + "0x380000, 512 entries"
      ])
    #expect(
      text(0x30_1ff8) == [
        "PDE of level 2 of 00:03.0 and 1 more   IOVA 0xffe00000 -> table 0x302000"
      ])
    #expect(
      text(0x30_2048) == ["PTE of 00:03.0 and 1 more   IOVA 0xffe09000 -> 0x480000 rw 16 KiB"])
  }

  @Test func `ways through a table that many devices share are counted behind a limit`() throws {
    let memory = try FlatMemory(byteCount: 8 << 20)
    func store(_ word: UInt64, _ address: UInt64) {
      memory.store(word, at: PhysicalAddress(address))
    }
    // 64 devices with one table, whose 4,096 entries all name the page at 0x480000.
    for number in 0..<UInt64(64) { store(0x6000_0000_0030_0603, 0x20_0000 + 32 * number) }
    store(0x6000_0000_0030_1401, 0x30_0000)
    for table in 0..<UInt64(8) {
      store(0x6000_0000_0030_2201 + table << 12, 0x30_1000 + 8 * table)
      for index in 0..<UInt64(512) {
        store(0x6000_0000_0048_0001, 0x30_2000 + table << 12 + 8 * index)
      }
    }
    let unit = AMDVi.Unit(
      base: PhysicalAddress(0xfed8_0000),
      deviceTable: AMDVi.DeviceTableBase(rawValue: 0x20_0000), control: nil)
    let machine = Machine(name: "", units: [.amdvi(unit)])
    let reach = ReachReport(PhysicalAddress(0x48_0000), machine: machine, in: memory)
    // Whoever passes untranslated, two to the seventeenth, and one of each device behind them.
    let told = reach.ways.filter { $0.iova != nil }
    #expect(told.count <= 1 << 17 + 64)
    #expect(told.count + reach.omittedWayCount == 64 * 4096)
    #expect(Set(told.map(\.table)).count == 64)
    var text = ""
    reach.write(to: &text)
    #expect(text.contains("ways more, through the tables of these devices"))
  }

  @Test func `values that hardware does not take are told beside reserved bits`() throws {
    func complaints(_ kind: String, _ words: [UInt64]) throws -> [String] {
      try #require(EntryCatalog.kind(named: kind)).describe(words).violations
    }
    // IoCtl 11b; Mode 7; GLX 11b; IntTabLen 12 and IntCtl 11b.
    #expect(
      try complaints("amdvi-dte", [0x6000_0000_1234_5603, 0x18_0000_0005, 0, 0])
        == ["IoCtl is 11b, which is reserved"])
    #expect(
      try complaints("amdvi-dte", [0x6000_0000_1234_5e03, 5, 0, 0])
        == ["Mode is 7, which is reserved"])
    #expect(
      try complaints("amdvi-dte", [0x6380_0000_1234_5603, 5, 0, 0])
        == ["GLX is 3, which the unit does not have"])
    #expect(
      try complaints("amdvi-dte", [0, 0, 0x2000_0000_0038_0019, 0])
        == ["IntTabLen is 12, and the most is 11"])
    #expect(
      try complaints("amdvi-dte", [0, 0, 0x3000_0000_0038_0013, 0])
        == ["IntCtl is 11b, which is reserved"])
    #expect(
      try complaints("amdvi-pte1", [0x6000_0000_001f_fe01]) == ["no page of level 1 has this size"])
    #expect(
      try complaints("amdvi-pte2", [0x6000_0000_0020_0401])
        == ["NextLevel is 2, and the entry is of level 2"])
    #expect(
      try complaints("amdvi-pte6", [0x6000_0000_0000_0001]) == ["no page of level 6 has this size"])
    // Level 1 has no tables below it; what the entry seems to be is what its reserved bits are of.
    #expect(
      try complaints("amdvi-pte1", [0x7000_0000_0020_0601])
        == ["reserved bits 60:52 are set: 0x100", "NextLevel is 3, and the entry is of level 1"])
    // Nothing counts in an entry that is not there.
    #expect(try complaints("amdvi-pte2", [0x6000_0000_0020_0400]).isEmpty)
    #expect(try complaints("amdvi-dte", [0x6000_0000_1234_5e02, 5, 0, 0]).isEmpty)
  }

  @Test func `events say of whom they are where they know`() throws {
    func meaning(_ words: [UInt64]) throws -> String {
      try #require(EntryCatalog.kind(named: "amdvi-event")).describe(words).meaning
    }
    #expect(
      try meaning([0x3400_0000_0000_0300, 0x10_6000])
        == "DEV_TAB_HARDWARE_ERROR of 03:00.0: device table entry that memory did not give: target abort"
    )
    #expect(
      try meaning([0x5000_0000_0000_0300, 0x14_0060])
        == "ILLEGAL_COMMAND_ERROR: command that the unit does not take; it has stopped its queue")
    #expect(
      try meaning([0x6600_0000_0000_0300, 0x14_0070])
        == "COMMAND_HARDWARE_ERROR: command that memory did not give, or whose answer it did not take: "
        + "data error")
    #expect(
      try meaning([0xa000_0000_0000_0000, 0x89ab_cdef_0004_5678])
        == "EVENT_COUNTER_ZERO: performance counter that has come to zero")
    #expect(
      try meaning([0xf000_0000_0000_0300, 0]) == "event 0xf: event of a code that is not known")
    let counter = try #require(EntryCatalog.kind(named: "amdvi-event")).describe([
      0xa000_0000_0000_0000, 0x89ab_cdef_0004_5678,
    ])
    #expect(
      counter.fields.filter { $0.value != 0 }.map { "\($0.name) \(hexadecimal($0.value))" } == [
        "CounterNote31:0 0x89abcdef", "CounterNote51:32 0x45678", "EventCode 0xa",
      ])
  }

  @Test func `interrupts of devices that may do nothing say nothing`() throws {
    let tables = try LinuxTables()
    guard case .blocks(let text) = tables.unit.interrupts(in: tables.memory) else {
      Issue.record("the devices' interrupts are remapped")
      return
    }
    #expect(text == "the unit at 0xfed80000 remaps interrupts of 00:03.0 and 3 more devices")
    // Linux's entry for devices that it does not know: stopped, and nobody's.
    for number in [0x40, 0x41] as [UInt64] {
      tables.memory.store(1 as UInt64, at: PhysicalAddress(0x20_0010 + 32 * number))
    }
    #expect(tables.unit.interrupts(in: tables.memory) == .blocks(text))
  }
}
