import IOMMUFormats
import IOMMUTranslation
import Testing

@Suite struct GARTTablesTests {
  static let buffer = physical(0x1_2345_6000..<0x1_2345_7000)

  @Test func `a first test takes three lines`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    let tables = try GART.Tables(in: memory)
    try tables.map(at: IOVA(0x8000_3000), Self.buffer)
    #expect(
      tables.translate(IOVA(0x8000_3040), byteCount: 64, access: .write)
        == .to(0x1_2345_6040, 64))
    #expect(tables.translate(IOVA(0x1234), access: .read) == .to(0x1234), "outside")
    if case .mapped = tables.translate(IOVA(0x8000_4000), access: .read) {
      Issue.record("an entry that is not valid maps nothing")
    }
  }

  @Test func `entries are the bytes of the vectors, also across 4 GiB`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    let tables = try GART.Tables(in: memory, order: 0)
    #expect(tables.table == PhysicalAddress(0xf_8000))
    #expect(tables.node.tableBase.rawValue == 0xf80)
    #expect(tables.node.base.rawValue == 0x40)
    #expect(tables.node.control.rawValue == 1)
    try tables.map(at: IOVA(0x8000_0000), physical(0x1234_5000..<0x1234_6000))
    try tables.map(at: IOVA(0x8000_1000), physical(0xffff_f000..<0x1_0000_1000))
    try tables.map(at: IOVA(0x8000_3000), physical(0xff_ffff_f000..<0x100_0000_0000))
    try tables.map(at: IOVA(0x8000_4000), Self.buffer, attributes: [])
    // P1, the last page below 4 GiB, P2, P6, and P3 without C.
    #expect(
      memory.bytes(at: tables.table, count: 24) == [
        0x03, 0x50, 0x34, 0x12, 0x03, 0xf0, 0xff, 0xff, 0x13, 0x00, 0x00, 0x00,
        0xf3, 0xff, 0xff, 0xff, 0x11, 0x60, 0x45, 0x23, 0, 0, 0, 0,
      ])
    try tables.unmap(iovas(0x8000_0000..<0x8000_3000))
    #expect(memory.words(0xf_8000, 2) == [0, 0xffff_fff3_0000_0000])
  }

  @Test func `unmapped entries lead to the scratch page where there is one`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    let tables = try GART.Tables(in: memory, order: 0, scratchPage: PhysicalAddress(0x7ab_c000))
    #expect(tables.translate(IOVA(0x8000_0008), access: .read) == .to(0x7ab_c008))
    try tables.map(at: IOVA(0x8000_0000), Self.buffer)
    #expect(throws: TablesError.mapping(.alreadyMapped(IOVA(0)))) {
      try tables.map(at: IOVA(0x8000_0000), Self.buffer)
    }
    try tables.remap(at: IOVA(0x8000_0000), physical(0x9000..<0xa000))
    #expect(tables.translate(IOVA(0x8000_0008), access: .read) == .to(0x9008))
    try tables.unmap(iovas(0x8000_0000..<0x8000_1000))
    #expect(
      memory.bytes(at: tables.table, count: 4) == [0x03, 0xc0, 0xab, 0x07], "vector P7")
  }

  @Test func `what an aperture cannot do is refused`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    let tables = try GART.Tables(in: memory, order: 0)
    #expect(throws: TablesError.notTranslated(iovas(0x8200_0000..<0x8200_1000))) {
      try tables.map(at: IOVA(0x8200_0000), Self.buffer)
    }
    #expect(throws: TablesError.notTranslated(iovas(0x7fff_f000..<0x8000_0000))) {
      try tables.unmap(iovas(0x7fff_f000..<0x8000_0000))
    }
    #expect(
      throws: TablesError.mapping(
        .physicalBeyondEntries(
          physical(0x100_0000_0000..<0x100_0000_1000), limit: 0x100_0000_0000))
    ) { try tables.map(at: IOVA(0x8000_0000), physical(0x100_0000_0000..<0x100_0000_1000)) }
    for (base, order): (UInt64, Int) in [(0x8200_0000, 1), (0x8000_0000, 7), (1 << 40, 0)] {
      #expect(throws: TablesError.self) {
        try GART.Tables(in: memory, base: IOVA(base), order: order)
      }
    }
    #expect(throws: TablesError.noRoom(what: "a GATT", byteCount: 2 << 20)) {
      try GART.Tables(in: memory, order: 6)
    }
  }
}

