import IOMMUFormats
import IOMMUTranslation

/// What one entry in memory is, and what it says.
public struct EntryAnnotation: Sendable {
  /// The entry's first byte.
  public let address: PhysicalAddress
  /// The table that the entry lies in.
  public let region: TableRegion
  /// The entry's number in its table, from 0; in the page at hand for tables of several pages that are
  /// no flat table.
  public let index: UInt64
  /// The I/O address that the entry is for; `nil` in tables above the page tables.
  public let iova: IOVA?
  /// Who it is: `TCE 0x1000 of bus:01`, `context entry 03:00.0`.
  public let title: String
  /// What it does: `-> 0x1000000 rw`, `second-stage table 0x3000, 4 levels, domain 5`.
  public let statement: String
  /// The entry taken apart.
  public let entry: EntryDescription
  private let separator: String

  init(
    _ wording: EntryWording, at address: PhysicalAddress, index: UInt64, in region: TableRegion
  ) {
    self.address = address
    self.region = region
    self.index = index
    iova = wording.iova
    title = wording.title
    separator = wording.separator
    statement = ([wording.statement] + wording.entry.violations).joined(separator: ", ")
    entry = wording.entry
  }

  /// All bits of the entry are zero.
  public var isZero: Bool { entry.words.allSatisfy { $0 == 0 } }

  /// Title and statement in one line.
  public var text: String {
    title + (iova.map { "   \(region.isForGuest ? "guest address" : "IOVA") \($0)" } ?? "")
      + separator + statement
  }
}

extension EntryAnnotation: Encodable {
  enum CodingKeys: String, CodingKey {
    case address, table, index, iova, text, entry
    case guestAddress = "guest_address"
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode("\(address)", forKey: .address)
    try container.encode(region, forKey: .table)
    try container.encode(hexadecimal(index), forKey: .index)
    try container.encodeIfPresent(
      iova.map { "\($0)" }, forKey: region.isForGuest ? .guestAddress : .iova)
    try container.encode(text, forKey: .text)
    try container.encode(entry, forKey: .entry)
  }
}

extension TableRegion {
  /// The entry of number `index`; `nil` where memory does not hold all of it.
  func annotation(index: UInt64, in memory: some PhysicalMemory) -> EntryAnnotation? {
    guard let address = start.advanced(byBytes: index &* entryByteCount) else { return nil }
    var wording: EntryWording?
    switch content {
    case .upper(let table):
      wording = table.words(at: index, others: otherTableCount, in: memory)
      if let device = table.device(at: index), let title = wording?.title {
        wording?.title = names.naming(device, in: title)
      }
    case .pages(let table):
      wording = self.wording(of: table, at: address, index: index, in: memory)
      if let iova = wording?.iova, wording?.statement != notPresent,
        table.space.holes.contains(where: { $0.contains(iova.rawValue) })
      {
        wording?.statement += ", for numbers that are not looked up"
      }
    }
    return wording.map { EntryAnnotation($0, at: address, index: index, in: self) }
  }

  /// What entries above take away of what an entry allows.
  private func limit(on permissions: Permissions) -> String {
    let own = permissions.intersection(.readWrite)
    let left = own.intersection(allowed)
    guard left != own else { return "" }
    return ", of which entries above allow " + (left.isEmpty ? "nothing" : "\(left)")
  }

  /// An entry of page tables, as the walker reads it.
  private func wording<Table: DescribedTable>(
    of table: Table, at address: PhysicalAddress, index: UInt64, in memory: some PhysicalMemory
  ) -> EntryWording? {
    guard let level = place.level, let entry = Table.Format.Entry(from: memory, at: address) else {
      return nil
    }
    let format = table.format
    let first = firstAddress &+ index &<< UInt64(format.sizeLog2(level: level))
    let statement =
      switch format.kind(of: entry, level: level) {
      case .empty: table.emptyText(of: entry)
      // Said already by the complaints; a walk stops here.
      case .malformed: "stops every walk"
      case .table(let next, _): "-> \(table.addressSpaceText)table \(next)"
      case .page(let page, let sizeLog2, _):
        "-> \(table.addressSpaceText)\(page) \(table.accessText(of: entry, level: level))"
          + (sizeLog2 > 12 ? " \(byteCountText(1 << UInt64(sizeLog2)))" : "")
          + limit(on: format.permissions(of: entry, level: level))
      }
    return EntryWording(
      title: "\(table.entryName(level: level, index: index)) of \(ownerText)", separator: " ",
      statement: statement + table.remark(on: first), iova: table.space.iova(first),
      entry: EntryDescription(entry, as: format.variant(of: entry, level: level)))
  }
}
