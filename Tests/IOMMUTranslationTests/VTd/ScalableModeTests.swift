import IOMMUFormats
import IOMMUTranslation
import Testing

@Suite struct ScalableModeTests {
  enum Place: Sendable { case root, context, directory, pasid, l1, rootTable, nowhere }

  /// One entry that is not as it should be, and what the manual says of a read of 0x12345678.
  struct Row: Sendable, CustomTestStringConvertible {
    var id: String
    var place: Place
    var bytes: String
    var outcome: Translation
    var features: VTd.Features = []
    var testDescription: String { id }

    init(
      _ id: String, _ place: Place, _ bytes: String, _ outcome: Translation,
      with features: VTd.Features = []
    ) {
      self.id = id
      self.place = place
      self.bytes = bytes
      self.outcome = outcome
      self.features = features
    }
  }

  static let zeros = " 0000000000000000 0000000000000000 0000000000000000"

  static let rows: [Row] = [
    Row("M45: LP=0", .root, "0000000000000000 0120120000000000", .recorded(0x39)),
    Row("M46: UP=0, bit 65 ignored", .root, "0110100000000000 0200000000000000", .to(0x20_0678)),
    Row("M47: bit 1", .root, "0310100000000000 0120120000000000", .recorded(0x3a)),
    Row("bit 65 of a half present", .root, "0110100000000000 0320120000000000", .recorded(0x3a)),
    Row("LCTP bit 48", .root, "0110100000000100 0000000000000000", .recorded(0x3a)),
    Row("no context table there", .root, "0100007000000000 0000000000000000", .recorded(0x40)),
    Row("context P=0", .context, "0000120000000000" + zeros, .recorded(0x41)),
    Row("M48: bit 7", .context, "8100120000000000" + zeros, .recorded(0x42)),
    Row("DTE without DT", .context, "0500120000000000" + zeros, .recorded(0x42)),
    Row("PRE without PRS", .context, "1100120000000000" + zeros, .recorded(0x42)),
    Row("bit 255", .context, "0100120000000000" + zeros.dropLast(2) + "80", .recorded(0x42)),
    Row(
      "RID_PASID without RPS", .context,
      "0100120000000000 0100000000000000 0000000000000000 0000000000000000", .recorded(0x42)),
    Row(
      "M49: RID_PASID 20000h of 8192", .context,
      "0100120000000000 0000020000000000 0000000000000000 0000000000000000", .recorded(0x43),
      with: .requesterPASID),
    Row(
      "PRE without DTE", .context, "1100120000000000" + zeros, .recorded(0x43),
      with: .pageRequests),
    Row(
      "EPTR without PASIDE", .context, "4100120000000000" + zeros, .recorded(0x43),
      with: .translatedRequestPASIDs),
    Row("M50: P=0, FPD=1", .context, "0200000000000000" + zeros, .silent(0x41)),
    Row("bit 7, FPD=1", .context, "8300120000000000" + zeros, .silent(0x42)),
    Row("no directory there", .context, "0100007000000000" + zeros, .recorded(0x50)),
    Row("no directory there, FPD=1", .context, "0300007000000000" + zeros, .recorded(0x50)),
    Row("directory P=0", .directory, "0010120000000000", .recorded(0x51)),
    Row("M51: P=0, FPD=1", .directory, "0200000000000000", .silent(0x51)),
    Row("M52: bit 2", .directory, "0510120000000000", .recorded(0x52)),
    Row("SMPTBLPTR bit 48", .directory, "0110120000000100", .recorded(0x52)),
    Row("M53: no table there", .directory, "0100007000000000", .recorded(0x58)),
    Row("no table there, FPD=1", .directory, "0300007000000000", .recorded(0x58)),
    Row("PASID P=0", .pasid, "8810110000000000 0500000000000000", .recorded(0x59)),
    Row("PASID P=0, FPD=1", .pasid, "0200000000000000 0000000000000000", .silent(0x59)),
    Row("M54: PGTT=000", .pasid, "0910110000000000 0500000000000000", .recorded(0x5b)),
    Row("M55: PGTT=101", .pasid, "4911110000000000 0500000000000000", .recorded(0x5b)),
    Row("M56: AW=000", .pasid, "8110110000000000 0500000000000000", .recorded(0x5b)),
    Row("M57: bit 5", .pasid, "a910110000000000 0500000000000000", .recorded(0x5a)),
    Row("bit 80", .pasid, "8910110000000000 0500010000000000", .recorded(0x5a)),
    Row("bit 10, FPD=1", .pasid, "8b14110000000000 0500000000000000", .silent(0x5a)),
    Row("first stage without FSTS", .pasid, "4910110000000000 0500000000000000", .recorded(0x5b)),
    Row("nested without NEST", .pasid, "c910110000000000 0500000000000000", .recorded(0x5b)),
    Row("top table not there", .pasid, "8900007000000000 0500000000000000", .recorded(0x7b)),
    Row("pass-through", .pasid, "0101000000000000 0500000000000000", .to(0x1234_5678)),
    Row("M58: R=W=0", .l1, "0000000000000000", .recorded(0x79)),
    Row("M59: output FEE0_0000", .l1, "0300e0fe00000000", .recorded(0x87)),
    Row("write only", .l1, "0200200000000000", .recorded(0x86)),
    Row("bit 48 of the page", .l1, "0300200000000100", .recorded(0x7a)),
    Row("SNP without SC", .l1, "0308200000000000", .recorded(0x7a)),
    Row("as it should be", .nowhere, "", .to(0x20_0678)),
    Row("TTM=10", .rootTable, "0008100000000000", .recorded(0x30)),
    Row("abort-DMA", .rootTable, "000c000000000000", .recorded(0x33), with: .abortDMA),
    Row("abort-DMA without ADMS", .rootTable, "000c000000000000", .recorded(0x30)),
    Row("no root table there", .rootTable, "0004007000000000", .recorded(0x38)),
  ]