@Suite struct CalgaryTablesTests {
  static let buffer = physical(0x1234_5000..<0x1234_6000)

  @Test func `a first test takes three lines`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    let tables = try Calgary.Tables(in: memory)
    try tables.map("01:01.0", at: IOVA(0x10_0000), Self.buffer, .readWrite)
    #expect(
      tables.translate("01:01.0", IOVA(0x10_0040), byteCount: 64, access: .write)
        == .to(0x1234_5040, 64))
    if case .mapped = tables.translate("01:01.0", IOVA(0x10_1000), access: .read) {
      Issue.record("an entry that is free maps nothing")
    }
  }

  @Test func `entries are the bytes of the vectors, and each bridge has a table`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    let tables = try Calgary.Tables(in: memory, bridges: [0...0, 1...1, 2...5], size: .kib64)
    #expect(
      tables.chip.hostBridges.map { $0?.tableAddress.rawValue } == [
        0x3f_0000, 0x3e_0000, 0x3d_0000,
      ])
    try tables.map("00:03.0", at: IOVA(0x1000), Self.buffer, .readWrite)
    try tables.map("00:03.0", at: IOVA(0x2000), Self.buffer, .read)
    try tables.map(
      "00:03.0", at: IOVA(0x3000), physical(0xffff_ffff_f000..<0x1_0000_0000_0000), .read)
    // T01, T02, T05.
    #expect(
      memory.bytes(at: PhysicalAddress(0x3f_0008), count: 24) == [
        0, 0, 0, 0, 0x12, 0x34, 0x50, 0x03, 0, 0, 0, 0, 0x12, 0x34, 0x50, 0x01,
        0, 0, 0xff, 0xff, 0xff, 0xff, 0xf0, 0x01,
      ])
    try tables.map("04:01.0", at: IOVA(0x1000), physical(0x9000..<0xa000), .write)
    #expect(tables.translate("05:00.0", IOVA(0x1008), access: .write) == .to(0x9008))
    #expect(tables.translate("00:04.0", IOVA(0x1008), access: .write) == .to(0x1234_5008))
    try tables.unmap("00:03.0", iovas(0x1000..<0x4000))
    #expect(
      memory.bytes(at: PhysicalAddress(0x3f_0000), count: 64) == Array(repeating: 0, count: 64))
  }

  @Test func `what a chip cannot do is refused`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    let tables = try Calgary.Tables(in: memory, bridges: [0...3], size: .kib64)
    #expect(throws: TablesError.deviceBeyondTables("04:00.0")) {
      try tables.map("04:00.0", at: IOVA(0), Self.buffer, .read)
    }
    #expect(throws: TablesError.notTranslated(iovas(0xa_0000..<0x10_0000))) {
      try tables.map("00:01.0", at: IOVA(0x9_f000), physical(0x9000..<0xb000), .read)
    }
    #expect(
      throws: TablesError.mapping(
        .beyondTable(iovas(0x200_0000..<0x200_1000), reach: 0x200_0000))
    ) { try tables.map("00:01.0", at: IOVA(0x200_0000), Self.buffer, .read) }
    #expect(
      throws: TablesError.mapping(
        .physicalBeyondEntries(
          physical(1 << 48..<(1 << 48 + 4096)), limit: 1 << 48))
    ) { try tables.map("00:01.0", at: IOVA(0), physical(1 << 48..<(1 << 48 + 4096)), .read) }
    #expect(throws: TablesError.otherSegment("0001:00:01.0", tables: 0)) {
      try tables.unmap("0001:00:01.0", iovas(0..<0x1000))
    }
    #expect(throws: TablesError.noRoom(what: "a TCE table", byteCount: 8 << 20)) {
      try Calgary.Tables(in: memory, size: .mib8)
    }
  }
}
