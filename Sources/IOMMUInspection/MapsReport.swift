import IOMMUFormats
import IOMMUTranslation

/// What every table of a machine maps, as runs of pages that continue each other.
///
/// Works table by table, so that no more than one table's runs (and those that a later device
/// shares) are in memory at a time.
public struct MapsReport: Sendable {
  private let machine: Machine
  /// The tables to report on, in order.
  public let tables: [DMATable]
  /// What lies above the page tables and is not known, as far as it concerns these tables.
  public let gaps: [TableGap]
  /// What is wrong with tables, as far as it concerns these: entries that stop every request, different
  /// tables under one number.
  public let wrong: [String]
  /// What drivers the requesters have.
  let names: DeviceNames

  /// All tables of a machine.
  public init(
    all machine: Machine, in memory: some PhysicalMemory, names: DeviceNames = .none
  ) {
    let all = machine.tables(in: memory)
    self.init(machine, all.tables, all.gaps, all.wrong, names)
  }

  private init(
    _ machine: Machine, _ tables: [DMATable], _ gaps: [TableGap], _ wrong: [String],
    _ names: DeviceNames
  ) {
    self.machine = machine
    self.names = names
    self.tables = tables
    self.gaps = gaps
    self.wrong = wrong
  }

  /// Selects the tables of a machine.
  ///
  /// - Parameters:
  ///   - machine: The units whose tables are meant.
  ///   - memory: Memory that holds the tables.
  ///   - name: `bus:02`, `gart`, `00:03.0`; `nil` for all of them.
  ///   - names: What drivers the requesters have.
  /// - Throws: ``MapsError/noSuchTable(_:available:gaps:)`` when no table has the name.
  public init(
    _ machine: Machine, in memory: some PhysicalMemory, table name: String? = nil,
    names: DeviceNames = .none
  ) throws(MapsError) {
    guard let name else {
      self.init(all: machine, in: memory, names: names)
      return
    }
    let all = machine.tables(in: memory)
    // A device in any form that people type is its own table and that of each of its PASIDs; with a
    // PASID, in any form too, that one's.
    let asked = try? Notation.deviceAndPASID(name)
    let (device, pasid) = (asked?.device, asked?.pasid)
    let tables = all.tables.filter { table in
      if table.name == name { return true }
      guard let device, case .requester(device, let space) = table.owner else { return false }
      return pasid == nil || space == pasid
    }
    let gaps = all.gaps.filter { gap in device.map { gap.concerns($0) } ?? true }
    guard !tables.isEmpty else {
      throw .noSuchTable(name, available: all.tables.map(\.name), gaps: gaps)
    }
    let clashes = all.clashes.filter { clash in
      tables.contains { $0.domainID == clash.domainID }
    }
    let damages = all.damages.filter { damage in
      device.map { damage.concerns($0) } ?? false
    }
    self.init(
      machine, tables, gaps,
      damages.map(\.text) + all.omittedDamageTexts + clashes.map(\.text), names)
  }

  /// Hands out the tables one by one with their runs.
  ///
  /// A table that devices share is looked up once, and ``TableMaps/sharedWith`` says of all but the first
  /// whose it is: what is said of its mappings, and what of them is not known, need not be said again. All
  /// tables draw on one budget: one that uses it up says so in its gaps.
  public func forEachTable(
    in memory: some PhysicalMemory, _ body: (TableMaps) -> Void
  ) {
    var budget = EnumerationBudget(for: memory)
    forEachTable(in: memory, budget: &budget, body)
  }

  /// The same within a budget of the caller's.
  public func forEachTable(
    in memory: some PhysicalMemory, budget: inout EnumerationBudget, _ body: (TableMaps) -> Void
  ) {
    // By the number of the mappings: those that devices share are added up once.
    var byteCounts: [Int: UInt64] = [:]
    machine.forEachTable(tables, in: memory, budget: &budget) { mapped in
      let known = mapped.number.flatMap { byteCounts[$0] }
      let maps = TableMaps(mapped, byteCount: known, names: names)
      if let number = mapped.number, known == nil { byteCounts[number] = maps.byteCount }
      body(maps)
    }
  }

  /// A budget for another look at each of the tables, shared out as that for their mappings is.
  func shares(of memory: some PhysicalMemory) -> EnumerationShares {
    EnumerationShares(
      EnumerationBudget(for: memory), treeCount: Set(tables.compactMap(\.table?.identity)).count)
  }

  /// Lines that are written once more for another device with the same table; more are not, and a
  /// line says so for each device.
  private static let repeatedRunLimit = 1 << 20

