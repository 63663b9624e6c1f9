extension VTd {
  /// Optional parts of a unit, besides those that legacy tables depend on.
  ///
  /// Each is one bit of CAP_REG or ECAP_REG; most decide whether a bit of an entry is reserved.
  public struct Features: OptionSet, Hashable, Sendable {
    public var rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// CAP.ZLR: a zero-length read is satisfied by a page that can only be written.
    public static let zeroLengthReads = Features(rawValue: 1 << 0)
    /// CAP.FS1GP: first-stage pages of 1 GiB.
    public static let firstStage1GiBPages = Features(rawValue: 1 << 1)
    /// CAP.FS5LP: first-stage tables of five levels.
    public static let fiveLevelFirstStage = Features(rawValue: 1 << 2)
    /// ECAP.SMTS: scalable-mode tables.
    public static let scalableMode = Features(rawValue: 1 << 3)
    /// ECAP.FSTS: first-stage translation.
    public static let firstStage = Features(rawValue: 1 << 4)
    /// ECAP.SSTS: second-stage translation in scalable mode.
    public static let secondStage = Features(rawValue: 1 << 5)
    /// ECAP.NEST: nested translation.
    public static let nesting = Features(rawValue: 1 << 6)
    /// ECAP.PASID: requests with PASID.
    public static let pasids = Features(rawValue: 1 << 7)
    /// ECAP.PRS: page requests.
    public static let pageRequests = Features(rawValue: 1 << 8)
    /// ECAP.SRS: requests of supervisor privilege.
    public static let supervisorRequests = Features(rawValue: 1 << 9)
    /// ECAP.ERS: execute requests. Zero in today's units.
    public static let executeRequests = Features(rawValue: 1 << 10)
    /// ECAP.EAFS: the extended accessed bit in first-stage entries.
    public static let extendedAccessedBits = Features(rawValue: 1 << 11)
    /// ECAP.SSADS: accessed and dirty bits in second-stage entries.
    public static let secondStageAccessedBits = Features(rawValue: 1 << 12)
    /// ECAP.SMPWCS: walks of scalable-mode tables can snoop the processors' caches.
    public static let walkSnoop = Features(rawValue: 1 << 13)
    /// ECAP.RPS: RID_PASID may be other than zero.
    public static let requesterPASID = Features(rawValue: 1 << 14)
    /// ECAP.RPRIVS: requests without PASID may be of supervisor privilege.
    public static let requesterPrivilege = Features(rawValue: 1 << 15)
    /// ECAP.MTS: memory types.
    public static let memoryTypes = Features(rawValue: 1 << 16)
    /// ECAP.HPTS: host permission tables.
    public static let permissionTables = Features(rawValue: 1 << 17)
    /// ECAP.PTRS: translated requests may carry a PASID.
    public static let translatedRequestPASIDs = Features(rawValue: 1 << 18)
    /// ECAP.ADMS: abort-DMA mode.
    public static let abortDMA = Features(rawValue: 1 << 19)
    /// ECAP.SSIRWS: IR and IW may take the place of R and W in second-stage entries.
    public static let secondStageIOPermissions = Features(rawValue: 1 << 20)
    /// ECAP.NWFS: the no-write flag of translation requests.
    public static let noWriteFlag = Features(rawValue: 1 << 21)

    /// CAP.PI: interrupts may be posted.
    public static let postedInterrupts = Features(rawValue: 1 << 22)

    /// Everything that a unit may let pass: for reading tables of one whose capabilities are not
    /// known.
    public static let all = Features(rawValue: 1 << 23 - 1)

    /// ECAP.EIMER: no interrupt passes where destinations have eight bits.
    public static let requiredExtendedInterrupts = Features(rawValue: 1 << 23)
    /// ECAP.IRREQ: no interrupt passes while remapping is off.
    public static let requiredInterruptRemapping = Features(rawValue: 1 << 24)
  }
}

extension VTd.Features {
  /// Which bit of CAP_REG says that the unit has a feature.
  static let inCapability: [(feature: VTd.Features, field: BitField)] = [
    (.zeroLengthReads, VTd.Capability.zlr), (.firstStage1GiBPages, VTd.Capability.fs1gp),
    (.fiveLevelFirstStage, VTd.Capability.fs5lp), (.postedInterrupts, VTd.Capability.pi),
  ]

  /// Which bit of ECAP_REG says that the unit has a feature.
  static let inExtendedCapability: [(feature: VTd.Features, field: BitField)] = [
    (.scalableMode, VTd.ExtendedCapability.smts), (.firstStage, VTd.ExtendedCapability.fsts),
    (.secondStage, VTd.ExtendedCapability.ssts), (.nesting, VTd.ExtendedCapability.nest),
    (.pasids, VTd.ExtendedCapability.pasid), (.pageRequests, VTd.ExtendedCapability.prs),
    (.supervisorRequests, VTd.ExtendedCapability.srs),
    (.executeRequests, VTd.ExtendedCapability.ers),
    (.extendedAccessedBits, VTd.ExtendedCapability.eafs),
    (.secondStageAccessedBits, VTd.ExtendedCapability.ssads),
    (.walkSnoop, VTd.ExtendedCapability.smpwcs), (.requesterPASID, VTd.ExtendedCapability.rps),
    (.requesterPrivilege, VTd.ExtendedCapability.rprivs),
    (.memoryTypes, VTd.ExtendedCapability.mts), (.permissionTables, VTd.ExtendedCapability.hpts),
    (.translatedRequestPASIDs, VTd.ExtendedCapability.ptrs),
    (.abortDMA, VTd.ExtendedCapability.adms),
    (.secondStageIOPermissions, VTd.ExtendedCapability.ssirws),
    (.noWriteFlag, VTd.ExtendedCapability.nwfs),
    (.requiredExtendedInterrupts, VTd.ExtendedCapability.eimer),
    (.requiredInterruptRemapping, VTd.ExtendedCapability.irreq),
  ]

  /// What the two registers say.
  init(capability: VTd.Capability, extendedCapability: VTd.ExtendedCapability) {
    self = []
    for (feature, field) in Self.inCapability where capability[field] != 0 { insert(feature) }
    for (feature, field) in Self.inExtendedCapability where extendedCapability[field] != 0 {
      insert(feature)
    }
  }
}

extension VTd.Limits {
  /// The field where the unit has all of `features`, otherwise its bits as a reserved run.
  func allows(_ features: VTd.Features, _ field: BitField) -> BitField {
    self.features.isSuperset(of: features) ? field : .reserved(field.bits)
  }
}
