import CReference

extension Subject {
  /// One call for each translation.
  public static let walk = Subject(
    "Walk", "single calls through VT-d tables of four levels"
  ) {
    let suite = try Suite.shared()
    let runs = TranslatorRuns(suite.tables.translator(.vtd4Levels))
    let walkers = [
      Walker("C walk", suite.c(reference_walk)),
      Walker("C walk, call", suite.c(reference_walk_call)),
      Walker("C checked walk, call", suite.c(reference_checked_walk_call)),
      Walker("call", runs.calls),
      Walker("inlined", runs.inlined),
    ]
    let ratios = [
      Ratio("call", to: "C walk, call", .atMost(1.05)),
      Ratio("call", to: "C checked walk, call", .atMost(1.05)),
      Ratio("inlined", to: "C walk"),
    ]
    let peer = AddrxlatPeer(suite.tables.memory, root: suite.tables.root)
    let workloads = Workload.vtd
    var comparisons = try workloads.enumerated().map { index, workload in
      try suite.comparison(
        workload, walkers, ratios,
        notes: peer == nil && index == workloads.count - 1 ? [AddrxlatPeer.absence] : [])
    }
    guard let peer else { return comparisons }
    // By itself: it reads far more memory than all the others, and takes the caches from them.
    for var workload in workloads {
      workload.title += ", \(AddrxlatPeer.name)"
      comparisons.append(
        try suite.comparison(
          workload, [Walker("call", runs.calls), Walker(AddrxlatPeer.name, peer.walks)],
          [Ratio("call", to: AddrxlatPeer.name)]))
    }
    return comparisons
  }
}
