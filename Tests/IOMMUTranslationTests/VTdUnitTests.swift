import IOMMUFormats
import IOMMUTranslation
import Testing

@Suite struct VTdUnitTests {
  enum Place: Sendable { case root, context, l4, l3, l2, l1, nowhere }

  enum Outcome: Sendable {
    /// Blocked, with this reason in a fault record.
    case recorded(UInt8)
    /// Blocked all the same, and no record.
    case silent(UInt8)
    case mapped(UInt64)
  }

  /// One table entry that is not as it should be, and what the manual says of the request.
  struct Row: Sendable, CustomTestStringConvertible {
    var id: String
    var place: Place
    var bytes: String
    var what: String
    var access = Access.read
    var iova: UInt64 = 0x1234_5678
    var outcome: Outcome

    init(
      _ id: String, _ place: Place, _ bytes: String, _ what: String, access: Access = .read,
      iova: UInt64 = 0x1234_5678, _ outcome: Outcome
    ) {
      self.id = id
      self.place = place
      self.bytes = bytes
      self.what = what
      self.access = access
      self.iova = iova
      self.outcome = outcome
    }

    var testDescription: String { "\(id): \(what)" }
  }

  static let rows: [Row] = [
    Row("M1", .root, "0000000000000000 0000000000000000", "P=0", .recorded(0x01)),
    Row("M2", .root, "0200000000000000 0000000000000000", "P=0, other bits", .recorded(0x01)),
    Row("M3", .root, "0310100000000000 0000000000000000", "bit 1", .recorded(0x0a)),
    Row("M4", .root, "0110100000000000 0100000000000000", "bit 64", .recorded(0x0a)),
    Row("M5", .root, "0110100080000000 0000000000000000", "CTP bit 39", .recorded(0x0a)),
    Row("M6", .root, "0100007000000000 0000000000000000", "no memory there", .recorded(0x09)),
    Row("M7", .context, "0000000000000000 0000000000000000", "P=0", .recorded(0x02)),
    Row("M8", .context, "0200000000000000 0000000000000000", "P=0, FPD=1", .silent(0x02)),
    Row("M9", .context, "1120110000000000 0105000000000000", "bit 4", .recorded(0x0b)),
    Row("M10", .context, "0120110000000000 8105000000000000", "bit 71", .recorded(0x0b)),
    Row("M11", .context, "0120110000000000 7905000000000000", "70 to 67", .mapped(0x20_0678)),
    Row("M12", .context, "0120110000000000 0105000100000000", "bit 88", .recorded(0x0b)),
    Row("M13", .context, "0120110080000000 0105000000000000", "pointer bit 39", .recorded(0x0b)),
    Row("M14", .context, "0120110000000000 0005000000000000", "AW=000", .recorded(0x03)),
    Row("M15", .context, "0120110000000000 0205000000000000", "AW=010", .recorded(0x03)),
    Row("M16", .context, "0120110000000000 0405000000000000", "AW=100", .recorded(0x03)),
    Row("M17", .context, "0320110000000000 0205000000000000", "AW=010, FPD=1", .silent(0x03)),
    Row("M18", .context, "0520110000000000 0105000000000000", "TT=01, DT=0", .recorded(0x03)),
    Row("M19", .context, "0d20110000000000 0105000000000000", "TT=11", .recorded(0x03)),
    Row("M20", .context, "1120110000000000 0305000000000000", "bit 4, bad AW", .recorded(0x0b)),
    Row("M21", .context, "0100007000000000 0105000000000000", "no top table", .recorded(0x03)),
    Row(
      "M22", .context, "0900000000000000 0005000000000000", "TT=10, AW=000", access: .write,
      iova: 0x20_0000, .recorded(0x03)),
    Row("M23", .l2, "0300007000000000", "no next table", .recorded(0x07)),
    Row("M24", .l3, "0000000000000000", "R=W=0, read", .recorded(0x06)),
    Row("M25", .l1, "0000000000000000", "R=W=0, write", access: .write, .recorded(0x05)),
    Row("M26", .l1, "0100200000000000", "R, write", access: .write, .recorded(0x05)),
    Row("M27", .l1, "0200200000000000", "W, read", .recorded(0x06)),
    Row("M28", .l2, "0240110000000000", "W in a pointer, read", .recorded(0x06)),
    Row("M29", .l1, "0008200000000000", "R=W=0 with bit 11", .recorded(0x06)),
    Row("M30", .l1, "0308200000000000", "SNP with SC=0", .recorded(0x0c)),
    Row("M31", .l1, "0300200080000000", "bit 39", .recorded(0x0c)),
    Row("M32", .l1, "0300200000000800", "bit 51", .recorded(0x0c)),
    Row("M33", .l1, "030020000000f03f", "bits 61 to 52", .mapped(0x20_0678)),
    Row("M34", .l1, "0300200000000040", "bit 62", .recorded(0x0c)),
    Row("M35", .l1, "0300200000000080", "bit 63", .mapped(0x20_0678)),
    Row("M36", .l1, "7f07200000000000", "bits 10 to 8, 6 to 2", .mapped(0x20_0678)),
    Row("M37", .l2, "0348110000000000", "bit 11 in a pointer", .recorded(0x0c)),
    Row("M38", .l2, "8310200000000000", "2 MiB page, bit 12", .recorded(0x0c)),
    Row("M39", .l3, "8300200000000000", "1 GiB page, bit 21", .recorded(0x0c)),
    Row("M40", .l4, "8320110000000000", "PS in PML4E", .recorded(0x0c)),
    Row("M41", .l1, "0300e0fe00000000", "output FEE0_0000", .recorded(0x0e)),
    Row(
      "M42", .l2, "8300e0fe00000000", "2 MiB page at FEE0_0000", iova: 0x1230_0000,
      .mapped(0xfef0_0000)),
    Row("M43", .nowhere, "", "2^39", iova: 0x80_0000_0000, .recorded(0x04)),
  ]

