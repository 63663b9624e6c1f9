import IOMMUFormats
import IOMMUTestSupport
import IOMMUTranslation
import Testing

/// The interrupt remapping table of a unit as its registers stand.
@Suite struct InterruptTableTests {
  /// IRES, IRTPS, TES and RTPS; a table of 256 entries at 1 MiB.
  static func unit(
    status: UInt32? = 0xc300_0000, table: UInt64? = 0x10_0007, limits: VTd.Limits = .permissive
  ) -> VTd.Unit {
    VTd.Unit(
      base: PhysicalAddress(0xfed9_0000), rootTableAddress: VTd.RootTableAddress(rawValue: 0x1000),
      status: status.map { VTd.GlobalStatus(rawValue: $0) }, limits: limits,
      interruptTableAddress: table.map { VTd.InterruptTableAddress(rawValue: $0) })
  }

  static func machine(_ unit: VTd.Unit) -> Machine {
    Machine(name: "", units: [.vtd(unit)], ram: [PhysicalAddress(0)..<PhysicalAddress(1 << 30)])
  }

  static func mappings(
    of unit: VTd.Unit = unit(), _ words: [(index: UInt64, low: UInt64, high: UInt64)]
  ) throws -> InterruptMappings? {
    let memory = try FlatMemory(byteCount: 2 << 20)
    for (index, low, high) in words {
      memory.store(low, at: PhysicalAddress(0x10_0000 + index * 16))
      memory.store(high, at: PhysicalAddress(0x10_0008 + index * 16))
    }
    let machine = machine(unit)
    return machine.interruptTables(of: machine.units[0], in: memory).tables.first
  }

