/// The five cases of the Kdump IO Rule, in the order the proposal walks them.
public enum TranslationMode: String, CaseIterable, Sendable, Codable {
  case nommu, swiotlb, gart, calgary, vtd

  /// The name people use.
  public var title: String {
    switch self {
    case .nommu: "nommu"
    case .swiotlb: "swiotlb"
    case .gart: "AMD GART"
    case .calgary: "IBM Calgary"
    case .vtd: "Intel VT-d"
    }
  }
}
