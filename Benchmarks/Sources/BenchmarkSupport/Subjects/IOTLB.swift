import IOMMUFormats
import IOMMUHardware
import IOMMUWorkloads

extension Subject {
  /// What a unit with an IOTLB and counters costs, against the walk that it saves.
  public static let iotlb = Subject(
    "IOTLB", "a unit's port with caches as hardware has them, against the bare walk"
  ) {
    let suite = try Suite.shared()
    let runs = TranslatorRuns(suite.tables.translator(.vtd4Levels))
    let cached = try RemappedPort(suite.tables, .hardware)
    let walkers = [Walker("bare call", runs.calls), Walker("port, call", cached.calls)]
    return try [
      suite.comparison(
        .hotPage, walkers, [Ratio("port, call", to: "bare call", .atMost(2))]),
      suite.comparison(
        .zipf4GiB, walkers, [Ratio("port, call", to: "bare call", .atMost(1))]),
    ]
  }
}
