import IOMMUFormats

/// What is replayed: the caches, the tables behind them, and what the hardware does by itself.
package struct ReplayOptions: Hashable, Sendable {
  package var iotlb: CacheGeometry
  /// One such cache for each level of pointers; `nil` for none.
  package var pagingCaches: CacheGeometry?
  /// Levels of the tables, 3 to 5.
  package var levels: Int
  /// IOVAs of more bits are faults.
  package var addressWidth: Int
  /// Where the trace does not tell: 12, 21 or 30.
  package var pageSizeLog2: Int
  /// A miss takes in the next page's entry too, when it lies in the same table.
  package var prefetchesNextPage: Bool

  package init(
    iotlb: CacheGeometry, pagingCaches: CacheGeometry? = nil, levels: Int = 4,
    addressWidth: Int = 48, pageSizeLog2: Int = 12, prefetchesNextPage: Bool = false
  ) {
    precondition(3...5 ~= levels, "VT-d tables have three to five levels")
    precondition(12...57 ~= addressWidth, "an address width is 12 to 57 bits")
    precondition([12, 21, 30].contains(pageSizeLog2), "a page has 4 KiB, 2 MiB or 1 GiB")
    self.iotlb = iotlb
    self.pagingCaches = pagingCaches
    self.levels = levels
    self.addressWidth = addressWidth
    self.pageSizeLog2 = pageSizeLog2
    self.prefetchesNextPage = prefetchesNextPage
  }
}

/// What a replay counts. Counts of shards add up.
package struct ReplayCounts: Hashable, Sendable, Codable {
  package var requests = 0
  /// One for each page that a request touches.
  package var lookups = 0
  package var hits = 0
  /// Pages beyond the address width.
  package var faults = 0
  package var invalidations = 0
  package var prefetches = 0
  /// Prefetched entries that a lookup found.
  package var usefulPrefetches = 0
  /// By level, the leaves' first: entries read from memory.
  package var entriesRead = [0, 0, 0, 0, 0]

  package init() {}

  package var misses: Int { lookups - hits }

  package static func + (left: Self, right: Self) -> Self {
    var sum = left
    sum.requests += right.requests
    sum.lookups += right.lookups
    sum.hits += right.hits
    sum.faults += right.faults
    sum.invalidations += right.invalidations
    sum.prefetches += right.prefetches
    sum.usefulPrefetches += right.usefulPrefetches
    for level in sum.entriesRead.indices where level < right.entriesRead.count {
      sum.entriesRead[level] += right.entriesRead[level]
    }
    return sum
  }
}

/// Names a page of one source in 64 bits: 17 of the source, 2 of the size, 45 of the page number.
struct TranslationKey {
  /// Sources that have numbers of their own.
  static let sourceLimit = 1 << 17

  private var sources: [UInt64: UInt64] = [:]

  /// Sources that were seen.
  var sourceCount: Int { sources.count }

  /// A small number for a source; sources are counted as they come.
  mutating func number(of source: UInt64) -> UInt64 {
    if let number = sources[source] { return number }
    let number = min(UInt64(sources.count), UInt64(Self.sourceLimit) - 1)
    sources[source] = number
    return number
  }

  static func key(_ number: UInt64, _ address: UInt64, sizeLog2: Int) -> UInt64 {
    let size = UInt64((sizeLog2 - 12) / 9)
    return number << 47 | size << 45 | (address >> UInt64(sizeLog2)) & (1 << 45 - 1)
  }

  static func number(in key: UInt64) -> UInt64 { key >> 47 }

  /// The addresses of the page that a key names, half-open.
  static func addresses(of key: UInt64) -> Range<UInt64> {
    let shift = UInt64(VTd.Paging.addressWidth(levels: Int(key >> 45 & 3)))
    let start = (key & (1 << 45 - 1)) << shift
    return start..<start + 1 << shift
  }

  /// The first and the last address of a range, which may run up to the last of all.
  static func bounds(_ iova: IOVA, _ byteCount: UInt64) -> (start: UInt64, end: UInt64) {
    let last = iova.rawValue.addingReportingOverflow(byteCount &- 1)
    return (iova.rawValue, last.overflow ? UInt64.max : last.partialValue)
  }
}

/// What remembers translations by their keys.
protocol TranslationStore {
  /// Keys that are remembered.
  var count: Int { get }
  mutating func remove(_ key: UInt64)
  mutating func removeAll(where isGone: (UInt64) -> Bool)
}

extension CacheModel: TranslationStore {}
extension StackDistances: TranslationStore {}

extension TranslationStore {
  /// Removes the pages of a source that have an address from `start` to `end`: one by one when they
  /// are few, else by looking at all.
  mutating func remove(_ number: UInt64, _ start: UInt64, _ end: UInt64) {
    guard (end - start) >> 12 <= UInt64(count) else {
      removeAll { key in
        let addresses = TranslationKey.addresses(of: key)
        return TranslationKey.number(in: key) == number && addresses.lowerBound <= end
          && start < addresses.upperBound
      }
      return
    }
    for sizeLog2 in [12, 21, 30] {
      for page in start >> UInt64(sizeLog2)...end >> UInt64(sizeLog2) {
        remove(TranslationKey.key(number, page << UInt64(sizeLog2), sizeLog2: sizeLog2))
      }
    }
  }
}

