/// The five cases of the Kdump IO Rule, in the order the proposal walks them, and AMD-Vi, which it leaves
/// out.
public enum TranslationMode: String, CaseIterable, Sendable, Codable {
  case nommu, swiotlb, gart, calgary, vtd, amdvi

  /// The name people use.
  public var title: String {
    switch self {
    case .nommu: "nommu"
    case .swiotlb: "swiotlb"
    case .gart: "AMD GART"
    case .calgary: "IBM Calgary"
    case .vtd: "Intel VT-d"
    case .amdvi: "AMD-Vi"
    }
  }
}
