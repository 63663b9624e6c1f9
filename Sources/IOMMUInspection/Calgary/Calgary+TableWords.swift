import IOMMUFormats
import IOMMUTranslation

extension Calgary.TCETable: DescribedTable {
  var noun: String { "TCE table" }
  var heading: String { "\(noun) \(root), \(byteCountText(size.byteCount))" }
  func entryName(level _: Int, index: UInt64) -> String { "TCE \(hexadecimal(index))" }

  func emptyText(of entry: Calgary.TranslationControlEntry) -> String {
    "no access, but names \(entry.page)"
  }

  func remark(on address: UInt64) -> String {
    holes.contains(address) ? ", in a hole that the chip does not translate" : ""
  }
}
