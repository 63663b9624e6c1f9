import IOMMUFormats
import IOMMUTranslation

extension GART.Node: DescribedUnit {
  var name: String { "AMD GART of \(device)" }

  var text: String {
    guard let window else { return "\(name), off" }
    return "\(name), aperture \(hexadecimal(window.base)), GATT \(window.table)"
  }
}
