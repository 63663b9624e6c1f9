import FoundationEssentials
import IOMMUFormats
import IOMMUInspection
import IOMMUTranslation
import Testing

@Suite struct AnnotatorTests {
  @Test func `an entry for the interrupt range says that nobody asks for it`() throws {
    let memory = try FlatMemory(byteCount: 1 << 20)
    // 00:00.0, three levels: IOVA FEE0_0000h and the page before it.
    for (address, word) in [
      (0x1000, 0x2001), (0x2000, 0x3001), (0x2008, 0x101), (0x3018, 0x4003), (0x4fb0, 0x5003),
      (0x4fb8, 0x6003), (0x5000, 0x2_0003), (0x6000, 0x2_0003), (0x4fa8, 0x7003),
      (0x7ff8, 0x2_1003),
    ] as [(UInt64, UInt64)] {
      memory.store(word, at: PhysicalAddress(address))
    }
    let machine = Machine(
      name: "",
      units: [
        .vtd(
          VTd.Unit(
            base: PhysicalAddress(0xfed9_0000),
            rootTableAddress: VTd.RootTableAddress(rawValue: 0x1000),
            status: VTd.GlobalStatus(rawValue: 0xc000_0000), limits: .permissive))
      ])
    let annotator = Annotator(machine, in: memory)
    let texts = [0x7ff8, 0x6000].map {
      annotator.entries(at: PhysicalAddress($0), in: memory).map(\.text)
    }
    #expect(texts[1].allSatisfy { $0.hasSuffix(", for numbers that are not looked up") })
    #expect(texts[0].allSatisfy { !$0.contains("looked up") })
    #expect(texts.allSatisfy { $0.count == 1 })
  }

