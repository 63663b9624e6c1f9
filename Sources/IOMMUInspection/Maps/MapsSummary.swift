import IOMMUFormats
import IOMMUTranslation

/// What each device's table maps, in numbers: a line per device.
public struct MapsSummary: Sendable, StreamedEncodable {
  /// One device, or one bus, or the GART.
  public struct Row: Sendable, Encodable {
    public var table: String
    /// The driver of the requester whose table it is; `nil` where it is not known.
    public var driver: String?
    /// What the table is and where it lies.
    public var heading: String
    /// Runs of pages that continue each other.
    public var runCount: Int
    /// Bytes mapped, all leaves together.
    public var byteCount: UInt64
    /// Pages by their size, ascending; one that several entries name is one.
    public var pages: [PageUse]
    /// Leaves that a device may read, write, or both.
    public var access: AccessUse
    /// The table that this one is the same as; `nil` for the first with its entries.
    public var sharedWith: String?
    /// The same with its driver.
    var sharedTitle: String?
    /// What of the table is not known; told of the first with its entries alone.
    public var gaps: [TableGap]

    /// The table's name, with the driver of the requester whose it is: `00:03.0 e1000e`.
    public var title: String { DeviceNames.text(table, driver) }

    enum CodingKeys: String, CodingKey {
      case table, driver, heading, runs, bytes, pages, access, unknown
      case sharedWith = "shared_with"
    }

    public func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(table, forKey: .table)
      try container.encodeIfPresent(driver, forKey: .driver)
      try container.encode(heading, forKey: .heading)
      try container.encode(runCount, forKey: .runs)
      try container.encode(hexadecimal(byteCount), forKey: .bytes)
      try container.encode(pages, forKey: .pages)
      try container.encode(access, forKey: .access)
      try container.encodeIfPresent(sharedWith, forKey: .sharedWith)
      try container.encode(gaps, forKey: .unknown)
    }

    /// `258 of 4 KiB, 3 of 2 MiB`.
    public var pagesText: String {
      pages.map { "\($0.count) of \(byteCountText(1 << UInt64($0.sizeLog2)))" }
        .joined(separator: ", ")
    }
  }

  /// How many pages have one size.
  public struct PageUse: Sendable, Hashable, Encodable {
    public var sizeLog2: Int
    public var count: Int

    enum CodingKeys: String, CodingKey { case bytes, count }

    public func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(hexadecimal(1 << UInt64(sizeLog2)), forKey: .bytes)
      try container.encode(count, forKey: .count)
    }
  }

  /// How many leaves allow what.
  public struct AccessUse: Sendable, Hashable, Encodable {
    public var readWrite = 0
    public var readOnly = 0
    public var writeOnly = 0

    enum CodingKeys: String, CodingKey {
      case readWrite = "rw"
      case readOnly = "r-"
      case writeOnly = "-w"
    }
  }

  public var rows: [Row] = []
  /// What lies above the page tables and is not known.
  public let gaps: [TableGap]
  /// What is wrong with tables: entries that stop every request, different tables under one number.
  public let wrong: [String]
  private let names: DeviceNames

  /// All that is not known, of tables too.
  public var blindness: Blindness { Blindness(gaps + rows.flatMap(\.gaps)) }

  /// Counts every leaf of every table, shared ones once.
  public init(_ report: MapsReport, in memory: some PhysicalMemory) {
    gaps = report.gaps
    wrong = report.wrong
    names = report.names
    var known: [Int: Int] = [:]
    var shares = report.shares(of: memory)
    report.forEachTable(in: memory) { maps in
      let table = maps.table
      if let number = maps.number, let index = known[number] {
        var row = rows[index]
        row.sharedWith = maps.sharedWith
        row.sharedTitle = maps.sharedTitle
        row.table = table.name
        row.driver = maps.driver
        row.gaps = []
        rows.append(row)
        return
      }
      if let number = maps.number { known[number] = rows.count }
      var counter = LeafCounter(table.table?.any)
      // What ends the count has ended the runs before.
      shares.spend { budget in
        try? table.table?.forEachEntry(in: memory, budget: &budget, visitor: &counter)
      }
      rows.append(
        Row(
          table: table.name, driver: maps.driver, heading: table.heading, runCount: maps.runs.count,
          byteCount: maps.byteCount,
          pages: counter.pages, access: counter.access, gaps: maps.gaps))
    }
  }

  /// Writes a line per table, in columns.
  public func write(to out: inout some TextOutputStream, ink: Ink = .none) {
    let name = rows.reduce(0) { max($0, $1.title.count) }
    let size = rows.reduce(0) { max($0, byteCountText($1.byteCount).count) }
    for row in rows {
      let bytes = row.pages.isEmpty ? "" : byteCountText(row.byteCount)
      let what =
        row.pages.isEmpty
        ? row.heading
        : "\(countText(row.runCount, "run")), \(row.pagesText); rw \(row.access.readWrite), "
          + "r- \(row.access.readOnly), -w \(row.access.writeOnly)"
      let shared = row.sharedTitle.map { "  same table as \($0)" } ?? ""
      out.write(
        "\(ink.strong(row.title.padded(to: name)))  \(bytes.paddedLeft(to: size))  \(what)"
          + "\(ink.faint(shared))\n")
    }
    blindness.write(to: &out, ink: ink, names: names)
    Self.write(wrong, to: &out, ink: ink)
  }

  /// Lines of what is wrong; more are counted.
  private static let lineLimit = 32

  /// Writes a line for each thing that is wrong.
  static func write(_ wrong: [String], to out: inout some TextOutputStream, ink: Ink) {
    for text in wrong.prefix(lineLimit) { out.write(ink.bad(text) + "\n") }
    let left = wrong.count - lineLimit
    if left > 0 { out.write(ink.bad("\(left) more things wrong with tables") + "\n") }
  }

  enum CodingKeys: String, CodingKey { case tables, unknown, wrong, incomplete }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(blindness.incomplete, forKey: .incomplete)
    try container.encode(rows, forKey: .tables)
    try container.encode(gaps, forKey: .unknown)
    try container.encode(wrong, forKey: .wrong)
  }
}

/// Counts leaves that let anything through.
private struct LeafCounter: TableVisitor {
  private let table: (any IOTable)?
  private var counts: [Size: Int] = [:]
  var access = MapsSummary.AccessUse()

  init(_ table: (any IOTable)?) { self.table = table }

  private struct Size: Hashable {
    var pageLog2: Int
    var entryLog2: Int
  }

  /// A page of which only some entries are there counts as well.
  var pages: [MapsSummary.PageUse] {
    var pages: [Int: Int] = [:]
    for (size, count) in counts {
      let entries = 1 << (size.pageLog2 - size.entryLog2)
      pages[size.pageLog2, default: 0] += (count + entries - 1) / entries
    }
    return pages.sorted { $0.key < $1.key }.map { .init(sizeLog2: $0.key, count: $0.value) }
  }

  mutating func leaf(_ leaf: Leaf) { add(leaf, count: 1) }
  mutating func leaves(_ run: LeafRun) { add(run.first, count: Int(run.count)) }

  /// Adds leaves in a row.
  private mutating func add(_ leaf: Leaf, count: Int) {
    guard let allowed = table?.access(allowedBy: leaf.permissions) else { return }
    counts[Size(pageLog2: leaf.pageSizeLog2, entryLog2: leaf.sizeLog2), default: 0] += count
    switch allowed.permissions {
    case .readWrite: access.readWrite += count
    case .read: access.readOnly += count
    default: access.writeOnly += count
    }
  }
}