  /// The legal tables, entry for entry, and one of them replaced by the row's bytes.
  static func memory(for row: Row) throws -> FlatMemory {
    let memory = try FlatMemory(byteCount: 4 << 20)
    memory.store(hex: "0110100000000000 0000000000000000", at: 0x10_0000)
    memory.store(hex: "0120110000000000 0105000000000000", at: 0x10_1200)
    memory.store(hex: "0330110000000000", at: 0x11_2000)
    memory.store(hex: "0340110000000000", at: 0x11_3488)
    memory.store(hex: "0300200000000000", at: 0x11_4a28)
    switch row.place {
    case .root: memory.store(hex: row.bytes, at: 0x10_0000)
    case .context: memory.store(hex: row.bytes, at: 0x10_1200)
    case .l4:
      memory.store(hex: "0110110000000000 0205000000000000", at: 0x10_1200)
      memory.store(hex: row.bytes, at: 0x11_1000)
    case .l3: memory.store(hex: row.bytes, at: 0x11_2000)
    case .l2: memory.store(hex: row.bytes, at: 0x11_3488)
    case .l1: memory.store(hex: row.bytes, at: 0x11_4a28)
    case .nowhere: break
    }
    return memory
  }

  /// QEMU's registers, of 39 and of 48 bits: SNP, device TLBs not; pass-through yes.
  static func limits(for row: Row) -> VTd.Limits {
    VTd.Limits(
      capability: VTd.Capability(
        rawValue: row.place == .l4 ? 0x00d2_008c_222f_0606 : 0x00d2_008c_2226_0206),
      extendedCapability: VTd.ExtendedCapability(rawValue: 0xf0_0f4a),
      hostAddressWidth: row.place == .l4 ? 48 : 39)
  }

