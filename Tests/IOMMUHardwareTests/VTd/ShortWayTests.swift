import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import Testing

/// Requests that a port answers from the IOTLB or on the short way, against the same by all steps: a
/// request that is watched takes them.
@Suite struct ShortWayTests {
  static let caches: [(name: String, CacheConfiguration)] = {
    var trusting = CacheConfiguration.hardware
    trusting.trustsDomainIDs = true
    var small = CacheConfiguration.hardware
    small.iotlb = .fixed(sets: 2, ways: 2)
    small.pagingStructures = .fixed(sets: 1, ways: 4)
    return [
      ("none", .none), ("hardware", .hardware), ("everything", .everything), ("trusting", trusting),
      ("small", small), ("IOTLB of 8", PackedAnswerTests.withIOTLB(.fixed(sets: 4, ways: 2))),
      ("IOTLB alone", PackedAnswerTests.withIOTLB(.unbounded)),
    ]
  }()

  /// As `PackedAnswerTests` has it; under a first stage the second is of pages of all sizes, some of them
  /// damaged, that map the guest's memory to itself or 16 MiB further.
  static func bench(_ caches: CacheConfiguration, pgtt: UInt64, seed: UInt64) throws -> Bench {
    let bench = try PackedAnswerTests.bench(caches, pgtt: pgtt, seed: seed)
    var generator = SeededGenerator(seed: seed ^ 0x5eed)
    // A large page of 1 GiB, and one that reaches into the interrupt range.
    for table: UInt64 in [0x11_2000, 0x13_2000] where pgtt != 3 || table == 0x13_2000 {
      bench.store(0x4000_0087, table + 8)
      bench.store(0xc000_0087, table + 16)
    }
    guard pgtt == 3 else { return bench }
    // Guest addresses below 2 MiB, tables among them, by 4 KiB pages; those up to 64 MiB by 2 MiB.
    bench.store(0x11_5003, 0x11_2000)
    bench.store(0x11_6003, 0x11_5000)
    for page in 0..<512 as Range<UInt64> {
      bench.store(page << 12 | 3, 0x11_6000 + page * 8)
    }
    for region in 1..<32 as Range<UInt64> {
      var entry = region << 21 | 0x83
      switch generator.next() % 8 {
      case 0: entry &= ~(generator.next() & 3)
      case 1: entry |= 1 << 62
      case 2: entry = 0xfee0_0083
      default: break
      }
      bench.store(entry, 0x11_5000 + region * 8)
    }
    // Sometimes a table of the guest can only be read, or not at all.
    if seed % 4 == 1 { bench.store(0x13_4001 + (seed & 8) << 8, 0x11_6000 + 0x134 * 8) }
    return bench
  }

  static func request(using generator: inout SeededGenerator) -> VTd.Request {
    var address = PackedAnswerTests.address(using: &generator)
    if generator.next() % 16 == 0 { address = 0x4000_0000 + generator.next() & 0x7fff_fff8 }
    let operations: [VTd.Request.Operation] = [
      .read, .read, .read, .write, .write, .write, .atomic, .zeroLengthRead,
    ]
    let withPASID = generator.next() % 4 == 0
    return VTd.Request(
      Bench.nic, IOVA(address), operations[Int(generator.next() % 8)],
      kind: generator.next() % 32 == 0 ? .translated : .untranslated,
      pasid: withPASID ? PASID(5) : nil,
      isPrivileged: withPASID && generator.next() % 4 == 0)
  }

