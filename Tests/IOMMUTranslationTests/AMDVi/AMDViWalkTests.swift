import IOMMUFormats
import Testing

@testable import IOMMUTranslation

/// A unit with its device table at 0x100000, as the manual's readers have it, and tables written as words.
struct AMDViFixture {
  let memory: FlatMemory
  var unit: AMDVi.Unit

  /// The device table entry of 00:04.0: Mode 3, tables at 0x163000, domain 5.
  static let entry: [UInt64] = [0x6000_0000_0016_3603, 5, 0, 0]
  /// W1: a page of 4 KiB for 0x12345000.
  static let tables: [UInt64: UInt64] = [
    0x16_3000: 0x6000_0000_0016_2401, 0x16_2488: 0x6000_0000_0016_1201,
    0x16_1a28: 0x6000_0000_0020_0001,
  ]

  init(
    entry: [UInt64] = AMDViFixture.entry, tables: [UInt64: UInt64] = AMDViFixture.tables,
    deviceTable: UInt64 = 0x10_001f, features: UInt64? = nil
  ) throws {
    memory = try FlatMemory(byteCount: 4 << 20)
    for (index, word) in entry.enumerated() {
      memory.store(word, at: 0x10_0400 + 8 * UInt64(index))
    }
    for (address, word) in tables { memory.store(word, at: address) }
    unit = AMDVi.Unit(
      base: PhysicalAddress(0xfed8_0000),
      deviceTable: AMDVi.DeviceTableBase(rawValue: deviceTable),
      control: AMDVi.Control(rawValue: 0x1_0001),
      features: features.map(AMDVi.ExtendedFeatures.init(rawValue:)))
  }

  /// What becomes of a request, with its event where one is logged.
  func answer(
    _ address: UInt64, _ operation: VTd.Request.Operation = .read, pasid: PASID? = nil,
    isExecute: Bool = false, from requester: Requester = device,
    marker: some EntryMarker = NoMarks()
  ) -> (AMDVi.Answer, AMDVi.Event?) {
    var observer = Unobserved()
    let resolver = AMDVi.Resolver(unit)
    let answer: AMDVi.Answer
    switch resolver.deviceTableEntry(of: requester, in: memory, observer: &observer) {
    case .failure(let fault): answer = .fault(fault)
    case .success(let entry):
      answer = resolver.binding(of: pasid, entry: entry, in: memory, observer: &observer).answer(
        to: address, byteCount: 4, for: operation, isExecute: isExecute, in: memory,
        marker: marker, observer: &observer)
    }
    guard case .fault(let fault) = answer else { return (answer, nil) }
    let request = AMDVi.Request(
      requester, IOVA(address), operation, pasid: pasid, isExecute: isExecute)
    return (answer, fault.event(for: request))
  }

