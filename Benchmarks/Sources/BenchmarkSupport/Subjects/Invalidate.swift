import IOMMUFormats
import IOMMUHardware
import IOMMUWorkloads

extension Subject {
  /// What forgetting costs.
  public static let invalidate = Subject(
    "Invalidate", "flushes and invalidations, each waited for"
  ) {
    let suite = try Suite.shared()
    return [regionCacheInvalidations(), try suite.portInvalidations()]
  }
}

/// Invalidations of one run.
private let callCount = 1 << 12

private func regionCacheInvalidations() -> Comparison {
  let cache = RegionCache()
  func each(_ name: String, _ body: @escaping (IOVA) -> Void) -> Contender {
    Contender(name) {
      for number in 0..<UInt64(callCount) { body(IOVA(number << 21)) }
    }
  }
  return Comparison(
    "region cache", unit: "call", units: callCount,
    contenders: [
      each("flush") { _ in cache.flush() },
      each("invalidate 4 KiB") { cache.invalidate($0..<IOVA($0.rawValue + 4096)) },
      each("invalidate 1 GiB") { cache.invalidate($0..<IOVA($0.rawValue + 1 << 30)) },
    ],
    ratios: [Ratio("flush", to: "invalidate 4 KiB")])
}

extension Suite {
  /// Each invalidation is followed by a translation, which takes it from the unit and misses.
  fileprivate func portInvalidations() throws -> Comparison {
    let page = IOVA(0x1234_5000)
    let expected = tables.expected(page, kind: .vtd4Levels)
    let idle = try RemappedPort(tables, .hardware)
    let byRegister = try RemappedPort(tables, .hardware)
    let byQueue = try RemappedPort(tables, .hardware)
    let registers = InvalidationRequests(byRegister.unit)
    let queue = InvalidationRequests(byQueue.unit)
    queue.enableQueue()

    func contender(
      _ name: String, _ port: RemappedPort, misses: UInt64, _ invalidate: @escaping () -> Void
    ) throws -> Contender {
      _ = port.translate(page)
      let before = port.port.counters.iotlb.misses
      for _ in 0..<2 {
        invalidate()
        guard port.translate(page) == expected else { throw WrongAnswer(name, "\(page)") }
      }
      guard port.port.counters.iotlb.misses - before == 2 * misses else {
        throw WrongAnswer(name, "\(page), which the IOTLB should have forgotten")
      }
      return Contender(name) {
        for _ in 0..<callCount {
          invalidate()
          _ = port.translate(page)
        }
      }
    }
    var contenders = [try contender("translation alone", idle, misses: 0) {}]
    for (what, granularity) in [
      ("page", VTd.Granularity.selective), ("domain", .domain), ("global", .global),
    ] {
      contenders += [
        try contender("\(what), by register", byRegister, misses: 1) {
          registers.byRegister(granularity, page: page)
        },
        try contender("\(what), by queue", byQueue, misses: 1) {
          queue.byQueue(granularity, page: page)
        },
      ]
    }
    return Comparison(
      "port, with the translation after it", unit: "call", units: callCount, contenders: contenders,
      ratios: contenders.dropFirst().map { Ratio($0.name, to: "translation alone") })
  }
}
