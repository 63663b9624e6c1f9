import IOMMUFormats
import IOMMUHardware
import IOMMUInspection
import IOMMUTranslation
import IOMMUWorkloads

/// Measures random requests through the port of a VT-d unit with 256 IOTLB entries and no
/// paging-structure cache: by stages, and by bytes of leaf tables.
struct UnitBenchRun {
  /// Bytes of IOVA of the largest tables.
  let span: UInt64
  let rounds: Int
  /// Whether the memory of the tables is to lie in pages of 2 MiB.
  var prefersLargePages = false
  var count = 1 << 17

  /// Single calls and batches through each stage, over 1 GiB of IOVA and four times as much each, up to
  /// ``span``.
  ///
  /// - Throws: When there is no memory for the tables.
  func rows() throws -> [BenchRow] {
    var rows: [BenchRow] = []
    for span in sequence(first: 1 << 30 as UInt64, next: { $0 << 2 }).prefix(while: { $0 <= span })
    {
      rows += try self.rows(StagedTables(span: span, prefersLargePages: prefersLargePages))
    }
    // By stages, and the bytes ascending: `sorted` keeps the order of equals.
    let order = StagedTables.Stages.allCases.map(\.title)
    return order.flatMap { title in rows.filter { $0.table == title } }
  }

  private func rows(_ tables: StagedTables) throws -> [BenchRow] {
    let addresses = AddressPattern.random.addresses(count: count, span: tables.span)
    let answers = Box([PackedTranslation](repeating: .addressTooWide, count: count))
    let unit = try tables.makeUnit(.withoutPagingStructures())
    let ways = StagedTables.Stages.allCases.flatMap { stages in
      [TranslationMethod.single, .batch].map { (stages: stages, method: $0) }
    }
    let contenders = ways.map { stages, method in
      let (port, requester) = (unit.makePort(), StagedTables.requester(stages))
      return Contender("\(stages.title), \(method.title)") {
        translateAll(addresses, by: method, through: port, of: requester, into: &answers.value)
      }
    }
    let times = Rounds(contenders, units: count, rounds: rounds).times
    return zip(ways, times).map { way, times in
      let nanoseconds = median(times)
      return BenchRow(
        table: way.stages.title, pageByteCount: 4096,
        footprintBytes: (tables.span >> 12) * 8 * way.stages.count,
        pattern: AddressPattern.random.rawValue, method: way.method.title, threads: 1,
        nanoseconds: nanoseconds, translationsPerSecond: 1e9 / nanoseconds)
    }
  }

  /// Cost against the bytes of leaf tables.
  static func plot(_ rows: [BenchRow]) -> LinePlot {
    var series: [LinePlot.Series] = []
    for row in rows {
      let name = "\(row.table), \(row.method)"
      let point = (x: Double(row.footprintBytes >> 20), y: row.nanoseconds)
      if let index = series.firstIndex(where: { $0.name == name }) {
        series[index].points.append(point)
      } else {
        series.append(LinePlot.Series(name, [point]))
      }
    }
    return LinePlot(
      title: "VT-d unit, 256 IOTLB entries, random 4 KiB pages", xLabel: "leaf tables, MiB",
      yLabel: "ns a request (CPU time)", series: series)
  }
}

/// Reads of all addresses by one device.
@inline(never)
private func translateAll(
  _ addresses: [IOVA], by method: TranslationMethod, through port: TranslationPort,
  of requester: Requester, into answers: inout [PackedTranslation]
) {
  var span = answers.mutableSpan
  let source = addresses.span
  guard method == .single else {
    return port.translate(source, .read, of: requester, into: &span)
  }
  for index in source.indices {
    span[index] = port.translate(source[index], .read, of: requester)
  }
}
