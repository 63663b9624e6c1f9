/// What stands between devices and memory in the crash lab.
public enum CrashUnit: String, Sendable, CaseIterable, Codable {
  case nommu, swiotlb, gart, calgary, vtd
  /// VT-d with tables of scalable mode.
  case vtdScalable = "vtd-scalable"
  case amdvi
  /// TCE tables of POWER servers: the table alone, with its rules.
  case pseries
  /// The I/O TLB of HP's zx1 (Itanium): the table alone, with its rules.
  case zx1
  /// Arm SMMUv3: the stream table alone, with its rules.
  case smmuv3

  /// The name people use.
  public var title: String {
    switch self {
    case .nommu: TranslationMode.nommu.title
    case .swiotlb: TranslationMode.swiotlb.title
    case .gart: TranslationMode.gart.title
    case .calgary: TranslationMode.calgary.title
    case .vtd: TranslationMode.vtd.title
    case .vtdScalable: "VT-d scalable"
    case .amdvi: TranslationMode.amdvi.title
    case .pseries: "POWER TCE"
    case .zx1: "HP zx1"
    case .smmuv3: "Arm SMMUv3"
    }
  }

  /// Registers, commands and caches are modelled, and not a table and its rules alone.
  public var isHardware: Bool {
    switch self {
    case .pseries, .zx1, .smmuv3: false
    case .nommu, .swiotlb, .gart, .calgary, .vtd, .vtdScalable, .amdvi: true
    }
  }
}
