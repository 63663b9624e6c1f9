import CReference

extension Subject {
  /// One call for each translation.
  public static let walk = Subject(
    "Walk", "single calls through VT-d tables of four levels"
  ) {
    let suite = try Suite.shared()
    let runs = TranslatorRuns(suite.tables.translator(.vtd4Levels))
    let peer = AddrxlatPeer(suite.tables.memory, root: suite.tables.root)
    var walkers = [
      Walker("C walk", suite.c(reference_walk)),
      Walker("C walk, call", suite.c(reference_walk_call)),
      Walker("C checked walk, call", suite.c(reference_checked_walk_call)),
      Walker("call", runs.calls),
      Walker("inlined", runs.inlined),
    ]
    var ratios = [
      Ratio("call", to: "C walk, call", .atMost(1.05)),
      Ratio("inlined", to: "C walk", .atMost(1.05)),
      Ratio("call", to: "C checked walk, call", .atMost(1.05)),
    ]
    if let peer {
      walkers.append(Walker(AddrxlatPeer.name, peer.walks))
      ratios.append(Ratio("call", to: AddrxlatPeer.name))
    }
    return try Workload.vtd.map { workload in
      try suite.comparison(
        workload, walkers, ratios, notes: peer == nil ? [AddrxlatPeer.absence] : [])
    }
  }
}
