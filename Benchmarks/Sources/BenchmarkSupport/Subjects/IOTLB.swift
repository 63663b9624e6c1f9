import IOMMUFormats
import IOMMUHardware
import IOMMUWorkloads

extension Subject {
  /// What a unit with an IOTLB and counters costs, against the walk that it saves.
  public static let iotlb = Subject(
    "IOTLB", "a unit's port with 256 IOTLB entries and counters, against the bare walk"
  ) {
    let suite = try Suite.shared()
    let runs = TranslatorRuns(suite.tables.translator(.vtd4Levels))
    return try [
      (Workload.hotPage, Ratio("port, call", to: "bare call", .atMost(2))),
      (.zipf4GiB, Ratio("port, batch", to: "bare call", .atMost(1))),
    ].map { workload, goal in
      // Units of their own: what the IOTLB holds, and in which way, is of this workload.
      let caches = CacheConfiguration.withoutPagingStructures()
      let large = CacheConfiguration.withoutPagingStructures(iotlb: .fixed(sets: 1024, ways: 4))
      return try suite.comparison(
        workload,
        [
          Walker("bare call", runs.calls),
          Walker("port, call", try RemappedPort(suite.tables, caches).calls),
          Walker("port, batch", try RemappedPort(suite.tables, caches).batch),
          Walker("4,096 entries, batch", try RemappedPort(suite.tables, large).batch),
          Walker("port, request", try RemappedPort(suite.tables, caches).requests),
        ],
        [
          goal, Ratio("4,096 entries, batch", to: "bare call"),
          Ratio("port, request", to: "bare call"),
        ])
    }
  }
}
