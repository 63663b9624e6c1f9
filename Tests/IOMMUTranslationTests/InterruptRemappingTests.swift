import IOMMUFormats
import IOMMUTranslation
import Testing

@Suite struct InterruptRemappingTests {
  typealias Entry = VTd.InterruptRemappingEntry

  static let table = PhysicalAddress(0x10_0000)
  static let source = Requester("00:1f.2")!

  /// A unit of 39 bits with a table of 256 entries.
  static let remapping = VTd.InterruptRemapping(
    isEnabled: true, table: VTd.InterruptTableAddress(table: table, sizeCode: 7),
    hostAddressWidth: 39)

  /// An entry that admits `source`, at index 17h.
  static let entry = Entry(vector: 0x31, destination: 2, usesExtendedMode: false).admitting(source)
  static let request = VTd.InterruptRequest(index: 0x17, subhandle: 0)

  static func decide(
    _ entry: Entry = entry, _ request: VTd.InterruptRequest = request,
    from requester: Requester = source, by remapping: VTd.InterruptRemapping = remapping
  ) throws -> InterruptDecision {
    let memory = try FlatMemory(byteCount: 2 << 20)
    entry.store(to: memory, at: PhysicalAddress(table.rawValue + 0x17 * 16))
    return remapping.decide(request, from: requester, in: memory)
  }

  static func blocked(
    _ number: UInt8, index: UInt16 = 0x17, isRecorded: Bool = true
  ) -> InterruptDecision {
    .blocked(
      InterruptFault(
        reason: VTd.FaultReason(rawValue: number), index: index, isRecorded: isRecorded))
  }