  @Test func `a hexdump of Calgary and VT-d tables says what each entry does`() throws {
    let small = try SmallMachine()
    let annotator = Annotator(small.machine, in: small.memory)
    var screen = ""
    annotator.writeHexdump(addresses(0x8000..<0x37000), of: small.memory, to: &screen)
    #expect(
      screen == """
        00008000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
        *
        00008800  00 00 00 00 12 34 50 03  00 00 00 00 12 34 60 03  |.....4P......4`.|
                  TCE 0x100 of bus:01   IOVA 0x100000 -> 0x12345000 rw
                                           TCE 0x101 of bus:01   IOVA 0x101000 -> 0x12346000 rw
        00008810  00 00 00 00 00 00 50 01  00 00 00 00 00 00 60 00  |......P.......`.|
                  TCE 0x102 of bus:01   IOVA 0x102000 -> 0x5000 r-
                                           TCE 0x103 of bus:01   IOVA 0x103000 no access, but \
        names 0x6000
        00008820  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
        *
        00020000  23 71 56 34 23 81 56 34  00 00 00 00 02 90 00 00  |#qV4#.V4........|
        00020010  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
        *
        00030000  01 10 03 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
                  root entry, bus 00 -> context table 0x31000
        00030010  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
        *
        00030030  01 20 03 00 00 00 00 00  00 00 00 00 00 00 00 00  |. ..............|
                  root entry, bus 03 -> context table 0x32000
        00030040  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
        *
        00031180  01 30 03 00 00 00 00 00  01 05 00 00 00 00 00 00  |.0..............|
                  context entry 00:03.0: second-stage table 0x33000, 3 levels, domain 5
        00031190  01 30 03 00 00 00 00 00  01 05 00 00 00 00 00 00  |.0..............|
                  context entry 00:03.1: second-stage table 0x33000, 3 levels, domain 5
        000311a0  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
        *
        00031200  09 00 00 00 00 00 00 00  01 06 00 00 00 00 00 00  |................|
                  context entry 00:04.0: pass-through, domain 6
        00031210  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
        *
        00031280  11 30 03 00 00 00 00 00  01 07 00 00 00 00 00 00  |.0..............|
                  context entry 00:05.0: second-stage table 0x33000, 3 levels, domain 7, \
        reserved bits 11:4 are set: 0x1
        00031290  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
        *
        00032000  01 60 03 00 00 00 00 00  02 06 00 00 00 00 00 00  |.`..............|
                  context entry 03:00.0: second-stage table 0x36000, 4 levels, domain 6
        00032010  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
        *
        00033000  03 40 03 00 00 00 00 00  00 00 00 00 00 00 00 00  |.@..............|
                  SS-PDPE of 00:03.0 and 1 more   IOVA 0x0 -> table 0x34000
        00033010  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
        *
        00034000  03 50 03 00 00 00 00 00  83 00 40 00 00 00 00 00  |.P........@.....|
                  SS-PDE of 00:03.0 and 1 more   IOVA 0x0 -> table 0x35000
                                           SS-PDE of 00:03.0 and 1 more   IOVA 0x200000 -> \
        0x400000 rw 2 MiB
        00034010  83 10 60 00 00 00 00 00  00 00 00 00 00 00 00 00  |..`.............|
                  SS-PDE of 00:03.0 and 1 more   IOVA 0x400000 stops every walk, reserved bits \
        20:12 are set: 0x1
        00034020  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
        *
        00035080  03 00 05 00 00 00 00 00  03 10 05 00 00 00 00 00  |................|
                  SS-PTE of 00:03.0 and 1 more   IOVA 0x10000 -> 0x50000 rw
                                           SS-PTE of 00:03.0 and 1 more   IOVA 0x11000 -> \
        0x51000 rw
        00035090  02 20 05 00 00 00 00 00  00 00 00 00 00 00 00 00  |. ..............|
                  SS-PTE of 00:03.0 and 1 more   IOVA 0x12000 -> 0x52000 -w
        000350a0  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
        *
        00036000  00 00 00 00 00 00 00 00  03 70 03 00 00 00 00 00  |.........p......|
                                           SS-PML4E of 03:00.0   IOVA 0x8000000000 -> table \
        0x37000, beyond the 39 bits in use
        00036010  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
        *
        00037000

        """)
  }

  @Test func `four-byte entries stand below their own bytes`() throws {
    let small = try SmallMachine()
    let annotator = Annotator(small.gartMachine, in: small.memory)
    var screen = ""
    annotator.writeHexdump(addresses(0x1fff0..<0x20020), of: small.memory, to: &screen)
    #expect(
      screen == """
        0001fff0  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
        00020000  23 71 56 34 23 81 56 34  00 00 00 00 02 90 00 00  |#qV4#.V4........|
                  GATT entry 0x0 of gart   IOVA 0x4000000 -> 0x1234567000 rw
                              GATT entry 0x1 of gart   IOVA 0x4001000 -> 0x1234568000 rw
                                                       GATT entry 0x3 of gart   IOVA 0x4003000 \
        not valid, but names 0x9000
        00020010  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
        00020020

        """)
  }

  @Test func `lines that start inside an entry speak of the entries that begin in them`() throws {
    let small = try SmallMachine()
    let annotator = Annotator(small.machine, in: small.memory)
    var screen = ""
    annotator.writeHexdump(addresses(0x8804..<0x8818), of: small.memory, to: &screen)
    #expect(
      screen == """
        00008804  12 34 50 03 00 00 00 00  12 34 60 03 00 00 00 00  |.4P......4`.....|
                              TCE 0x101 of bus:01   IOVA 0x101000 -> 0x12346000 rw
                                                       TCE 0x102 of bus:01   \
        IOVA 0x102000 -> 0x5000 r-
        00008814  00 00 50 01                                       |..P.|
        00008818

        """)
  }

  @Test func `where there are no tables the hexdump is the plain one`() throws {
    let small = try SmallMachine()
    let annotator = Annotator(Machine(name: "nommu", units: []), in: small.memory)
    var annotated = ""
    annotator.writeHexdump(addresses(0..<0x10_0000), of: small.memory, to: &annotated)
    var plain = ""
    Hexdump.write(addresses(0..<0x10_0000), of: small.memory, to: &plain)
    #expect(annotated == plain)
  }

  @Test func `the entry at an address is named with its device and its fields`() throws {
    let small = try SmallMachine()
    let annotator = Annotator(small.machine, in: small.memory)
    // The middle of the entry will do.
    let entries = annotator.entries(at: PhysicalAddress(0x3400c), in: small.memory)
    #expect(entries.count == 1)
    let entry = try #require(entries.first)
    #expect(entry.address == PhysicalAddress(0x34008))
    #expect(entry.region.kind == "second-stage table")
    #expect(entry.region.place == .level(2))
    #expect(entry.region.ownerText == "00:03.0 and 1 more")
    #expect(entry.iova == IOVA(0x20_0000))
    #expect(entry.entry.name == "SS-PDE (2 MiB page)")
    #expect(entry.entry.meaning == "2 MiB page 0x400000, read and write")
    #expect(annotator.entries(at: PhysicalAddress(0x38000), in: small.memory).isEmpty)
    #expect(annotator.entries(at: PhysicalAddress(.max), in: small.memory).isEmpty)
  }

  @Test func `an entry in JSON says the same`() throws {
    let small = try SmallMachine()
    let annotator = Annotator(small.gartMachine, in: small.memory)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    let entry = annotator.entries(at: PhysicalAddress(0x2_0004), in: small.memory)
    #expect(
      String(decoding: try encoder.encode(entry), as: UTF8.self) == """
        [{"address":"0x20004","entry":{"bytes":"23 81 56 34","fields":[\
        {"address":"0x34568000","bits":"31:12","name":"ADDR31:12","use":"address",\
        "value":"0x34568"},\
        {"bits":"11:4","name":"ADDR39:32","use":"value","value":"0x12"},\
        {"bits":"3:2","name":"reserved","use":"reserved","value":"0x0"},\
        {"bits":"1","name":"C","use":"value","value":"0x1"},\
        {"bits":"0","name":"V","use":"value","value":"0x1"}],\
        "meaning":"page 0x1234568000, read and write, coherent","name":"GATT entry",\
        "specification":"Linux pci-gart_64.c, amd64-agp.c","violations":[],"words":["0x34568123"]},\
        "index":"0x1","iova":"0x4001000","table":{"address":"0x4000000","bytes":"0x8000",\
        "kind":"GATT","level":1,"others":0,"start":"0x20000","table":"gart"},\
        "text":"GATT entry 0x1 of gart   IOVA 0x4001000 -> 0x1234568000 rw"}]
        """)
  }

  @Test func `all entries come in the order of their addresses`() throws {
    let small = try SmallMachine()
    let annotator = Annotator(small.machine, in: small.memory)
    var found: [UInt64] = []
    annotator.forEachEntry(in: addresses(0..<UInt64.max), of: small.memory) {
      found.append($0.address.rawValue)
    }
    #expect(
      found == [
        0x8800, 0x8808, 0x8810, 0x8818, 0x30000, 0x30030, 0x31180, 0x31190, 0x31200, 0x31280,
        0x32000, 0x33000, 0x34000, 0x34008, 0x34010, 0x35080, 0x35088, 0x35090, 0x36008,
      ])
  }

  @Test func `every page of a tree is a region with its level and first address`() throws {
    let small = try SmallMachine()
    let annotator = Annotator(small.machine, in: small.memory)
    #expect(annotator.gaps == [])
    let regions = annotator.regions.map {
      "\($0.start) \($0.kind) \($0.place.level.map { "\($0)" } ?? "-")"
    }
    #expect(
      regions == [
        "0x8000 TCE table 1", "0x30000 root table -", "0x31000 context table -",
        "0x32000 context table -", "0x33000 second-stage table 3",
        "0x34000 second-stage table 2", "0x35000 second-stage table 1",
        "0x36000 second-stage table 4",
      ])
    #expect(annotator.regions(overlapping: addresses(0x17fff..<0x18000)).isEmpty == false)
    #expect(annotator.regions(overlapping: addresses(0x18000..<0x30000)).isEmpty)
  }
}

