import IOMMUFormats
import IOMMUHardware
import Testing

@Suite struct TraceReplayTests {
  static func options(
    _ entries: Int = 4, paging: Int? = nil, levels: Int = 4, width: Int = 48,
    prefetch: Bool = false
  ) throws -> ReplayOptions {
    ReplayOptions(
      iotlb: try CacheGeometry(entries: entries),
      pagingCaches: try paging.map { try CacheGeometry(entries: $0) }, levels: levels,
      addressWidth: width, prefetchesNextPage: prefetch)
  }

  @Test func `a request looks up each page it touches`() throws {
    var replay = TraceReplay(try Self.options())
    replay.request(source: 1, iova: IOVA(0x1fff), byteCount: 2)
    replay.request(source: 1, iova: IOVA(0x2000), byteCount: 1)
    replay.request(source: 2, iova: IOVA(0x2000), byteCount: 1)
    #expect(replay.counts.requests == 3)
    #expect(replay.counts.lookups == 4)
    #expect(replay.counts.hits == 1)
    #expect(replay.counts.entriesRead == [3, 3, 3, 3, 0])
  }

  @Test func `large pages end the walk higher up`() throws {
    var replay = TraceReplay(try Self.options())
    replay.request(source: 1, iova: IOVA(0x20_0000), byteCount: 1, pageSizeLog2: 21)
    replay.request(source: 1, iova: IOVA(0x3f_ffff), byteCount: 1, pageSizeLog2: 21)
    replay.request(source: 1, iova: IOVA(0x4000_0000), byteCount: 1, pageSizeLog2: 30)
    #expect(replay.counts.hits == 1)
    #expect(replay.counts.entriesRead == [0, 1, 2, 2, 0])
  }

  @Test func `paging-structure caches spare the upper levels`() throws {
    var replay = TraceReplay(try Self.options(1, paging: 4))
    replay.request(source: 1, iova: IOVA(0), byteCount: 1)
    // Same leaf table, same directory, same table of directories, another GiB 512 further.
    for iova: UInt64 in [0x1000, 0x20_0000, 0x4000_0000, 0x80_0000_0000] {
      replay.request(source: 1, iova: IOVA(iova), byteCount: 1)
    }
    #expect(replay.counts.entriesRead == [5, 4, 3, 2, 0])
    replay.invalidate(source: 1, iova: IOVA(0), byteCount: 4096)
    // All pointers on the way to page 0 are gone.
    replay.request(source: 1, iova: IOVA(0), byteCount: 1)
    #expect(replay.counts.entriesRead == [6, 5, 4, 3, 0])
  }

  @Test func `the next page is prefetched within its table`() throws {
    var replay = TraceReplay(try Self.options(8, prefetch: true))
    for iova: UInt64 in [0x1000, 0x2000, 0x3000, 0x1f_f000, 0x20_0000] {
      replay.request(source: 1, iova: IOVA(iova), byteCount: 1)
    }
    #expect(replay.counts.hits == 1)
    #expect(replay.counts.prefetches == 3)
    #expect(replay.counts.usefulPrefetches == 1)
    #expect(replay.counts.entriesRead == [7, 4, 4, 4, 0])
  }

  @Test func `addresses beyond the width are faults and no lookups`() throws {
    var replay = TraceReplay(try Self.options(width: 39))
    replay.request(source: 1, iova: IOVA(1 << 39), byteCount: 1)
    replay.request(source: 1, iova: IOVA(.max), byteCount: .max)
    replay.request(source: 1, iova: IOVA(0x7f_ffff_f000), byteCount: 8192)
    #expect(replay.counts.faults == 3)
    #expect(replay.counts.lookups == 1)
  }

  @Test func `invalidations take a range, a source, or all`() throws {
    var replay = TraceReplay(try Self.options(16))
    func use() -> [Bool] {
      ([(1, 0x1000), (1, 0x2000), (2, 0x1000)] as [(UInt64, UInt64)]).map { source, iova in
        let before = replay.counts.hits
        replay.request(source: source, iova: IOVA(iova), byteCount: 1)
        return replay.counts.hits > before
      }
    }
    _ = use()
    #expect(use() == [true, true, true])
    replay.invalidate(source: 1, iova: IOVA(0x1800), byteCount: 1)
    #expect(use() == [false, true, true])
    replay.invalidate(source: 1, iova: IOVA(0), byteCount: .max)
    #expect(use() == [false, false, true])
    replay.invalidate(source: 2)
    #expect(use() == [true, true, false])
    replay.invalidateAll()
    #expect(use() == [false, false, false])
    #expect(replay.counts.invalidations == 4)
  }

  /// The sweep against a replay of each geometry, whether it shares the stack or not.
  @Test(arguments: seeds, CacheGeometry.Policy.allCases)
  func `a sweep counts what single replays count`(
    seed: UInt64, policy: CacheGeometry.Policy
  ) throws {
    var generator = SeededGenerator(seed: seed)
    func random(_ bound: UInt64) -> UInt64 { generator.next() % bound }
    let geometries = try [
      CacheGeometry(entries: 4, policy: policy), CacheGeometry(entries: 16, policy: policy),
      CacheGeometry(entries: 16, ways: 2, policy: policy),
      CacheGeometry(entries: 64, policy: policy),
    ]
    let options = try Self.options()
    var sweep = ReplaySweep(geometries, options: options)
    var replays = geometries.map { geometry in
      var options = options
      options.iotlb = geometry
      return TraceReplay(options)
    }
    for step in 0..<1500 {
      let source = random(3)
      let iova = IOVA(random(4) == 0 ? random(1 << 40) : random(48) << 12)
      if step == 500 {
        sweep.resetCounts()
        for index in replays.indices { replays[index].resetCounts() }
      }
      switch random(20) {
      case 0:
        let byteCount = random(2) == 0 ? 4096 : random(1 << 34) + 1
        sweep.invalidate(source: source, iova: iova, byteCount: byteCount)
        for index in replays.indices {
          replays[index].invalidate(source: source, iova: iova, byteCount: byteCount)
        }
      case 1 where random(8) == 0:
        sweep.invalidate(source: source)
        for index in replays.indices { replays[index].invalidate(source: source) }
      default:
        let byteCount = random(20_000) + 1
        let size = random(5) == 0 ? 21 : 12
        sweep.request(source: source, iova: iova, byteCount: byteCount, pageSizeLog2: size)
        for index in replays.indices {
          replays[index].request(
            source: source, iova: iova, byteCount: byteCount, pageSizeLog2: size)
        }
      }
    }
    #expect(sweep.results.map(\.hits) == replays.map(\.counts.hits))
    #expect(sweep.results.map(\.lookups) == replays.map(\.counts.lookups))
  }
}
