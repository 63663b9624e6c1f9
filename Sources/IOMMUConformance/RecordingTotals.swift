/// What a replay of recorded traces has counted, whatever the driver that was recorded; what a driver
/// has none of stays 0.
package struct RecordingTotals: Encodable {
  /// Lines of the traces.
  package var events = 0
  /// Register reads compared; those that told what firmware left are counted apart, and so are
  /// those of what the trace's surroundings decide, such as a busy queue.
  package var reads = 0
  package var firmwareReads = 0
  package var environmentReads = 0
  package var writes = 0
  /// Table entries stored.
  package var stores = 0
  package var flushes = 0
  package var calls = 0
  /// Mappings of the truth files that came into force.
  package var mappings = 0
  /// Pages in force, and pages given back, each time a request for one was compared.
  package var pages = 0
  package var freedPages = 0
  /// Answers that a cache gave and the table no longer had.
  package var staleHits = 0
  /// Register states and table contents compared at the end.
  package var finalStates = 0
  /// Bytes of table and pages of buffers compared with what lies beside the trace.
  package var tableBytes = 0
  package var imagePages = 0
  /// Steps of the driver that our own driver had to take too: calls, register writes and boots.
  package var driverSteps = 0

  mutating func add(_ mappings: GARTMappings) {
    pages += mappings.pageCount
    freedPages += mappings.freedPageCount
    staleHits += mappings.staleHitCount
  }

  package static func += (left: inout Self, right: Self) {
    for path in [
      \Self.events, \.reads, \.firmwareReads, \.environmentReads, \.writes, \.stores, \.flushes,
      \.calls, \.mappings, \.pages, \.freedPages, \.staleHits, \.finalStates, \.tableBytes,
      \.imagePages, \.driverSteps,
    ] {
      left[keyPath: path] += right[keyPath: path]
    }
  }
}
