import IOMMUFormats
import IOMMUTranslation
import Testing

@Suite struct VTdTablesTests {
  static let buffer = physical(0x8000..<0x9000)

  @Test func `a first test takes three lines`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    let tables = try VTd.Tables(in: memory)
    try tables.map("00:03.0", at: IOVA(0xffff_f000), Self.buffer, .readWrite)
    #expect(
      tables.translate("00:03.0", IOVA(0xffff_f040), byteCount: 64, access: .write)
        == .to(0x8040, 64))
    #expect(tables.translate("00:03.0", IOVA(0), access: .read).reason == 6)
    #expect(tables.translate("00:04.0", IOVA(0xffff_f040), access: .read).reason == 2)
    #expect(tables.translate("01:00.0", IOVA(0xffff_f040), access: .read).reason == 1)
  }

  @Test func `a range at the end of all addresses is refused`() throws {
    let tables = try VTd.Tables(in: try FlatMemory(byteCount: 1 << 20))
    let ends: [UInt64] = [.max, .max - 1, .max - 4095]
    for end in ends {
      #expect(throws: TablesError.self) {
        try tables.map(
          "00:03.0", at: IOVA(0x1000), physical(0xffff_ffff_fff0_0000..<end), .readWrite)
      }
    }
  }

  /// Memory is not the builder's alone: a guest may store whatever it likes to its tables.
  @Test(arguments: [VTd.TranslationTableMode.legacy, .scalable])
  func `tables that somebody else has changed are refused`(
    mode: VTd.TranslationTableMode
  ) throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    let tables = try VTd.Tables(in: memory, mode: mode)
    let page = PhysicalAddress(0x8000)..<PhysicalAddress(0x9000)
    try tables.map("00:03.0", at: IOVA(0x1000), page, .readWrite)
    // The root entry of bus 0 leads to 2 TiB, where nothing can be stored, and then to a page of its own.
    let places: [UInt64] = [0x200_0000_0000, 0x10000]
    for place in places {
      memory.store(place | 1, at: tables.rootTable)
      let error = #expect(throws: TablesError.self) {
        try tables.map("00:04.0", at: IOVA(0x1000), page, .readWrite)
      }
      guard case .changedTable(let address, let what) = error else {
        Issue.record("\(String(describing: error))")
        continue
      }
      #expect(what == "a VT-d context table")
      #expect(address.rawValue & ~0xfff == place)
    }
    let nothing = [UInt8](repeating: 0, count: 4096)
    #expect(memory.bytes(at: PhysicalAddress(0x10000), count: 4096) == nothing)
  }

  @Test func `legacy tables are the words that drivers write, from the end of memory down`() throws
  {
    let memory = try FlatMemory(byteCount: 1 << 20)
    let tables = try VTd.Tables(in: memory)
    try tables.map("00:03.0", at: IOVA(0xffff_f000), Self.buffer, .readWrite)
    // Root table 0xff000, second stage 0xfe000 and below in the order of the walk, context table last.
    #expect(tables.rootTableAddress.rawValue == 0xf_f000)
    #expect(memory.words(0xf_f000, 2) == [0xf_a001, 0])
    #expect(memory.words(0xf_a180, 2) == [0xf_e001, 0x102])
    #expect(memory.words(0xf_e000, 1) == [0xf_d003])
    #expect(memory.words(0xf_d018, 1) == [0xf_c003])
    #expect(memory.words(0xf_cff8, 1) == [0xf_b003])
    #expect(memory.words(0xf_bff8, 1) == [0x8003])
    try tables.pass("00:1f.2")
    #expect(memory.words(0xf_afa0, 2) == [0b1001, 0x203], "the widest tables that the unit has")
    #expect(tables.tablePageCount == 6)
  }

  @Test func `scalable tables are the words that drivers write`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    let tables = try VTd.Tables(in: memory, mode: .scalable)
    let domain = try tables.makeDomain(.firstStage(levels: 4), id: 0x42)
    try tables.map(in: domain, at: IOVA(0x1000), Self.buffer, .readWrite)
    try tables.map(in: domain, at: IOVA(0x2000), Self.buffer, .read)
    try tables.bind("00:10.0", pasid: PASID(65), to: domain)
    let root = tables.rootTableAddress
    #expect(root.rawValue == 0xf_f400)
    // 00:10.0 is in the upper half.
    #expect(memory.words(0xf_f000, 2) == [0, 0xf_a001])
    #expect(memory.words(0xf_a000, 4) == [0xf_9409, 0, 0, 0], "PASIDE, PDTS 2")
    #expect(memory.words(0xf_9008, 1) == [0xf_8001])
    #expect(
      memory.words(0xf_8040, 8) == [0x49, 0x80_0042, 0xf_e000, 0, 0, 0, 0, 0], "PGTT 1, DID, PWSNP")
    #expect(memory.words(0xf_e000, 1) == [0xf_d027])
    #expect(memory.words(0xf_b008, 2) == [0x8067, 0x8025])
    #expect(
      tables.translate("00:10.0", pasid: PASID(65), IOVA(0x1abc), access: .write) == .to(0x8abc))
    #expect(
      tables.translate("00:10.0", pasid: PASID(65), IOVA(0x2abc), access: .write).reason == 0x85)
    #expect(
      tables.translate("00:10.0", pasid: PASID(64), IOVA(0x1abc), access: .read).reason == 0x59)
    #expect(tables.translate("00:10.0", IOVA(0x1abc), access: .read).reason == 0x51)
  }

  @Test func `devices share a domain, and each has one of its own when nobody says so`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    let tables = try VTd.Tables(in: memory)
    try tables.map("00:03.0", at: IOVA(0x1000), Self.buffer, .readWrite)
    try tables.map("01:00.0", at: IOVA(0x1000), physical(0xa000..<0xb000), .readWrite)
    let shared = try #require(tables.domain(of: "00:03.0"))
    try tables.bind("02:00.1", to: shared)
    #expect(tables.translate("00:03.0", IOVA(0x1000), access: .read) == .to(0x8000))
    #expect(tables.translate("01:00.0", IOVA(0x1000), access: .read) == .to(0xa000))
    #expect(tables.translate("02:00.1", IOVA(0x1000), access: .read) == .to(0x8000))
    #expect(shared.id == 1)
    #expect(tables.domain(of: "01:00.0")?.id == 2)
    try tables.unmap("02:00.1", iovas(0x1000..<0x2000))
    #expect(tables.translate("00:03.0", IOVA(0x1000), access: .read).reason == 6)
    #expect(throws: TablesError.domainInUse(1)) { try tables.remove(shared) }
    #expect(throws: TablesError.boundOtherwise("01:00.0", nil)) {
      try tables.bind("01:00.0", to: shared)
    }
    try tables.unbind("01:00.0")
    #expect(tables.translate("01:00.0", IOVA(0x1000), access: .read).reason == 2)
    #expect(throws: TablesError.notBound("01:00.0", nil)) { try tables.unbind("01:00.0") }
    try tables.bind("01:00.0", to: shared)
    try tables.bind("01:00.0", to: shared)
  }

  @Test func `a device that passes reaches what it names, and no page tables`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    for mode: VTd.TranslationTableMode in [.legacy, .scalable] {
      let tables = try VTd.Tables(in: memory, mode: mode)
      try tables.pass("00:03.0")
      try tables.pass("00:04.0")
      #expect(tables.translate("00:04.0", IOVA(0x1_2345), access: .write) == .to(0x1_2345))
      #expect(tables.domain(of: "00:03.0") == tables.domain(of: "00:04.0"))
      #expect(throws: TablesError.noPageTables(domain: 1)) {
        try tables.map("00:03.0", at: IOVA(0x1000), Self.buffer, .read)
      }
      #expect(throws: TablesError.boundOtherwise("00:03.0", nil)) {
        try tables.bind("00:03.0", to: try tables.makeDomain(.secondStage(levels: 3)))
      }
    }
  }

  @Test func `PASIDs have address spaces of their own, across PASID tables`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    let tables = try VTd.Tables(in: memory, mode: .scalable, pasidBits: 20)
    try tables.map("00:03.0", at: IOVA(0x1000), physical(0..<0x1000), .read)
    #expect(throws: TablesError.self, "PASID 0 stands for requests without PASID") {
      try tables.map("00:03.0", pasid: PASID(0), at: IOVA(0x2000), Self.buffer, .read)
    }
    for number: UInt32 in [1, 63, 64, 0xf_ffff] {
      let page = UInt64(number & 0xff) << 12
      try tables.map(
        "00:03.0", pasid: PASID(number), at: IOVA(0x1000), physical(page..<(page + 0x1000)), .read)
    }
    for number: UInt32 in [1, 63, 64, 0xf_ffff] {
      #expect(
        tables.translate("00:03.0", pasid: PASID(number), IOVA(0x1008), access: .read)
          == .to(UInt64(number & 0xff) << 12 | 8))
    }
    #expect(tables.translate("00:03.0", IOVA(0x1008), access: .read) == .to(8), "RID_PASID is 0")
    try tables.unbind("00:03.0", pasid: PASID(64))
    #expect(
      tables.translate("00:03.0", pasid: PASID(64), IOVA(0x1008), access: .read).reason == 0x59)
    #expect(throws: TablesError.pasidBeyondTables(PASID(0x8000), limit: 0x8000)) {
      try VTd.Tables(in: memory, mode: .scalable).map(
        "00:03.0", pasid: PASID(0x8000), at: IOVA(0), Self.buffer, .read)
    }
  }

  @Test(arguments: [nil, 0x10_0000] as [UInt64?])
  func `a guest's tables lie where its host lets hardware reach them`(guestTables: UInt64?) throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    let tables = try VTd.Tables(in: memory, mode: .scalable)
    let host = try tables.makeDomain(.secondStage(levels: 4))
    // The guest's 0x5000 is the host's 0x9000.
    try tables.map(in: host, at: IOVA(0x5000), physical(0x9000..<0xa000), .readWrite)
    let before = tables.tablePageCount
    let guest = try tables.makeDomain(
      .nested(levels: 4, host: host.id), guestTables: guestTables.map { PhysicalAddress($0) })
    try tables.bind("00:05.0", pasid: PASID(7), to: guest)
    let bound = tables.tablePageCount
    try tables.map(
      "00:05.0", pasid: PASID(7), at: IOVA(0x7fff_0000_0000), physical(0x5000..<0x6000), .readWrite)
    #expect(
      tables.translate("00:05.0", pasid: PASID(7), IOVA(0x7fff_0000_0123), access: .write)
        == .to(0x9123))
    if let guestTables {
      // Root, and a table for each level below, one page after the other.
      for index in 0..<4 as Range<UInt64> {
        let place = SecondStage.page(of: guestTables >> 12 + index, tables)
        #expect(place != nil)
      }
      #expect(SecondStage.page(of: guestTables >> 12 + 4, tables) == nil)
    }
    // What the guest maps and the host does not is the second stage's fault.
    try tables.map(
      "00:05.0", pasid: PASID(7), at: IOVA(0x3000), physical(0x6000..<0x7000), .readWrite)
    #expect(
      tables.translate("00:05.0", pasid: PASID(7), IOVA(0x3000), access: .read).reason == 0x79)
    try tables.unmap("00:05.0", pasid: PASID(7), iovas(0x3000..<0x4000))
    try tables.unmap("00:05.0", pasid: PASID(7), iovas(0x7fff_0000_0000..<0x7fff_0000_1000))
    #expect(tables.tablePageCount == bound)
    try tables.unbind("00:05.0", pasid: PASID(7))
    #expect(throws: TablesError.domainInUse(host.id)) { try tables.remove(host) }
    try tables.remove(guest)
    // The context's tables stay, and those of the second stage for the guest's pages are gone.
    #expect(tables.tablePageCount == before + 3)
    try tables.remove(host)
    #expect(tables.tablePageCount == 4, "root, context, directory and PASID table")
  }

  /// The second stage of the first domain.
  enum SecondStage {
    static func page(of number: UInt64, _ tables: VTd.Tables<FlatMemory>) -> MappingModel.Page? {
      // The host's domain was the first table after the root.
      VTd.SecondStageFormat(levels: 4, limits: .permissive).page(
        of: number, from: PhysicalAddress(tables.rootTable.rawValue - 4096), in: tables.memory)
    }
  }

  @Test func `where the host has no room for a guest's table, that is the error`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    let tables = try VTd.Tables(in: memory, mode: .scalable)
    let host = try tables.makeDomain(.secondStage(levels: 3))
    try tables.map(in: host, at: IOVA(0x10_1000), physical(0x9000..<0xa000), .readWrite)
    let guest = try tables.makeDomain(
      .nested(levels: 4, host: host.id), guestTables: PhysicalAddress(0x10_0000))
    let count = tables.tablePageCount
    #expect(throws: TablesError.mapping(.alreadyMapped(IOVA(0x10_1000)))) {
      try tables.map(in: guest, at: IOVA(0), physical(0x5000..<0x6000), .readWrite)
    }
    #expect(tables.tablePageCount == count)
    #expect(
      throws: TablesError.mapping(
        .beyondTable(iovas(0x80_0000_0000..<0x80_0000_1000), reach: 0x80_0000_0000))
    ) {
      try tables.makeDomain(
        .nested(levels: 4, host: host.id), guestTables: PhysicalAddress(0x80_0000_0000))
    }
    #expect(throws: TablesError.noPageTables(domain: 9)) {
      try tables.makeDomain(.nested(levels: 4, host: 9))
    }
  }

  @Test func `large pages where addresses allow them, and split where a part goes`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    let tables = try VTd.Tables(in: memory)
    tables.allowsMappingTables = true
    try tables.map(
      "00:03.0", at: IOVA(0x3fe0_0000), physical(0x3fe0_0000..<0x8040_1000), .readWrite,
      sizes: .largest)
    // 2 MiB, 1 GiB, two of 2 MiB, 4 KiB: four tables below the root.
    #expect(tables.tablePageCount == 1 + 1 + 1 + 1 + 2 + 1)
    try tables.remap(
      "00:03.0", at: IOVA(0x4000_0000), physical(0x1000..<0x2000), .read)
    #expect(tables.translate("00:03.0", IOVA(0x4000_0000), access: .read) == .to(0x1000))
    #expect(tables.translate("00:03.0", IOVA(0x4000_1000), access: .write) == .to(0x4000_1000))
    #expect(tables.translate("00:03.0", IOVA(0x7fff_ffff), access: .write) == .to(0x7fff_ffff))
    try tables.unmap("00:03.0", iovas(0x3fe0_0000..<0x8040_1000))
    #expect(tables.tablePageCount == 3)
  }

  @Test func `tables and what devices reach keep out of each other's way`() throws {
    let memory = try FlatMemory(byteCount: 64 << 10)
    let tables = try VTd.Tables(in: memory)
    // The pages below the root table, where the next tables would lie.
    try tables.map("00:03.0", at: IOVA(0), physical(0xd000..<0xf000), .readWrite)
    #expect(tables.rootTable == PhysicalAddress(0xf000))
    #expect(memory.words(0xd000, 512).allSatisfy { $0 == 0 })
    #expect(memory.words(0xe000, 512).allSatisfy { $0 == 0 })
    let holding = physical(0xf000..<0x1_0000)
    #expect(throws: TablesError.holdsTables(holding)) {
      try tables.map("00:03.0", at: IOVA(0x10_0000), holding, .read)
    }
    tables.allowsMappingTables = true
    try tables.map("00:03.0", at: IOVA(0x10_0000), holding, .read)
    #expect(tables.translate("00:03.0", IOVA(0x10_0000), access: .read) == .to(0xf000))
  }

  @Test func `without room for a table all is as it was, and the error says so`() throws {
    let memory = try FlatMemory(byteCount: 6 << 12)
    let tables = try VTd.Tables(in: memory)
    // Five pages, of which the root table is one; page 0 is never a table.
    #expect(throws: TablesError.mapping(.noPageForTable(IOVA(0x20_0000)))) {
      try tables.map("00:03.0", at: IOVA(0x1f_f000), physical(0x10_0000..<0x10_2000), .read)
    }
    #expect(tables.tablePageCount == 1)
    #expect(tables.domain(of: "00:03.0") == nil)
    // Four tables for the domain, and none left for the context table.
    #expect(throws: TablesError.noRoom(what: "a VT-d context table", byteCount: 4096)) {
      try tables.map("00:03.0", at: IOVA(0), physical(0x10_0000..<0x10_1000), .read)
    }
    #expect(tables.tablePageCount == 1)
    #expect(throws: TablesError.noRoom(what: "a VT-d root table", byteCount: 4096)) {
      try VTd.Tables(in: try FlatMemory(byteCount: 4096))
    }
  }

  /// Pages from a list, in its order.
  final class Listed: TableAllocator {
    var pages: [UInt64]
    var freed: [UInt64] = []
    init(_ pages: [UInt64]) { self.pages = pages }
    func allocate(byteCount: UInt64, alignment: UInt64) -> PhysicalAddress? {
      pages.isEmpty ? nil : PhysicalAddress(pages.removeFirst())
    }
    func free(_ range: Range<PhysicalAddress>) { freed.append(range.lowerBound.rawValue) }
  }

  @Test func `an allocator of one's own says where tables lie, and gets each back once`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    memory.storeSeries(
      from: ~0, step: 0, count: 1 << 17, isBigEndian: false, at: PhysicalAddress(0))
    let listed = Listed([0x1000, 0x3000, 0x5000, 0x7000, 0x9000, 0x2000])
    let tables = try VTd.Tables(in: memory, allocator: listed)
    try tables.map("00:03.0", at: IOVA(0x1000), Self.buffer, .readWrite)
    #expect(tables.rootTable == PhysicalAddress(0x1000))
    #expect(memory.words(0x9000, 3) == [0, 0x8003, 0], "pages are cleared")
    #expect(tables.translate("00:03.0", IOVA(0x1000), access: .read) == .to(0x8000))
    try tables.unmap("00:03.0", iovas(0x1000..<0x2000))
    #expect(listed.freed == [0x9000, 0x7000, 0x5000])
    for bad: UInt64 in [0x8, 0x200_0000] {
      #expect(
        throws: TablesError.badAllocation(PhysicalAddress(bad), what: "a VT-d root table")
      ) { try VTd.Tables(in: memory, allocator: Listed([bad])) }
    }
  }

  @Test func `what the unit or the mode lacks is refused`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    let narrow = VTd.Limits.unit(hostAddressWidth: 39, guestAddressWidth: 39, pages1GiB: false)
    func refused(_ body: () throws -> Void) -> String? {
      do {
        try body()
        return nil
      } catch { return "\(error)" }
    }
    #expect(
      refused { _ = try VTd.Tables(in: memory, mode: .scalable, limits: narrow) }
        == "the unit has no scalable mode: give it the feature, or use legacy mode")
    #expect(
      refused { _ = try VTd.Tables(in: memory, limits: narrow, levels: 4) }
        == "the unit has no second-stage tables of 4 levels")
    let tables = try VTd.Tables(in: memory, limits: narrow)
    #expect(
      refused { try tables.map("00:03.0", pasid: PASID(1), at: IOVA(0), Self.buffer, .read) }
        == "PASIDs are of scalable mode: make the tables with mode: .scalable")
    #expect(
      refused { _ = try tables.makeDomain(.firstStage(levels: 4)) }
        == "first stage is of scalable mode: make the tables with mode: .scalable")
    #expect(
      refused { _ = try tables.makeDomain(.secondStage(levels: 5)) }
        == "the unit has no second-stage tables of 5 levels")
    #expect(
      refused {
        try tables.map("00:03.0", at: IOVA(0), Self.buffer, .read, sizes: .upTo(log2: 30))
      } == "the unit has no pages of 2^30 bytes: choose another size, or the largest possible")
    #expect(
      refused { try tables.map("00:03.0", at: IOVA(1 << 39), Self.buffer, .read) }
        == "0x8000000000..<0x8000001000 ends beyond the 0x8000000000 bytes that the table covers: "
        + "use a table with more levels")
    #expect(
      refused { try tables.map("00:03.0", at: IOVA(0), physical(0..<1 << 40), .read) } != nil)
    #expect(
      refused { try tables.map("00:03.0", at: IOVA(0), Self.buffer, []) }
        == "no entry of a VT-d second-stage table says --: read and write together is what all can say"
    )
    #expect(
      refused { try tables.map("0001:00:03.0", at: IOVA(0), Self.buffer, .read) }
        == "0001:00:03.0 is of another PCI segment than the tables, which are of 0: "
        + "each segment has tables of its own")
    #expect(
      refused { try tables.unmap("00:03.0", iovas(0..<0x1000)) }
        == "00:03.0 is bound to no domain: map something for it, or bind it")
    #expect(tables.tablePageCount == 1, "nothing was left behind")
    let domain = try tables.makeDomain(.secondStage(levels: 3), id: 5)
    #expect(
      refused { _ = try tables.makeDomain(.secondStage(levels: 3), id: 5) }
        == "domain 5 is there already: leave the number out")
    try tables.remove(domain)
    #expect(refused { try tables.remove(domain) } != nil)
    #expect(tables.tablePageCount == 1)
  }

  @Test func `tables of another segment are looked up in it`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    let tables = try VTd.Tables(in: memory, segment: 2)
    try tables.map("0002:00:03.0", at: IOVA(0x1000), Self.buffer, .read)
    #expect(tables.translate("0002:00:03.0", IOVA(0x1000), access: .read) == .to(0x8000))
    #expect(tables.domain(of: "00:03.0") == nil)
  }

  @Test
  func `guest RAM that is adopted takes tables in each of its pieces, and every way to translate`()
    throws
  {
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 12, alignment: 4096)
    defer { bytes.deallocate() }
    bytes.initializeMemory(as: UInt8.self, repeating: 0)
    func part(_ range: Range<Int>) -> UnsafeMutableRawBufferPointer {
      UnsafeMutableRawBufferPointer(
        rebasing: bytes[range.lowerBound << 12..<range.upperBound << 12])
    }
    // Tables above 4 GiB, and only one page there: the others lie in the piece at 0.
    let memory = try FlatMemory(adopting: [
      (PhysicalAddress(0), part(32..<64)), (PhysicalAddress(0x1_0000_0000), part(0..<4)),
    ])
    let tables = try VTd.Tables(in: memory)
    try tables.map("00:03.0", at: IOVA(0x1000), physical(0x2000..<0x4000), .readWrite)
    #expect(tables.rootTable == PhysicalAddress(0x1_0000_3000))
    let handle = tables.machine.resolve(Requester("00:03.0")!, in: memory)
    let translator = Translator(handle, in: memory)
    for offset: UInt64 in [0, 8, 0x1000, 0x1ff8] {
      #expect(
        handle.translate(IOVA(0x1000 + offset), byteCount: 8, access: .write, in: memory)
          == .to(0x2000 + offset, 8))
      #expect(
        translator.translate(IOVA(0x1000 + offset), .write).physical
          == PhysicalAddress(0x2000 + offset))
    }
    #expect(!translator.translate(IOVA(0x3000), .read).isMapped)
  }
}

extension FlatMemory {
  /// Quadwords in a row.
  func words(_ address: UInt64, _ count: Int) -> [UInt64] {
    (0..<UInt64(count)).map { quadword(at: PhysicalAddress(address + $0 * 8)) ?? .max }
  }
}
