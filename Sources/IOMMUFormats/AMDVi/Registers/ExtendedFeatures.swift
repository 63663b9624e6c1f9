extension AMDVi {
  /// MMIO 0x0030: what the unit can do (EFR).
  ///
  /// 64 bits. IVRS blocks of type 0x11 and 0x40 carry it as well. Specification: AMD IOMMU 3.4.
  @frozen
  public struct ExtendedFeatures: WordEntry, HardwareRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// MMIO 0x01a0: what else the unit can do (EFR2).
  ///
  /// 64 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct ExtendedFeatures2: WordEntry, HardwareRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension AMDVi.ExtendedFeatures {
  public static var name: StaticString { "extended features" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  static var preFSup: BitField { BitField(0...0, "PreFSup") }
  static var pprSup: BitField { BitField(1...1, "PPRSup") }
  static var xtSup: BitField { BitField(2...2, "XTSup") }
  static var nxSup: BitField { BitField(3...3, "NXSup") }
  static var gtSup: BitField { BitField(4...4, "GTSup") }
  static var gaPPISup: BitField { BitField(5...5, "GAPPISup") }
  static var iaSup: BitField { BitField(6...6, "IASup") }
  static var gaSup: BitField { BitField(7...7, "GASup") }
  static var heSup: BitField { BitField(8...8, "HESup") }
  static var pcSup: BitField { BitField(9...9, "PCSup") }
  static var hats: BitField { BitField(10...11, "HATS") }
  static var gats: BitField { BitField(12...13, "GATS") }
  static var glxSup: BitField { BitField(14...15, "GLXSup") }
  static var smiFSup: BitField { BitField(16...17, "SmiFSup") }
  static var smiFRC: BitField { BitField(18...20, "SmiFRC") }
  static var gamSup: BitField { BitField(21...23, "GAMSup") }
  static var dualPprLogSup: BitField { BitField(24...25, "DualPprLogSup") }
  static var dualEventLogSup: BitField { BitField(28...29, "DualEventLogSup") }
  static var satsSup: BitField { BitField(31...31, "SATSSup") }
  static var pasMax: BitField { BitField(32...36, "PASmax") }
  static var usSup: BitField { BitField(37...37, "USSup") }
  static var devTblSegSup: BitField { BitField(38...39, "DevTblSegSup") }
  static var pprOvrflwEarlySup: BitField { BitField(40...40, "PprOvrflwEarlySup") }
  static var pprAutoRspSup: BitField { BitField(41...41, "PprAutoRspSup") }
  static var marcSup: BitField { BitField(42...43, "MarcSup") }
  static var blkStopMrkSup: BitField { BitField(44...44, "BlkStopMrkSup") }
  static var perfOptSup: BitField { BitField(45...45, "PerfOptSup") }
  static var msiCapMmioSup: BitField { BitField(46...46, "MsiCapMmioSup") }
  static var gIoSup: BitField { BitField(48...48, "GIoSup") }
  static var haSup: BitField { BitField(49...49, "HASup") }
  static var ephSup: BitField { BitField(50...50, "EPHSup") }
  static var attrFWSup: BitField { BitField(51...51, "AttrFWSup") }
  static var hdSup: BitField { BitField(52...52, "HDSup") }
  static var invIotlbTypeSup: BitField { BitField(54...54, "InvIotlbTypeSup") }
  static var vIommuSup: BitField { BitField(55...55, "vIommuSup") }
  static var gaUpdateDisSup: BitField { BitField(61...61, "GAUpdateDisSup") }
  static var snpSup: BitField { BitField(63...63, "SNPSup") }

  public static var registerFields: [RegisterField] {
    let low: [BitField] = [
      preFSup, pprSup, xtSup, nxSup, gtSup, gaPPISup, iaSup, gaSup, heSup, pcSup, hats, gats,
      glxSup, smiFSup, smiFRC, gamSup, dualPprLogSup, .reserved(26...27), dualEventLogSup,
      .reserved(30...30), satsSup,
    ]
    let high: [BitField] = [
      pasMax, usSup, devTblSegSup, pprOvrflwEarlySup, pprAutoRspSup, marcSup, blkStopMrkSup,
      perfOptSup, msiCapMmioSup, BitField(47...47, "SnoopAttrSup"), gIoSup, haSup, ephSup,
      attrFWSup, hdSup, BitField(53...53, "V2HDDisSup"), invIotlbTypeSup, vIommuSup,
      BitField(56...56, "VmGuardIoSup"), BitField(57...60, "VmTableSize"), gaUpdateDisSup,
      BitField(62...62, "ForcePhyDestSup"), snpSup,
    ]
    return (low + high).map { .readOnly($0) }
  }

  /// PreFSup: translations may be fetched ahead.
  public var hasPrefetch: Bool { self[Self.preFSup] != 0 }
  /// PPRSup: page requests.
  public var hasPageRequests: Bool { self[Self.pprSup] != 0 }
  /// XTSup: x2APIC ids of 32 bits.
  public var hasExtendedDestinations: Bool { self[Self.xtSup] != 0 }
  /// NXSup: execute requests, and their denial in guest tables.
  public var hasNoExecute: Bool { self[Self.nxSup] != 0 }
  /// GTSup: guest tables.
  public var hasGuestTranslation: Bool { self[Self.gtSup] != 0 }
  /// GAPPISup: interrupts of guests reach processors that do not run them.
  public var hasGuestProcessorInterrupts: Bool { self[Self.gaPPISup] != 0 }
  /// IASup: one command that drops everything.
  public var hasInvalidateAll: Bool { self[Self.iaSup] != 0 }
  /// GASup: interrupt table entries of 128 bits.
  public var hasWideInterruptEntries: Bool { self[Self.gaSup] != 0 }
  /// HESup: registers that keep hardware errors.
  public var hasHardwareErrorRegisters: Bool { self[Self.heSup] != 0 }
  /// PCSup: performance counters; the register window is 512 KiB.
  public var hasPerformanceCounters: Bool { self[Self.pcSup] != 0 }
  /// HATS: levels of the largest host table, 4 to 6; `nil` where host tables are not read.
  public var hostLevels: Int? { self[Self.hats] == 3 ? nil : Int(self[Self.hats]) + 4 }
  /// GATS: levels of the largest guest table, 4 to 6; `nil` for the reserved code.
  public var guestLevels: Int? { self[Self.gats] == 3 ? nil : Int(self[Self.gats]) + 4 }
  /// GLXSup: levels of the largest GCR3 table, 1 to 3; 4 for the reserved code.
  public var guestTableLevels: Int { Int(self[Self.glxSup]) + 1 }
  /// SmiFSup: system management interrupts can be filtered.
  public var hasSystemManagementFilter: Bool { self[Self.smiFSup] == 1 }
  /// SmiFRC: filter registers, a power of two up to 128; of which the map has room for 16.
  public var systemManagementFilterCount: Int {
    hasSystemManagementFilter ? min(16, 1 << Int(self[Self.smiFRC])) : 0
  }
  /// GAMSup: interrupts are delivered to guests through a virtual APIC.
  public var hasGuestInterrupts: Bool { self[Self.gamSup] == 1 }
  /// DualPprLogSup: a second log of page requests; 2 with a swap between them.
  public var hasSecondPageRequestLog: Bool { self[Self.dualPprLogSup] != 0 }
  /// DualEventLogSup: a second event log; 2 with a swap between them.
  public var hasSecondEventLog: Bool { self[Self.dualEventLogSup] != 0 }
  /// PASmax: bits of a PASID.
  public var pasidBitCount: Int { min(20, Int(self[Self.pasMax]) + 1) }
  /// USSup: requests of user and of supervisor privilege are told apart.
  public var hasPrivilege: Bool { self[Self.usSup] != 0 }
  /// DevTblSegSup: the device table has up to 2 to this power segments.
  public var maximumSegmentCode: Int { Int(self[Self.devTblSegSup]) }
  /// PprOvrflwEarlySup: a warning before the log of page requests is full.
  public var hasEarlyPageRequestOverflow: Bool { self[Self.pprOvrflwEarlySup] != 0 }
  /// PprAutoRspSup: page requests without room are answered.
  public var hasPageRequestAnswers: Bool { self[Self.pprAutoRspSup] != 0 }
  /// MarcSup: relocation apertures: none, four or eight.
  public var relocationApertureCount: Int { [0, 4, 8, 0][Int(self[Self.marcSup])] }
  /// MsiCapMmioSup: the MSI capability is in the register window as well.
  public var hasInterruptCapabilityCopy: Bool { self[Self.msiCapMmioSup] != 0 }
  /// PerfOptSup.
  public var hasPerformanceOptimization: Bool { self[Self.perfOptSup] != 0 }
  /// GIoSup: requests without PASID may use the guest table of PASID 0.
  public var hasGuestIO: Bool { self[Self.gIoSup] != 0 }
  /// HASup: accessed bits of host tables.
  public var hasHostAccessed: Bool { self[Self.haSup] != 0 }
  /// EPHSup: page requests have further rules.
  public var hasEnhancedPageRequests: Bool { self[Self.ephSup] != 0 }
  /// AttrFWSup: a device table entry may override attributes.
  public var hasAttributeOverride: Bool { self[Self.attrFWSup] != 0 }
  /// HDSup: dirty bits of host tables.
  public var hasHostDirty: Bool { self[Self.hdSup] != 0 }
  /// InvIotlbTypeSup: invalidations of devices' caches have a type.
  public var hasDeviceInvalidationType: Bool { self[Self.invIotlbTypeSup] != 0 }
  /// vIommuSup: guests have units of their own.
  public var hasVirtualUnits: Bool { self[Self.vIommuSup] != 0 }
  /// SNPSup: memory of guests is guarded by a reverse map.
  public var hasReverseMap: Bool { self[Self.snpSup] != 0 }
}

extension AMDVi.ExtendedFeatures2 {
  public static var name: StaticString { "extended features 2" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  static var sevTIO: BitField { BitField(1...1, "SEV-TIO") }
  static var gcr3TRPMode: BitField { BitField(3...3, "GCR3TRPMode") }
  static var snpAVICSup: BitField { BitField(5...7, "SNPAVICSup") }
  static var numIntRemapSup: BitField { BitField(8...9, "NumIntRemapSup") }
  static var htRangeIgnore: BitField { BitField(11...11, "HtRangeIgnore") }

  public static var registerFields: [RegisterField] {
    [
      .reserved(0...0), .readOnly(sevTIO), .reserved(2...2), .readOnly(gcr3TRPMode),
      .reserved(4...4), .readOnly(snpAVICSup), .readOnly(numIntRemapSup), .reserved(10...10),
      .readOnly(htRangeIgnore), .reserved(12...63),
    ]
  }

  /// GCR3TRPMode: the pointer to a GCR3 table may be a system physical address.
  public var hasPhysicalGuestRoots: Bool { self[Self.gcr3TRPMode] != 0 }
  /// SNPAVICSup: guests' interrupts where the reverse map guards memory.
  public var hasGuardedGuestInterrupts: Bool { self[Self.snpAVICSup] != 0 }
  /// NumIntRemapSup: an interrupt table may have 2,048 entries, not only 512.
  public var hasLargeInterruptTables: Bool { self[Self.numIntRemapSup] == 1 }
  /// HtRangeIgnore: the addresses of HyperTransport's own messages are addresses like others.
  public var hasNoHyperTransportRange: Bool { self[Self.htRangeIgnore] != 0 }
}
