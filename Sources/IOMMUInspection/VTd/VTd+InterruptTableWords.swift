import IOMMUFormats
import IOMMUTranslation

/// A VT-d interrupt remapping table.
struct VTdInterruptTableWords: DescribedUpperTable {
  let table: VTd.InterruptTable

  var start: PhysicalAddress { table.start }
  var byteCount: UInt64 { table.range.byteCount }
  var place: UpperTableKind { VTd.interruptTable }
  var entryByteCount: UInt64 { UInt64(VTd.InterruptRemappingEntry.byteCount) }
  var ownerText: String { "" }

  func words(at index: UInt64, others _: Int, in memory: some PhysicalMemory) -> EntryWording? {
    guard
      let entry = VTd.InterruptRemappingEntry(
        from: memory, at: table.entryAddress(Int(clamping: index)))
    else { return nil }
    let variant = table.remapping.variant(of: entry)
    return EntryWording(
      title: "interrupt entry \(hexadecimal(index))", separator: ": ",
      statement: entry.meaning(variant), entry: EntryDescription(explaining: entry, variant))
  }
}
