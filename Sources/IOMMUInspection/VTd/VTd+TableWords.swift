import IOMMUFormats
import IOMMUTranslation

extension VTd.SecondStageTable: DescribedTable {
  var noun: String { "second-stage table" }
  var heading: String { "\(noun) \(root), \(format.levels) levels" }
  var route: String { "\(heading), \(addressWidth)-bit IOVAs" }

  /// The plain mnemonic: what an entry maps is said behind it.
  func entryName(level: Int, index _: UInt64) -> String {
    VTd.SecondStageEntry.Variant(level: level, isLeaf: false, limits: format.limits).name
  }

  func remark(on address: UInt64) -> String {
    reaches(address) ? "" : ", beyond the \(addressWidth) bits in use"
  }
}

extension VTd.FirstStageTable: DescribedTable {
  var noun: String { "first-stage table" }
  var heading: String { "\(noun) \(root), \(format.levels) levels" }

  func entryName(level: Int, index _: UInt64) -> String {
    VTd.FirstStageEntry.Variant(level: level, isLeaf: false, limits: format.limits).name
  }

  func accessText(of entry: VTd.FirstStageEntry, level _: Int) -> String {
    "\(entry.permissions)" + (entry.permissions.contains(.user) ? " user" : " supervisor")
  }

  var addressSpaceText: String { format.isNested ? "guest " : "" }
}

extension VTd.NestedTables: DescribedTable {
  var noun: String { "nested tables" }

  var heading: String {
    "first-stage table \(firstStage.root) of the guest, \(firstStage.format.levels) levels, in "
      + secondStage.heading
  }

  var route: String {
    "first-stage table \(firstStage.root) of a guest, \(firstStage.format.levels) levels, in "
      + secondStage.heading
  }

  func entryName(level: Int, index: UInt64) -> String {
    firstStage.entryName(level: level, index: index)
  }

  func accessText(of entry: VTd.FirstStageEntry, level: Int) -> String {
    firstStage.accessText(of: entry, level: level)
  }

  var addressSpaceText: String { firstStage.addressSpaceText }
  var stages: [any DescribedTable] { [secondStage, firstStage] }
}
