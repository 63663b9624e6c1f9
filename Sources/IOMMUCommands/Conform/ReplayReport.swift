import IOMMUFormats

/// What a replay of recorded traces has compared, and what was different.
struct ReplayReport {
  /// Lines of the traces.
  var eventCount = 0
  /// Reads whose value the model had to have.
  var readsCompared = 0
  /// First reads of a register, which tell what firmware left there.
  var firmwareReads = 0
  /// Reads of what the trace's surroundings decide, such as a busy queue.
  var environmentReads = 0
  var writes = 0
  var stores = 0
  /// Mappings of the truth files that came into force.
  var mappings = 0
  /// Requests translated for pages in force, for reading and for writing.
  var translationsCompared = 0
  /// The same for pages that were taken back.
  var freedCompared = 0
  /// Requests that a cache answered with what had been true before.
  var staleHits = 0
  /// Register states and table contents compared at the end.
  var finalStatesCompared = 0
  /// Steps of the driver that our own driver had to take too.
  var driverSteps = 0
  var differenceCount = 0
  /// The first few, each with file and line.
  var differences: [String] = []
  /// What could not be compared, and why.
  var notes: [String] = []

  static let shownDifferences = 10

  mutating func differ(_ place: String, _ text: String) {
    differenceCount += 1
    if differences.count < Self.shownDifferences { differences.append("\(place): \(text)") }
  }

  static func + (left: Self, right: Self) -> Self {
    var sum = left
    for path in [
      \Self.eventCount, \.readsCompared, \.firmwareReads, \.environmentReads, \.writes, \.stores,
      \.mappings, \.translationsCompared, \.freedCompared, \.staleHits, \.finalStatesCompared,
      \.driverSteps, \.differenceCount,
    ] {
      sum[keyPath: path] += right[keyPath: path]
    }
    sum.differences += right.differences
    return sum
  }
}

extension ReplayReport {
  /// The counts in a few lines, without the differences.
  func write(to out: inout some TextOutputStream) {
    out.write(
      """
        \(grouped(eventCount)) events: \(grouped(readsCompared)) reads compared, \
      \(grouped(firmwareReads)) taken as firmware's and \(grouped(environmentReads)) as the \
      surroundings', \(grouped(writes)) writes, \(grouped(stores)) stores
        \(grouped(mappings)) mappings: \(grouped(translationsCompared)) translations and \
      \(grouped(freedCompared)) requests to freed pages compared\
      \(staleHits > 0 ? ", \(grouped(staleHits)) answered by a stale cache entry" : "")
        \(grouped(finalStatesCompared)) final states and \(grouped(driverSteps)) steps of the driver \
      compared; \(grouped(differenceCount)) differences

      """)
  }
}