  @Test func `present entries are listed with who may send and what becomes of it`() throws {
    // Vectors 22h to APIC id 1 from ff:00.0, 31h to 0 from any function of 00:1f, 40h from buses 2 to
    // 5, 41h from anybody; entry 5 is not present.
    let mappings = try #require(
      try Self.mappings([
        (0, 0x0000_0100_0022_0009, 0x4_ff00), (3, 0x0000_0000_0031_0001, 0x7_00f8),
        (5, 0x0000_0000_0031_0000, 0x4_00f8), (0xfe, 0x0000_0000_0040_0001, 0x8_0205),
        (0xff, 0x0000_0000_0041_0011, 0),
      ]))
    #expect(mappings.table == PhysicalAddress(0x10_0000))
    #expect(mappings.entryCount == 256)
    #expect(mappings.gaps == [])
    #expect(mappings.mappings.map(\.index) == [0, 3, 0xfe, 0xff])
    #expect(
      mappings.mappings.map(\.entryAddress)
        == [0x10_0000, 0x10_0030, 0x10_0fe0, 0x10_0ff0].map { PhysicalAddress($0) })
    #expect(
      mappings.mappings.map(\.source) == [
        .requester(Requester("ff:00.0")!, ignoring: 0),
        .requester(Requester("00:1f.0")!, ignoring: 7), .buses(2...5), .anyone,
      ])
    #expect(
      mappings.mappings.map(\.decision) == [
        .delivered(InterruptDelivery(vector: 0x22, destination: 1, hasRedirectionHint: true)),
        .delivered(InterruptDelivery(vector: 0x31, destination: 0)),
        .delivered(InterruptDelivery(vector: 0x40, destination: 0)),
        .delivered(InterruptDelivery(vector: 0x41, destination: 0, isLevelTriggered: true)),
      ])
  }

  @Test func `an entry that nobody may use is blocked`() throws {
    // SVT 11; the last bus before the first; a reserved bit.
    let mappings = try #require(
      try Self.mappings([
        (0, 0x0000_0000_0022_0001, 0xc_ff00), (1, 0x0000_0000_0022_0001, 0x8_0502),
        (2, 0x0000_0000_0022_1001, 0x4_ff00),
      ]))
    #expect(
      mappings.mappings.map(\.source) == [
        .nobody, .nobody, .requester(Requester("ff:00.0")!, ignoring: 0),
      ])
    #expect(
      mappings.mappings.map(\.decision) == [
        .blocked(InterruptFault(reason: VTd.FaultReason(rawValue: 0x24), index: 0)),
        .blocked(InterruptFault(reason: VTd.FaultReason(rawValue: 0x26), index: 1)),
        .blocked(InterruptFault(reason: VTd.FaultReason(rawValue: 0x24), index: 2)),
      ])
  }

  @Test func `destinations have 32 bits with EIME`() throws {
    let mappings = try Self.mappings(
      of: Self.unit(table: 0x10_0807), [(0, 0x0001_0203_0022_0001, 0)])
    #expect(
      mappings?.mappings.map(\.decision) == [
        .delivered(InterruptDelivery(vector: 0x22, destination: 0x1_0203))
      ])
  }

  @Test func `a posted interrupt names its descriptor`() throws {
    // Urgent, vector 33h, in the descriptor at 1_2345_6780h.
    let mappings = try Self.mappings([(7, 0x2345_6780_0033_c001, 0x1_0004_00f8)])
    #expect(
      mappings?.mappings.map(\.decision) == [
        .posted(
          PostedInterrupt(
            descriptor: PhysicalAddress(0x1_2345_6780), vector: 0x33, isUrgent: true, index: 7,
            isReported: true))
      ])
  }

  @Test(
    arguments: [
      // IRES off; status not known; table not known.
      (0xc000_0000, 0x10_0007), (nil, 0x10_0007), (0xc300_0000, nil),
    ] as [(UInt32?, UInt64?)])
  func `without a table in force there is none`(status: UInt32?, table: UInt64?) throws {
    #expect(
      try Self.mappings(of: Self.unit(status: status, table: table), [(0, 0x22_0009, 0)]) == nil)
  }

  @Test func `of a table beyond the host's addresses hardware reaches nothing`() throws {
    #expect(try Self.mappings(of: Self.unit(table: 1 << 52 | 7), []) == nil)
    #expect(Self.unit(table: 1 << 52 | 7).interrupts != .notRemapped)
    // The last page below: 256 entries, of which all are there.
    let last = Self.unit(table: 1 << 52 - 4096 | 8)
    #expect(try Self.mappings(of: last, [])?.entryCount == 256)
  }

  @Test func `what memory does not hold is told, where the machine has memory`() throws {
    let memory = try FlatMemory(byteCount: 0x10_1000)
    // 512 entries: the second half lies behind the memory's end.
    let machine = Self.machine(Self.unit(table: 0x10_0008))
    let live = try #require(machine.interruptTables(of: machine.units[0], in: memory).tables.first)
    #expect(live.entryCount == 512 && live.gaps == [] && !live.isUnknown)
    let dump = try #require(
      machine.interruptTables(of: machine.units[0], in: LackingMemory(memory)).tables.first)
    #expect(
      dump.gaps.map(\.text) == [
        "interrupts 0x100 to 0x1ff: unknown, the interrupt remapping table at 0x101000 is not in "
          + "this dump"
      ])
    #expect(!dump.isUnknown)
    let elsewhere = Self.machine(Self.unit(table: 0x100_0008))
    #expect(
      elsewhere.interruptTables(of: elsewhere.units[0], in: LackingMemory(memory)).isUnknown)
  }

  // MARK: The compatibility format

  @Test(
    arguments: [
      // IRES, CFIS; the table; what the unit insists on.
      (0xc200_0000, 0x7, [], .blocks("GSTS.CFIS=0")),
      (0xc280_0000, 0x7, [], .passesCompatibilityFormat),
      (0xc280_0000, 0x807, [], .blocks("IRTA_REG.EIME=1")),
      (0xc200_0000, nil, [], .blocks("GSTS.CFIS=0")),
      (0xc280_0000, nil, [], .unknown("IRTA_REG")),
      (0xc000_0000, nil, [], .notRemapped),
      (nil, 0x7, [], .unknown("GSTS_REG")),
      (0xc000_0000, nil, .requiredInterruptRemapping, .blocks("ECAP.IRREQ=1")),
      (0xc280_0000, 0x7, .requiredExtendedInterrupts, .blocks("ECAP.EIMER=1")),
    ] as [(UInt32?, UInt64?, VTd.Features, InterruptPassage)])
  func `whether it passes is what four registers say together`(
    status: UInt32?, table: UInt64?, features: VTd.Features, expected: InterruptPassage
  ) {
    var limits = VTd.Limits.permissive
    limits.features.insert(features)
    let passage = Self.unit(status: status, table: table, limits: limits).interrupts
    switch (passage, expected) {
    case (.blocks(let text), .blocks(let part)), (.unknown(let text), .unknown(let part)):
      #expect(text.contains(part))
      #expect(text.contains("the unit at 0xfed90000 "))
    default: #expect(passage == expected)
    }
  }
}
