import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import Testing

/// Packed answers, alone and in batches: those of whole requests, and the same life of the unit.
@Suite struct PackedAnswerTests {
  /// Everything but paging-structure caches: walks of a batch are made together.
  static func withIOTLB(_ geometry: CacheConfiguration.Geometry) -> CacheConfiguration {
    CacheConfiguration(
      contexts: .unbounded, pasids: .unbounded, iotlb: geometry, pagingStructures: .none)
  }

  /// A unit and 2 MiB of pages at 1220_0000, damaged in many ways, a large page above them.
  static func bench(_ caches: CacheConfiguration, pgtt: UInt64, seed: UInt64) throws -> Bench {
    let bench = try pgtt == 0 ? Bench.legacy(caches) : Bench.scalable(caches, pgtt: pgtt)
    var generator = SeededGenerator(seed: seed)
    for page in 0..<512 as Range<UInt64> {
      var entry = 0x100_0000 + (generator.next() % 1024) << 12 | 7
      switch generator.next() % 8 {
      case 0: entry &= ~(generator.next() & 7)
      case 1: entry |= 1 << 62
      case 2: entry = 0xfee0_0007
      case 3: entry |= 0x60
      default: break
      }
      // R and W of the second stage; P, R/W and U/S of the first.
      bench.store(pgtt == 0 || pgtt == 2 ? entry & ~0x64 : entry, 0x11_4000 + page * 8)
      bench.store(entry, 0x13_4000 + page * 8)
    }
    for table: UInt64 in [0x11_3000, 0x13_3000] { bench.store(0x200_0087, table + 146 * 8) }
    return bench
  }

  static func address(using generator: inout SeededGenerator) -> UInt64 {
    let page = 0x1220_0000 | generator.next() & 0x1f_fff8
    switch generator.next() % 16 {
    case 0: return page + 0x20_0000
    case 1: return page | generator.next() & 0x1ff << 55
    case 2: return 0xfee0_0000 | generator.next() & 0xf_ffff
    case 3: return generator.next()
    // A few pages again and again.
    case 4...9: return 0x1220_0000 | generator.next() & 0x7fff
    default: return page
    }
  }

  static func access(using generator: inout SeededGenerator) -> Access {
    generator.next() & 1 == 0 ? .read : .write
  }

