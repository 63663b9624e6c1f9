/// How one recording came out.
package struct RecordingResult: Encodable {
  /// A trace, or a directory whose traces were played one after the other.
  package var recording: String
  package var differenceCount = 0
  /// The first ones.
  package var differences: [String] = []
  /// What could not be compared, and why.
  package var notes: [String] = []
  /// What could not be read; nothing has been compared then.
  package var error: String?
  package var totals = RecordingTotals()

  package var passed: Bool { differenceCount == 0 && error == nil }

  /// - Parameter error: What could not be read.
  package init(recording: String, error: String? = nil) {
    self.recording = recording
    self.error = error
  }

  init(recording: String, log: DifferenceLog, notes: [String], totals: RecordingTotals) {
    self.recording = recording
    differenceCount = log.count
    differences = log.kept
    self.notes = notes
    self.totals = totals
  }

  private enum CodingKeys: CodingKey {
    case recording, passed, differenceCount, differences, notes, error, totals
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(recording, forKey: .recording)
    try container.encode(passed, forKey: .passed)
    try container.encode(differenceCount, forKey: .differenceCount)
    try container.encode(differences, forKey: .differences)
    try container.encode(notes, forKey: .notes)
    try container.encodeIfPresent(error, forKey: .error)
    try container.encode(totals, forKey: .totals)
  }
}

/// How all of them came out.
package struct RecordingSummary: Encodable {
  package var results: [RecordingResult]
  package var totals = RecordingTotals()
  package var passed: Int
  package var failed: Int
  /// Of all recordings together.
  package var eventsPerSecond: Int

  package init(_ results: [RecordingResult], took duration: Duration) {
    self.results = results
    passed = results.count { $0.passed }
    failed = results.count - passed
    for result in results { totals += result.totals }
    let (seconds, attoseconds) = duration.components
    let time = max(1e-6, Double(seconds) + Double(attoseconds) / 1e18)
    eventsPerSecond = Int(Double(totals.events) / time)
  }

  package var differenceCount: Int { results.reduce(0) { $0 + $1.differenceCount } }
}
