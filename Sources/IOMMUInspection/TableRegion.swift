import IOMMUFormats
import IOMMUTranslation

/// A table, or one page of a tree of tables, and what its entries are.
public struct TableRegion: Sendable {
  /// What the entries of a table are.
  public enum Kind: String, Sendable, Encodable {
    case rootTable = "root table"
    case contextTable = "context table"
    case tceTable = "TCE table"
    case gatt = "GATT"
    case secondStageTable = "second-stage table"
  }

  /// What it takes to read the entries.
  enum Content: Sendable {
    case root(VTd.Limits)
    case context(bus: UInt8, VTd.Limits)
    case tce(TCETable)
    case gatt(GARTWindow)
    case secondStage(SecondStageTable, VTd.Limits)
  }

  let content: Content
  /// The table's first byte.
  public let start: PhysicalAddress
  /// Bytes of table, as far as it is reached.
  public let byteCount: UInt64
  /// 1 for tables whose entries map pages of 4 KiB; `VTdUnit`'s levels for root and context tables.
  public let level: Int
  /// `bus:01`, `gart`, `00:03.0`; `bus 03` for a context table; empty for a root table.
  public let tableName: String
  /// Tables, devices or buses besides the first that use the same bytes in the same way.
  public internal(set) var otherTableCount: Int
  /// The I/O address that the first entry covers; 0 for root and context tables.
  public let firstAddress: UInt64

  /// The kind of the entries.
  public var kind: Kind {
    switch content {
    case .root: .rootTable
    case .context: .contextTable
    case .tce: .tceTable
    case .gatt: .gatt
    case .secondStage: .secondStageTable
    }
  }

  /// Bytes in one entry.
  public var entryByteCount: UInt64 {
    switch content {
    case .root: UInt64(VTd.RootEntry.byteCount)
    case .context: UInt64(VTd.ContextEntry.byteCount)
    case .tce: UInt64(Calgary.TranslationControlEntry.byteCount)
    case .gatt: UInt64(GART.GATTEntry.byteCount)
    case .secondStage: UInt64(VTd.SecondStageEntry.byteCount)
    }
  }

  /// One past the last byte; a table that would pass the end of all addresses ends there.
  var end: UInt64 { start.advanced(byBytes: byteCount)?.rawValue ?? .max }

  /// The table's bytes, half-open.
  public var range: Range<PhysicalAddress> { start..<PhysicalAddress(end) }

  /// The table's name, and how many others there are.
  public var ownerText: String {
    otherTableCount == 0 ? tableName : "\(tableName) and \(otherTableCount) more"
  }
}

extension TableRegion: Encodable {
  enum CodingKeys: String, CodingKey {
    case kind, start, bytes, level, table, others, address
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(kind, forKey: .kind)
    try container.encode("\(start)", forKey: .start)
    try container.encode(hexadecimal(byteCount), forKey: .bytes)
    try container.encode(level, forKey: .level)
    try container.encode(tableName, forKey: .table)
    try container.encode(otherTableCount, forKey: .others)
    try container.encode(hexadecimal(firstAddress), forKey: .address)
  }
}

/// Collects the tables that an enumeration enters, each once.
struct TableCollector: TableVisitor {
  struct Page: Hashable {
    var start: PhysicalAddress
    var level: Int
  }

  var pages: [(page: Page, byteCount: UInt64, address: UInt64)] = []
  // Hostile tables lead to the same page a million times; what is kept is bounded by the pages.
  private var seen: Set<Page> = []

  mutating func enter(table: PhysicalAddress, byteCount: UInt64, level: Int, address: UInt64) {
    let page = Page(start: table, level: level)
    if seen.insert(page).inserted { pages.append((page, byteCount, address)) }
  }

  mutating func leaf(_: Leaf) {}
}