  @Test(arguments: seeds, [0, 1, 2, 3, 4] as [UInt64])
  func `packed answers are those of requests`(seed: UInt64, pgtt: UInt64) throws {
    for caches in [
      .none, .hardware, .everything, Self.withIOTLB(.fixed(sets: 4, ways: 2)),
      Self.withIOTLB(.unbounded),
    ] as [CacheConfiguration] {
      let whole = try Self.bench(caches, pgtt: pgtt, seed: seed)
      let packed = try Self.bench(caches, pgtt: pgtt, seed: seed)
      var generator = SeededGenerator(seed: seed &+ pgtt)
      for _ in 0..<1500 {
        let address = Self.address(using: &generator)
        let access = Self.access(using: &generator)
        let answer = whole.translate(address, VTd.Request.Operation(access))
        #expect(
          packed.port.translate(IOVA(address), access, of: Bench.nic) == PackedTranslation(answer),
          "\(IOVA(address)) \(access), PGTT \(pgtt)")
        if generator.next() % 100 == 0 { Self.change([whole, packed], using: &generator) }
      }
      #expect(whole.port.counters == packed.port.counters)
      #expect(whole.record == packed.record)
    }
  }

  /// Changes a page in the tables of all benches, and tells their units.
  static func change(_ benches: [Bench], using generator: inout SeededGenerator) {
    let page = generator.next() % 512
    let entry = 0x180_0000 + page << 12
    let isWhole = generator.next() & 1 == 0
    for bench in benches {
      bench.store(entry | 3, 0x11_4000 + page * 8)
      bench.store(entry | 7, 0x13_4000 + page * 8)
      if bench.isWide {
        bench.queue([0x7_0022, 0])
      } else if isWhole {
        bench.write(0xa000_0005_0000_0000, 0xf8, 8)
      } else {
        bench.write(0x1220_0000 + page << 12, 0xf0, 8)
        bench.write(0xb000_0005_0000_0000, 0xf8, 8)
      }
      bench.clearFaults()
    }
  }

  @Test(arguments: seeds, [0, 1, 2, 3, 4] as [UInt64])
  func `batches answer as single requests do, and count them`(seed: UInt64, pgtt: UInt64) throws {
    for (caches, evicts) in [
      (.none, false), (.hardware, true), (.everything, false),
      (Self.withIOTLB(.fixed(sets: 4, ways: 2)), true),
      (Self.withIOTLB(.fixed(sets: 2, ways: 4)), true), (Self.withIOTLB(.unbounded), false),
    ] as [(CacheConfiguration, Bool)] {
      let single = try Self.bench(caches, pgtt: pgtt, seed: seed)
      let batch = try Self.bench(caches, pgtt: pgtt, seed: seed)
      var generator = SeededGenerator(seed: seed &+ pgtt)
      // One batch is long enough for regions to be remembered.
      for count in [0, 1, 2, 255, 256, 257, 700, 5000, 300] {
        let access = Self.access(using: &generator)
        let addresses = (0..<count).map { _ in IOVA(Self.address(using: &generator)) }
        let expected = addresses.map { single.port.translate($0, access, of: Bench.nic) }
        var answers = [PackedTranslation](repeating: .addressTooWide, count: count)
        var span = answers.mutableSpan
        batch.port.translate(addresses.span, access, of: Bench.nic, into: &span)
        #expect(answers == expected, "\(count) addresses, PGTT \(pgtt)")
        #expect(single.record == batch.record)
        Self.change([single, batch], using: &generator)
      }
      let (one, all) = (single.port.counters, batch.port.counters)
      if evicts {
        #expect(one.iotlb.hits + one.iotlb.misses == all.iotlb.hits + all.iotlb.misses)
        #expect(one.contexts == all.contexts && one.pasids == all.pasids)
      } else {
        #expect(one == all)
      }
    }
  }

  /// A bounded IOTLB of one set, block by block: all look, then misses come in one by one, each in
  /// the place of the next in turn.
  @Test(arguments: seeds)
  func `a full set gives up its pages in turn, block by block`(seed: UInt64) throws {
    let bench = try Bench.legacy(Self.withIOTLB(.fixed(sets: 1, ways: 4)))
    for page in 0..<16 as Range<UInt64> {
      bench.store(0x100_0003 + page << 12, 0x11_4000 + page * 8)
    }
    var generator = SeededGenerator(seed: seed)
    var ways: [UInt64] = []
    var victim = 0
    var model = CacheCounters()
    for count in [1, 40, 256, 600, 3, 256] {
      let pages = (0..<count).map { _ in generator.next() % 7 }
      var start = 0
      while start < count {
        // The first request of all goes alone: it finds the device's tables.
        let isFirst = model.hits + model.misses == 0
        let block = pages[start..<min(count, start + (isFirst ? 1 : 256))]
        let misses = block.filter { !ways.contains($0) }
        model.hits += UInt64(block.count - misses.count)
        for page in misses {
          if ways.contains(page) {
            model.hits += 1
            continue
          }
          model.misses += 1
          if ways.count < 4 {
            ways.append(page)
          } else {
            victim = (victim + 1) % 4
            ways[victim] = page
            model.evictions += 1
          }
        }
        start = block.endIndex
      }
      let addresses = pages.map { IOVA(0x1220_0000 + $0 << 12) }
      var answers = [PackedTranslation](repeating: .addressTooWide, count: count)
      var span = answers.mutableSpan
      bench.port.translate(addresses.span, .read, of: Bench.nic, into: &span)
      #expect(answers.map(\.rawValue) == pages.map { 0x100_0000 + $0 << 12 })
      #expect(bench.port.counters.iotlb == model)
    }
  }

  @Test func `a batch reads tables that changed since the one before`() throws {
    let bench = try Bench.legacy(Self.withIOTLB(.fixed(sets: 1, ways: 1)))
    for page in 0..<512 as Range<UInt64> {
      bench.store(0x100_0003 + page << 12, 0x11_4000 + page * 8)
      bench.store(0x180_0003 + page << 12, 0x11_5000 + page * 8)
    }
    let addresses = (0..<8192).map { IOVA(0x1220_0000 + UInt64($0 % 512) << 12) }
    for (table, first) in [(0x11_4003, 0x100_0000), (0x11_5003, 0x180_0000)] as [(UInt64, UInt64)] {
      // No invalidation: this unit has no cache for such entries, and of pages it keeps the last.
      bench.store(table, 0x11_3000 + 145 * 8)
      var answers = [PackedTranslation](repeating: .addressTooWide, count: 8192)
      var span = answers.mutableSpan
      bench.port.translate(addresses.span, .read, of: Bench.nic, into: &span)
      #expect(answers.map(\.rawValue) == addresses.map { first + $0.rawValue & 0x1f_ffff })
    }
  }

  @Test(arguments: [false, true])
  func `a batch that reaches nothing leaves the records that requests leave`(
    inTransaction: Bool
  ) throws {
    let single = try Bench.legacy(Self.withIOTLB(.unbounded))
    let batch = try Bench.legacy(Self.withIOTLB(.unbounded))
    let addresses = [IOVA(0x7000), IOVA(0x1000), IOVA(1)]
    // A device without a context entry, and one without pages there.
    for requester in [Requester(rawValue: 0x77), Bench.nic] {
      for address in addresses { _ = single.port.translate(address, .write, of: requester) }
      var answers = [PackedTranslation](repeating: .addressTooWide, count: 3)
      func translate() {
        var span = answers.mutableSpan
        batch.port.translate(addresses.span, .write, of: requester, into: &span)
      }
      if inTransaction { batch.port.transaction(translate) } else { translate() }
      #expect(answers.allSatisfy { !$0.isMapped } && Set(answers).count == 1)
      #expect(batch.record == single.record)
      #expect(batch.record.0 == 0x7000)
      #expect(batch.read(Offset.fsts) == single.read(Offset.fsts))
      single.clearFaults()
      batch.clearFaults()
    }
  }

  /// The IOTLB tells 65,536 spaces apart; of more it keeps nothing until it forgets everything.
  @Test func `more PASIDs than the IOTLB has numbers for are translated all the same`() throws {
    let bench = try Bench.scalable(Self.withIOTLB(.unbounded))
    // A directory of 2,048 entries, all of them the same PASID table of 64.
    bench.store(0x60_081d, 0x10_1400)
    for index in 0..<2048 as Range<UInt64> { bench.store(0x12_1001, 0x60_0000 + index * 8) }
    for pasid in 0..<64 as Range<UInt64> {
      bench.store(0x11_1089, 0x12_1000 + pasid * 64)
      bench.store(0x80_0007, 0x12_1000 + pasid * 64 + 8)
    }
    bench.queue([0x11, 0], [0x37, 0])
    // PASID 0 is that of requests without one.
    for pasid in 1..<65_600 as Range<UInt32> {
      #expect(bench.translate(pasid: pasid).address == 0x20_0678, "PASID \(pasid)")
    }
    func misses(of pasid: UInt32) -> UInt64 {
      let before = bench.port.counters.iotlb.misses
      #expect(bench.translate(pasid: pasid).address == 0x20_0678)
      return bench.port.counters.iotlb.misses - before
    }
    #expect(misses(of: 65_536) == 0)
    #expect(misses(of: 65_537) == 1 && misses(of: 65_537) == 1)
    bench.queue([0x12, 0])
    #expect(misses(of: 65_537) == 1 && misses(of: 65_537) == 0)
  }
}