  /// The bytes of the event that a request leads to, as a hexdump; `nil` when it leads to none.
  func event(
    _ address: UInt64, _ operation: VTd.Request.Operation = .read, pasid: PASID? = nil,
    isExecute: Bool = false, from requester: Requester = device
  ) -> String? {
    answer(address, operation, pasid: pasid, isExecute: isExecute, from: requester).1.map { event in
      event.bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
  }
}

@Suite struct AMDViWalkTests {
  static let walks: [(name: String, mode: UInt64, tables: [UInt64: UInt64], UInt64, UInt64)] = [
    ("W1", 0x16_3600, AMDViFixture.tables, 0x1234_5010, 0x20_0010),
    (
      "W2", 0x16_3600,
      [0x16_3000: 0x6000_0000_0016_2401, 0x16_2488: 0x6000_0000_0020_0001], 0x1220_0010, 0x20_0010
    ),
    (
      "W3", 0x16_3600,
      [
        0x16_3000: 0x6000_0000_0016_2401, 0x16_2488: 0x6000_0000_0016_1201,
        0x16_1a28: 0x6000_0000_0020_0e01,
      ], 0x1234_5010, 0x20_1010
    ),
    (
      "W4", 0x16_3600,
      [
        0x16_3000: 0x6000_0000_0016_2401, 0x16_2488: 0x6000_0000_0016_1201,
        0x16_1a28: 0x6000_0000_0020_7e01,
      ], 0x1234_5010, 0x20_5010
    ),
    (
      "W5", 0x16_3600,
      [0x16_3000: 0x6000_0000_0016_2401, 0x16_2488: 0x6000_0000_001f_fe01], 0x1220_0010, 0x20_0010
    ),
    ("W6", 0x16_3600, [0x16_3000: 0x6000_0000_0000_0001], 0x20_0010, 0x20_0010),
    (
      "W7", 0x16_3600,
      [0x16_3000: 0x6000_0000_0016_1201, 0x16_1a28: 0x6000_0000_0020_0001], 0x14_5010, 0x20_0010
    ),
    (
      "W8", 0x16_3600,
      [
        0x16_3000: 0x6000_0000_0016_2401, 0x16_2488: 0x6000_0000_0016_1201,
        0x16_1a28: 0xe000_0000_0020_01ff,
      ], 0x1234_5010, 0x20_0010
    ),
    (
      "W9", 0x16_3600,
      [
        0x16_3000: 0x6000_0000_0016_2401, 0x16_2488: 0x6000_0000_0016_1201,
        0x16_1a28: 0x7800_0000_0020_0001,
      ], 0x1234_5010, 0x20_0010
    ),
    ("W10", 0x16_3200, [0x16_3a28: 0x6000_0000_0020_0001], 0x14_5010, 0x20_0010),
    (
      "W11", 0x16_6c00,
      [
        0x16_63f8: 0x6000_0000_0016_5a01, 0x16_56e0: 0x6000_0000_0016_4801,
        0x16_4ba8: 0x6000_0000_0016_3601, 0x16_3308: 0x6000_0000_0016_2401,
        0x16_2d90: 0x6000_0000_0016_1201, 0x16_1a18: 0x6000_0000_0020_0001,
      ], 0xfedc_ba98_7654_3010, 0x20_0010
    ),
    ("W12", 0, [:], 0x20_0010, 0x20_0010),
  ]

  @Test(arguments: walks.indices)
  func `W1 to W12: walks that end at a page`(index: Int) throws {
    let walk = Self.walks[index]
    let fixture = try AMDViFixture(
      entry: [0x6000_0000_0000_0003 | walk.mode, 5, 0, 0], tables: walk.tables)
    #expect(fixture.answer(walk.3).0 == .mapped(PhysicalAddress(walk.4), byteCount: 4))
    let machine = Machine(name: "", units: [.amdvi(fixture.unit)])
    #expect(
      machine.translate(device, IOVA(walk.3), byteCount: 4, access: .write, in: fixture.memory)
        == .mapped(PhysicalAddress(walk.4), byteCount: 4))
  }

  @Test func `W13: without V everything passes`() throws {
    let fixture = try AMDViFixture(entry: [0, 0, 0, 0], tables: [:])
    #expect(fixture.answer(0x20_0010).0 == .mapped(PhysicalAddress(0x20_0010), byteCount: 4))
    let machine = Machine(name: "", units: [.amdvi(fixture.unit)])
    #expect(machine.resolve(device, in: fixture.memory).route == .untranslated)
  }

  /// The tables of W1 with one word changed.
  private func changed(_ address: UInt64, _ word: UInt64) -> [UInt64: UInt64] {
    AMDViFixture.tables.merging([address: word]) { $1 }
  }

