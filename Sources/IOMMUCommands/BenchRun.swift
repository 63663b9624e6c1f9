import IOMMUFormats
import IOMMUHardware
import IOMMUInspection
import IOMMUTranslation
import IOMMUWorkloads

/// One measurement of `iommu bench`.
struct BenchRow {
  var table: String
  var pageByteCount: UInt64
  /// Bytes of leaf entries that the addresses reach.
  var footprintBytes: UInt64
  var pattern: String
  var method: String
  var threads: Int
  /// Of CPU time with one thread; of time on the wall, divided by all translations, with several.
  var nanoseconds: Double
  var translationsPerSecond: Double
}

extension BenchRow: Encodable {
  enum CodingKeys: String, CodingKey {
    case table, pattern, method, threads, nanoseconds
    case pageByteCount = "page_bytes"
    case footprintBytes = "footprint_bytes"
    case translationsPerSecond = "translations_per_second"
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(table, forKey: .table)
    try container.encode(hexadecimal(pageByteCount), forKey: .pageByteCount)
    try container.encode(hexadecimal(footprintBytes), forKey: .footprintBytes)
    try container.encode(pattern, forKey: .pattern)
    try container.encode(method, forKey: .method)
    try container.encode(threads, forKey: .threads)
    try container.encode(nanoseconds, forKey: .nanoseconds)
    try container.encode(translationsPerSecond, forKey: .translationsPerSecond)
  }
}

/// Measures translations over tables made for it.
struct BenchRun {
  let tables: WorkloadTables
  let rounds: Int
  let count: Int
  let kinds: [TableKind]

  init(
    kinds: [TableKind], span: UInt64, rounds: Int, prefersLargePages: Bool = false,
    count: Int = 1 << 17
  ) throws {
    tables = try WorkloadTables(span: span, prefersLargePages: prefersLargePages)
    self.kinds = kinds
    self.rounds = rounds
    self.count = count
  }

  private func addresses(_ kind: TableKind, _ pattern: AddressPattern, span: UInt64) -> [IOVA] {
    let first = tables.firstAddress(kind).rawValue
    return pattern.addresses(count: count, span: span).map { IOVA($0.rawValue + first) }
  }

  private func methods(_ kind: TableKind) -> [TranslationMethod] {
    kind == .tce || kind == .gatt ? [.single, .batch] : [.single, .batch, .regions]
  }

  /// Times of the methods in turn, in nanoseconds of CPU time.
  private func times(
    _ kind: TableKind, _ addresses: [IOVA], reference: Bool = false
  ) -> [(name: String, nanoseconds: Double)] {
    let translator = tables.translator(kind)
    let cache = RegionCache()
    let answers = Box([PackedTranslation](repeating: .addressTooWide, count: count))
    var contenders = methods(kind).map { method in
      Contender(method.title) {
        translateAll(addresses, by: method, translator, cache, into: &answers.value)
      }
    }
    if reference {
      // The same number of cache lines, in a table whose places are known.
      let places = addresses.map {
        tables.firstLeaf.rawValue + ($0.rawValue >> 12) % tables.leafCount * 8
      }
      let window = tables.memory.window
      contenders.append(
        Contender("one prefetched load") { loadAll(places, in: window, into: &answers.value) })
    }
    let rounds = Rounds(contenders, units: count, rounds: rounds)
    return contenders.map { ($0.name, rounds.time($0.name)!) }
  }

  /// The table of `iommu bench`: every kind, pattern and method with one thread, then threads.
  func rows(patterns: [AddressPattern], threads: [Int]) -> [BenchRow] {
    var rows: [BenchRow] = []
    for kind in kinds {
      let span = min(tables.span, kind.reach)
      for pattern in patterns {
        let addresses = addresses(kind, pattern, span: span)
        for (name, nanoseconds) in times(kind, addresses) {
          rows.append(
            row(kind, pattern, span: span, method: name, threads: 1, nanoseconds: nanoseconds))
        }
      }
      let addresses = addresses(kind, .random, span: span)
      for count in threads where count > 1 {
        let rates = (0..<rounds).map { _ in
          translationsPerSecond(
            threads: count, addresses, by: .batch, tables.translator(kind), passes: 8)
        }
        rows.append(
          row(
            kind, .random, span: span, method: TranslationMethod.batch.title, threads: count,
            nanoseconds: 1e9 / median(rates)))
      }
    }
    return rows
  }

  private func row(
    _ kind: TableKind, _ pattern: AddressPattern, span: UInt64, method: String, threads: Int,
    nanoseconds: Double
  ) -> BenchRow {
    let reached = pattern == .hot ? UInt64(4096) : span
    return BenchRow(
      table: kind.title, pageByteCount: 1 << UInt64(kind.pageSizeLog2),
      footprintBytes: max(8, kind.leafByteCount(span: reached)), pattern: pattern.rawValue,
      method: method, threads: threads, nanoseconds: nanoseconds,
      translationsPerSecond: 1e9 / nanoseconds)
  }

  /// Cost against the bytes of leaf tables, for random addresses through four levels.
  func plot() -> LinePlot {
    var series: [String: [(x: Double, y: Double)]] = [:]
    var names: [String] = []
    var span: UInt64 = 1 << 30
    while span <= tables.span {
      let addresses = addresses(.vtd4Levels, .random, span: span)
      for (name, nanoseconds) in times(.vtd4Levels, addresses, reference: true) {
        if series[name] == nil { names.append(name) }
        let mebibytes = Double(TableKind.vtd4Levels.leafByteCount(span: span) >> 20)
        series[name, default: []].append((x: mebibytes, y: nanoseconds))
      }
      span *= 2
    }
    return LinePlot(
      title: "VT-d translation, four levels, random 4 KiB pages", xLabel: "leaf tables, MiB",
      yLabel: "ns a translation (CPU time)",
      series: names.map {
        LinePlot.Series($0, series[$0]!, isReference: $0 == "one prefetched load")
      })
  }
}

/// A value that closures share.
final class Box<Value> {
  var value: Value
  init(_ value: Value) { self.value = value }
}