@Suite struct HostileTableTests {
  /// Every entry of the one table page points to that page again.
  private func loop() throws -> (FlatMemory, Machine) {
    let memory = try FlatMemory(byteCount: 0x4000)
    // The page is root table, context table and second-stage table at once.
    for offset in stride(from: 0, to: 0x1000, by: 16) {
      memory.store(0x1003 as UInt64, at: PhysicalAddress(0x1000 + UInt64(offset)))
      memory.store(0x1002 as UInt64, at: PhysicalAddress(0x1008 + UInt64(offset)))
    }
    // Only the device 00:00.0 is made to pass the checks of its context entry.
    memory.store(0x2001 as UInt64, at: PhysicalAddress(0x3000))
    memory.store(0x1001 as UInt64, at: PhysicalAddress(0x2000))
    memory.store(0x102 as UInt64, at: PhysicalAddress(0x2008))
    let unit = VTd.Unit(
      base: PhysicalAddress(0), rootTableAddress: VTd.RootTableAddress(rawValue: 0x3000),
      status: VTd.GlobalStatus(rawValue: 0xc000_0000), limits: .permissive)
    return (memory, Machine(name: "loop", units: [.vtd(unit)]))
  }

  @Test func `tables that point at themselves end the search and leave what was found`() throws {
    let (memory, machine) = try loop()
    var budget = EnumerationBudget(remainingTables: 1000)
    let annotator = Annotator(machine, in: memory, budget: &budget)
    // All of its entries lead to the same page.
    let page = PhysicalAddress(0x1000)
    #expect(annotator.gaps.map(\.cause) == [.loop(TableLoop(from: page, to: page))])
    #expect(
      annotator.regions.filter { $0.kind == "second-stage table" }.map(\.place.level) == [4])
    #expect(annotator.entries(at: page, in: memory).count == 1)
    var screen = ""
    annotator.writeHexdump(addresses(0x1000..<0x1010), of: memory, to: &screen)
    #expect(screen.split(separator: "\n").count == 4)
  }

  @Test func `a report on tables that point at themselves says so, and does not hang`() throws {
    let (memory, machine) = try loop()
    let report = try MapsReport(machine, in: memory)
    var budget = EnumerationBudget(remainingTables: 1000)
    var texts: [String] = []
    report.forEachTable(in: memory, budget: &budget) { texts += $0.gaps.map(\.text) }
    #expect(
      texts == [
        "00:00.0 IOVA 0x0..<0x1000000000000: unknown, the table of level 4 at 0x1000 leads to "
          + "itself (entry at 0x1000)"
      ])
  }

  @Test func `an image that claims every address there is does not trap`() throws {
    struct Everything: PhysicalMemory {
      func quadword(at _: PhysicalAddress) -> UInt64? { nil }
      func doubleword(at _: PhysicalAddress) -> UInt32? { nil }
      func read(at _: PhysicalAddress, into _: UnsafeMutableRawBufferPointer) -> Int { 0 }
      var backedRanges: [Range<PhysicalAddress>] { [addresses(0..<UInt64.max)] }
    }
    let (_, machine) = try loop()
    let annotator = Annotator(machine, in: Everything())
    var screen = ""
    annotator.writeHexdump(addresses(.max - 8192..<UInt64.max), of: Everything(), to: &screen)
    #expect(screen == "(0xffffffffffffdfff..<0xffffffffffffffff is not in this image)\n")
    try MapsReport(machine, in: Everything()).writeTSV(of: Everything(), to: &screen)
  }

  @Test(arguments: 1...20 as ClosedRange<UInt64>)
  func `memory full of random bits neither traps nor hangs`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let memory = try FlatMemory(byteCount: 0x2_0000)
    for address in stride(from: 0 as UInt64, to: 0x2_0000, by: 8) {
      // Half of the words point into the memory, so that walks get somewhere.
      let word = generator.next()
      memory.store(word & 1 == 0 ? word : word & 0x1_ff83, at: PhysicalAddress(address))
    }
    let units: [TranslationUnit] = [
      .vtd(
        VTd.Unit(
          base: PhysicalAddress(0), rootTableAddress: VTd.RootTableAddress(rawValue: 0x3000),
          status: VTd.GlobalStatus(rawValue: 0xc000_0000), limits: .permissive)),
      .calgary(
        Calgary.Chip(
          model: .calioc2, base: PhysicalAddress(0),
          hostBridges: [
            Calgary.Chip.HostBridge(
              buses: 200...200,
              tableAddress: Calgary.TableAddressRegister(rawValue: generator.next()),
              configuration: Calgary.ConfigurationRegister(rawValue: 0x2000_0000))
          ])),
    ]
    let machine = Machine(name: "random", units: units)
    var budget = EnumerationBudget(remainingTables: 200)
    let annotator = Annotator(machine, in: memory, budget: &budget)
    var screen = ""
    annotator.writeHexdump(addresses(0x2ff3..<0x5007), of: memory, to: &screen)
    #expect(screen.hasSuffix("00005007\n"))
    budget = EnumerationBudget(remainingTables: 50)
    try? MapsReport(machine, in: memory).forEachTable(in: memory, budget: &budget) { maps in
      maps.writeText(to: &screen)
    }
  }
}
