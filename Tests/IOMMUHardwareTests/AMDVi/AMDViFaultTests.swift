import IOMMUFormats
import IOMMUTranslation
import Testing

@testable import IOMMUHardware

/// What stops a request, W1 to W13 and J1 to J27 of the manual: the answer, the event's bytes in the log,
/// and the abort that the device sees.
@Suite struct AMDViFaultTests {
  typealias Offset = AMDVi.RegisterOffset

  struct Case: Sendable, CustomTestStringConvertible {
    var name: String
    /// Of W1's machine, what is different: the device's entry, words of tables, registers.
    var entry: [UInt64] = AMDViMachine.entry
    var words: [UInt64: UInt64] = [:]
    var registers: [UInt64: UInt64] = [:]
    var address = AMDViMachine.address
    var operation = VTd.Request.Operation.read
    var device = AMDViMachine.device
    /// Where it goes, or the event.
    var place: UInt64?
    var event: String?
    var testDescription: String { name }
  }

  static let present: UInt64 = 0x6000_0000_0000_0001
  static let leaf: UInt64 = 0x16_1a28
  static let middle: UInt64 = 0x16_2488
  static let root: UInt64 = 0x16_3000
  static let illegal = "2000000000008010 1050341200000000"
  static let levels = "2000000005001020 1050341200000000"
  static let absent = "2000000005000020 1050341200000000"
  static let unread = "2000000005005020 1050341200000000"
  static let reserved = "2000000005009020 1050341200000000"

  static func entry(_ low: UInt64) -> [UInt64] { [low, 5, 0, 0] }

  static let mapped = [
    Case(name: "W1", place: 0x20_0010),
    Case(
      name: "W2", words: [middle: 0x6000_0000_0020_0001], address: 0x1220_0010, place: 0x20_0010),
    Case(name: "W3", words: [leaf: 0x6000_0000_0020_0e01], place: 0x20_1010),
    Case(name: "W4", words: [leaf: 0x6000_0000_0020_7e01], place: 0x20_5010),
    Case(
      name: "W5", words: [middle: 0x6000_0000_001f_fe01], address: 0x1220_0010, place: 0x20_0010),
    Case(name: "W6", words: [root: present], address: 0x20_0010, place: 0x20_0010),
    Case(
      name: "W7", words: [root: 0x6000_0000_0016_1201], address: 0x14_5010, place: 0x20_0010),
    Case(name: "W8", words: [leaf: 0xe000_0000_0020_01ff], place: 0x20_0010),
    Case(name: "W9", words: [leaf: 0x7800_0000_0020_0001], place: 0x20_0010),
    Case(
      name: "W10", entry: entry(0x6000_0000_0016_3203), words: [0x16_3a28: 0x6000_0000_0020_0001],
      address: 0x14_5010, place: 0x20_0010),
    Case(
      name: "W11", entry: entry(0x6000_0000_0016_6c03),
      words: [
        0x16_63f8: 0x6000_0000_0016_5a01, 0x16_56e0: 0x6000_0000_0016_4801,
        0x16_4ba8: 0x6000_0000_0016_3601, 0x16_3308: 0x6000_0000_0016_2401,
        0x16_2d90: 0x6000_0000_0016_1201, 0x16_1a18: 0x6000_0000_0020_0001,
      ], address: 0xfedc_ba98_7654_3010, place: 0x20_0010),
    Case(
      name: "W12", entry: entry(0x6000_0000_0000_0003), address: 0x20_0010, place: 0x20_0010),
    Case(name: "W13", entry: [0, 0, 0, 0], address: 0x20_0010, place: 0x20_0010),
    Case(
      name: "J26", entry: [0x6000_0000_0016_3603, 0x80_0000_0005, 0, 0],
      registers: [Offset.exclusionBase: 0x20_0001, Offset.exclusionLimit: 0x2f_f000],
      address: 0x20_0010, place: 0x20_0010),
    Case(
      name: "J26, for all devices",
      registers: [Offset.exclusionBase: 0x20_0003, Offset.exclusionLimit: 0x2f_f000],
      address: 0x2f_ff10, place: 0x2f_ff10),
  ]

