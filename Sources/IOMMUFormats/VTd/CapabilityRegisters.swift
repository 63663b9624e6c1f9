extension VTd {
  /// CAP_REG, 0x008: what the unit can do, as far as tables depend on it.
  ///
  /// 64 bits. Specification: Intel VT-d 11.4.2.
  @frozen
  public struct Capability: WordEntry {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension VTd.Capability {
  public static var name: StaticString { "CAP_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.2" }

  static var nd: BitField { BitField(0...2, "ND") }
  static var afl: BitField { BitField(3...3, "AFL") }
  static var rwbf: BitField { BitField(4...4, "RWBF") }
  static var plmr: BitField { BitField(5...5, "PLMR") }
  static var phmr: BitField { BitField(6...6, "PHMR") }
  static var cm: BitField { BitField(7...7, "CM") }
  static var sagaw: BitField { BitField(8...12, "SAGAW") }
  static var mgaw: BitField { BitField(16...21, "MGAW") }
  static var zlr: BitField { BitField(22...22, "ZLR") }
  static var fro: BitField { BitField(24...33, "FRO") }
  static var sslps: BitField { BitField(34...37, "SSLPS") }
  static var psi: BitField { BitField(39...39, "PSI") }
  static var nfr: BitField { BitField(40...47, "NFR") }
  static var mamv: BitField { BitField(48...53, "MAMV") }
  static var fs1gp: BitField { BitField(56...56, "FS1GP") }
  static var pi: BitField { BitField(59...59, "PI") }
  static var fs5lp: BitField { BitField(60...60, "FS5LP") }
  static var ecmds: BitField { BitField(61...61, "ECMDS") }
  static var esirtps: BitField { BitField(62...62, "ESIRTPS") }
  static var esrtps: BitField { BitField(63...63, "ESRTPS") }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [
      nd, afl, rwbf, plmr,
      phmr, cm, sagaw, .reserved(13...15), mgaw,
      zlr, BitField(23...23, "DEP", .ignored), fro, sslps,
      .reserved(38...38), psi, nfr,
      mamv, BitField(54...54, "DWD"), BitField(55...55, "DRD"),
      fs1gp, .reserved(57...58), pi,
      fs5lp, ecmds, esirtps,
      esrtps,
    ]
  }

  /// Bits in an IOVA: the field holds one less.
  public var maximumGuestAddressWidth: Int { Int(self[Self.mgaw]) + 1 }

  /// A unit with the given tables and page sizes; all else as a unit of 2008 has it.
  public init(
    levels: ClosedRange<Int>, guestAddressWidth: Int, has2MiBPages: Bool, has1GiBPages: Bool
  ) {
    self.init(rawValue: 0)
    self[Self.nd] = 6
    self[Self.sagaw] = levels.reduce(0) { $0 | 1 << UInt64($1 - 2) }
    self[Self.mgaw] = UInt64(guestAddressWidth - 1)
    self[Self.sslps] = (has2MiBPages ? 1 : 0) | (has1GiBPages ? 2 : 0)
  }
}

extension VTd {
  /// ECAP_REG, 0x010: what else the unit can do.
  ///
  /// 64 bits; those that older revisions gave another meaning are ignored. Specification: Intel
  /// VT-d 11.4.3.
  @frozen
  public struct ExtendedCapability: WordEntry {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension VTd.ExtendedCapability {
  public static var name: StaticString { "ECAP_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.3" }

  static var qi: BitField { BitField(1...1, "QI") }
  static var dt: BitField { BitField(2...2, "DT") }
  static var ir: BitField { BitField(3...3, "IR") }
  static var eim: BitField { BitField(4...4, "EIM") }
  static var pt: BitField { BitField(6...6, "PT") }
  static var sc: BitField { BitField(7...7, "SC") }
  static var iro: BitField { BitField(8...17, "IRO") }
  static var mhmv: BitField { BitField(20...23, "MHMV") }
  static var ecs: BitField { BitField(24...24, "ECS", .ignored) }
  static var mts: BitField { BitField(25...25, "MTS") }
  static var nest: BitField { BitField(26...26, "NEST") }
  static var prs: BitField { BitField(29...29, "PRS") }
  static var ers: BitField { BitField(30...30, "ERS") }
  static var srs: BitField { BitField(31...31, "SRS") }
  static var nwfs: BitField { BitField(33...33, "NWFS") }
  static var eafs: BitField { BitField(34...34, "EAFS") }
  static var pss: BitField { BitField(35...39, "PSS") }
  static var pasid: BitField { BitField(40...40, "PASID") }
  static var dit: BitField { BitField(41...41, "DIT") }
  static var pds: BitField { BitField(42...42, "PDS") }
  static var smts: BitField { BitField(43...43, "SMTS") }
  static var vcs: BitField { BitField(44...44, "VCS") }
  static var ssads: BitField { BitField(45...45, "SSADS") }
  static var ssts: BitField { BitField(46...46, "SSTS") }
  static var fsts: BitField { BitField(47...47, "FSTS") }
  static var smpwcs: BitField { BitField(48...48, "SMPWCS") }
  static var rps: BitField { BitField(49...49, "RPS") }
  static var pms: BitField { BitField(51...51, "PMS") }
  static var adms: BitField { BitField(52...52, "ADMS") }
  static var rprivs: BitField { BitField(53...53, "RPRIVS") }
  static var hpts: BitField { BitField(55...55, "HPTS") }
  static var ptrs: BitField { BitField(56...56, "PTRS") }
  static var ssirws: BitField { BitField(57...57, "SSIRWS") }
  static var rdts: BitField { BitField(60...60, "RDTS") }
  static var eimer: BitField { BitField(61...61, "EIMER") }
  static var irreq: BitField { BitField(62...62, "IRREQ") }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [
      BitField(0...0, "C"), qi, dt, ir,
      eim, .ignored(5...5), pt, sc, iro,
      .ignored(18...19), mhmv, ecs, mts, nest,
      BitField(27...27, "DIS", .ignored), .ignored(28...28), prs, ers, srs,
      BitField(32...32, "POT", .ignored), nwfs, eafs, pss, pasid, dit,
      pds, smts, vcs, ssads, ssts, fsts, smpwcs, rps,
      BitField(50...50, "TDXCS"), pms, adms, rprivs, .ignored(54...54), hpts,
      ptrs, ssirws, BitField(58...58, "SMS"), BitField(59...59, "HPT1GPS"),
      rdts, eimer, irreq,
      .ignored(63...63),
    ]
  }
}

extension VTd {
  /// GSTS_REG, 0x01c: which parts of the unit are switched on.
  ///
  /// 32 bits. Specification: Intel VT-d 11.4.4.2.
  @frozen
  public struct GlobalStatus: WordEntry {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }
}

extension VTd.GlobalStatus {
  public static var name: StaticString { "GSTS_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.4.2" }

  static var cfis: BitField { BitField(23...23, "CFIS") }
  static var irtps: BitField { BitField(24...24, "IRTPS") }
  static var ires: BitField { BitField(25...25, "IRES") }
  static var qies: BitField { BitField(26...26, "QIES") }
  static var wbfs: BitField { BitField(27...27, "WBFS") }
  static var fls: BitField { BitField(29...29, "FLS") }
  static var rtps: BitField { BitField(30...30, "RTPS") }
  static var tes: BitField { BitField(31...31, "TES") }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [
      .reserved(0...22), cfis, irtps, ires, qies, wbfs, BitField(28...28, "AFLS"),
      fls, rtps, tes,
    ]
  }

  /// The register of a unit that does these, all other bits zero.
  public init(translates: Bool, remapsInterrupts: Bool = false) {
    self.init(rawValue: 0)
    self[Self.tes] = translates ? 1 : 0
    self[Self.rtps] = translates ? 1 : 0
    self[Self.ires] = remapsInterrupts ? 1 : 0
  }

  /// DMA remapping is on.
  public var translates: Bool { self[Self.tes] != 0 }
  /// Interrupt remapping is on.
  public var remapsInterrupts: Bool { self[Self.ires] != 0 }
  /// Interrupt requests in the compatibility format pass although remapping is on.
  public var passesCompatibilityInterrupts: Bool { self[Self.cfis] != 0 }
}

extension VTd {
  /// RTADDR_REG, 0x020: where the root table lies, and which kind it is.
  ///
  /// 64 bits. Specification: Intel VT-d 11.4.5.
  @frozen
  public struct RootTableAddress: WordEntry {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// The translation table mode, bits 11:10 of RTADDR_REG.
  public enum TranslationTableMode: UInt8, Sendable {
    /// One context table for each bus, second-stage tables.
    case legacy
    /// Two context tables for each bus, PASID tables.
    case scalable
    /// A code that hardware refuses.
    case reserved
    /// No table is read: all DMA is refused.
    case abortDMA
  }
}

extension VTd.RootTableAddress {
  public static var name: StaticString { "RTADDR_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.5" }

  static var ssirwe: BitField { BitField(7...7, "SSIRWE") }
  static var ttm: BitField { BitField(10...11, "TTM") }
  static var rta: BitField { BitField(12...63, "RTA", .address) }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [.reserved(0...6), ssirwe, .reserved(8...9), ttm, rta]
  }

  /// - Precondition: `rootTable` is 4 KiB aligned.
  public init(rootTable: PhysicalAddress, mode: VTd.TranslationTableMode = .legacy) {
    precondition(rootTable.isAligned(to: 4096), "a root table lies at a multiple of 4 KiB")
    self.init(rawValue: rootTable.rawValue)
    self[Self.ttm] = UInt64(mode.rawValue)
  }

  /// The root table's first byte.
  public var rootTable: PhysicalAddress { PhysicalAddress(addressBits(Self.rta)) }
  /// TTM: which tables the unit reads.
  public var mode: VTd.TranslationTableMode {
    VTd.TranslationTableMode(rawValue: UInt8(self[Self.ttm]))!
  }
  /// SSIRWE: IR and IW take the place of R and W in second-stage entries.
  public var usesIOPermissions: Bool { self[Self.ssirwe] != 0 }
}