  @Test(arguments: rows)
  func `an entry that is not as it should be has the manual's outcome`(row: Row) throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    memory.store(hex: "0110100000000000 0120120000000000", at: 0x10_0000)
    memory.store(hex: "0100120000000000" + Self.zeros, at: 0x10_1400)
    memory.store(hex: "0110120000000000", at: 0x12_0000)
    memory.store(hex: "8910110000000000 0500000000000000", at: 0x12_1000)
    memory.store(hex: "0320110000000000", at: 0x11_1000)
    memory.store(hex: "0330110000000000", at: 0x11_2000)
    memory.store(hex: "0340110000000000", at: 0x11_3488)
    memory.store(hex: "0300200000000000", at: 0x11_4a28)
    var root: UInt64 = 0x10_0400
    switch row.place {
    case .root: memory.store(hex: row.bytes, at: 0x10_0000)
    case .context: memory.store(hex: row.bytes, at: 0x10_1400)
    case .directory: memory.store(hex: row.bytes, at: 0x12_0000)
    case .pasid: memory.store(hex: row.bytes, at: 0x12_1000)
    case .l1: memory.store(hex: row.bytes, at: 0x11_4a28)
    case .rootTable:
      root = hexdump(row.bytes).reversed().reduce(0) { $0 << 8 | UInt64($1) }
    case .nowhere: break
    }
    var limits = VTd.Limits.scalableQEMU
    limits.features.formUnion(row.features)
    var observer = Unobserved()
    let answer = scalableResolver(limits, rootTableAddress: root).translate(
      VTd.Request(device, IOVA(0x1234_5678)), in: memory, marker: NoMarks(), observer: &observer)
    #expect(answer == row.outcome)
  }

  @Test func `a unit without scalable mode refuses its tables`() throws {
    let tables = try ScalableTables()
    #expect(tables.translate(0x1000, on: .modern.without(.scalableMode)) == .recorded(0x30))
  }

  @Test func `IR and IW take the place of R and W where the unit has them`() throws {
    let tables = try ScalableTables()
    tables.set([0x20_0000 | 1 | 2 << 2 | 2 << 6, 5])
    var builder = TableBuilder(
      in: tables.memory, root: 0x20_0000, levels: 4, pointerFlags: 3 << 61)
    builder.set(0x30_0000 | 1 << 61, for: 0x1000, level: 1)
    builder.set(0x30_1000 | 1 << 62, for: 0x2000, level: 1)
    builder.set(0x30_2003, for: 0x3000, level: 1)
    func answers(_ resolver: VTd.Resolver, _ address: UInt64) -> [Translation] {
      [.read, .write].map { (operation: VTd.Request.Operation) in
        var observer = Unobserved()
        return resolver.translate(
          VTd.Request(device, IOVA(address), operation), in: tables.memory, marker: NoMarks(),
          observer: &observer)
      }
    }
    let switched = scalableResolver(.modern, rootTableAddress: 0x10_0480)
    #expect(answers(switched, 0x1000) == [.to(0x30_0000), .recorded(0x85)])
    #expect(answers(switched, 0x2000) == [.recorded(0x86), .to(0x30_1000)])
    #expect(answers(switched, 0x3000) == [.recorded(0x79), .recorded(0x79)])
    // Without the capability the register bit means nothing, and R=W=0 is not present.
    let plain = scalableResolver(
      .modern.without(.secondStageIOPermissions), rootTableAddress: 0x10_0480)
    #expect(answers(plain, 0x1000) == [.recorded(0x79), .recorded(0x79)])
    // In legacy mode the bit is a fault of its own.
    #expect(
      answers(scalableResolver(.modern, rootTableAddress: 0x10_0080), 0x1000)
        == [.recorded(0x30), .recorded(0x30)])
  }

  @Test(
    arguments: [
      ("00:04.0", 0x000, 0x400), ("3a:1f.7", 0x3a0, 0xfe0), ("ff:10.0", 0xff0, 0x000),
    ] as [(String, UInt64, UInt64)])
  func `a requester's entries lie where its bus and function say`(
    text: String, root: UInt64, context: UInt64
  ) throws {
    let requester = try #require(Requester(text))
    #expect(
      scalableResolver(.modern).unit.rootEntryAddress(bus: requester.bus)
        == PhysicalAddress(0x10_0000 + root))
    #expect(
      VTd.Unit.scalableContextEntryAddress(
        in: PhysicalAddress(0x10_1000), deviceFunction: requester.deviceFunction)
        == PhysicalAddress(0x10_1000 + context))
  }

  /// PASID, and the byte offsets of its entries.
  @Test(
    arguments: [
      (0, 0, 0), (1, 0, 0x40), (0x3f, 0, 0xfc0), (0x40, 8, 0), (0x12345, 0x2468, 0x140),
      (0xfffff, 0x1fff8, 0xfc0),
    ] as [(UInt32, UInt64, UInt64)])
  func `a PASID's entries lie where its bits say`(pasid: UInt32, directory: UInt64, table: UInt64) {
    #expect(
      VTd.Unit.directoryEntryAddress(in: PhysicalAddress(0x12_0000), PASID(pasid))
        == PhysicalAddress(0x12_0000 + directory))
    #expect(
      VTd.Unit.pasidEntryAddress(in: PhysicalAddress(0x12_1000), PASID(pasid))
        == PhysicalAddress(0x12_1000 + table))
  }

  /// The last address of each width, and its level-1 index.
  @Test(
    arguments: [(1, 3, 0x7f_ffff_ffff), (2, 4, 0xffff_ffff_ffff), (3, 5, 0x1ff_ffff_ffff_ffff)]
      as [(UInt64, Int, UInt64)])
  func `the last IOVA of a second stage is mapped and the next is fault 84h`(
    code: UInt64, levels: Int, last: UInt64
  ) throws {
    let tables = try ScalableTables()
    tables.set([0x20_0000 | 1 | code << 2 | 2 << 6, 5])
    var builder = TableBuilder(in: tables.memory, root: 0x20_0000, levels: levels)
    builder.set(0x30_0003, for: last, level: 1)
    #expect(tables.translate(last, .write) == .to(0x30_0fff))
    #expect(tables.translate(last + 1, .write) == .recorded(0x84))
    #expect(tables.translate(.max) == .recorded(0x84))
  }

  @Test func `pass-through reaches the host address width and no further`() throws {
    let tables = try ScalableTables(context: 0b1001)
    tables.set([1 | 4 << 6, 5])
    tables.set([1 | 4 << 6, 5], pasid: 3)
    #expect(tables.translate(0x3fff_ffff_ffff, .write) == .to(0x3fff_ffff_ffff))
    #expect(tables.translate(0x4000_0000_0000, .write) == .recorded(0x83))
    #expect(tables.translate(0xfee0_0000, .write) == .interruptMessage)
    #expect(tables.translate(0xfee0_0000, .read) == .recorded(0x29))
    #expect(tables.translate(0xfee0_0000, .atomic) == .recorded(0x29))
    #expect(tables.translate(0xfee0_0000, .zeroLengthRead) == .to(0xfee0_0000))
    // With a PASID the range is memory, and memory is not there.
    #expect(tables.translate(0xfee0_0000, .write, pasid: 3) == .recorded(0x87))
    #expect(tables.translate(0x1000, .write, pasid: 3) == .to(0x1000))
  }

  @Test func `requests with PASID to the interrupt range are translated`() throws {
    let tables = try ScalableTables(context: 0b1001)
    tables.set([0x20_0000 | 1 | 2 << 2 | 2 << 6, 5], pasid: 3)
    var builder = TableBuilder(in: tables.memory, root: 0x20_0000, levels: 4)
    builder.set(0x30_0003, for: 0xfee0_1000, level: 1)
    builder.set(0xfee0_2003, for: 0x5000, level: 1)
    #expect(tables.translate(0xfee0_1234, .write, pasid: 3) == .to(0x30_0234))
    #expect(tables.translate(0xfee0_2000, .write, pasid: 3) == .recorded(0x79))
    #expect(tables.translate(0x5000, .read, pasid: 3) == .recorded(0x87))
  }
}
