import IOMMUFormats
import IOMMUTranslation

/// A VT-d table above the page tables, with what its unit allows in entries.
struct VTdUpperTableWords: DescribedUpperTable {
  let table: VTd.UpperTable
  let limits: VTd.Limits
  /// The PCI segment of the devices behind the unit.
  let segment: UInt32

  var start: PhysicalAddress { table.start }
  var byteCount: UInt64 { table.byteCount }
  var place: UpperTableKind { table.place }

  private var entryType: any TableEntry.Type {
    switch table.kind {
    case .root: table.isScalable ? VTd.ScalableRootEntry.self : VTd.RootEntry.self
    case .contexts: table.isScalable ? VTd.ScalableContextEntry.self : VTd.ContextEntry.self
    case .pasidDirectory: VTd.PASIDDirectoryEntry.self
    case .pasids: VTd.PASIDTableEntry.self
    }
  }

  var entryByteCount: UInt64 { UInt64(entryType.byteCount) }

  var ownerText: String {
    switch table.kind {
    case .root: ""
    case .contexts(let bus, _): "bus " + hexadecimal(bus, digits: 2)
    case .pasidDirectory(let requester), .pasids(let requester, _):
      "\(PCI.Function(segment: segment, requester))"
    }
  }

  func device(at index: UInt64) -> PCI.Function? {
    switch table.kind {
    case .root: nil
    case .contexts(let bus, let first):
      PCI.Function(
        segment: segment,
        Requester(
          rawValue: UInt16(bus) << 8 | UInt16(first) &+ UInt16(truncatingIfNeeded: index)))
    case .pasidDirectory(let requester), .pasids(let requester, _):
      PCI.Function(segment: segment, requester)
    }
  }

  func words(at index: UInt64, others: Int, in memory: some PhysicalMemory) -> EntryWording? {
    guard let address = start.advanced(byBytes: index &* entryByteCount) else { return nil }
    func words<Entry: Explained>(
      _: Entry.Type, title: String, separator: String = ": ", arrow: String = ""
    ) -> EntryWording? where Entry.Variant == VTd.Limits {
      guard let entry = Entry(from: memory, at: address) else { return nil }
      let meaning = entry.meaning(limits)
      return EntryWording(
        title: title, separator: separator,
        statement: meaning == notPresent ? meaning : arrow + meaning,
        entry: EntryDescription(explaining: entry, limits))
    }
    let more = others == 0 ? "" : " and \(others) more"
    switch (table.kind, table.isScalable) {
    case (.root, let isScalable):
      let title = "root entry, bus " + hexadecimal(index, digits: 2)
      return isScalable
        ? words(VTd.ScalableRootEntry.self, title: title, separator: " ", arrow: "-> ")
        : words(VTd.RootEntry.self, title: title, separator: " ", arrow: "-> ")
    case (.contexts, let isScalable):
      let buses = others == 0 ? "" : " and \(countText(others, "bus", plural: "buses")) more"
      let title = "context entry \(device(at: index).map { "\($0)" } ?? "")\(buses)"
      return isScalable
        ? words(VTd.ScalableContextEntry.self, title: title)
        : words(VTd.ContextEntry.self, title: title)
    case (.pasidDirectory, _):
      let first = index * 64
      return words(
        VTd.PASIDDirectoryEntry.self,
        title: "PASID directory entry \(ownerText)\(more)/\(first) to \(first + 63)")
    case (.pasids(_, let first), _):
      return words(
        VTd.PASIDTableEntry.self,
        title: "PASID entry \(ownerText)/\(UInt64(first.rawValue) + index)\(more)")
    }
  }
}