/// Replays DMA against an IOTLB and paging-structure caches.
///
/// Nothing is translated: what counts is which translations would have been at hand, and which
/// entries would have been read. Every page is taken to be mapped.
package struct TraceReplay {
  package let options: ReplayOptions
  package var counts = ReplayCounts()
  private var keys = TranslationKey()
  private var iotlb: CacheModel
  /// By level of the entry that is remembered, 2 first.
  private var paging: [CacheModel]
  private var prefetched: Set<UInt64> = []

  package init(_ options: ReplayOptions) {
    self.options = options
    iotlb = CacheModel(options.iotlb)
    paging =
      options.pagingCaches.map { geometry in
        (2...options.levels).map { _ in CacheModel(geometry) }
      } ?? []
  }

  /// Devices and domains whose translations are told apart; those beyond would share theirs.
  package static var sourceLimit: Int { TranslationKey.sourceLimit }

  /// Devices and domains that were seen.
  package var sourceCount: Int { keys.sourceCount }

  /// One request: a lookup for each page that it touches.
  ///
  /// - Complexity: O(pages) lookups; pages beyond the address width are one fault.
  package mutating func request(
    source: UInt64, iova: IOVA, byteCount: UInt64, pageSizeLog2: Int? = nil
  ) {
    counts.requests += 1
    let number = keys.number(of: source)
    let sizeLog2 = pageSizeLog2 ?? options.pageSizeLog2
    for address in pages(iova, byteCount, sizeLog2) { lookUp(number, address, sizeLog2) }
  }

  /// The first address of each page that a request touches; counts what lies beyond the width.
  mutating func pages(_ iova: IOVA, _ byteCount: UInt64, _ sizeLog2: Int) -> StrideTo<UInt64> {
    let limit: UInt64 = 1 << UInt64(options.addressWidth)
    let start = iova.rawValue
    let size = UInt64(1) << UInt64(sizeLog2)
    guard start < limit, byteCount > 0 else {
      counts.faults += 1
      return stride(from: 0, to: 0, by: Int(size))
    }
    let reachable = min(byteCount, limit - start)
    if reachable < byteCount { counts.faults += 1 }
    return stride(from: start & ~(size - 1), to: start + reachable, by: Int(size))
  }

  private mutating func lookUp(_ number: UInt64, _ address: UInt64, _ sizeLog2: Int) {
    counts.lookups += 1
    let key = TranslationKey.key(number, address, sizeLog2: sizeLog2)
    if iotlb.find(key) {
      counts.hits += 1
      if prefetched.remove(key) != nil { counts.usefulPrefetches += 1 }
      return
    }
    prefetched.remove(key)
    walk(number, address, leafLevel: (sizeLog2 - 3) / 9)
    let page = address >> UInt64(sizeLog2)
    iotlb.insert(key, index: page)
    guard options.prefetchesNextPage, (page + 1) & 511 != 0 else { return }
    let next = TranslationKey.key(number, address + 1 << UInt64(sizeLog2), sizeLog2: sizeLog2)
    guard !iotlb.contains(next) else { return }
    counts.prefetches += 1
    counts.entriesRead[(sizeLog2 - VTd.Paging.pageBits) / VTd.Paging.indexBits] += 1
    iotlb.insert(next, index: page + 1)
    prefetched.insert(next)
  }

  /// Counts the entries that a walk reads, from the lowest remembered pointer down.
  private mutating func walk(_ number: UInt64, _ address: UInt64, leafLevel: Int) {
    var top = options.levels
    if !paging.isEmpty, leafLevel < options.levels {
      for level in leafLevel + 1...options.levels
      where paging[level - 2].find(Self.pagingKey(number, address, level: level)) {
        top = level - 1
        break
      }
    }
    guard leafLevel <= top else { return }
    for level in leafLevel...top {
      counts.entriesRead[level - 1] += 1
      guard level > leafLevel, !paging.isEmpty else { continue }
      paging[level - 2].insert(
        Self.pagingKey(number, address, level: level),
        index: address >> UInt64(VTd.Paging.sizeLog2(level: level)))
    }
  }

  private static func pagingKey(_ number: UInt64, _ address: UInt64, level: Int) -> UInt64 {
    number << 47 | address >> UInt64(VTd.Paging.sizeLog2(level: level))
  }

  /// Software takes back a range: its translations go, and the pointers on the way to it.
  package mutating func invalidate(source: UInt64, iova: IOVA, byteCount: UInt64) {
    counts.invalidations += 1
    let number = keys.number(of: source)
    let (start, end) = TranslationKey.bounds(iova, byteCount)
    iotlb.remove(number, start, end)
    for level in paging.indices {
      paging[level].removeAll { key in
        let shift = UInt64(VTd.Paging.sizeLog2(level: level + 2))
        let region = key & (1 << 47 - 1)
        return key >> 47 == number && start >> shift <= region && region <= end >> shift
      }
    }
  }

  /// All that is remembered of a source goes.
  package mutating func invalidate(source: UInt64) {
    counts.invalidations += 1
    let number = keys.number(of: source)
    iotlb.removeAll { TranslationKey.number(in: $0) == number }
    for level in paging.indices { paging[level].removeAll { $0 >> 47 == number } }
  }

  /// Everything goes.
  package mutating func invalidateAll() {
    counts.invalidations += 1
    iotlb.removeAll { _ in true }
    for level in paging.indices { paging[level].removeAll { _ in true } }
  }

  /// Forgets the counts and keeps the caches: what came before was a warm-up.
  package mutating func resetCounts() { counts = ReplayCounts() }
}
