import CReference
import IOMMUFormats
import IOMMUTranslation
import IOMMUWorkloads

extension Subject {
  /// Calgary's flat tables.
  public static let tce = Subject("TCE", "Calgary TCE tables, calls and batches") {
    let suite = try Suite.shared()
    let runs = TranslatorRuns(suite.tables.translator(.tce))
    let near = suite.tceWalkers(
      calls: runs.calls, inlined: runs.inlined, batch: runs.batch)
    let nearRatios = [
      Ratio("call", to: "C call", .atMost(1.05)), Ratio("batch", to: "C loop", .atMost(1.2)),
    ]
    return [
      try suite.comparison(.tce("hot page", .hot), near, nearRatios),
      try suite.comparison(.tce("sequential 1 GiB", .sequential), near, nearRatios),
      try suite.farTCEs(),
    ]
  }
}

extension Workload {
  /// - Parameter pattern: Over 1 GiB of one table.
  fileprivate static func tce(_ title: String, _ pattern: AddressPattern) -> Workload {
    Workload(title, pattern.addresses(count: Suite.count, span: 1 << 30), .tce)
  }
}

extension Suite {
  fileprivate func tceWalkers(
    calls: @escaping Run, inlined: @escaping Run, batch: @escaping Run
  ) -> [Walker] {
    [
      .bareLoad(c(reference_bare_load)),
      Walker("C loop", c(reference_tce)),
      Walker("C call", c(reference_tce_call)),
      Walker("call", calls),
      Walker("inlined", inlined),
      Walker("batch", batch),
    ]
  }

  /// Blocks of 256 addresses of four tables of 4 GiB in turn, as four PHBs have them. C goes through
  /// the four as one table.
  fileprivate func farTCEs() throws -> Comparison {
    let blockCount = 256
    let tableRuns = tables.tceTables.indices.map {
      TranslatorRuns(tables.translator(.tce, tceTable: $0))
    }
    let offsets = AddressPattern.random.addresses(count: Self.count, span: 4 << 30)
    // What the four tables are asked: without the table's number.
    let local = AddressBlock(offsets)
    func each(_ run: (TranslatorRuns) -> Run) -> Run {
      let runs = tableRuns.map(run)
      return { _, answers in
        for (number, start) in stride(from: 0, to: Self.count, by: blockCount).enumerated() {
          let block = start..<start + blockCount
          runs[number % runs.count](
            UnsafeBufferPointer(rebasing: local.source[block]),
            UnsafeMutableBufferPointer(rebasing: answers[block]))
        }
      }
    }
    let addresses = offsets.enumerated().map { index, offset in
      IOVA(offset.rawValue | UInt64(index / blockCount % tableRuns.count) << 32)
    }
    return try comparison(
      Workload("random 16 GiB", addresses, .tce),
      tceWalkers(calls: each(\.calls), inlined: each(\.inlined), batch: each(\.batch)),
      [
        Ratio("call", to: "C call", .atMost(1.05)), Ratio("batch", to: "bare load", .atMost(1.2)),
      ])
  }
}