  static let stopped = [
    Case(name: "J1", entry: entry(0x6000_0000_0016_3607), event: illegal),
    Case(name: "J2", entry: entry(0xe000_0000_0016_3603), event: illegal),
    Case(name: "J3", entry: [0x6000_0000_0016_3603, 0x18_0000_0005, 0, 0], event: illegal),
    Case(
      name: "J4", entry: entry(0x6000_0000_0016_3601), address: 0x20_0010,
      event: "2000000005000020 1000200000000000"),
    Case(
      name: "J5", entry: entry(0x6000_0000_0016_3e03), event: "2000000000000010 1050341200000000"),
    Case(name: "J7", entry: entry(0x4000_0000_0016_3603), event: unread),
    Case(
      name: "J8", entry: entry(0x4000_0000_0000_0003), address: 0x20_0010,
      event: "2000000005005020 1000200000000000"),
    Case(
      name: "J9", address: 0x80_1234_5010, event: "2000000005000020 1050341280000000"),
    Case(name: "J10", words: [leaf: 0], event: absent),
    Case(name: "J11", words: [leaf: 0x6000_0000_0020_0000], event: absent),
    Case(
      name: "J12", words: [leaf: 0x6000_0000_0020_0000], operation: .write,
      event: "2000000005002020 1050341200000000"),
    Case(name: "J13", words: [middle: 0x6000_0000_0016_1200], event: absent),
    Case(name: "J14", words: [middle: 0x4000_0000_0016_1201], event: unread),
    Case(name: "J15", words: [leaf: 0x4000_0000_0020_0001], event: unread),
    Case(
      name: "J16", words: [leaf: 0x2000_0000_0020_0001], operation: .write,
      event: "2000000005007020 1050341200000000"),
    Case(name: "J17", words: [leaf: 0x6010_0000_0020_0001], event: reserved),
    Case(name: "J18", words: [middle: 0x7000_0000_0016_1201], event: reserved),
    Case(name: "J19", words: [middle: 0x6000_0000_0016_1401], event: levels),
    Case(name: "J20", words: [root: 0x6000_0000_0016_1201], event: levels),
    Case(name: "J21", words: [leaf: 0x6000_0000_000f_fe01], event: levels),
    Case(name: "J22", words: [middle: 0x6000_0000_0020_0e01], event: levels),
    Case(
      name: "J23", entry: entry(0x6000_0000_c000_0603), event: "2000000005000044 000000c000000000"),
    Case(
      name: "J25", registers: [Offset.deviceTableBase: 0x10_0000],
      device: Requester(rawValue: 0x80), event: "8000000000000020 1050341200000000"),
    Case(
      name: "J27", registers: [Offset.exclusionBase: 0x20_0001, Offset.exclusionLimit: 0x2f_f000],
      address: 0x20_0010, event: "2000000005000020 1000200000000000"),
  ]

  @Test(arguments: mapped + stopped, [AMDViCacheConfiguration.none, .everything, .hardware])
  func `a request goes where the tables say, or leaves its event`(
    row: Case, caches: AMDViCacheConfiguration
  ) throws {
    let machine = try AMDViMachine(caches: caches)
    machine.setEntry(row.entry)
    machine.store(row.words)
    for (offset, value) in row.registers { machine[offset] = value }
    // Twice: what the first has taught the caches changes no answer.
    for _ in 0..<2 {
      #expect(machine.translate(row.address, row.operation, of: row.device) == row.place)
      #expect(machine.events() == (row.event.map { [$0] } ?? []))
      #expect(machine.wasAborted == (row.event != nil))
    }
  }

  @Test func `J6: a mode beyond the unit's depth is illegal`() throws {
    // HATS 0: four levels.
    var configuration = AMDViUnitConfiguration.current
    configuration.features = AMDVi.ExtendedFeatures(
      rawValue: configuration.features.rawValue & ~0xc00)
    let machine = try AMDViMachine(configuration)
    machine.setEntry(Self.entry(0x6000_0000_0016_3c03))
    #expect(machine.translate() == nil)
    #expect(machine.events() == ["2000000000000010 1050341200000000"])
  }

  @Test func `J24: a device table where no memory answers`() throws {
    let machine = try AMDViMachine()
    machine[Offset.deviceTableBase] = 0xc010_001f
    #expect(machine.translate() == nil)
    #expect(machine.events() == ["2000000000000034 000410c000000000"])
    // HESup: the registers have it too, and keep the first.
    #expect(machine[Offset.hardwareEventHigh] == 0x3400_0000_0000_0020)
    #expect(machine[Offset.hardwareEventLow] == 0xc010_0400)
    #expect(machine[Offset.hardwareEventStatus] == 1)
    #expect(machine.translate(of: Requester(rawValue: 0x21)) == nil)
    #expect(machine[Offset.hardwareEventLow] == 0xc010_0400)
    #expect(machine[Offset.hardwareEventStatus] == 3)
    machine[Offset.hardwareEventStatus] = 3
    #expect(machine[Offset.hardwareEventStatus] == 0)
  }

