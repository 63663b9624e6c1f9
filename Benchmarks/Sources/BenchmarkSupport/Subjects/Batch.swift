import CReference

extension Subject {
  /// Many addresses in one call.
  public static let batch = Subject(
    "Batch", "batches through VT-d tables of four levels"
  ) {
    let suite = try Suite.shared()
    let runs = TranslatorRuns(suite.tables.translator(.vtd4Levels))
    let walkers = [
      Walker.bareLoad(suite.c(reference_bare_load)),
      Walker("C walk", suite.c(reference_walk)),
      Walker("C batch", suite.c(reference_walk_batch)),
      Walker("C batch, regions", suite.c(reference_walk_batch_regions)),
      Walker("batch", runs.batch),
      Walker("batch, regions", runs.batchRegions),
    ]
    func ratios(toLoad batch: Double?, _ regions: Double?, toWalk walk: Double?) -> [Ratio] {
      [
        Ratio("batch", to: "bare load", batch.map { .atMost($0) }),
        Ratio("batch, regions", to: "bare load", regions.map { .atMost($0) }),
        Ratio("batch", to: "C walk", walk.map { .atMost($0) }),
      ]
    }
    return [
      try suite.comparison(.hotPage, walkers, ratios(toLoad: nil, nil, toWalk: nil)),
      try suite.comparison(.sequential1GiB, walkers, ratios(toLoad: nil, nil, toWalk: 0.5)),
      try suite.comparison(.random1GiB, walkers, ratios(toLoad: nil, nil, toWalk: nil)),
      try suite.comparison(.random16GiB, walkers, ratios(toLoad: 2.3, 1.4, toWalk: nil)),
      try suite.comparison(.zipf4GiB, walkers, ratios(toLoad: nil, nil, toWalk: nil)),
    ]
  }
}
