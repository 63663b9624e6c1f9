/// What a replay of recorded traces has compared, and what was different.
struct ReplayReport {
  var totals = RecordingTotals()
  /// The first few, each with file and line.
  private(set) var log: DifferenceLog
  /// What could not be compared, and why.
  var notes: [String] = []

  init(differenceLimit: Int) { log = DifferenceLog(limit: differenceLimit) }

  mutating func differ(_ place: String, _ text: String) { log.add("\(place): \(text)") }
}
