import IOMMUFormats
import IOMMUTranslation

extension GART.Window: DescribedTable {
  var noun: String { "GATT" }
  private var aperture: String {
    "aperture \(hexadecimal(base))..<\(hexadecimal(base &+ byteCount))"
  }
  var heading: String { "\(noun) \(root), \(aperture)" }
  var route: String { "GART, \(aperture)" }
  func entryName(level _: Int, index: UInt64) -> String { "GATT entry \(hexadecimal(index))" }

  func emptyText(of entry: GART.GATTEntry) -> String { "not valid, but names \(entry.page)" }
}
