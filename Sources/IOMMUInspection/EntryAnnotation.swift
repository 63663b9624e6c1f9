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
  /// The I/O address that the entry is for; `nil` in tables above the page tables.
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
    case .upper(let table, _):
      if case .root = table.kind { "\(title) \(statement)" } else { "\(title): \(statement)" }
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
    case .upper(let table, let limits):
      return upperAnnotation(index, address, table, limits, in: memory)
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
      let iova = firstAddress &+ index &<< UInt64(tree.format.sizeLog2(level: level))
      let isBeyond = iova >> UInt64(tree.addressWidth) != 0
      // The plain mnemonic: what the entry maps is said behind it.
      let mnemonic = VTd.SecondStageEntry.Variant(level: level, isLeaf: false, limits: limits).name
      return annotation(
        index, address, title: "\(mnemonic) of \(ownerText)",
        statement: Self.statement(
          tree.format.kind(of: entry, level: level), "\(entry.permissions)")
          + (isBeyond ? ", beyond the \(tree.addressWidth) bits in use" : ""),
        iova: IOVA(iova), EntryDescription(explaining: entry, variant, name: variant.name))
    case .firstStage(let tree, let isNested, let limits):
      guard let entry = VTd.FirstStageEntry(from: memory, at: address) else { return nil }
      let variant = entry.placed(level: level, isNested: isNested, limits: limits)
      var iova = firstAddress &+ index &<< UInt64(tree.format.sizeLog2(level: level))
      let signBit = UInt64(tree.format.addressWidth - 1)
      if iova >> signBit & 1 != 0 { iova |= ~0 << signBit }
      let mnemonic = VTd.FirstStageEntry.Variant(level: level, isLeaf: false, limits: limits).name
      return annotation(
        index, address, title: "\(mnemonic) of \(ownerText)",
        statement: Self.statement(
          tree.format.kind(of: entry, level: level),
          "\(entry.permissions)" + (entry.permissions.contains(.user) ? " user" : " supervisor"),
          space: isNested ? "guest " : ""),
        iova: IOVA(iova), EntryDescription(explaining: entry, variant, name: variant.name))
    }
  }

  /// Where a paging entry leads.
  private static func statement(
    _ kind: EntryKind, _ permissions: String, space: String = ""
  ) -> String {
    switch kind {
    case .empty: "not present"
    // Said already by the complaints; a walk stops here.
    case .malformed: "stops every walk"
    case .table(let next): "-> \(space)table \(next)"
    case .page(let page, let sizeLog2):
      "-> \(space)\(page) \(permissions)"
        + (sizeLog2 > 12 ? " \(byteCountText(1 << UInt64(sizeLog2)))" : "")
    }
  }

  /// An entry of a table above the page tables.
  private func upperAnnotation(
    _ index: UInt64, _ address: PhysicalAddress, _ table: VTd.UpperTable, _ limits: VTd.Limits,
    in memory: some PhysicalMemory
  ) -> EntryAnnotation? {
    func explained<Entry: Explained>(
      _: Entry.Type, title: String, prefix: String = ""
    ) -> EntryAnnotation? where Entry.Variant == VTd.Limits {
      guard let entry = Entry(from: memory, at: address) else { return nil }
      return annotation(
        index, address, title: title, statement: prefix + entry.meaning(limits),
        EntryDescription(explaining: entry, limits))
    }
    let others =
      otherTableCount == 0
      ? "" : " and \(countText(otherTableCount, "bus", plural: "buses")) more"
    switch (table.kind, table.isScalable) {
    case (.root, false):
      guard let entry = VTd.RootEntry(from: memory, at: address) else { return nil }
      return annotation(
        index, address, title: "root entry, bus " + hexadecimal(index, digits: 2),
        statement: entry.isPresent ? "-> context table \(entry.contextTable)" : "not present",
        EntryDescription(explaining: entry, limits))
    case (.root, true):
      return explained(
        VTd.ScalableRootEntry.self, title: "root entry, bus " + hexadecimal(index, digits: 2),
        prefix: "-> ")
    case (.contexts(let bus, let first), let isScalable):
      let requester = Requester(
        rawValue: UInt16(bus) << 8 | UInt16(first) &+ UInt16(truncatingIfNeeded: index))
      let title = "context entry \(requester)\(others)"
      return isScalable
        ? explained(VTd.ScalableContextEntry.self, title: title)
        : explained(VTd.ContextEntry.self, title: title)
    case (.pasidDirectory, _):
      let first = index * 64
      return explained(
        VTd.PASIDDirectoryEntry.self,
        title: "PASID directory entry \(ownerText)/\(first) to \(first + 63)")
    case (.pasids(_, let first), _):
      return explained(
        VTd.PASIDTableEntry.self,
        title: "PASID entry \(tableName)/\(UInt64(first.rawValue) + index)"
          + (otherTableCount == 0 ? "" : " and \(otherTableCount) more"))
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
