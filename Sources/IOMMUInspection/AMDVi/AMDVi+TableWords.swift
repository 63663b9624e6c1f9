import IOMMUFormats
import IOMMUTranslation

extension AMDVi.HostTable: DescribedTable {
  var noun: String { "host page table" }
  var heading: String {
    if let stop { return "no page table: \(stop.reason.meaning)" }
    guard !isDirect else { return "pass-through, \(rules.permissions)" }
    return "\(noun) \(root), \(countText(format.levels, "level"))" + limit
  }
  var route: String {
    let excluded = rules.exclusion
    return heading
      + (excluded.isEmpty
        ? ""
        : ", untranslated from \(hexadecimal(excluded.lowerBound)) to "
          + hexadecimal(excluded.upperBound - 1))
  }
  /// What the device table entry takes away.
  private var limit: String { rules.permissions == .readWrite ? "" : ", \(rules.permissions) only" }

  func entryName(level: Int, index _: UInt64) -> String {
    level == 1 ? "PTE" : "PDE of level \(level)"
  }

  func remark(on address: UInt64) -> String {
    reaches(address) ? "" : ", beyond the \(format.addressWidth) bits in use"
  }
}

extension AMDVi.GuestTable: DescribedTable {
  var noun: String { "guest page table" }
  var heading: String { "\(noun) \(root), \(countText(format.levels, "level"))" }

  func entryName(level: Int, index _: UInt64) -> String {
    AMDVi.GuestPageTableEntry.Variant(level: level, isLeaf: false).name
  }

  func accessText(of entry: AMDVi.GuestPageTableEntry, level _: Int) -> String {
    "\(entry.permissions)" + (entry.permissions.contains(.user) ? " user" : " supervisor")
  }
}

extension AMDVi.NestedTables: DescribedTable {
  var noun: String { "nested tables" }
  var heading: String {
    "guest page table \(guest.root) of the guest, \(guest.format.levels) levels, in " + host.heading
  }

  func entryName(level: Int, index: UInt64) -> String {
    guest.entryName(level: level, index: index)
  }
  func accessText(of entry: AMDVi.GuestPageTableEntry, level: Int) -> String {
    guest.accessText(of: entry, level: level)
  }
  var addressSpaceText: String { "guest " }
  var stages: [any DescribedTable] { [host, guest] }
}