  @Test func `an entry delivers to its processor`() throws {
    #expect(
      try Self.decide() == .delivered(InterruptDelivery(vector: 0x31, destination: 2)))
    let all = Entry(
      vector: 0xec, destination: 0x0001_0203, usesExtendedMode: true, deliveryMode: .lowestPriority,
      isLogical: true, isLevelTriggered: true, hasRedirectionHint: true)
    var remapping = Self.remapping
    remapping.table = VTd.InterruptTableAddress(
      table: Self.table, sizeCode: 7, usesExtendedMode: true)
    #expect(
      try Self.decide(all, by: remapping)
        == .delivered(
          InterruptDelivery(
            vector: 0xec, destination: 0x0001_0203, deliveryMode: .lowestPriority, isLogical: true,
            isLevelTriggered: true, hasRedirectionHint: true)))
  }

  @Test func `a subhandle is added to the handle`() throws {
    #expect(
      try Self.decide(Self.entry, VTd.InterruptRequest(index: 0x14, subhandle: 3))
        == .delivered(InterruptDelivery(vector: 0x31, destination: 2)))
  }

  // MARK: Off, and the compatibility format

  static let compatible = VTd.InterruptRequest(
    address: VTd.InterruptAddress(rawValue: 0xfee0_1000),
    data: VTd.InterruptData(rawValue: 0x4041))

  @Test func `off, every request passes as it stands`() throws {
    var remapping = Self.remapping
    remapping.isEnabled = false
    for request in [Self.compatible, Self.request] {
      #expect(try Self.decide(Self.entry, request, by: remapping) == .passed)
    }
    remapping.isRequired = true
    for request in [Self.compatible, Self.request] {
      #expect(try Self.decide(Self.entry, request, by: remapping) == Self.blocked(0x2b, index: 0))
    }
  }

  @Test(arguments: [false, true], [false, true])
  func `on, the compatibility format passes with CFIS and without EIME alone`(
    cfis: Bool, eime: Bool
  ) throws {
    var remapping = Self.remapping
    remapping.passesCompatibilityFormat = cfis
    remapping.table = VTd.InterruptTableAddress(
      table: Self.table, sizeCode: 7, usesExtendedMode: eime)
    #expect(
      try Self.decide(Self.entry, Self.compatible, by: remapping)
        == (cfis && !eime ? .passed : Self.blocked(0x25, index: 0)))
  }

  @Test func `a unit that requires extended mode blocks all without it`() throws {
    var remapping = Self.remapping
    remapping.requiresExtendedMode = true
    #expect(try Self.decide(by: remapping) == Self.blocked(0x2a, index: 0))
    remapping.table = VTd.InterruptTableAddress(
      table: Self.table, sizeCode: 7, usesExtendedMode: true)
    #expect(
      try Self.decide(
        Entry(vector: 0x31, destination: 2, usesExtendedMode: true), by: remapping)
        == .delivered(InterruptDelivery(vector: 0x31, destination: 2)))
  }

  // MARK: Faults of the request

  @Test func `data above the subhandle is reason 20h`() throws {
    let request = VTd.InterruptRequest(
      address: VTd.InterruptAddress(rawValue: 0xfee0_0018),
      data: VTd.InterruptData(rawValue: 0x1_0000))
    #expect(try Self.decide(Self.entry, request) == Self.blocked(0x20, index: 0))
  }

  @Test func `an index beyond the table is reason 21h`() throws {
    #expect(
      try Self.decide(Self.entry, VTd.InterruptRequest(index: 0x100))
        == Self.blocked(0x21, index: 0x100))
    // The sum has 17 bits; no table is that large.
    var remapping = Self.remapping
    remapping.table = VTd.InterruptTableAddress(table: Self.table, sizeCode: 15)
    #expect(
      try Self.decide(
        Self.entry, VTd.InterruptRequest(index: 0xffff, subhandle: 1), by: remapping)
        == Self.blocked(0x21, index: 0))
    #expect(
      try Self.decide(
        Self.entry, VTd.InterruptRequest(index: 0xffff), by: remapping)
        == Self.blocked(0x22, index: 0xffff))
  }

  @Test func `an entry beyond the host address width is reason 21h`() throws {
    var remapping = Self.remapping
    remapping.table = VTd.InterruptTableAddress(
      table: PhysicalAddress(1 << 39), sizeCode: 15)
    #expect(try Self.decide(by: remapping) == Self.blocked(0x21))
    remapping.table = VTd.InterruptTableAddress(
      table: PhysicalAddress(0xffff_ffff_ffff_f000), sizeCode: 15)
    #expect(
      try Self.decide(Self.entry, VTd.InterruptRequest(index: 0x1ff), by: remapping)
        == Self.blocked(0x21, index: 0x1ff))
  }

  @Test func `a table where no memory answers is reason 23h`() throws {
    var remapping = Self.remapping
    remapping.table = VTd.InterruptTableAddress(table: PhysicalAddress(0x4000_0000), sizeCode: 7)
    #expect(try Self.decide(by: remapping) == Self.blocked(0x23))
  }

  // MARK: Faults of the entry

  @Test func `an entry that is not present is reason 22h, and FPD silences it`() throws {
    #expect(try Self.decide(Entry()) == Self.blocked(0x22))
    #expect(try Self.decide(Entry(low: 0xfffe & ~2)) == Self.blocked(0x22))
    #expect(try Self.decide(Entry(low: 2)) == Self.blocked(0x22, isRecorded: false))
  }

  /// Bits that are reserved in a remapped entry of a unit in xAPIC mode without posting.
  static let reserved = [12, 13, 14, 15, 24, 31, 32, 39, 48, 63, 84, 95, 96, 127]

  @Test(arguments: reserved)
  func `a reserved bit is reason 24h`(bit: Int) throws {
    var entry = Self.entry
    if bit < 64 { entry.low |= 1 << UInt64(bit) } else { entry.high |= 1 << UInt64(bit - 64) }
    #expect(try Self.decide(entry) == Self.blocked(0x24))
    entry.low |= 2
    #expect(try Self.decide(entry) == Self.blocked(0x24, isRecorded: false))
  }

  @Test func `available bits are software's own`() throws {
    var entry = Self.entry
    entry.low |= 0xf00
    #expect(try Self.decide(entry) == .delivered(InterruptDelivery(vector: 0x31, destination: 2)))
  }

  @Test func `the reserved validation and the reserved delivery modes are reason 24h`() throws {
    #expect(try Self.decide(Entry(low: Self.entry.low, high: 0xc_0000)) == Self.blocked(0x24))
    for mode: UInt64 in [3, 6] {
      var entry = Self.entry
      entry.low |= mode << 5
      #expect(try Self.decide(entry) == Self.blocked(0x24))
    }
  }

  @Test func `a destination above eight bits is legal in extended mode alone`() throws {
    let entry = Entry(vector: 0x31, destination: 0x100, usesExtendedMode: true)
    var remapping = Self.remapping
    remapping.table = VTd.InterruptTableAddress(
      table: Self.table, sizeCode: 7, usesExtendedMode: true)
    #expect(
      try Self.decide(entry, by: remapping)
        == .delivered(InterruptDelivery(vector: 0x31, destination: 0x100)))
    // Bits 15:8 of the field are the APIC id of xAPIC mode.
    #expect(
      try Self.decide(entry) == .delivered(InterruptDelivery(vector: 0x31, destination: 1)))
    #expect(
      try Self.decide(Entry(vector: 0x31, destination: 0x1_0100, usesExtendedMode: true))
        == Self.blocked(0x24))
  }

  @Test func `a requester that the entry does not name is reason 26h`() throws {
    #expect(try Self.decide(from: Requester("00:1f.3")!) == Self.blocked(0x26))
    var silent = Self.entry
    silent.low |= 2
    #expect(
      try Self.decide(silent, from: Requester("00:1f.3")!) == Self.blocked(0x26, isRecorded: false))
    let range = Entry(vector: 0x31, destination: 2, usesExtendedMode: false)
      .admitting(buses: 5...7)
    #expect(
      try Self.decide(range, from: Requester("06:00.0")!)
        == .delivered(InterruptDelivery(vector: 0x31, destination: 2)))
    #expect(try Self.decide(range, from: Requester("08:00.0")!) == Self.blocked(0x26))
  }

  // MARK: Posted entries

  @Test func `a posted entry names its descriptor`() throws {
    let entry = Entry(postingIn: PhysicalAddress(0x12_3440), vector: 0x55, isUrgent: true)
    var remapping = Self.remapping
    remapping.canPost = true
    #expect(
      try Self.decide(entry, by: remapping)
        == .posted(
          PostedInterrupt(
            descriptor: PhysicalAddress(0x12_3440), vector: 0x55, isUrgent: true, index: 0x17,
            isReported: true)))
    #expect(try Self.decide(entry) == Self.blocked(0x24), "a unit that cannot post")
    for bit in [2, 4, 7, 12, 24, 32, 37, 84, 95] {
      var broken = entry
      if bit < 64 { broken.low |= 1 << UInt64(bit) } else { broken.high |= 1 << UInt64(bit - 64) }
      #expect(try Self.decide(broken, by: remapping) == Self.blocked(0x24), "bit \(bit)")
    }
  }

  @Test(arguments: seeds)
  func `any entry and any request get an answer`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let memory = try FlatMemory(byteCount: 2 << 20)
    for address in stride(from: UInt64(0x10_0000), to: 0x11_0000, by: 8) {
      memory.store(generator.next() & generator.next() | 1, at: PhysicalAddress(address))
    }
    var delivered = 0
    var blocked = 0
    for _ in 0..<4000 {
      let bits = generator.next()
      let remapping = VTd.InterruptRemapping(
        isEnabled: bits & 7 != 0, passesCompatibilityFormat: bits & 8 != 0,
        table: VTd.InterruptTableAddress(rawValue: 0x10_0000 | bits & 0x80f),
        hostAddressWidth: 39, canPost: bits & 16 != 0, requiresExtendedMode: bits & 32 != 0,
        isRequired: bits & 64 != 0)
      let request = VTd.InterruptRequest(
        address: VTd.InterruptAddress(rawValue: 0xfee0_0000 | UInt32(bits >> 32) & 0xf_ffff),
        data: VTd.InterruptData(rawValue: UInt32(generator.next() & 0x1_003f)))
      switch remapping.decide(
        request, from: Requester(rawValue: UInt16(bits >> 16 & 0xffff)), in: memory)
      {
      case .blocked: blocked += 1
      default: delivered += 1
      }
    }
    #expect(delivered > 0 && blocked > 0)
  }
}
