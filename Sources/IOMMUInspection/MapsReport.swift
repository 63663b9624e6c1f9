import IOMMUFormats
import IOMMUTranslation

/// What every table of a machine maps, as runs of pages that continue each other.
///
/// Works table by table, so that no more than one table's runs (and those that a later device
/// shares) are in memory at a time.
public struct MapsReport: Sendable {
  /// The tables to report on, in order.
  public let tables: [DMATable]

  /// Selects the tables of a machine.
  ///
  /// - Parameter name: `bus:02`, `gart`, `00:03.0`; `nil` for all of them.
  /// - Throws: ``MapsError/noSuchTable(_:available:)`` when no table has the name.
  public init(
    _ machine: Machine, in memory: some PhysicalMemory, table name: String? = nil
  ) throws(MapsError) {
    let all = machine.tables(in: memory)
    guard let name else {
      tables = all
      return
    }
    // A device in any form that people type has its own name, and that of each of its PASIDs.
    let device = (try? Notation.device(name)).map { "\($0)" }
    tables = all.filter { table in
      table.name == name
        || device.map { table.name == $0 || table.name.hasPrefix($0 + "/") } == true
    }
    guard !tables.isEmpty else { throw .noSuchTable(name, available: all.map(\.name)) }
  }

  /// Hands out the tables one by one with their runs.
  ///
  /// Devices that share a table are looked up once. All tables draw on one budget.
  ///
  /// - Throws: ``MapsError/exhausted(_:)`` when tables point at each other; those before the broken
  ///   one have been handed out by then.
  public func forEachTable(
    in memory: some PhysicalMemory, _ body: (TableMaps) -> Void
  ) throws(MapsError) {
    var budget = EnumerationBudget(for: memory)
    try forEachTable(in: memory, budget: &budget, body)
  }

  /// The same within a budget of the caller's.
  public func forEachTable(
    in memory: some PhysicalMemory, budget: inout EnumerationBudget, _ body: (TableMaps) -> Void
  ) throws(MapsError) {
    let identities = tables.map { TableIdentity($0) }
    var usersLeft: [TableIdentity: Int] = [:]
    for case .some(let identity) in identities { usersLeft[identity, default: 0] += 1 }
    var shared: [TableIdentity: [MappingRun]] = [:]
    for (table, identity) in zip(tables, identities) {
      guard let identity else {
        body(TableMaps(table: table, runs: []))
        continue
      }
      let runs: [MappingRun]
      if let known = shared[identity] {
        runs = known
      } else {
        do throws(EnumerationExhausted) {
          runs = try table.runs(in: memory, budget: &budget)
        } catch {
          throw .exhausted(error)
        }
      }
      let left = (usersLeft[identity] ?? 1) - 1
      usersLeft[identity] = left
      // Kept as long as a later device needs them and no longer.
      shared[identity] = left > 0 ? runs : nil
      body(TableMaps(table: table, runs: runs))
    }
  }

  /// Writes one run per line: table, IOVA, bytes, physical address and access, with tabs between.
  public func writeTSV(
    of memory: some PhysicalMemory, to out: inout some TextOutputStream
  ) throws(MapsError) {
    out.write("#table\tiova\tbytes\tphysical\taccess\n")
    try forEachTable(in: memory) { $0.writeTSV(to: &out) }
  }

  /// Writes a block per table: what it is, how much it maps, and its runs in columns.
  public func writeText(
    of memory: some PhysicalMemory, to out: inout some TextOutputStream
  ) throws(MapsError) {
    guard !tables.isEmpty else {
      out.write("no table is in force: devices reach physical memory directly, or not at all\n")
      return
    }
    var isFirst = true
    try forEachTable(in: memory) { maps in
      if !isFirst { out.write("\n") }
      isFirst = false
      maps.writeText(to: &out)
    }
  }

  /// Everything at once, for an encoder.
  public func encodable(in memory: some PhysicalMemory) throws(MapsError) -> [TableMaps] {
    var all: [TableMaps] = []
    try forEachTable(in: memory) { all.append($0) }
    return all
  }
}

/// Why there is no report, and what to do.
public enum MapsError: Error, Equatable, CustomStringConvertible {
  case noSuchTable(String, available: [String])
  case exhausted(EnumerationExhausted)