  @Test(arguments: rows)
  func `an entry that is not as it should be has the manual's outcome`(row: Row) throws {
    let answer = vtdMachine(Self.limits(for: row)).translate(
      device, IOVA(row.iova), access: row.access, in: try Self.memory(for: row))
    switch row.outcome {
    case .mapped(let address):
      #expect(answer == .to(address))
    case .recorded(let number):
      #expect(
        answer == .fault(.vtd(VTd.FaultReason(rawValue: number), isRecorded: true)))
    case .silent(let number):
      #expect(
        answer == .fault(.vtd(VTd.FaultReason(rawValue: number), isRecorded: false)))
    }
  }

  @Test func `M44: the reserved table mode blocks everything`() throws {
    let memory = try Self.memory(for: Row("M44", .nowhere, "", "TTM=10", .recorded(0x30)))
    for register: UInt64 in [0x10_0800, 0x10_0400, 0x10_0c00] {
      let machine = vtdMachine(.unit(), rootTableAddress: register)
      #expect(
        machine.translate(device, IOVA(0x1234_5678), access: .read, in: memory)
          == .fault(.vtd(.invalidTableMode, isRecorded: true)))
    }
  }

  @Test func `tables as they should be map the page`() throws {
    let memory = try Self.memory(for: Row("", .nowhere, "", "legal", .mapped(0x20_0678)))
    for access in Access.allCases {
      #expect(
        vtdMachine(.unit()).translate(device, IOVA(0x1234_5678), access: access, in: memory)
          == .to(0x20_0678))
    }
  }

  @Test func `a root table where no memory answers is fault 8h`() throws {
    let memory = try FlatMemory(byteCount: 4096)
    for table: UInt64 in [0x7000_0000, 0xffff_ffff_ffff_f000] {
      #expect(
        vtdMachine(.unit(), rootTableAddress: table)
          .translate(device, IOVA(0), access: .read, in: memory)
          == .fault(.vtd(.rootTableUnreadable, isRecorded: true)))
    }
  }

  @Test func `a unit that is off lets every address pass`() throws {
    let memory = try FlatMemory(byteCount: 4096)
    #expect(
      vtdMachine(.unit(), isOn: false)
        .translate(device, IOVA(0xdead_beef_0000), byteCount: 9000, access: .write, in: memory)
        == .to(0xdead_beef_0000, 9000))
  }

  @Test(
    arguments: [
      ("00:04.0", 0x000, 0x200), ("3a:1f.7", 0x3a0, 0xff0), ("ff:10.0", 0xff0, 0x800),
    ] as [(String, UInt64, UInt64)])
  func `a requester's entries lie where its bus and function say`(
    text: String, root: UInt64, context: UInt64
  ) throws {
    let requester = try #require(Requester(text))
    let unit = VTd.Unit(
      base: PhysicalAddress(0), rootTableAddress: VTd.RootTableAddress(rawValue: 0x10_0000),
      status: VTd.GlobalStatus(rawValue: 0x8000_0000), limits: .permissive)
    #expect(unit.rootEntryAddress(bus: requester.bus) == PhysicalAddress(0x10_0000 + root))
    #expect(
      VTd.Unit.contextEntryAddress(
        in: PhysicalAddress(0x10_1000), deviceFunction: requester.deviceFunction)
        == PhysicalAddress(0x10_1000 + context))
  }

  // MARK: Widths

  static let widths: [(code: UInt64, levels: Int, last: UInt64)] = [
    (1, 3, 0x7f_ffff_ffff), (2, 4, 0xffff_ffff_ffff), (3, 5, 0x1ff_ffff_ffff_ffff),
  ]

  @Test(arguments: widths)
  func `the last IOVA of a width is mapped and the next is fault 4h`(
    code: UInt64, levels: Int, last: UInt64
  ) throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    storeContext(table: 0x11_0000, widthCode: code, in: memory)
    var builder = TableBuilder(in: memory, root: 0x11_0000, levels: levels)
    builder.set(0x20_0003, for: last, level: 1)
    let machine = vtdMachine(
      .unit(hostAddressWidth: 52, guestAddressWidth: 57, widths: 0b01110))
    #expect(machine.translate(device, IOVA(last), access: .write, in: memory) == .to(0x20_0fff))
    for beyond in [last + 1, last + 0x1000, 1 << 57, 1 << 63, .max] {
      #expect(
        machine.translate(device, IOVA(beyond), access: .write, in: memory).reason == 0x04)
    }
  }

  @Test func `the unit's width limits a wider table`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    storeContext(table: 0x11_0000, widthCode: 2, in: memory)
    var builder = TableBuilder(in: memory, root: 0x11_0000, levels: 4)
    builder.set(0x20_0003, for: 0x7f_ffff_ffff, level: 1)
    builder.set(0x20_0003, for: 0x80_0000_0000, level: 1)
    let machine = vtdMachine(.unit(guestAddressWidth: 39, widths: 0b00110))
    #expect(
      machine.translate(device, IOVA(0x7f_ffff_ffff), access: .read, in: memory) == .to(0x20_0fff))
    #expect(
      machine.translate(device, IOVA(0x80_0000_0000), access: .read, in: memory).reason == 0x04)
  }

  @Test func `FPD suppresses the record of a width fault too`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    storeContext(table: 0x11_0003, widthCode: 1, in: memory)
    #expect(
      vtdMachine(.unit()).translate(device, IOVA(0x80_0000_0000), access: .read, in: memory)
        == .fault(.vtd(.addressBeyondWidth, isRecorded: false)))
    #expect(
      vtdMachine(.unit()).translate(device, IOVA(0), access: .write, in: memory)
        == .fault(.vtd(.writeNotPermitted, isRecorded: false)))
  }

  // MARK: Large pages

  @Test func `a 2 MiB page keeps 21 bits of the IOVA and a 1 GiB page 30`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    storeContext(table: 0x11_0000, widthCode: 1, in: memory)
    var builder = TableBuilder(in: memory, root: 0x11_0000, levels: 3)
    builder.set(0x1_2340_0083, for: 0x1220_0000, level: 2)
    builder.set(0x12_4000_0083, for: 0x4000_0000, level: 3)
    let machine = vtdMachine(.unit())
    func translate(_ iova: UInt64, _ byteCount: UInt64) -> Translation {
      machine.translate(device, IOVA(iova), byteCount: byteCount, access: .read, in: memory)
    }
    #expect(translate(0x1234_5678, 16) == .to(0x1_2354_5678, 16))
    #expect(translate(0x1220_0000, .max) == .to(0x1_2340_0000, 0x20_0000))
    #expect(translate(0x123f_ffff, .max) == .to(0x1_235f_ffff, 1))
    #expect(translate(0x1240_0000, 1).reason == 0x06)
    #expect(translate(0x4000_0000, .max) == .to(0x12_4000_0000, 0x4000_0000))
    #expect(translate(0x7fff_ffff, .max) == .to(0x12_7fff_ffff, 1))
    #expect(translate(0x6345_6789, 16) == .to(0x12_6345_6789, 16))
    #expect(translate(0x8000_0000, 1).reason == 0x06)
  }

  @Test func `a page size the unit lacks is a reserved bit`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    storeContext(table: 0x11_0000, widthCode: 1, in: memory)
    var builder = TableBuilder(in: memory, root: 0x11_0000, levels: 3)
    builder.set(0x1_2340_0083, for: 0x1220_0000, level: 2)
    builder.set(0x12_4000_0083, for: 0x4000_0000, level: 3)
    let machine = vtdMachine(.unit(pages2MiB: false, pages1GiB: false))
    #expect(
      machine.translate(device, IOVA(0x1234_5678), access: .read, in: memory).reason == 0x0c)
    #expect(
      machine.translate(device, IOVA(0x4000_0000), access: .read, in: memory).reason == 0x0c)
  }

  @Test func `permissions of all levels together decide`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    storeContext(table: 0x11_2000, widthCode: 1, in: memory)
    for (l3, l2, l1) in [
      (1, 3, 3), (3, 1, 3), (3, 3, 1), (2, 3, 3), (3, 2, 3), (1, 2, 3), (3, 3, 3),
    ]
      as [(UInt64, UInt64, UInt64)]
    {
      memory.store(0x11_3000 | l3, at: 0x11_2000)
      memory.store(0x11_4000 | l2, at: 0x11_3000)
      memory.store(0x20_0000 | l1, at: 0x11_4000)
      let together = l3 & l2 & l1
      let machine = vtdMachine(.unit())
      #expect(
        machine.translate(device, IOVA(0), access: .read, in: memory).reason
          == (together & 1 != 0 ? nil : 0x06))
      #expect(
        machine.translate(device, IOVA(0), access: .write, in: memory).reason
          == (together & 2 != 0 ? nil : 0x05))
    }
  }

  // MARK: Interrupts and pass-through

  static let interruptAddresses: [UInt64] = [0xfee0_0000, 0xfee0_1000, 0xfeef_ffff]

  @Test(arguments: interruptAddresses)
  func `the interrupt range is never memory, whatever the tables say`(address: UInt64) throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    for entry in [
      "0120110000000000 0105000000000000", "0900000000000000 0105000000000000",
      "0200000000000000 0000000000000000",
    ] {
      memory.store(hex: "0110100000000000 0000000000000000", at: 0x10_0000)
      memory.store(hex: entry, at: 0x10_1200)
      let machine = vtdMachine(.unit())
      #expect(
        machine.translate(device, IOVA(address), byteCount: 4, access: .write, in: memory)
          == .interruptMessage)
      #expect(
        machine.translate(device, IOVA(address), byteCount: 4, access: .read, in: memory)
          == .fault(.vtd(.malformedInterruptRequest, isRecorded: true)))
    }
  }

  @Test func `the addresses beside the interrupt range are translated`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    storeContext(table: 0x11_0000, widthCode: 1, in: memory)
    var builder = TableBuilder(in: memory, root: 0x11_0000, levels: 3)
    builder.set(0x20_0003, for: 0xfedf_f000, level: 1)
    builder.set(0x20_1003, for: 0xfef0_0000, level: 1)
    let machine = vtdMachine(.unit())
    #expect(
      machine.translate(device, IOVA(0xfedf_ffff), access: .write, in: memory) == .to(0x20_0fff))
    #expect(
      machine.translate(device, IOVA(0xfef0_0000), access: .write, in: memory) == .to(0x20_1000))
  }

  @Test func `pass-through reaches the host address width and no further`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    memory.store(hex: "0110100000000000 0000000000000000", at: 0x10_0000)
    memory.store(hex: "0b00000000000000 0105000000000000", at: 0x10_1200)
    let machine = vtdMachine(.unit())
    #expect(
      machine.translate(device, IOVA(0x7f_ffff_ffff), access: .write, in: memory)
        == .to(0x7f_ffff_ffff))
    #expect(
      machine.translate(device, IOVA(0x80_0000_0000), access: .write, in: memory)
        == .fault(.vtd(.addressBeyondWidth, isRecorded: false)))
  }

  @Test func `pass-through does not look at the pointer`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    memory.store(hex: "0110100000000000 0000000000000000", at: 0x10_0000)
    memory.store(hex: "09f0ffffffffffff 0105000000000000", at: 0x10_1200)
    #expect(
      vtdMachine(.unit()).translate(device, IOVA(0x1000), access: .write, in: memory)
        == .to(0x1000))
  }

  @Test func `a pass-through request is cut before what it cannot reach`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    memory.store(hex: "0110100000000000 0000000000000000", at: 0x10_0000)
    memory.store(hex: "0900000000000000 0105000000000000", at: 0x10_1200)
    let machine = vtdMachine(.unit())
    func translate(_ iova: UInt64, _ byteCount: UInt64) -> Translation {
      machine.translate(device, IOVA(iova), byteCount: byteCount, access: .write, in: memory)
    }
    #expect(translate(0xfedf_fff0, 0x20) == .to(0xfedf_fff0, 0x10))
    #expect(translate(0, 0x1_0000_0000) == .to(0, 0xfee0_0000))
    #expect(translate(0xfef0_0000, 0x20) == .to(0xfef0_0000, 0x20))
    #expect(translate(0x7f_ffff_fff0, 0x20) == .to(0x7f_ffff_fff0, 0x10))
    #expect(translate(0xfef0_0000, .max) == .to(0xfef0_0000, 0x7f_0110_0000))
  }

  @Test func `a request in a large page is cut before the interrupt range`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    storeContext(table: 0x11_0000, widthCode: 1, in: memory)
    var builder = TableBuilder(in: memory, root: 0x11_0000, levels: 3)
    // The IOVAs run into the range, and then the pages do.
    builder.set(0x1_0000_0083, for: 0xc000_0000, level: 3)
    builder.set(0xc000_0083, for: 0x4000_0000, level: 3)
    let machine = vtdMachine(.unit())
    func translate(_ iova: UInt64, _ byteCount: UInt64) -> Translation {
      machine.translate(device, IOVA(iova), byteCount: byteCount, access: .write, in: memory)
    }
    #expect(translate(0xfedf_fff0, 0x20) == .to(0x1_3edf_fff0, 0x10))
    #expect(translate(0xfef0_0000, 0x20) == .to(0x1_3ef0_0000, 0x20))
    #expect(translate(0x7edf_fff0, 0x20) == .to(0xfedf_fff0, 0x10))
    #expect(translate(0x7ee0_0000, 0x20).reason == 0x0e)
    #expect(translate(0x7ef0_0000, 0x20) == .to(0xfef0_0000, 0x20))
  }
}