  /// Writes one run per line: table, IOVA, bytes, physical address and access, with tabs between;
  /// what is not known in lines that begin with `#unknown`.
  ///
  /// A table that several devices share is written for each of them, as long as that is no more than
  /// a million lines; from there on a line that begins with `#same` names the first device. What of it is
  /// not known is written for the first, and for each of the others that it is the same.
  ///
  /// - Returns: What is not known.
  @discardableResult
  public func writeTSV(
    of memory: some PhysicalMemory, to out: inout some TextOutputStream
  ) -> Blindness {
    var blindness = Blindness(gaps)
    out.write("#table\tiova\tbytes\tphysical\taccess\n")
    var repeated = 0
    var alike: [(name: String, first: String)] = []
    forEachTable(in: memory) { maps in
      if let first = maps.sharedWith {
        repeated += maps.runs.count
        if !maps.isWhole { alike.append((maps.table.name, first)) }
        if repeated > Self.repeatedRunLimit {
          out.write("#same\t\(maps.table.name)\t\(first)\n")
        } else {
          maps.writeTSV(to: &out)
        }
      } else {
        maps.writeTSV(to: &out)
        blindness.add(maps.gaps)
      }
    }
    for gap in blindness.gaps { out.write("#unknown\t\(gap.subjectText)\t\(gap.causeText)\n") }
    for (name, first) in alike { out.write("#unknown\t\(name)\tthe same as of \(first)\n") }
    for text in wrong { out.write("#wrong\t\(text)\n") }
    return blindness
  }

  /// What becomes of requests where no device has a table.
  private func absence(in memory: some PhysicalMemory) -> String {
    guard machine.units.contains(where: \.model.blocksDevices) else {
      return "no table is in force: devices reach physical memory directly"
    }
    return "no device has a table: "
      + (passingText(in: memory).map { "\($0); requests of others are blocked" }
        ?? "requests are blocked")
  }

  /// Devices that a unit names one by one because they pass it; `nil` where it names none.
  private func passingText(in memory: some PhysicalMemory) -> String? {
    let passing = machine.passages(in: memory).filter {
      if case .requesters = $0.devices { true } else { false }
    }
    guard !passing.isEmpty else { return nil }
    let limit = 8
    let texts = passing.prefix(limit).map { passage in
      let ranges = passage.addresses.map { IOVA($0.lowerBound)..<IOVA($0.upperBound) }
      return "\(passage.devices)"
        + (passage.addresses == [0 ..< .max] ? "" : " at " + listText(ranges.map(\.text)))
    }
    let more = passing.count > limit ? ["\(passing.count - limit) more"] : []
    return "not translated: " + listText(texts + more)
  }

  /// Writes a block per table: what it is, how much it maps, its runs in columns, and what of it is
  /// not known.
  ///
  /// - Returns: What is not known.
  @discardableResult
  public func writeText(
    of memory: some PhysicalMemory, to out: inout some TextOutputStream, ink: Ink = .none
  ) -> Blindness {
    var blindness = Blindness(gaps)
    blindness.write(to: &out, ink: ink, names: names)
    guard !tables.isEmpty else {
      if blindness.isEmpty { out.write(absence(in: memory) + "\n") }
      writeWrong(to: &out, ink: ink)
      return blindness
    }
    var isFirst = blindness.isEmpty
    forEachTable(in: memory) { maps in
      if !isFirst { out.write("\n") }
      isFirst = false
      maps.writeText(to: &out, ink: ink)
      if maps.sharedWith == nil { blindness.add(maps.gaps) }
    }
    let passing = passingText(in: memory)
    if let passing { out.write("\n\(passing)\n") }
    if !wrong.isEmpty { out.write("\n") }
    writeWrong(to: &out, ink: ink)
    return blindness
  }

  private func writeWrong(to out: inout some TextOutputStream, ink: Ink) {
    MapsSummary.write(wrong, to: &out, ink: ink)
  }

  /// Everything at once, for an encoder.
  public func encodable(in memory: some PhysicalMemory) -> MapsDocument {
    var all: [TableMaps] = []
    forEachTable(in: memory) { all.append($0) }
    return MapsDocument(tables: all, unknown: gaps, wrong: wrong)
  }
}

/// A machine's mappings as JSON has them.
public struct MapsDocument: Sendable, StreamedEncodable {
  public var tables: [TableMaps]
  /// What lies above the page tables and is not known; what is not known of a table stands there.
  public var unknown: [TableGap]
  /// What is wrong with tables, in words.
  public var wrong: [String]

  public var blindness: Blindness {
    Blindness(unknown + tables.filter { $0.sharedWith == nil }.flatMap(\.gaps))
  }

  enum CodingKeys: String, CodingKey { case tables, unknown, wrong, incomplete }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(blindness.incomplete, forKey: .incomplete)
    try container.encode(tables, forKey: .tables)
    try container.encode(unknown, forKey: .unknown)
    try container.encode(wrong, forKey: .wrong)
  }
}

/// Why there is no report, and what to do.
public enum MapsError: Error, Equatable, CustomStringConvertible {
  case noSuchTable(String, available: [String], gaps: [TableGap])

  public var description: String {
    switch self {
    case .noSuchTable(let name, let available, let gaps):
      "there is no table '\(name)'; "
        + (gaps.isEmpty ? "" : gaps[0].text + "; ")
        + (available.isEmpty
          ? (gaps.isEmpty ? "the machine has none in force" : "no other is in force")
          : "choose one of " + available.joined(separator: ", "))
    }
  }
}

