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
    case pasidDirectory = "PASID directory"
    case pasidTable = "PASID table"
    case secondStageTable = "second-stage table"
    case firstStageTable = "first-stage table"
  }

  /// What it takes to read the entries.
  enum Content: Sendable {
    case upper(VTd.UpperTable, VTd.Limits)
    case tce(Calgary.TCETable)
    case gatt(GART.Window)
    case secondStage(VTd.SecondStageTable, VTd.Limits)
    /// Nested tables name guest addresses.
    case firstStage(VTd.FirstStageTable, isNested: Bool, VTd.Limits)
  }

  let content: Content
  /// The table's first byte.
  public let start: PhysicalAddress
  /// Bytes of table, as far as it is reached.
  public let byteCount: UInt64
  /// 1 for tables whose entries map pages of 4 KiB; `VTd.Unit`'s levels for tables above those.
  public let level: Int
  /// `bus:01`, `gart`, `00:03.0`, `00:03.0/0`; `bus 03` for a context table; empty for a root table.
  public let tableName: String
  /// Tables, devices or buses besides the first that use the same bytes in the same way.
  public internal(set) var otherTableCount: Int
  /// The I/O address that the first entry covers; 0 for tables above the page tables.
  public let firstAddress: UInt64

  /// The kind of the entries.
  public var kind: Kind {
    switch content {
    case .upper(let table, _):
      switch table.kind {
      case .root: .rootTable
      case .contexts: .contextTable
      case .pasidDirectory: .pasidDirectory
      case .pasids: .pasidTable
      }
    case .tce: .tceTable
    case .gatt: .gatt
    case .secondStage: .secondStageTable
    case .firstStage: .firstStageTable
    }
  }

  /// Bytes in one entry.
  public var entryByteCount: UInt64 {
    switch content {
    case .upper(let table, _): UInt64(table.entryType.byteCount)
    case .tce: UInt64(Calgary.TranslationControlEntry.byteCount)
    case .gatt: UInt64(GART.GATTEntry.byteCount)
    case .secondStage: UInt64(VTd.SecondStageEntry.byteCount)
    case .firstStage: UInt64(VTd.FirstStageEntry.byteCount)
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

extension VTd.UpperTable {
  /// What its entries are.
  var entryType: any TableEntry.Type {
    switch kind {
    case .root: isScalable ? VTd.ScalableRootEntry.self : VTd.RootEntry.self
    case .contexts: isScalable ? VTd.ScalableContextEntry.self : VTd.ContextEntry.self
    case .pasidDirectory: VTd.PASIDDirectoryEntry.self
    case .pasids: VTd.PASIDTableEntry.self
    }
  }

  /// Whose table it is: `bus 03`, `00:03.0`; empty for a root table.
  var ownerName: String {
    switch kind {
    case .root: ""
    case .contexts(let bus, _): "bus " + hexadecimal(bus, digits: 2)
    case .pasidDirectory(let requester), .pasids(let requester, _): "\(requester)"
    }
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
