import IOMMUFormats
import IOMMUTranslation

/// A table above the page tables, or one beside them, that can be put into words: conformances stand
/// beside each kind of unit.
protocol DescribedUpperTable: Sendable {
  var start: PhysicalAddress { get }
  var byteCount: UInt64 { get }
  var place: UpperTableKind { get }
  /// Bytes in one entry.
  var entryByteCount: UInt64 { get }
  /// Whose table it is: `bus 03`, `00:03.0`; empty where that is everybody's.
  var ownerText: String { get }
  /// An entry in words; `nil` where memory does not hold all of it.
  ///
  /// - Parameters:
  ///   - index: The entry's number in the table.
  ///   - others: Users of the table besides the first.
  func words(
    at index: UInt64, others: Int, in memory: some PhysicalMemory
  ) -> EntryWording?
  /// The device that an entry is about, by which its title calls it; `nil` where it is about none, or
  /// about many.
  func device(at index: UInt64) -> PCI.Function?
}

extension DescribedUpperTable {
  func device(at _: UInt64) -> PCI.Function? { nil }
}

/// What an entry is called, what it does, and its fields.
struct EntryWording {
  /// Who it is: `TCE 0x1000 of bus:01`, `context entry 03:00.0`.
  var title: String
  /// What stands between title and statement.
  var separator: String
  /// What it does: `-> 0x1000000 rw`.
  var statement: String
  /// The I/O address that it is for; `nil` above the page tables.
  var iova: IOVA?
  var entry: EntryDescription
}

/// A table, or one page of a tree of tables, and what its entries are.
public struct TableRegion: Sendable {
  /// What it takes to read the entries.
  enum Content: Sendable {
    case upper(any DescribedUpperTable)
    case pages(any DescribedTable)
  }

  let content: Content
  /// The table's first byte.
  public let start: PhysicalAddress
  /// Bytes of table, as far as it is reached.
  public let byteCount: UInt64
  /// The level in the page tables, or the table above them.
  public let place: TablePlace
  /// `bus:01`, `gart`, `00:03.0`, `00:03.0/0`; `bus 03` for a context table; empty for a root table.
  public let tableName: String
  /// The requester whose table it is.
  let device: PCI.Function?
  let names: DeviceNames
  /// Tables, devices or buses besides the first that use the same bytes in the same way.
  public internal(set) var otherTableCount: Int
  /// The address that the first entry is for, counted from the first that the whole table is for; 0
  /// for tables above the page tables.
  let firstAddress: UInt64
  /// What entries above the table allow, on one way or another.
  var allowed = Permissions.readWrite
  /// The first stage of the same requests comes before: numbers are a guest's addresses.
  var isForGuest = false

  /// The kind of the entries: `root table`, `second-stage table`.
  public var kind: String {
    switch content {
    case .upper(let table): "\(table.place)"
    case .pages(let table): table.noun
    }
  }

  /// Bytes in one entry.
  public var entryByteCount: UInt64 {
    func size<Table: IOTable>(_: Table) -> UInt64 { UInt64(Table.Format.Entry.byteCount) }
    return switch content {
    case .upper(let table): table.entryByteCount
    case .pages(let table): size(table)
    }
  }

  /// The I/O address that the first entry covers; 0 for tables above the page tables.
  public var firstIOVA: IOVA {
    switch content {
    case .upper: IOVA(0)
    case .pages(let table): table.space.iova(firstAddress)
    }
  }

  /// One past the last byte; a table that would pass the end of all addresses ends there.
  var end: UInt64 { start.advanced(byBytes: byteCount)?.rawValue ?? .max }

  /// The table's bytes, half-open.
  public var range: Range<PhysicalAddress> { start..<PhysicalAddress(end) }

  /// The driver of the requester whose table it is; `nil` where it is not known.
  public var driver: String? { device.flatMap { names[$0] } }

  /// The table's name with the driver, and how many others there are.
  public var ownerText: String {
    let title = DeviceNames.text(tableName, driver)
    return otherTableCount == 0 ? title : "\(title) and \(otherTableCount) more"
  }
}

extension TableRegion: Encodable {
  enum CodingKeys: String, CodingKey {
    case kind, start, bytes, level, table, driver, others, address
    case upper = "upper_table"
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(kind, forKey: .kind)
    try container.encode("\(start)", forKey: .start)
    try container.encode(hexadecimal(byteCount), forKey: .bytes)
    try container.encode(place, level: .level, table: .upper)
    try container.encode(tableName, forKey: .table)
    try container.encodeIfPresent(driver, forKey: .driver)
    try container.encode(otherTableCount, forKey: .others)
    if case .pages = content { try container.encode("\(firstIOVA)", forKey: .address) }
  }
}

/// Collects the tables that an enumeration enters, each once.
struct TablePages: TableVisitor {
  struct Page: Hashable {
    var start: PhysicalAddress
    var level: Int
  }

  struct Found {
    var page: Page
    var byteCount: UInt64
    var address: UInt64
    /// What entries above allow, on one way or another.
    var permissions: Permissions
  }

  var pages: [Found] = []
  /// Entries where no memory answers, and those that lead back.
  var obstacles: [Obstacle] = []
  // Hostile tables lead to the same page a million times; what is kept is bounded by the pages.
  private var places: [Page: Int] = [:]

  mutating func enter(
    table: PhysicalAddress, byteCount: UInt64, level: Int, address: UInt64,
    permissions: Permissions
  ) {
    let page = Page(start: table, level: level)
    if let place = places[page] {
      pages[place].permissions.formUnion(permissions)
    } else {
      places[page] = pages.count
      pages.append(
        Found(page: page, byteCount: byteCount, address: address, permissions: permissions))
    }
  }

  mutating func leaf(_: Leaf) {}
  mutating func leaves(_: LeafRun) {}

  mutating func obstacle(_ obstacle: Obstacle) {
    if obstacle.cause != .malformed { obstacles.append(obstacle) }
  }
}
