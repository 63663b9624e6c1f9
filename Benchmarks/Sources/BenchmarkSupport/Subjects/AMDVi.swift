import CReference
import IOMMUWorkloads

extension Subject {
  /// Host tables of AMD-Vi: single calls and batches.
  public static let amdvi = Subject(
    "AMDVi", "single calls and batches through AMD-Vi host tables of three and four levels"
  ) {
    let suite = try Suite.shared()
    let four = TranslatorRuns(suite.tables.translator(.amdvi4Levels))
    let three = TranslatorRuns(suite.tables.translator(.amdvi3Levels))
    func workloads(_ kind: TableKind, _ levels: String) -> [Workload] {
      Workload.vtd.map { Workload("\($0.title), \(levels)", $0.addresses, kind) }
    }
    let calls = try workloads(.amdvi4Levels, "4 levels").map { workload in
      try suite.comparison(
        workload,
        [
          Walker("C walk", suite.c(reference_amdvi_walk)),
          Walker("C walk, call", suite.c(reference_amdvi_walk_call)),
          Walker("call", four.calls), Walker("inlined", four.inlined),
        ],
        [
          Ratio("call", to: "C walk, call", .atMost(1.1)), Ratio("inlined", to: "C walk"),
        ])
    }
    let callsOfThree = try workloads(.amdvi3Levels, "3 levels").map { workload in
      try suite.comparison(
        workload,
        [
          Walker("C walk, call", suite.c(reference_amdvi_walk3_call)), Walker("call", three.calls),
        ], [Ratio("call", to: "C walk, call", .atMost(1.1))])
    }
    let random = workloads(.amdvi4Levels, "batch").first { $0.title.hasPrefix("random 16 GiB") }!
    let batch = try suite.comparison(
      random,
      [
        Walker.bareLoad(suite.c(reference_bare_load)),
        Walker("C walk", suite.c(reference_amdvi_walk)), Walker("batch", four.batch),
        Walker("batch, regions", four.batchRegions),
      ],
      [
        Ratio("batch", to: "bare load", .atMost(2.5)), Ratio("batch, regions", to: "bare load"),
        Ratio("batch", to: "C walk"),
      ])
    return calls + callsOfThree + [batch]
  }
}
