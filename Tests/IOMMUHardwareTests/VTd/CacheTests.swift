import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import Testing

/// What caches keep, and what each invalidation takes from them.
@Suite struct CacheTests {
  @Test func `without caches every request reads all of its tables`() throws {
    let bench = try Bench.legacy(.none)
    for _ in 0..<3 { #expect(bench.translate().address == 0x20_0678) }
    let counters = bench.port.counters
    #expect(counters.entriesRead.total == 3 * 6)
    for level in 1...4 { #expect(counters.entriesRead[level] == 3) }
    #expect(
      counters.entriesRead[upper: VTd.rootTable] == 3
        && counters.entriesRead[upper: VTd.contextTable] == 3)
    #expect(counters.iotlb.hits == 0 && counters.iotlb.misses == 3)
    #expect(counters.contexts.misses == 3 && counters.pagingStructures.misses == 3)
  }

  @Test func `with caches the second request reads nothing`() throws {
    let bench = try Bench.legacy(.hardware)
    for _ in 0..<5 { #expect(bench.translate().address == 0x20_0678) }
    let counters = bench.port.counters
    #expect(counters.entriesRead.total == 6)
    #expect(counters.iotlb.hits == 4 && counters.iotlb.misses == 1)
    #expect(counters.contexts.hits == 4 && counters.contexts.misses == 1)
  }

  @Test func `a neighbouring page reads one entry`() throws {
    let bench = try Bench.legacy(.hardware)
    bench.store(0x21_0003, 0x11_4000 + 326 * 8)
    #expect(bench.translate().address == 0x20_0678)
    #expect(bench.translate(Bench.iova + 0x1000).address == 0x21_0678)
    #expect(bench.port.counters.entriesRead.total == 7)
    #expect(bench.port.counters.pagingStructures.hits == 1)
  }

  @Test func `a large page is one entry for all of it`() throws {
    let bench = try Bench.legacy(.hardware)
    bench.store(0x20_0083, 0x11_3000 + 145 * 8)
    #expect(bench.translate().address == 0x34_5678)
    #expect(bench.translate(Bench.iova + 0x1000).address == 0x34_6678)
    bench.store(0x4000_0083, 0x11_2000)
    bench.write(0x9000_0000_0000_0000, 0xf8, 8)
    #expect(bench.translate(1).address == 0x4000_0001)
    #expect(bench.translate(0x3fff_ffff).address == 0x7fff_ffff)
    #expect(bench.port.counters.iotlb.hits == 2)
  }

  @Test func `what a cached page does not allow is asked of the tables again`() throws {
    let bench = try Bench.legacy(.everything)
    bench.store(0x20_0001, 0x11_4000 + 325 * 8)
    #expect(bench.translate().address == 0x20_0678)
    #expect(bench.translate(Bench.iova, .write).reason == 5)
    #expect(bench.read(Offset.fsts) == 2)
    bench.store(0x20_0003, 0x11_4000 + 325 * 8)
    #expect(bench.translate(Bench.iova, .write).address == 0x20_0678)
  }

  @Test func `a small cache gives up its oldest`() throws {
    let bench = try Bench.legacy(
      CacheConfiguration(
        contexts: .fixed(sets: 1, ways: 1), pasids: .none, iotlb: .fixed(sets: 1, ways: 2),
        pagingStructures: .none))
    for page in 0..<4 as Range<UInt64> { bench.store(0x20_0003 + page << 12, 0x11_4000 + page * 8) }
    let base: UInt64 = 0x1220_0000
    for page in 0..<3 as Range<UInt64> { _ = bench.translate(base + page << 12) }
    #expect(bench.port.counters.iotlb.evictions == 1)
    bench.store(0x11_1001, 0x10_1228)
    bench.store(0x0502, 0x10_1230)
    _ = bench.translate(base, from: Requester(rawValue: 0x21))
    #expect(bench.port.counters.contexts.misses >= 1)
  }

  // MARK: Legacy invalidations

  /// Something that was cached, changed in memory since, and whether it is seen.
  struct Row: Sendable, CustomTestStringConvertible {
    var what: String
    /// CCMD, or IVA and IOTLB.
    var context: UInt64 = 0
    var address: UInt64 = 0
    var iotlb: UInt64 = 0
    var seesContext = false
    var seesPage = false
    var testDescription: String { what }
  }

  static let rows = [
    Row(what: "nothing"),
    Row(what: "context global", context: 0xa000_0000_0000_0000, seesContext: true),
    Row(what: "context domain 5", context: 0xc000_0000_0000_0005, seesContext: true),
    Row(what: "context domain 6", context: 0xc000_0000_0000_0006),
    Row(what: "context device", context: 0xe000_0000_0020_0005, seesContext: true),
    Row(what: "context other device", context: 0xe000_0000_0021_0005),
    Row(
      what: "context other function, bits 2 to 0 ignored", context: 0xe000_0003_0027_0005,
      seesContext: true),
    Row(what: "context other function, bit 2 ignored", context: 0xe000_0001_0021_0005),
    Row(what: "IOTLB global", iotlb: 0x9000_0000_0000_0000, seesPage: true),
    Row(what: "IOTLB domain 5", iotlb: 0xa000_0005_0000_0000, seesPage: true),
    Row(what: "IOTLB domain 6", iotlb: 0xa000_0006_0000_0000),
    Row(what: "IOTLB page", address: 0x1234_5000, iotlb: 0xb000_0005_0000_0000, seesPage: true),
    Row(
      what: "IOTLB page, hint", address: 0x1234_5040, iotlb: 0xb000_0005_0000_0000, seesPage: true),
    Row(what: "IOTLB next page", address: 0x1234_6000, iotlb: 0xb000_0005_0000_0000),
    Row(
      what: "IOTLB four pages around", address: 0x1234_4002, iotlb: 0xb000_0005_0000_0000,
      seesPage: true),
    Row(
      what: "IOTLB low address bits ignored", address: 0x1234_7002, iotlb: 0xb000_0005_0000_0000,
      seesPage: true),
    Row(what: "IOTLB page of domain 6", address: 0x1234_5000, iotlb: 0xb000_0006_0000_0000),
    Row(
      what: "IOTLB page above MGAW", address: 0xfff0_0000_1234_5000,
      iotlb: 0xb000_0005_0000_0000, seesPage: true),
  ]

  @Test(arguments: rows)
  func `an invalidation drops what it names and nothing else`(row: Row) throws {
    let bench = try Bench.legacy(.everything)
    #expect(bench.translate().address == 0x20_0678)
    // The page goes elsewhere.
    bench.store(0x21_0003, 0x11_4000 + 325 * 8)
    invalidate(bench, row)
    #expect(bench.translate().address == (row.seesPage ? 0x21_0678 : 0x20_0678))
    // The device is shut out.
    bench.store(0, 0x10_1200)
    invalidate(bench, row)
    let answer = bench.translate()
    #expect(row.seesContext ? answer.reason == 2 : answer.address != nil)
  }

  func invalidate(_ bench: Bench, _ row: Row) {
    if row.context != 0 { bench.write(row.context, Offset.ccmd, 8) }
    bench.write(row.address, 0xf0, 8)
    if row.iotlb != 0 { bench.write(row.iotlb, 0xf8, 8) }
  }

  @Test func `the hint keeps pointers to tables, its absence drops them`() throws {
    for hasHint in [true, false] {
      let bench = try Bench.legacy(.everything)
      bench.store(0x21_0003, 0x11_5000 + 325 * 8)
      _ = bench.translate()
      bench.store(0x11_5003, 0x11_3000 + 145 * 8)
      bench.write(hasHint ? 0x1234_5040 : 0x1234_5000, 0xf0, 8)
      bench.write(0xb000_0005_0000_0000, 0xf8, 8)
      #expect(bench.translate().address == (hasHint ? 0x20_0678 : 0x21_0678))
    }
  }

  @Test func `a page of a large page drops all of it`() throws {
    let bench = try Bench.legacy(.everything)
    bench.store(0x20_0083, 0x11_3000 + 145 * 8)
    _ = bench.translate()
    bench.store(0x40_0083, 0x11_3000 + 145 * 8)
    bench.write(0x123f_f000, 0xf0, 8)
    bench.write(0xb000_0005_0000_0000, 0xf8, 8)
    #expect(bench.translate().address == 0x54_5678)
  }

  @Test func `devices of one domain with tables of their own do not mix`() throws {
    let bench = try Bench.legacy(.everything)
    // 00:05.0, the same domain, another tree.
    bench.store(0x15_1001, 0x10_1280)
    bench.store(0x0502, 0x10_1288)
    for (table, entry) in [(0x15_1000, 0x15_2003), (0x15_2000, 0x15_3003)] as [(UInt64, UInt64)] {
      bench.store(entry, table)
    }
    bench.store(0x15_4003, 0x15_3000 + 145 * 8)
    bench.store(0x2f_0003, 0x15_4000 + 325 * 8)
    #expect(bench.translate().address == 0x20_0678)
    #expect(bench.translate(from: Requester(rawValue: 0x28)).address == 0x2f_0678)
    #expect(bench.translate().address == 0x20_0678)
  }

  @Test func `idle ports hear of an invalidation too`() throws {
    let bench = try Bench.legacy(.everything)
    let other = bench.unit.makePort()
    let request = VTd.Request(Bench.nic, IOVA(Bench.iova))
    #expect(other.translate(request).address == 0x20_0678)
    #expect(bench.translate().address == 0x20_0678)
    bench.store(0x21_0003, 0x11_4000 + 325 * 8)
    // More than a port keeps for later.
    for _ in 0..<3000 { bench.write(0xa000_0006_0000_0000, 0xf8, 8) }
    bench.write(0xa000_0005_0000_0000, 0xf8, 8)
    #expect(other.translate(request).address == 0x21_0678)
    #expect(bench.translate().address == 0x21_0678)
  }

  // MARK: Scalable invalidations

  struct ScalableRow: Sendable, CustomTestStringConvertible {
    var what: String
    var descriptor: [UInt64] = []
    /// Sees a changed first-stage page of PASID 5, second-stage page of PASID 5, PASID entry,
    /// context entry.
    var firstStage = false
    var secondStage = false
    var pasidEntry = false
    var context = false
    var testDescription: String { what }
  }

  static let scalableRows = [
    ScalableRow(what: "nothing", descriptor: [0x45, 0]),
    ScalableRow(what: "context global", descriptor: [0x11, 0], context: true),
    ScalableRow(what: "context domain is global", descriptor: [0x63_0021, 0], context: true),
    ScalableRow(what: "context device, any DID", descriptor: [0x20_0063_0031, 0], context: true),
    ScalableRow(what: "context other device", descriptor: [0x28_0007_0031, 0]),
    ScalableRow(what: "PASID cache global", descriptor: [0x37, 0], pasidEntry: true),
    ScalableRow(what: "PASID cache domain 7", descriptor: [0x7_0007, 0], pasidEntry: true),
    ScalableRow(what: "PASID cache domain 8", descriptor: [0x8_0007, 0]),
    ScalableRow(what: "PASID cache PASID 5", descriptor: [0x5_0007_0017, 0], pasidEntry: true),
    ScalableRow(what: "PASID cache PASID 6", descriptor: [0x6_0007_0017, 0]),
    ScalableRow(what: "PASID cache PASID 5, domain 8", descriptor: [0x5_0008_0017, 0]),
    ScalableRow(what: "IOTLB global", descriptor: [0x12, 0], firstStage: true, secondStage: true),
    ScalableRow(
      what: "IOTLB domain 7", descriptor: [0x7_0022, 0], firstStage: true, secondStage: true),
    ScalableRow(what: "IOTLB domain 8", descriptor: [0x8_0022, 0]),
    ScalableRow(
      what: "IOTLB page: every first-stage page", descriptor: [0x7_0032, 0x7000_0000],
      firstStage: true),
    ScalableRow(
      what: "IOTLB page", descriptor: [0x7_0032, 0x1234_5000], firstStage: true, secondStage: true),
    ScalableRow(
      what: "PASID IOTLB PASID 5", descriptor: [0x5_0007_0026, 0], firstStage: true,
      secondStage: true),
    ScalableRow(what: "PASID IOTLB PASID 6", descriptor: [0x6_0007_0026, 0]),
    ScalableRow(what: "PASID IOTLB domain 8", descriptor: [0x5_0008_0026, 0]),
    ScalableRow(
      what: "PASID IOTLB page: first stage only", descriptor: [0x5_0007_0036, 0x1234_5000],
      firstStage: true),
    ScalableRow(what: "PASID IOTLB next page", descriptor: [0x5_0007_0036, 0x1234_6000]),
    ScalableRow(what: "PASID IOTLB page of PASID 6", descriptor: [0x6_0007_0036, 0x1234_5000]),
  ]

  @Test(arguments: scalableRows)
  func `an invalidation of scalable mode drops what it names and nothing else`(row: ScalableRow)
    throws
  {
    for (pgtt, leaf, entry, sees) in [
      (1, 0x13_4000, 0x21_0007, row.firstStage), (2, 0x11_4000, 0x21_0003, row.secondStage),
    ] as [(UInt64, UInt64, UInt64, Bool)] {
      let bench = try Bench.scalable(.everything, pgtt: pgtt)
      #expect(bench.translate(pasid: 5).address == 0x20_0678)
      bench.store(entry, leaf + 325 * 8)
      bench.queue(row.descriptor)
      #expect(bench.translate(pasid: 5).address == (sees ? 0x21_0678 : 0x20_0678), "PGTT \(pgtt)")
      bench.store(0, 0x12_1000 + 5 * 64)
      bench.queue(row.descriptor)
      #expect(bench.translate(pasid: 5).reason == (row.pasidEntry ? 0x59 : nil), "PGTT \(pgtt)")
      bench.clearFaults()
    }
    let bench = try Bench.scalable(.everything)
    #expect(bench.translate(pasid: 5).address == 0x20_0678)
    bench.store(0, 0x10_1400)
    bench.queue(row.descriptor)
    #expect(bench.translate(pasid: 5).reason == (row.context ? 0x41 : nil))
  }

  @Test func `nested pages go with those of the first stage`() throws {
    let bench = try Bench.scalable(.everything, pgtt: 3)
    #expect(bench.translate(pasid: 5).address == 0x20_0678)
    bench.store(0x21_0067, 0x13_4000 + 325 * 8)
    #expect(bench.translate(pasid: 5).address == 0x20_0678)
    bench.queue([0x5_0007_0036, 0x1234_5000])
    #expect(bench.translate(pasid: 5).address == 0x21_0678)
    #expect(bench.port.counters.entriesRead.firstStage(level: 1) == 2)
  }

  @Test func `requests with and without PASID, and two PASIDs, do not share pages`() throws {
    let bench = try Bench.scalable(.everything)
    #expect(bench.translate(pasid: 5).address == 0x20_0678)
    bench.store(0x21_0003, 0x11_4000 + 325 * 8)
    #expect(bench.translate().address == 0x21_0678)
    #expect(bench.translate(pasid: 5).address == 0x20_0678)
  }

  @Test func `a first write through a cached page sets the dirty bit`() throws {
    let bench = try Bench.scalable(.everything, pgtt: 1)
    let leaf = PhysicalAddress(0x13_4000 + 325 * 8)
    #expect(bench.translate().address == 0x20_0678)
    #expect(bench.memory.quadword(at: leaf) == 0x20_0027)
    #expect(bench.translate(Bench.iova, .write).address == 0x20_0678)
    #expect(bench.memory.quadword(at: leaf) == 0x20_0067)
    let reads = bench.port.counters.entriesRead.total
    #expect(bench.translate(Bench.iova, .write).address == 0x20_0678)
    #expect(bench.port.counters.entriesRead.total == reads)
  }
}