  @Test func `J1 to J6: entries of the device table that stop everything`() throws {
    let address: UInt64 = 0x1234_5010
    func event(_ low: UInt64, _ high: UInt64 = 5, features: UInt64? = nil) throws -> String? {
      try AMDViFixture(entry: [low, high, 0, 0], features: features).event(address)
    }
    let root: UInt64 = 0x6000_0000_0016_3603
    #expect(try event(root | 1 << 2) == "20000000000080101050341200000000")
    #expect(try event(root | 1 << 63) == "20000000000080101050341200000000")
    #expect(try event(root, 5 | 3 << 35) == "20000000000080101050341200000000")
    let untranslated = try AMDViFixture(entry: [0x6000_0000_0016_3601, 5, 0, 0])
    #expect(untranslated.event(0x20_0010) == "20000000050000201000200000000000")
    #expect(try event(root | 7 << 9) == "20000000000000101050341200000000")
    // Four levels and no more.
    #expect(try event(root & ~0xe00 | 6 << 9, features: 0) == "20000000000000101050341200000000")
    #expect(
      try event(root & ~0xe00 | 6 << 9, features: 0x800) != "20000000000000101050341200000000")
  }

  @Test func `J7 to J9: what the device table entry does not permit, and what is beyond its width`()
    throws
  {
    let writing = try AMDViFixture(entry: [0x4000_0000_0016_3603, 5, 0, 0])
    #expect(writing.event(0x1234_5010) == "20000000050050201050341200000000")
    let direct = try AMDViFixture(entry: [0x4000_0000_0000_0003, 5, 0, 0])
    #expect(direct.event(0x20_0010) == "20000000050050201000200000000000")
    #expect(direct.answer(0x20_0010, .write).0 == .mapped(PhysicalAddress(0x20_0010), byteCount: 4))
    let fixture = try AMDViFixture()
    #expect(fixture.event(0x80_1234_5010) == "20000000050000201050341280000000")
  }

  @Test func `J10 to J22: entries of page tables that stop a request`() throws {
    let leaf: UInt64 = 0x16_1a28
    let middle: UInt64 = 0x16_2488
    func event(
      _ place: UInt64, _ word: UInt64, _ operation: VTd.Request.Operation = .read,
      _ address: UInt64 = 0x1234_5010
    ) throws -> String? {
      try AMDViFixture(tables: changed(place, word)).event(address, operation)
    }
    #expect(try event(leaf, 0) == "20000000050000201050341200000000")
    #expect(try event(leaf, 0x6000_0000_0020_0000) == "20000000050000201050341200000000")
    #expect(try event(leaf, 0x6000_0000_0020_0000, .write) == "20000000050020201050341200000000")
    #expect(try event(middle, 0x6000_0000_0016_1200) == "20000000050000201050341200000000")
    #expect(try event(middle, 0x4000_0000_0016_1201) == "20000000050050201050341200000000")
    #expect(try event(leaf, 0x4000_0000_0020_0001) == "20000000050050201050341200000000")
    #expect(try event(leaf, 0x2000_0000_0020_0001, .write) == "20000000050070201050341200000000")
    #expect(try event(leaf, 0x6010_0000_0020_0001) == "20000000050090201050341200000000")
    #expect(try event(middle, 0x7000_0000_0016_1201) == "20000000050090201050341200000000")
    #expect(try event(middle, 0x6000_0000_0016_1401) == "20000000050010201050341200000000")
    #expect(
      try event(0x16_3000, 0x6000_0000_0016_1201) == "20000000050010201050341200000000")
    #expect(try event(leaf, 0x6000_0000_000f_fe01) == "20000000050010201050341200000000")
    #expect(try event(middle, 0x6000_0000_0020_0e01) == "20000000050010201050341200000000")
  }

  @Test func `J23 to J25: tables where no memory answers, and a device beyond the table`() throws {
    let root = try AMDViFixture(entry: [0x6000_0000_c000_0603, 5, 0, 0])
    #expect(root.event(0x1234_5010) == "2000000005000044000000c000000000")
    // The table lies where there is no memory.
    var unit = try AMDViFixture().unit
    unit.deviceTable = AMDVi.DeviceTableBase(rawValue: 0x4000_001f)
    var fixture = try AMDViFixture()
    fixture.unit = unit
    #expect(fixture.event(0x1234_5010) == "20000000000000340004004000000000")
    let short = try AMDViFixture(deviceTable: 0x10_0000)
    #expect(
      short.event(0x1234_5010, from: Requester(rawValue: 0x80))
        == "80000000000000201050341200000000")
  }

  @Test func `J26 and J27: the exclusion range passes for those that may`() throws {
    func fixture(entryHigh: UInt64, allow: UInt64) throws -> AMDViFixture {
      var fixture = try AMDViFixture(entry: [0x6000_0000_0016_3603, entryHigh, 0, 0], tables: [:])
      fixture.unit.exclusionBase = AMDVi.ExclusionBase(rawValue: 0x20_0001 | allow)
      fixture.unit.exclusionLimit = AMDVi.ExclusionLimit(rawValue: 0x2f_f000)
      return fixture
    }
    let own = try fixture(entryHigh: 5 | 1 << 39, allow: 0)
    #expect(own.answer(0x20_0010).0 == .mapped(PhysicalAddress(0x20_0010), byteCount: 4))
    #expect(own.answer(0x2f_ffff).0 == .mapped(PhysicalAddress(0x2f_ffff), byteCount: 1))
    #expect(own.event(0x30_0000) != nil)
    let others = try fixture(entryHigh: 5, allow: 0)
    #expect(others.event(0x20_0010) == "20000000050000201000200000000000")
    let everybody = try fixture(entryHigh: 5, allow: 2)
    #expect(everybody.answer(0x20_0010).0 == .mapped(PhysicalAddress(0x20_0010), byteCount: 4))
  }

  @Test func `writes to the interrupt range are messages, reads are none`() throws {
    let fixture = try AMDViFixture()
    #expect(fixture.answer(0xfee0_1000, .write).0 == .interruptMessage)
    // INVALID_DEVICE_REQUEST of type 0: a read in the interrupt range.
    #expect(fixture.event(0xfee0_1000) == "20000000000000800010e0fe00000000")
  }

  @Test func `no fault of a device with SA is told, hardware errors are`() throws {
    let silent = try AMDViFixture(
      entry: [0x6000_0000_0016_3603, 5 | 1 << 34, 0, 0], tables: [:])
    guard case .fault(let fault) = silent.answer(0x1234_5010).0 else {
      Issue.record("there is no page")
      return
    }
    #expect(fault.reason == .entryNotPresent && !fault.isRecorded)
    let broken = try AMDViFixture(entry: [0x6000_0000_c000_0603, 5 | 1 << 34, 0, 0])
    guard case .fault(let error) = broken.answer(0x1234_5010).0 else {
      Issue.record("there is no table")
      return
    }
    #expect(error.reason == .tableUnreadable && error.isRecorded)
  }

  @Test func `HAD sets accessed bits on the way and the dirty bit on a write`() throws {
    let fixture = try AMDViFixture(entry: [0x6000_0000_0016_3783, 5, 0, 0])
    let marker = AtomicMarks(in: fixture.memory)
    #expect(
      fixture.answer(0x1234_5010, marker: marker).0
        == .mapped(PhysicalAddress(0x20_0010), byteCount: 4))
    func word(_ address: UInt64) -> UInt64? {
      fixture.memory.quadword(at: PhysicalAddress(address))
    }
    #expect(word(0x16_3000) == 0x6000_0000_0016_2421)
    #expect(word(0x16_2488) == 0x6000_0000_0016_1221)
    #expect(word(0x16_1a28) == 0x6000_0000_0020_0021)
    _ = fixture.answer(0x1234_5010, .write, marker: marker)
    #expect(word(0x16_2488) == 0x6000_0000_0016_1221)
    #expect(word(0x16_1a28) == 0x6000_0000_0020_0061)
    // Without HAD nothing is ever written.
    let plain = try AMDViFixture()
    _ = plain.answer(0x1234_5010, .write, marker: AtomicMarks(in: plain.memory))
    #expect(plain.memory.quadword(at: PhysicalAddress(0x16_1a28)) == 0x6000_0000_0020_0001)
  }

  @Test func `reserved bits are those of the fields`() {
    typealias Entry = AMDVi.PageTableEntry
    for level in 1...6 {
      #expect(
        Entry.reservedMasks(.init(level: level, isLeaf: true)).rawValue == 0x07f0_0000_0000_0000)
      #expect(
        Entry.reservedMasks(.init(level: level, isLeaf: false)).rawValue == 0x1ff0_0000_0000_0000)
    }
    let format = AMDVi.HostFormat(levels: 4)
    for bit in 52..<63 {
      let leaf = Entry(rawValue: 1 | 1 << UInt64(bit))
      #expect((format.kind(of: leaf, level: 1) == .malformed) == (bit <= 58))
      let table = Entry(rawValue: 0x201 | 1 << UInt64(bit))
      #expect((format.kind(of: table, level: 2) == .malformed) == (bit <= 60))
    }
  }

  @Test func `a page larger than its entry is listed once for each of them`() throws {
    // 16 KiB at 0x8000: four entries with one page.
    var tables: [UInt64: UInt64] = [
      0x16_3000: 0x6000_0000_0016_2401, 0x16_2000: 0x6000_0000_0016_1201,
    ]
    for index in 8..<12 { tables[0x16_1000 + 8 * UInt64(index)] = 0x6000_0000_0020_1e01 }
    let fixture = try AMDViFixture(tables: tables)
    let machine = Machine(name: "", units: [.amdvi(fixture.unit)])
    let inForce = machine.tables(in: fixture.memory)
    #expect(inForce.tables.map(\.name) == ["00:04.0"] && inForce.gaps.isEmpty)
    #expect(inForce.tables.map(\.domainID) == [5])
    var budget = EnumerationBudget(for: fixture.memory)
    let mappings = machine.mappings(
      of: inForce.tables[0], in: fixture.memory, budget: &budget)
    #expect(
      mappings.runs == [
        MappingRun(
          iova: IOVA(0x8000)..<IOVA(0xc000), physical: PhysicalAddress(0x20_0000),
          permissions: .readWrite)
      ])
  }

  @Test func `devices without V pass, and are told so`() throws {
    let fixture = try AMDViFixture()
    let machine = Machine(name: "", units: [.amdvi(fixture.unit)])
    // 4,096 entries, of which 00:04.0 is the only one that is valid.
    #expect(
      machine.passages(in: fixture.memory).map { "\($0.devices)" }
        == ["00:00.0 to 00:03.7", "00:04.1 to 0f:1f.7"])
  }

  @Test func `an alias has the table of the number that it sends`() throws {
    var fixture = try AMDViFixture()
    // V4 to V7 of the manual's readers in small: 00:05.0 sends as 00:04.0.
    let table = try AMDVi.IVRS(
      parsing: hexdump(
        """
        4956525350000000023d414d44202020416d645461626c6501000000414d4420010000004130200000000000000000\
        001000200002004000000030fd0000000000000000000000004228000000200000
        """), ignoringChecksum: true)
    fixture.unit.base = PhysicalAddress(0xfd30_0000)
    fixture.unit.scope = AMDVi.UnitScope(table, base: fixture.unit.base)
    let machine = Machine(name: "", units: [.amdvi(fixture.unit)])
    let alias = Requester(rawValue: 0x28)
    #expect(
      machine.translate(alias, IOVA(0x1234_5010), byteCount: 4, access: .read, in: fixture.memory)
        == .mapped(PhysicalAddress(0x20_0010), byteCount: 4))
    #expect(
      machine.tables(in: fixture.memory).tables.map(\.name) == ["00:04.0", "00:05.0"])
  }

  @Test func `a segment that nobody knows is unknown`() throws {
    var fixture = try AMDViFixture()
    fixture.unit.control = AMDVi.Control(rawValue: 1 | 1 << 34)
    fixture.unit.furtherSegments = [nil]
    let machine = Machine(name: "", units: [.amdvi(fixture.unit)])
    #expect(
      machine.resolve(Requester(rawValue: 0xa5c3), in: fixture.memory).route
        == .blocked(.unitUnseen))
    #expect(
      machine.tables(in: fixture.memory).gaps.map(\.text).contains(
        "80:00.0 to ff:1f.7: unknown, the registers of the unit are not known"))
  }

  @Test func `segments are found by the upper bits of a device's number`() throws {
    var fixture = try AMDViFixture()
    fixture.unit.control = AMDVi.Control(rawValue: 1 | 1 << 34)
    fixture.unit.furtherSegments = [AMDVi.DeviceTableSegmentBase(rawValue: 0x2_0000_00ff)]
    // A6.
    #expect(
      fixture.unit.entryPlace(of: Requester(rawValue: 0xa5c3))
        == .at(PhysicalAddress(0x2_0004_b860)))
    fixture.unit.control = AMDVi.Control(rawValue: 1 | 3 << 34)
    fixture.unit.furtherSegments = (1...7).map { _ in
      AMDVi.DeviceTableSegmentBase(rawValue: 0x2_0000_003f)
    }
    // A8.
    #expect(
      fixture.unit.entryPlace(of: Requester(rawValue: 0xa5c3))
        == .at(PhysicalAddress(0x2_0000_b860)))
  }
}
