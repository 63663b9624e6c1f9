import IOMMUFormats
import IOMMUTranslation

/// What one entry in memory is, and what it says.
public struct EntryAnnotation: Sendable {
  /// The entry's first byte.
  public let address: PhysicalAddress
  /// The table that the entry lies in.
  public let region: TableRegion
  /// The entry's number in its table, from 0.
  public let index: UInt64
  /// The I/O address that the entry is for; `nil` in root and context tables.
  public let iova: IOVA?
  /// Who it is: `TCE 0x1000 of bus:01`, `context entry 03:00.0`.
  public let title: String
  /// What it does: `-> 0x1000000 rw`, `second-stage table 0x3000, 4 levels, domain 5`.
  public let statement: String
  /// The entry taken apart.
  public let entry: EntryDescription

  /// All bits of the entry are zero.
  public var isZero: Bool { entry.words.allSatisfy { $0 == 0 } }

  /// Title and statement in one line.
  public var text: String {
    switch region.content {
    case .root: "\(title) \(statement)"
    case .context: "\(title): \(statement)"
    default: title + (iova.map { "   IOVA \($0)" } ?? "") + " \(statement)"
    }
  }
}

extension EntryAnnotation: Encodable {
  enum CodingKeys: String, CodingKey { case address, table, index, iova, text, entry }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode("\(address)", forKey: .address)
    try container.encode(region, forKey: .table)
    try container.encode(hexadecimal(index), forKey: .index)
    try container.encodeIfPresent(iova.map { "\($0)" }, forKey: .iova)
    try container.encode(text, forKey: .text)
    try container.encode(entry, forKey: .entry)
  }
}

extension TableRegion {
  /// The entry of number `index`; `nil` where memory does not hold all of it.
  func annotation(index: UInt64, in memory: some PhysicalMemory) -> EntryAnnotation? {
    guard let address = start.advanced(byBytes: index &* entryByteCount) else { return nil }
    switch content {
    case .root(let limits):
      guard let entry = VTd.RootEntry(from: memory, at: address) else { return nil }
      return annotation(
        index, address, title: "root entry, bus " + hexadecimal(index, digits: 2),
        statement: entry.isPresent ? "-> context table \(entry.contextTable)" : "not present",
        EntryDescription(explaining: entry, limits))
    case .context(let bus, let limits):
      guard let entry = VTd.ContextEntry(from: memory, at: address) else { return nil }
      let requester = Requester(rawValue: UInt16(bus) << 8 | UInt16(truncatingIfNeeded: index))
      let others =
        otherTableCount == 0
        ? "" : " and \(countText(otherTableCount, "bus", plural: "buses")) more"
      return annotation(
        index, address, title: "context entry \(requester)\(others)",
        statement: entry.meaning(limits), EntryDescription(explaining: entry, limits))
    case .tce(let table):
      guard let entry = Calgary.TranslationControlEntry(from: memory, at: address) else {
        return nil
      }
      let iova = firstAddress &+ index &<< 12
      let hole = table.holes.contains(iova) ? ", in a hole that the chip does not translate" : ""
      let statement =
        entry.permissions.isEmpty
        ? "no access, but names \(entry.page)" : "-> \(entry.page) \(entry.permissions)"
      return annotation(
        index, address, title: "TCE \(hexadecimal(index)) of \(ownerText)",
        statement: statement + hole, iova: IOVA(iova),
        EntryDescription(explaining: entry, OnlyVariant()))
    case .gatt:
      guard let entry = GART.GATTEntry(from: memory, at: address) else { return nil }
      let statement =
        entry.isValid ? "-> \(entry.page) rw" : "not valid, but names \(entry.page)"
      return annotation(
        index, address, title: "GATT entry \(hexadecimal(index)) of \(ownerText)",
        statement: statement, iova: IOVA(firstAddress &+ index &<< 12),
        EntryDescription(explaining: entry, OnlyVariant()))
    case .secondStage(let tree, let limits):
      guard let entry = VTd.SecondStageEntry(from: memory, at: address) else { return nil }
      let variant = entry.placed(level: level, limits: limits)
      let step = UInt64(tree.format.sizeLog2(level: level))
      let description = EntryDescription(explaining: entry, variant, name: variant.name)
      let statement =
        switch tree.format.kind(of: entry, level: level) {
        case .empty: "not present"
        // Said already by the complaints; a walk stops here.
        case .malformed: "stops every walk"
        case .table(let next): "-> table \(next)"
        case .page(let page, let sizeLog2):
          "-> \(page) \(entry.permissions)"
            + (sizeLog2 > 12 ? " \(byteCountText(1 << UInt64(sizeLog2)))" : "")
        }
      let iova = firstAddress &+ index &<< step
      let isBeyond = iova >> UInt64(tree.addressWidth) != 0
      // The plain mnemonic: what the entry maps is said behind it.
      let mnemonic = VTd.SecondStageEntry.Variant(level: level, isLeaf: false, limits: limits).name
      return annotation(
        index, address, title: "\(mnemonic) of \(ownerText)",
        statement: statement + (isBeyond ? ", beyond the \(tree.addressWidth) bits in use" : ""),
        iova: IOVA(iova), description)
    }
  }

  private func annotation(
    _ index: UInt64, _ address: PhysicalAddress, title: String, statement: String,
    iova: IOVA? = nil, _ entry: EntryDescription
  ) -> EntryAnnotation {
    EntryAnnotation(
      address: address, region: self, index: index, iova: iova, title: title,
      statement: ([statement] + entry.violations).joined(separator: ", "), entry: entry)
  }
}
