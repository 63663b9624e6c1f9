import ArgumentParser
import IOMMUFormats
import IOMMUImages
import IOMMUInspection
import IOMMUWorkloads

extension TableKind: ExpressibleByArgument {}

/// Measures translation on this machine.
package struct Bench: ParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "bench",
    abstract: "Measure translations per second by table, pattern, method and threads.",
    discussion: """
      Tables of every kind are built over the same addresses, and walked in turn: one call for \
      each request, in batches, and in batches with a region cache. Times are CPU time of one \
      thread, the median of rounds; with several threads they are time on the wall. Machines are \
      noisy: compare within one run.

      With --unit, what a VT-d unit's port takes for random requests that its IOTLB of 256 entries \
      mostly does not know, through first-stage tables, second-stage tables and both, over 2 MiB \
      of leaf tables and more: iommu bench --unit --span 64G --plot growth.svg

      Example: iommu bench --table vtd4 --plot cost.svg

      Takes less than a minute; --unit with 256G takes two, and 2 GiB of memory.
      """)

  @Option(
    help: ArgumentHelp(
      "Only this kind of table: vtd3, vtd4, vtd5, vtd4-2m, vtd4-1g, amdvi3, amdvi4, tce or gatt.",
      valueName: "kind"))
  package var table: TableKind?

  @Flag(help: "Measure a unit's port, by stages and by bytes of leaf tables.")
  package var unit = false

  @Flag(help: "Ask for the memory of tables to lie in pages of 2 MiB.")
  package var largePages = false

  @Option(
    help: ArgumentHelp(
      "Bytes of IOVA that VT-d tables map, whole GiB up to 64G (256G with --unit). Default: 4G, for --plot 64G, for --unit 16G.",
      valueName: "size"),
    transform: { try Notation.size($0) })
  package var span: UInt64?

  @Option(
    help: "Threads that translate at the same time, at most; 1 to 64. Default: 2.",
    transform: { try Notation.count($0, in: 1...64) })
  package var threads: Int?

  @Option(
    help: "Rounds of each measurement, 1 to 99. Default: 7.",
    transform: { try Notation.count($0, in: 1...99) })
  package var rounds = 7

  @Option(help: "How to print the result: text, json or csv.")
  package var format = TableFormat.text

  @Option(
    help: ArgumentHelp(
      "Draw the cost over 2 MiB of leaf tables and more, as many as --span allows.",
      valueName: "file.svg"), completion: .file())
  package var plot: String?

  package init() {}

  package mutating func validate() throws {
    let largest: UInt64 = unit ? 256 : 64
    if let span, !(1 << 30...largest << 30 ~= span) || span % (1 << 30) != 0 {
      throw ValidationError("--span: whole GiB, 1G to \(largest)G")
    }
    if unit, table != nil {
      throw ValidationError("--unit has tables of its own; leave out --table")
    }
    if unit, threads != nil {
      throw ValidationError("--unit measures one thread; leave out --threads")
    }
  }

  package func run() throws {
    var screen = StandardOutput()
    try report(to: &screen)
  }

  package func report(to out: inout some TextOutputStream) throws {
    // Before a minute of measuring: a place that cannot be written to is told at once.
    let drawing = try readingInput { try plot.map { try OutputFile(path: $0) } }
    let rows = try readingInput {
      guard !unit else {
        return try UnitBenchRun(
          span: span ?? 16 << 30, rounds: rounds, prefersLargePages: largePages
        ).rows()
      }
      return try run(table.map { [$0] } ?? TableKind.allCases, span: span ?? 4 << 30).rows(
        patterns: AddressPattern.allCases, threads: Array(1...(threads ?? 2)))
    }
    switch format {
    case .json: try writeJSON(rows, to: &out)
    case .csv: Self.writeCSV(rows, to: &out)
    case .text: Self.writeText(rows, rounds: rounds, to: &out)
    }
    guard let drawing else { return }
    try readingInput {
      var svg = ""
      let plot =
        unit ? UnitBenchRun.plot(rows) : try run([.vtd4Levels], span: span ?? 64 << 30).plot()
      plot.write(to: &svg)
      try drawing.write(Array(svg.utf8))
      try drawing.commit()
    }
  }

  private func run(_ kinds: [TableKind], span: UInt64) throws -> BenchRun {
    try BenchRun(kinds: kinds, span: span, rounds: rounds, prefersLargePages: largePages)
  }

  private static func writeCSV(_ rows: [BenchRow], to out: inout some TextOutputStream) {
    out.write("table,page_size,footprint_bytes,pattern,method,threads,ns,translations_per_second\n")
    for row in rows {
      out.write(
        "\"\(row.table)\",\(sizeText(row.pageByteCount)),\(row.footprintBytes),\(row.pattern),\"\(row.method)\","
          + "\(row.threads),\(fixed(row.nanoseconds, digits: 3)),"
          + "\(fixed(row.translationsPerSecond, digits: 0))\n")
    }
  }

  private static func writeText(
    _ rows: [BenchRow], rounds: Int, to out: inout some TextOutputStream
  ) {
    out.write("median of \(rounds) rounds; one thread: CPU time, several: time on the wall\n")
    var table = ""
    for row in rows {
      if row.table != table {
        table = row.table
        out.write("\n\(table)\n")
        out.write(
          "  pattern     leaf entries  threads  method                    ns   millions/s\n")
      }
      let method = row.method + String(repeating: " ", count: max(0, 20 - row.method.count))
      let pattern = row.pattern + String(repeating: " ", count: max(0, 10 - row.pattern.count))
      out.write(
        "  \(pattern)" + right(sizeText(row.footprintBytes), 14)
          + right("\(row.threads)", 9) + "  \(method)"
          + right(fixed(row.nanoseconds, digits: 2), 8)
          + right(fixed(row.translationsPerSecond / 1e6, digits: 1), 13) + "\n")
    }
  }
}