  public var description: String {
    switch self {
    case .noSuchTable(let name, let available):
      "there is no table '\(name)'; "
        + (available.isEmpty
          ? "the machine has none in force" : "choose one of " + available.joined(separator: ", "))
    case .exhausted(let error):
      "\(error)"
    }
  }
}

/// One table's mappings.
public struct TableMaps: Sendable {
  public let table: DMATable
  /// Maximal runs, ascending by IOVA; none for a pass-through device.
  public let runs: [MappingRun]

  public init(table: DMATable, runs: [MappingRun]) {
    self.table = table
    self.runs = runs
  }

  /// The device reaches all memory and has no table.
  public var isPassThrough: Bool { if case .passThrough = table.content { true } else { false } }

  /// Bytes mapped, all runs together.
  public var byteCount: UInt64 { runs.reduce(0) { $0 &+ $1.iova.byteCount } }

  /// What the table is and where it lies.
  public var heading: String {
    switch table.content {
    case .tce(let tce): "TCE table \(tce.table), \(byteCountText(tce.size.byteCount))"
    case .gatt(let window):
      "GATT \(window.table), aperture "
        + "\(hexadecimal(window.base))..<\(hexadecimal(window.base &+ window.byteCount))"
    case .secondStage(let tree):
      "second-stage table \(tree.root), \(tree.format.levels) levels"
    case .firstStage(let tree):
      "first-stage table \(tree.root), \(tree.format.levels) levels"
    case .nested(let trees):
      "first-stage table \(trees.firstStage.root) of the guest, "
        + "\(trees.firstStage.format.levels) levels, in second-stage table "
        + "\(trees.secondStage.root), \(trees.secondStage.format.levels) levels"
    case .passThrough: "pass-through"
    }
  }

  /// Writes the runs as lines of a TSV file, without its heading.
  public func writeTSV(to out: inout some TextOutputStream) {
    if isPassThrough { out.write("\(table.name)\t*\t*\tpass-through\trw\n") }
    for run in runs {
      out.write(
        "\(table.name)\t\(run.iova.lowerBound)\t\(hexadecimal(run.iova.byteCount))\t"
          + "\(run.physical)\t\(run.permissions)\n")
    }
  }

  /// Writes the table's heading and its runs in columns.
  public func writeText(to out: inout some TextOutputStream) {
    guard !isPassThrough else {
      out.write("\(table.name)  pass-through: all of physical memory, rw\n")
      return
    }
    let pages = countText(byteCount / PageCount.pageByteCount, "page")
    let total =
      runs.isEmpty
      ? "maps nothing"
      : "\(countText(runs.count, "run")), \(byteCountText(byteCount)) in \(pages)"
    out.write("\(table.name)  \(heading): \(total)\n")
    let iova = runs.reduce(0) { max($0, $1.iova.text.count) }
    let size = runs.reduce(0) { max($0, byteCountText($1.iova.byteCount).count) }
    let physical = runs.reduce(0) { max($0, $1.physicalRange.text.count) }
    for run in runs {
      let bytes = byteCountText(run.iova.byteCount).paddedLeft(to: size)
      out.write(
        "  \(run.iova.text.padded(to: iova))  \(bytes)  -> "
          + "\(run.physicalRange.text.padded(to: physical))  \(run.permissions)\n")
    }
  }
}

extension TableMaps: Encodable {
  private struct Run: Encodable {
    var iova: String
    var bytes: String
    var physical: String
    var access: String
  }

  enum CodingKeys: String, CodingKey { case table, kind, root, bytes, runs }

  public func encode(to encoder: any Encoder) throws {
    let kind =
      switch table.content {
      case .tce: "TCE table"
      case .gatt: "GATT"
      case .secondStage: "second-stage table"
      case .firstStage: "first-stage table"
      case .nested: "nested tables"
      case .passThrough: "pass-through"
      }
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(table.name, forKey: .table)
    try container.encode(kind, forKey: .kind)
    try container.encodeIfPresent(table.root.map { "\($0)" }, forKey: .root)
    try container.encode(hexadecimal(byteCount), forKey: .bytes)
    try container.encode(
      runs.map {
        Run(
          iova: "\($0.iova.lowerBound)", bytes: hexadecimal($0.iova.byteCount),
          physical: "\($0.physical)", access: "\($0.permissions)")
      }, forKey: .runs)
  }
}
