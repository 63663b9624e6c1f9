import IOMMUFormats
import IOMMUTranslation
import Testing

@Suite struct AMDViTablesTests {
  static let buffer = physical(0x8000..<0x9000)

  static func isFault(_ translation: Translation, _ reason: AMDVi.FaultReason) -> Bool {
    if case .fault(let fault) = translation { fault.meaning == reason.meaning } else { false }
  }

  @Test func `a first test takes three lines`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    let tables = try AMDVi.Tables(in: memory)
    try tables.map("00:03.0", at: IOVA(0xffff_f000), Self.buffer, .readWrite)
    #expect(
      tables.translate("00:03.0", IOVA(0xffff_f040), byteCount: 64, access: .write)
        == .to(0x8040, 64))
    #expect(Self.isFault(tables.translate("00:03.0", IOVA(0), access: .read), .entryNotPresent))
    #expect(
      Self.isFault(
        tables.translate("00:04.0", IOVA(0xffff_f040), access: .read), .deviceNotPermitted))
  }

  @Test func `host tables are the words that drivers write, from the end of memory down`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    let tables = try AMDVi.Tables(in: memory, lastBus: 0)
    try tables.map("00:03.0", at: IOVA(0xffff_f000), Self.buffer, .readWrite)
    #expect(tables.deviceTable.rawValue == 0xf_e001)
    #expect(memory.words(0xf_e300, 4) == [0x6000_0000_000f_d603, 1, 0, 0], "as vector D1")
    #expect(memory.words(0xf_e320, 4) == [3, 0, 0, 0], "blocked, as vector D4")
    #expect(memory.words(0xf_d018, 1) == [0x6000_0000_000f_c401])
    #expect(memory.words(0xf_cff8, 1) == [0x6000_0000_000f_b201])
    #expect(memory.words(0xf_bff8, 1) == [0x7000_0000_0000_8001], "FC, as Linux has it")
    try tables.pass("00:04.0")
    #expect(memory.words(0xf_e400, 4) == [0x6000_0000_0000_0003, 2, 0, 0], "as vector D3")
    #expect(tables.translate("00:04.0", IOVA(0x1_2345), access: .write) == .to(0x1_2345))
    try tables.unbind("00:04.0")
    #expect(memory.words(0xf_e400, 4) == [3, 0, 0, 0])
  }

  @Test func `a host's tree grows when an address asks for it, and so do its devices' entries`()
    throws
  {
    let memory = try FlatMemory(byteCount: 1 << 20)
    let tables = try AMDVi.Tables(in: memory, lastBus: 0)
    try tables.map("00:03.0", at: IOVA(0x1000), Self.buffer, .readWrite)
    let domain = try #require(tables.domain(of: "00:03.0"))
    #expect(domain.kind == .host(levels: 3))
    try tables.bind("00:04.0", to: domain)
    try tables.map("00:04.0", at: IOVA(0xffff_ffff_ffff_f000), physical(0xa000..<0xb000), .read)
    #expect(tables.domain(of: "00:03.0")?.kind == .host(levels: 6))
    for device: PCI.Function in ["00:03.0", "00:04.0"] {
      #expect(tables.translate(device, IOVA(0x1008), access: .write) == .to(0x8008))
      #expect(
        tables.translate(device, IOVA(0xffff_ffff_ffff_f008), access: .read) == .to(0xa008))
    }
    let shallow = try AMDVi.Tables(
      in: memory, features: AMDVi.ExtendedFeatures(rawValue: 0), lastBus: 0)
    #expect(shallow.limits.hostLevels == 4)
    #expect(throws: TablesError.self) {
      try shallow.map("00:03.0", at: IOVA(1 << 48), Self.buffer, .read)
    }
    #expect(shallow.domain(of: "00:03.0") == nil)
  }

  @Test func `guest tables are reached through GCR3 by PASID, and without it through GIoV`() throws
  {
    let memory = try FlatMemory(byteCount: 1 << 20)
    let tables = try AMDVi.Tables(in: memory, lastBus: 0)
    let domain = try tables.makeDomain(.guest(levels: 4), id: 2)
    try tables.map(in: domain, at: IOVA(0x1000), Self.buffer, .readWrite)
    try tables.map(in: domain, at: IOVA(0x2000), Self.buffer, .read)
    try tables.bind("00:03.0", pasid: PASID(5), to: domain)
    // GCR3 table 0xf9000: V, and the guest's root.
    #expect(memory.words(0xf_9028, 1) == [0xf_d001])
    #expect(memory.words(0xf_d000, 1) == [0xf_c027])
    #expect(memory.words(0xf_a008, 2) == [0x8067, 0x8065], "A and D set, as Linux has it")
    // V, TV, GIoV, GV, IR, IW, the table's address in its three parts; domain 2.
    #expect(memory.words(0xf_e300, 4) == [0x64c0_0000_0000_0003, 0x1f_0002, 0, 0])
    #expect(
      tables.translate("00:03.0", pasid: PASID(5), IOVA(0x1abc), access: .write) == .to(0x8abc))
    #expect(
      Self.isFault(
        tables.translate("00:03.0", pasid: PASID(5), IOVA(0x2abc), access: .write),
        .guestNotPermitted)
        || tables.translate("00:03.0", pasid: PASID(5), IOVA(0x2abc), access: .write)
          != .to(0x8abc)
    )
    #expect(
      Self.isFault(tables.translate("00:03.0", IOVA(0x1abc), access: .read), .guestRootNotValid),
      "requests without PASID are stopped")
    try tables.bind("00:03.0", to: domain)
    #expect(tables.translate("00:03.0", IOVA(0x1abc), access: .read) == .to(0x8abc))
    try tables.map("00:03.0", pasid: PASID(511), at: IOVA(0x1000), physical(0xa000..<0xb000), .read)
    #expect(
      tables.translate("00:03.0", pasid: PASID(511), IOVA(0x1000), access: .read) == .to(0xa000))
    #expect(throws: TablesError.pasidBeyondTables(PASID(512), limit: 512)) {
      try tables.bind("00:03.0", pasid: PASID(512), to: domain)
    }
    #expect(throws: TablesError.boundOtherwise("00:03.0", PASID(511))) {
      try tables.bind("00:03.0", pasid: PASID(511), to: domain)
    }
    for pasid in [PASID(5), PASID(511), nil] { try tables.unbind("00:03.0", pasid: pasid) }
    #expect(memory.words(0xf_e300, 4) == [3, 0, 0, 0])
    try tables.remove(domain)
    #expect(
      tables.translate("00:03.0", IOVA(0x1abc), access: .read)
        == tables.translate("00:04.0", IOVA(0x1abc), access: .read))
  }

  @Test func `GCR3 tables of three levels have every PASID`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    let tables = try AMDVi.Tables(in: memory, lastBus: 0, pasidBits: 20)
    try tables.map(
      "00:03.0", pasid: PASID(0xf_ffff), at: IOVA(0x1000), Self.buffer, .readWrite)
    #expect(
      tables.translate("00:03.0", pasid: PASID(0xf_ffff), IOVA(0x1001), access: .write)
        == .to(0x8001))
  }

  @Test(arguments: [nil, 0x10_0000] as [UInt64?])
  func `a guest's tables lie where its host lets hardware reach them`(guestTables: UInt64?) throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    let tables = try AMDVi.Tables(in: memory, lastBus: 0)
    let host = try tables.makeDomain(.host(levels: 3))
    try tables.map(in: host, at: IOVA(0x5000), physical(0x9000..<0xa000), .readWrite)
    let count = tables.tablePageCount
    let guest = try tables.makeDomain(
      .nested(levels: 4, host: host.id), guestTables: guestTables.map { PhysicalAddress($0) })
    try tables.map(in: guest, at: IOVA(0x7000_0000), physical(0x5000..<0x6000), .readWrite)
    try tables.bind("00:05.0", pasid: PASID(7), to: guest)
    #expect(
      tables.translate("00:05.0", pasid: PASID(7), IOVA(0x7000_0123), access: .write)
        == .to(0x9123))
    #expect(
      tables.translate("00:05.0", IOVA(0x5123), access: .write) == .to(0x9123),
      "requests without PASID go through the host's tables")
    #expect(throws: TablesError.boundOtherwise("00:05.0", PASID(8))) {
      try tables.bind("00:05.0", pasid: PASID(8), to: try tables.makeDomain(.guest(levels: 4)))
    }
    try tables.unbind("00:05.0", pasid: PASID(7))
    #expect(tables.domain(of: "00:05.0") == nil)
    try tables.remove(guest)
    #expect(tables.tablePageCount == count + 1, "the guest domain that nothing was bound to")
  }

  @Test func `every size that several entries span`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    let tables = try AMDVi.Tables(in: memory, lastBus: 0)
    tables.allowsMappingTables = true
    // 4, 8, 16 … KiB, each at its own size, up to 128 GiB.
    try tables.map(
      "00:03.0", at: IOVA(0x1000), physical(0x1000..<(1 << 38)), .readWrite, sizes: .largest)
    for size in 12..<38 {
      let start: UInt64 = 1 << UInt64(size)
      for address in [start, start | start >> 1, start << 1 - 1] {
        #expect(
          tables.translate("00:03.0", IOVA(address), access: .write) == .to(address))
      }
    }
    // Root, a table of level 2 and one of level 1.
    #expect(tables.tablePageCount == 2 + 3)
    try tables.unmap("00:03.0", iovas(0x1000..<(1 << 38)))
    #expect(tables.tablePageCount == 2 + 1)
  }

  @Test func `what the unit or the table lacks is refused`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    let tables = try AMDVi.Tables(
      in: memory, features: AMDVi.ExtendedFeatures(rawValue: 0), lastBus: 1)
    #expect(throws: TablesError.deviceBeyondTables("02:00.0")) {
      try tables.map("02:00.0", at: IOVA(0), Self.buffer, .read)
    }
    #expect(throws: TablesError.otherSegment("0003:00:01.0", tables: 0)) {
      try tables.map("0003:00:01.0", at: IOVA(0), Self.buffer, .read)
    }
    #expect(throws: TablesError.notSupported("the unit has no guest tables of 4 levels")) {
      try tables.makeDomain(.guest(levels: 4))
    }
    #expect(
      throws: TablesError.notSupported("the unit has no host tables of 5 levels, but of up to 4")
    ) { try tables.makeDomain(.host(levels: 5)) }
    #expect(throws: TablesError.noRoom(what: "an AMD-Vi device table", byteCount: 2 << 20)) {
      try AMDVi.Tables(in: memory)
    }
    #expect(
      throws: TablesError.mapping(
        .beyondTable(iovas(0x8000_0000_0000..<0x8000_0000_1000), reach: 0x8000_0000_0000))
    ) {
      try AMDVi.Tables(in: memory, lastBus: 0).map(
        "00:01.0", pasid: PASID(1), at: IOVA(0x8000_0000_0000), Self.buffer, .read)
    }
    #expect(throws: TablesError.notBound("00:01.0", nil)) {
      try tables.unmap("00:01.0", iovas(0..<0x1000))
    }
    #expect(throws: TablesError.mapping(.unaligned(argument: "the IOVA", 1))) {
      try tables.map("00:01.0", at: IOVA(1), Self.buffer, .read)
    }
    #expect(tables.tablePageCount == 4, "nothing was left behind")
  }
}