/// One table's mappings.
public struct TableMaps: Sendable {
  private let mapped: MappedTable
  private let names: DeviceNames
  /// Bytes mapped, all runs together.
  public let byteCount: UInt64

  public var table: DMATable { mapped.table }
  /// Which mappings they are, counted from 0 in the order of the tables; `nil` for a pass-through device.
  var number: Int? { mapped.number }
  /// The name of the first device with the same table; `nil` for that device itself.
  public var sharedWith: String? { mapped.firstOwner.map { "\($0)" } }
  /// The same with its driver.
  var sharedTitle: String? { mapped.firstOwner.map { names.text($0) } }
  /// The driver of the requester whose table it is; `nil` where it is not known.
  public var driver: String? { names[table.owner] }
  /// The table's name, with the driver of the requester whose it is: `00:03.0 e1000e`.
  public var title: String { names.text(table.owner) }

  /// Maximal runs, ascending by IOVA; none for a pass-through device.
  public var runs: [MappingRun] { mapped.mappings.runs }
  /// Nothing of the table is unknown.
  var isWhole: Bool { mapped.mappings.gaps.isEmpty }
  /// What of the table is not known, told as its owner's.
  ///
  /// - Complexity: O(gaps).
  public var gaps: [TableGap] { mapped.mappings.told(as: table.owner).gaps }

  /// - Parameters:
  ///   - mapped: The table with its mappings.
  ///   - byteCount: Bytes mapped, where somebody has added them up.
  ///   - names: What drivers the requesters have.
  init(_ mapped: MappedTable, byteCount: UInt64? = nil, names: DeviceNames) {
    self.mapped = mapped
    self.names = names
    self.byteCount = byteCount ?? mapped.mappings.runs.reduce(0) { $0 &+ $1.byteCount }
  }

  /// The device reaches all memory and has no table.
  public var isPassThrough: Bool { table.isPassThrough }

  /// What the table is and where it lies.
  public var heading: String { table.heading }

  /// Writes the runs as lines of a TSV file, without its heading.
  public func writeTSV(to out: inout some TextOutputStream) {
    if isPassThrough { out.write("\(table.name)\t*\t*\tpass-through\t\(table.permissions)\n") }
    for run in runs {
      out.write(
        "\(table.name)\t\(run.iova.lowerBound)\t\(hexadecimal(run.byteCount))\t"
          + "\(run.physical)\t\(run.access)\n")
    }
  }

  /// Writes the table's heading and its runs in columns.
  public func writeText(to out: inout some TextOutputStream, ink: Ink = .none) {
    guard !isPassThrough else {
      out.write("\(title)  pass-through: all of physical memory, \(table.permissions)\n")
      return
    }
    if let sharedTitle {
      out.write("\(title)  \(heading): the same as \(sharedTitle)\n")
      return
    }
    let pages = countText(byteCount / PageCount.pageByteCount, "page")
    let total =
      runs.isEmpty
      ? (isWhole ? "maps nothing" : "maps nothing that is in this dump")
      : "\(countText(runs.count, "run")), \(byteCountText(byteCount)) in \(pages)"
    out.write("\(title)  \(heading): \(total)\n")
    let iova = runs.reduce(0) { max($0, $1.iova.text.count) }
    let size = runs.reduce(0) { max($0, byteCountText($1.byteCount).count) }
    let physical = runs.reduce(0) { max($0, $1.physicalRange.text.count) }
    for run in runs {
      let bytes = byteCountText(run.byteCount).paddedLeft(to: size)
      out.write(
        "  \(run.iova.text.padded(to: iova))  \(bytes)  -> "
          + "\(run.physicalRange.text.padded(to: physical))  \(run.access)\n")
    }
    for gap in gaps { out.write("  \(ink.warning(gap.text(names)))\n") }
  }
}

extension TableMaps: StreamedEncodable {
  private struct Run: Encodable {
    var iova: String
    var bytes: String
    var physical: String
    var access: String
    var privilege: String?
  }

  enum CodingKeys: String, CodingKey {
    case table, driver, kind, root, bytes, runs, unknown
    case sharedWith = "shared_with"
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(hexadecimal(byteCount), forKey: .bytes)
    try container.encodeIfPresent(driver, forKey: .driver)
    try container.encode(table.kindText, forKey: .kind)
    try container.encodeIfPresent(table.root.map { "\($0)" }, forKey: .root)
    try container.encode(
      StreamedList(
        (sharedWith == nil ? runs : []).lazy.map {
          Run(
            iova: "\($0.iova.lowerBound)", bytes: hexadecimal($0.byteCount),
            physical: "\($0.physical)", access: "\($0.permissions)",
            privilege: $0.access.needsSupervisor ? "supervisor" : nil)
        }), forKey: .runs)
    try container.encodeIfPresent(sharedWith, forKey: .sharedWith)
    try container.encode(table.name, forKey: .table)
    try container.encode(sharedWith == nil ? gaps : [], forKey: .unknown)
  }
}
