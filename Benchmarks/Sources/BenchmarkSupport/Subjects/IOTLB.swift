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
    return try [(Workload.hotPage, 2.0), (.zipf4GiB, 1)].map { workload, bound in
      // A unit of its own: what the IOTLB holds, and in which way, is of this workload.
      let cached = try RemappedPort(suite.tables, .hardware)
      return try suite.comparison(
        workload,
        [Walker("bare call", runs.calls), Walker("port, request", cached.requests)],
        [Ratio("port, request", to: "bare call", .atMost(bound))])
    }
  }
}
