import CReference
import IOMMUFormats
import IOMMUWorkloads

extension Subject {
  /// The GART's flat table.
  public static let gart = Subject("GART", "AMD GATTs, calls and batches") {
    let suite = try Suite.shared()
    let runs = TranslatorRuns(suite.tables.translator(.gatt))
    let walkers = [
      Walker("C loop", suite.c(reference_gatt)),
      Walker("C call", suite.c(reference_gatt_call)),
      Walker("call", runs.calls),
      Walker("batch", runs.batch),
    ]
    let first = suite.tables.firstAddress(.gatt).rawValue
    return try [("hot page", AddressPattern.hot), ("sequential 1 GiB", .sequential)].map {
      let addresses = $1.addresses(count: Suite.count, span: 1 << 30)
        .map { IOVA($0.rawValue + first) }
      return try suite.comparison(
        Workload($0, addresses, .gatt), walkers,
        [Ratio("batch", to: "C loop", .atMost(1.2)), Ratio("call", to: "C call", .atMost(1.05))])
    }
  }
}
