/// What a replay of recorded traces has counted, whatever the driver that was recorded; what a driver
/// has none of stays 0.
struct ReplayTotals: Encodable {
  /// Lines of the traces.
  var events = 0
  /// Register reads compared; those that told what firmware left are counted apart, and so are
  /// those of what the trace's surroundings decide, such as a busy queue.
  var reads = 0
  var firmwareReads = 0
  var environmentReads = 0
  var writes = 0
  /// Table entries stored.
  var stores = 0
  var flushes = 0
  var calls = 0
  /// Mappings of the truth files that came into force.
  var mappings = 0
  /// Pages in force, and pages given back, each time a request for one was compared.
  var pages = 0
  var freedPages = 0
  /// Answers that a cache gave and the table no longer had.
  var staleHits = 0
  /// Register states and table contents compared at the end.
  var finalStates = 0
  /// Bytes of table and pages of buffers compared with what lies beside the trace.
  var tableBytes = 0
  var imagePages = 0
  /// Steps of the driver that our own driver had to take too: calls, register writes and boots.
  var driverSteps = 0

  mutating func add(_ mappings: GARTMappings) {
    pages += mappings.pageCount
    freedPages += mappings.freedPageCount
    staleHits += mappings.staleHitCount
  }

  static func += (left: inout Self, right: Self) {
    for path in [
      \Self.events, \.reads, \.firmwareReads, \.environmentReads, \.writes, \.stores, \.flushes,
      \.calls, \.mappings, \.pages, \.freedPages, \.staleHits, \.finalStates, \.tableBytes,
      \.imagePages, \.driverSteps,
    ] {
      left[keyPath: path] += right[keyPath: path]
    }
  }
}