  @Test(arguments: seeds, [0, 1, 2, 3, 4] as [UInt64])
  func `every way answers, counts and marks as all steps do`(seed: UInt64, pgtt: UInt64) throws {
    for (name, caches) in Self.caches {
      let short = try Self.bench(caches, pgtt: pgtt, seed: seed)
      let whole = try Self.bench(caches, pgtt: pgtt, seed: seed)
      var generator = SeededGenerator(seed: seed &* 31 &+ pgtt)
      for _ in 0..<600 {
        // Requests of one kind in a row: only the last kind is answered on the short way.
        let request = Self.request(using: &generator)
        for number in 0..<(1 + generator.next() % 4) {
          var next = request
          next.address &+= number << 12
          let byteCount = 1 + generator.next() % 0x3000
          var observer = Unobserved()
          let expected = whole.port.translate(next, byteCount: byteCount, observer: &observer)
          #expect(
            short.port.translate(next, byteCount: byteCount) == expected,
            "\(next) of \(byteCount) bytes, PGTT \(pgtt), \(name)")
        }
        if generator.next() % 100 == 0 {
          PackedAnswerTests.change([short, whole], using: &generator)
        }
      }
      #expect(short.port.counters == whole.port.counters, "PGTT \(pgtt), \(name)")
      #expect(short.record == whole.record)
      for address in stride(from: 0x10_0000, to: 0x14_0000, by: 8) as StrideTo<UInt64> {
        let place = PhysicalAddress(address)
        #expect(short.memory.quadword(at: place) == whole.memory.quadword(at: place))
      }
    }
  }

  @Test(arguments: seeds, [0, 1, 2, 3, 4] as [UInt64])
  func `a request over pages answers as calls for each do`(seed: UInt64, pgtt: UInt64) throws {
    for (name, caches) in Self.caches {
      let calls = try Self.bench(caches, pgtt: pgtt, seed: seed)
      let request = try Self.bench(caches, pgtt: pgtt, seed: seed)
      var generator = SeededGenerator(seed: seed &* 17 &+ pgtt)
      for _ in 0..<30 {
        let access = PackedAnswerTests.access(using: &generator)
        let iova = PackedAnswerTests.address(using: &generator) & ~(0xffff << 48)
        let byteCount = 1 + generator.next() % (generator.oneIn(4) ? 0x30_0000 : 0x1_0000)
        let pages = (iova & 0xfff + byteCount + 0xfff) >> 12
        let expected = (0..<pages).map {
          calls.port.translate(
            IOVA($0 == 0 ? iova : (iova >> 12 + $0) << 12), access, of: Bench.nic)
        }
        var answers = [PackedTranslation](repeating: .addressTooWide, count: Int(pages))
        var span = answers.mutableSpan
        request.port.translate(
          IOVA(iova), byteCount: byteCount, access, of: Bench.nic, into: &span)
        #expect(answers == expected, "\(byteCount) bytes at \(IOVA(iova)), PGTT \(pgtt), \(name)")
        #expect(request.record == calls.record)
        if generator.oneIn(10) { PackedAnswerTests.change([calls, request], using: &generator) }
      }
      #expect(request.port.counters == calls.port.counters, "PGTT \(pgtt), \(name)")
    }
  }

  /// The same rows come again and again, some of their pages gone meanwhile, or read by themselves.
  @Test(arguments: seeds)
  func `rows that come again answer and count as calls for each do`(seed: UInt64) throws {
    let shapes: [CacheConfiguration.Geometry] = [
      .fixed(sets: 64, ways: 4), .fixed(sets: 8, ways: 4), .fixed(sets: 16, ways: 1),
      .fixed(sets: 4, ways: 3), .fixed(sets: 1, ways: 32), .unbounded,
    ]
    for (shape, keepsStructures) in shapes.flatMap({ [($0, false), ($0, true)] }) {
      var caches = PackedAnswerTests.withIOTLB(shape)
      if keepsStructures { caches.pagingStructures = .fixed(sets: 2, ways: 2) }
      let benches = try [Bench.legacy(caches), Bench.legacy(caches)]
      for bench in benches {
        // Two regions of 2 MiB, the second with a page that may only be read, and one that is not there.
        bench.store(0x11_5003, 0x11_3000 + 146 * 8)
        for page in 0..<512 as Range<UInt64> {
          bench.store(0x100_0003 + page << 12, 0x11_4000 + page * 8)
          bench.store(0x180_0003 + page << 12, 0x11_5000 + page * 8)
        }
        bench.store(0x180_5001, 0x11_5000 + 5 * 8)
        bench.store(0, 0x11_5000 + 40 * 8)
      }
      var generator = SeededGenerator(seed: seed)
      for _ in 0..<200 {
        // Around the end of the first region, and somewhere in the first 64 pages of it.
        let page = (generator.oneIn(2) ? 0x1e0 : 0) + generator.next() % 48
        let first = 0x1220_0000 + page << 12
        let count = generator.oneIn(3) ? 1 : 1 + generator.next() % 24
        let access = generator.oneIn(4) ? Access.write : .read
        let expected = (0..<count).map {
          benches[0].port.translate(IOVA(first + $0 << 12), access, of: Bench.nic)
        }
        var answers = [PackedTranslation](repeating: .addressTooWide, count: Int(count))
        var span = answers.mutableSpan
        benches[1].port.translate(
          IOVA(first), byteCount: count << 12, access, of: Bench.nic, into: &span)
        #expect(answers == expected, "\(count) pages at \(IOVA(first)), \(shape)")
        #expect(benches[1].port.counters == benches[0].port.counters)
      }
      #expect(benches[1].record == benches[0].record)
    }
  }

  @Test func `a miss reads each level once`() throws {
    let bench = try Bench.legacy(PackedAnswerTests.withIOTLB(.fixed(sets: 64, ways: 4)))
    for page in 0..<8 as Range<UInt64> {
      bench.store(0x100_0003 + page << 12, 0x11_4000 + page * 8)
    }
    bench.store(0x200_0083, 0x11_3000 + 146 * 8)
    _ = bench.port.translate(IOVA(0x1220_0000), .read, of: Bench.nic)
    for page in 1..<8 as Range<UInt64> {
      let iova = IOVA(0x1220_0010 + page << 12)
      #expect(bench.port.translate(iova, .read, of: Bench.nic).rawValue == 0x100_0010 + page << 12)
    }
    #expect(bench.port.translate(IOVA(0x1240_1234), .read, of: Bench.nic).rawValue == 0x200_1234)
    #expect(bench.port.translate(IOVA(0x125f_ffff), .write, of: Bench.nic).rawValue == 0x21f_ffff)
    let counters = bench.port.counters
    #expect(counters.iotlb.misses == 9 && counters.iotlb.hits == 1)
    #expect(counters.entriesRead[1] == 8 && counters.entriesRead[2] == 9)
    #expect(counters.entriesRead[3] == 9 && counters.entriesRead[4] == 9)
    #expect(counters.contexts.misses == 1 && counters.contexts.hits == 9)
  }

  @Test func `a nested miss reads the second stage for each entry of the first`() throws {
    let bench = try Bench.scalable(PackedAnswerTests.withIOTLB(.unbounded), pgtt: 3)
    for page in 0..<8 as Range<UInt64> {
      // Accessed and dirty already.
      bench.store(0x100_0067 + page << 12, 0x13_4000 + page * 8)
    }
    for page in 0..<8 as Range<UInt64> {
      let iova = IOVA(0x1220_0010 + page << 12)
      #expect(bench.port.translate(iova, .write, of: Bench.nic).rawValue == 0x100_0010 + page << 12)
    }
    let counters = bench.port.counters
    #expect(counters.iotlb.misses == 8)
    for level in 1...4 { #expect(counters.entriesRead.firstStage(level: level) == 8) }
    // A page of 1 GiB: two entries for each of four tables and for the page.
    #expect(counters.entriesRead[4] == 8 * 5 && counters.entriesRead[3] == 8 * 5)
    #expect(counters.entriesRead[2] == 0 && counters.entriesRead[1] == 0)
  }
}
