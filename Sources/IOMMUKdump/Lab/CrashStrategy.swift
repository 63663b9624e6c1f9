/// What kernels have done, or wanted to do, about DMA that goes on after a crash.
///
/// Each is a crash path, a capture kernel, and what the primary kernel does for them in advance.
public enum CrashStrategy: String, Sendable, CaseIterable, Codable {
  case untranslated = "S0"
  case blind = "S1"
  case offAndBlind = "S2a"
  case offAndAnew = "S2b"
  case anew = "S3"
  case offInCapture = "S3x"
  case reuseTables = "S4"
  case reuseTablesFreeing = "S4r"
  case leaveAlone = "S5"
  case reuseWithFloor = "S6"
  case reuseWithFloorFreeing = "S6r"
  case rule = "S7"
  case reservation = "S7-reserve"
  case ruleForPages = "S7-pages"
  case ruleForDevices = "S7-devices"
  case resetLinks = "S8"
  case busMasterOff = "S9"
  case copyPageTables = "S10"
  case copyContexts = "S11"
  case copyFails = "S11f"
  case copyReusingIDs = "S11-ids"
  case copyMisplacing = "S11-halves"
  case reuseInPlace = "S12"
  case passThrough = "S13"
  case abort = "S14a"
  case bypass = "S14b"
  case adopt = "S14c"
  case liveUpdate = "S15"

  /// In a few words.
  public var title: String {
    switch self {
    case .untranslated: "no translation hardware in use"
    case .blind: "hardware on, capture kernel blind, no identity map"
    case .offAndBlind: "crash path switches off, capture kernel blind"
    case .offAndAnew: "crash path switches off, capture kernel sets up anew"
    case .anew: "capture kernel sets up anew"
    case .offInCapture: "capture kernel switches off"
    case .reuseTables: "capture kernel goes on in the old table"
    case .reuseTablesFreeing: "the same, and freed numbers are handed out again"
    case .leaveAlone: "untouched, capture kernel outside the window"
    case .reuseWithFloor: "old table, at least 2,048 free entries"
    case .reuseWithFloorFreeing: "the same, and freed numbers are handed out again"
    case .rule: "the Kdump IO Rule"
    case .reservation: "numbers reserved, no identity map"
    case .ruleForPages: "the Rule for the pages that do I/O alone"
    case .ruleForDevices: "the Rule for the devices that kdump needs alone"
    case .resetLinks: "links reset early, then set up anew"
    case .busMasterOff: "bus mastering off in the crash path, then set up anew"
    case .copyPageTables: "contexts and page tables copied"
    case .copyContexts: "contexts copied, attached when a driver maps"
    case .copyFails: "copying fails: off, then set up anew"
    case .copyReusingIDs: "contexts copied, domain-ids handed out again"
    case .copyMisplacing: "contexts copied, upper halves misplaced"
    case .reuseInPlace: "device table reused in place"
    case .passThrough: "iommu=pt in both kernels"
    case .abort: "everything stopped until a driver attaches"
    case .bypass: "unknown streams bypass until a driver attaches"
    case .adopt: "stream table adopted, attached when a driver maps"
    case .liveUpdate: "planned kexec, tables and domains kept"
    }
  }

  /// Who did it, and when.
  public var history: String {
    switch self {
    case .untranslated: "always; cases 1 and 2 of the proposal"
    case .blind: "2006 to about 2010: iommu=off in the capture kernel meant not to look"
    case .offAndBlind: "Linux 2.6.31 to April 2010, with iommu=off (J. Roedel)"
    case .offAndAnew: "Linux 2.6.31 to April 2010 (J. Roedel); reverted by C. Wright"
    case .anew: "VT-d until Linux 4.2, AMD-Vi until 4.14, Calgary until 2.6.27"
    case .offInCapture: "today's intel_iommu=off and amd_iommu=off"
    case .reuseTables: "Calgary, Linux 2.6.27 to 2019 (Chandru Siddalingappa)"
    case .reuseTablesFreeing: "the same driver, once its allocator has come round"
    case .leaveAlone: "ia64 zx1, July 2007 (T. Loftin, A. Williamson)"
    case .reuseWithFloor: "powerpc, June 2006 (H. Myneni)"
    case .reuseWithFloorFreeing: "the same, once its allocator has come round"
    case .rule: "proposed on 10 September 2008 (B. Montgomery)"
    case .reservation: "the half that the proposal calls necessary and not sufficient"
    case .ruleForPages: "the proposal's first variant"
    case .ruleForDevices: "the proposal's second variant"
    case .resetLinks: "proposed October 2012 (T. Indoh)"
    case .busMasterOff: "Xen, July to November 2011 (A. Cooper)"
    case .copyPageTables: "proposed February 2014 (B. Sumner), continued by Z.-H. Li"
    case .copyContexts: "VT-d since Linux 4.2 (J. Roedel), AMD-Vi since 4.14 (B. He)"
    case .copyFails: "the same, where the kernels differ in table mode or size"
    case .copyReusingIDs: "VT-d in scalable mode, seen in Linux 7.2"
    case .copyMisplacing: "VT-d in scalable mode until June 2026 (found by D. Nunes)"
    case .reuseInPlace: "AMD-Vi under SEV-SNP, since 2025 (A. Kalra)"
    case .passThrough: "iommu=pt, the default of many distributions"
    case .abort: "SMMUv3 since 2018 (W. Deacon)"
    case .bypass: "SMMU set-ups that let unmatched streams pass"
    case .adopt: "SMMUv3, proposed April to June 2026 (N. Chen)"
    case .liveUpdate: "under review in 2026 (S. Khawaja)"
    }
  }

  /// The primary kernel applies the Rule, or one of its halves.
  public var isRule: Bool {
    switch self {
    case .rule, .reservation, .ruleForPages, .ruleForDevices: true
    default: false
    }
  }

  /// What it can be played on.
  public var units: [CrashUnit] { CrashUnit.allCases.filter { $0.strategies.contains(self) } }
}

extension CrashUnit {
  /// What was done, or proposed, on such hardware.
  public var strategies: [CrashStrategy] {
    switch self {
    case .nommu, .swiotlb: [.untranslated]
    case .gart: [.blind, .offAndBlind, .anew, .rule]
    case .calgary:
      [.blind, .anew, .reuseTables, .reuseTablesFreeing, .rule, .reservation, .ruleForPages]
    case .vtd:
      [
        .blind, .offAndBlind, .offAndAnew, .anew, .offInCapture, .rule, .reservation,
        .ruleForPages, .ruleForDevices, .resetLinks, .busMasterOff, .copyPageTables, .copyContexts,
        .copyFails, .passThrough, .liveUpdate,
      ]
    case .vtdScalable:
      [
        .blind, .offInCapture, .anew, .rule, .copyContexts, .copyFails, .copyReusingIDs,
        .copyMisplacing, .passThrough,
      ]
    case .amdvi:
      [
        .blind, .offAndBlind, .offAndAnew, .anew, .offInCapture, .rule, .reservation,
        .ruleForPages, .ruleForDevices, .resetLinks, .busMasterOff, .copyContexts, .copyFails,
        .reuseInPlace, .passThrough,
      ]
    case .pseries: [.anew, .reuseWithFloor, .reuseWithFloorFreeing, .rule]
    case .zx1: [.anew, .leaveAlone]
    case .smmuv3: [.abort, .bypass, .adopt, .rule]
    }
  }
}
