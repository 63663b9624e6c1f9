import CReference
import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import IOMMUWorkloads

extension Subject {
  /// What a translation costs when tables grow.
  public static let growth = Subject(
    "Growth", "random misses of a unit's port over 2 to 512 MiB of leaf tables of each stage"
  ) {
    try growth(prefersLargePages: false) + growth(prefersLargePages: true)
  }

  /// Calls and batches through each kind of tables; a contender for each size of tables.
  ///
  /// - Parameter prefersLargePages: Whether the memory of the tables is to lie in pages of 2 MiB.
  private static func growth(prefersLargePages: Bool) throws -> [Comparison] {
    let caches = CacheConfiguration.withoutPagingStructures()
    // 1 to 256 GiB of IOVA, each as large as its tables.
    let all = try [1, 16, 64, 256 as UInt64].map { gibibytes in
      let tables = try StagedTables(
        span: gibibytes << 30, prefersLargePages: prefersLargePages)
      let addresses = AddressPattern.random.addresses(count: Suite.count, span: tables.span)
      return (name: "\(gibibytes * 2) MiB", tables: tables, block: AddressBlock(addresses))
    }
    let suffix = prefersLargePages ? ", large pages" : ""
    func comparison(
      _ stages: StagedTables.Stages, _ way: String, _ goal: Ratio.Goal?,
      _ run: (RemappedPort) -> Run
    ) throws -> Comparison {
      let title = "\(stages.title), \(way)\(suffix)"
      let contenders = try all.map { name, tables, block in
        let run = run(try RemappedPort(tables, stages, caches))
        run(block.source, block.answers)
        try block.check(name, title) { tables.expected($0, stages) }
        return Contender(name) { run(block.source, block.answers) }
      }
      return Comparison(
        title, unit: "translation", units: Suite.count, contenders: contenders,
        ratios: all.dropFirst().map { Ratio($0.name, to: all[0].name, goal) },
        notes: stages == .nested ? ["bytes of leaf tables of each stage"] : [])
    }
    /// As many bytes as one stage's leaf tables have, read by C.
    func loads(_ title: String, _ load: @escaping CFunction) -> Comparison {
      Comparison(
        title + suffix, unit: "load", units: Suite.count,
        contenders: all.map { name, tables, block in
          var reference = reference_tables()
          reference.memory = UnsafePointer(tables.memory.start)
          reference.tce_table = StagedTables.firstTable.rawValue
          return Contender(name) { [reference] in
            withUnsafePointer(to: reference) {
              _ = load($0, block.source.words, block.answers.words, block.source.count)
            }
          }
        }, ratios: all.dropFirst().map { Ratio($0.name, to: all[0].name) })
    }
    return try StagedTables.Stages.allCases.flatMap { stages in
      [
        try comparison(stages, "call", nil) { $0.calls },
        try comparison(stages, "batch", .atMost(2)) { $0.batch },
      ]
    } + [
      loads("one load that waits for the one before", reference_waiting_load),
      loads("one load, prefetched", reference_bare_load),
    ]
  }
}
