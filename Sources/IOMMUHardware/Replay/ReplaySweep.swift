import IOMMUFormats

/// Replays DMA against IOTLBs of many geometries in one pass.
///
/// All fully associative LRU caches share one stack of distances; every other geometry has a cache of
/// its own. With prefetching none can share: what is prefetched depends on what missed.
package struct ReplaySweep {
  package let geometries: [CacheGeometry]
  private var replays: [Int: TraceReplay] = [:]
  private let shared: [Int]
  private var stack = StackDistances()
  private var keys = TranslationKey()
  private var splitter: TraceReplay
  private var warmHits: [Int] = []
  private var warmUses = 0

  /// - Parameter options: Of each replay, but for the IOTLB.
  package init(_ geometries: [CacheGeometry], options: ReplayOptions) {
    precondition(!geometries.isEmpty, "a sweep has at least one geometry")
    self.geometries = geometries
    shared = geometries.indices.filter {
      geometries[$0].policy == .lru && geometries[$0].sets == 1 && !options.prefetchesNextPage
    }
    var base = options
    base.pagingCaches = nil
    for index in geometries.indices where !shared.contains(index) {
      base.iotlb = geometries[index]
      replays[index] = TraceReplay(base)
    }
    // Counts requests and faults when no other replay does.
    base.iotlb = geometries[0]
    splitter = TraceReplay(base)
    warmHits = geometries.map { _ in 0 }
  }

  package mutating func request(
    source: UInt64, iova: IOVA, byteCount: UInt64, pageSizeLog2: Int? = nil
  ) {
    for index in replays.keys {
      replays[index]!.request(
        source: source, iova: iova, byteCount: byteCount, pageSizeLog2: pageSizeLog2)
    }
    guard !shared.isEmpty else { return }
    let number = keys.number(of: source)
    let sizeLog2 = pageSizeLog2 ?? splitter.options.pageSizeLog2
    for address in splitter.pages(iova, byteCount, sizeLog2) {
      stack.use(TranslationKey.key(number, address, sizeLog2: sizeLog2))
    }
  }

  package mutating func invalidate(source: UInt64, iova: IOVA, byteCount: UInt64) {
    for index in replays.keys {
      replays[index]!.invalidate(source: source, iova: iova, byteCount: byteCount)
    }
    let number = keys.number(of: source)
    let (start, end) = TranslationKey.bounds(iova, byteCount)
    stack.remove(number, start, end)
  }

  package mutating func invalidate(source: UInt64) {
    for index in replays.keys { replays[index]!.invalidate(source: source) }
    let number = keys.number(of: source)
    stack.removeAll { TranslationKey.number(in: $0) == number }
  }

  package mutating func invalidateAll() {
    for index in replays.keys { replays[index]!.invalidateAll() }
    stack.removeAll { _ in true }
  }

  /// Forgets the counts and keeps the caches.
  package mutating func resetCounts() {
    for index in replays.keys { replays[index]!.resetCounts() }
    for index in shared { warmHits[index] = stack.hits(entries: geometries[index].entries) }
    warmUses = stack.uses
  }

  /// Lookups and hits of each geometry, in their order.
  package var results: [(geometry: CacheGeometry, lookups: Int, hits: Int)] {
    geometries.indices.map { index in
      if let replay = replays[index] {
        return (geometries[index], replay.counts.lookups, replay.counts.hits)
      }
      let hits = stack.hits(entries: geometries[index].entries) - warmHits[index]
      return (geometries[index], stack.uses - warmUses, hits)
    }
  }
}