  @Test func `a unit that is off lets all pass and looks at no table`() throws {
    let machine = try AMDViMachine()
    machine[Offset.control] = 0x1404
    #expect(machine.translate(0x33_0000, .write) == 0x33_0000)
    #expect(machine.events().isEmpty && !machine.wasAborted)
  }

  @Test func `SA suppresses all page faults and nothing else`() throws {
    let machine = try AMDViMachine()
    machine.setEntry([0x4000_0000_0016_3603, 0x4_0000_0005, 0, 0])
    #expect(machine.translate() == nil && machine.wasAborted)
    #expect(machine.events().isEmpty)
    machine.run(AMDVi.InvalidateDeviceEntryCommand(AMDViMachine.device))
    machine.setEntry([0x6000_0000_c000_0603, 0x4_0000_0005, 0, 0])
    #expect(machine.translate() == nil)
    #expect(machine.events() == ["2000000005000044 000000c000000000"])
  }

  @Test func `SE lets one page fault through until the entry is dropped`() throws {
    let machine = try AMDViMachine()
    machine.setEntry([0x4000_0000_0016_3603, 0x2_0000_0005, 0, 0])
    for _ in 0..<3 { #expect(machine.translate() == nil) }
    #expect(machine.events() == [Self.unread])
    machine.run(AMDVi.InvalidateDeviceEntryCommand(AMDViMachine.device))
    for _ in 0..<3 { #expect(machine.translate() == nil) }
    #expect(machine.events() == [Self.unread])
    machine.run(AMDVi.InvalidateAllCommand())
    #expect(machine.translate() == nil)
    #expect(machine.events() == [Self.unread])
  }

  @Test func `A6 to A8: a device's entry lies in its segment`() throws {
    for (code, segment, offset): (UInt64, UInt64, UInt64) in [
      (1, 1, 0x4_b860), (2, 2, 0x4_b860), (3, 5, 0xb860),
    ] {
      let machine = try AMDViMachine()
      machine[Offset.deviceTableSegmentBase + (segment - 1) * 8] = 0x20_0000 | 0xff >> (code - 1)
      machine[Offset.control] = 0x1405 | code << 34
      for (index, word) in AMDViMachine.entry.enumerated() {
        machine.store([0x20_0000 + offset + UInt64(index) * 8: word])
      }
      machine.store([0x16_1a28: 0x6000_0000_0030_0001])
      #expect(machine.translate(of: Requester(rawValue: 0xa5c3)) == 0x30_0010)
      #expect(machine.events().isEmpty)
    }
  }

  @Test func `E8: a request with PASID meets a guest table`() throws {
    let machine = try AMDViMachine()
    // GV, GLX 2, GCR3 table at 0x18_0000; a guest table of four levels.
    var entry = AMDVi.DeviceTableEntry(mode: 0, domainID: 5)
    entry.usesGuestTables = true
    entry.guestRootLevelCode = 2
    entry.guestRootTable = PhysicalAddress(0x18_0000)
    machine.setEntry((0..<4).map { entry.quadwords[$0] }, of: Requester("03:00.0")!)
    machine[Offset.control] = 0x1_1405
    // PASID 0x12345: indices 0, 0x91, 0x145.
    machine.store([
      0x18_0000: 0x18_1001, 0x18_1488: 0x18_2001, 0x18_2a28: 0x18_3001,
      // 0x7f00_1234_5000: indices 0xfe, 0, 0x91, 0x145.
      0x18_37f0: 0x18_4007, 0x18_4000: 0x18_5007, 0x18_5488: 0x18_6007,
    ])
    let device = Requester("03:00.0")!
    #expect(
      machine.translate(0x7f00_1234_5000, .write, of: device, pasid: PASID(0x1_2345)) == nil)
    #expect(machine.events() == ["0003010045232520 00503412007f0000"])
    machine.store([0x18_6a28: 0x8000_0000_0030_0007])
    #expect(
      machine.translate(0x7f00_1234_5000, .write, of: device, pasid: PASID(0x1_2345)) == 0x30_0000)
    // A and D are set.
    #expect(machine.word(0x18_6a28) == 0x8000_0000_0030_0067)
  }
}
