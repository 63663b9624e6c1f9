/// What a replay of one directory's traces has compared, and what was different.
struct ReplayReport {
  var totals = ReplayTotals()
  /// The first few, each with file and line.
  private(set) var log = DifferenceLog(limit: 10)
  /// What could not be compared, and why.
  var notes: [String] = []

  mutating func differ(_ place: String, _ text: String) { log.add("\(place): \(text)") }
}

extension ReplayTotals {
  /// The counts in a few lines.
  func write(differenceCount: Int, to out: inout some TextOutputStream) {
    out.write(
      """
        \(grouped(events)) events: \(grouped(reads)) reads compared, \
      \(grouped(firmwareReads)) taken as firmware's and \(grouped(environmentReads)) as the \
      surroundings', \(grouped(writes)) writes, \(grouped(stores)) stores
        \(grouped(mappings)) mappings: \(grouped(pages)) translations and \
      \(grouped(freedPages)) requests to freed pages compared\
      \(staleHits > 0 ? ", \(grouped(staleHits)) answered by a stale cache entry" : "")
        \(grouped(finalStates)) final states and \(grouped(driverSteps)) steps of the driver \
      compared; \(grouped(differenceCount)) differences

      """)
  }
}
