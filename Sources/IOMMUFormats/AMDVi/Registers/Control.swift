extension AMDVi {
  /// MMIO 0x0018: what of the unit is switched on.
  ///
  /// 64 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct Control: WordEntry, HardwareRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension AMDVi.Control {
  public static var name: StaticString { "IOMMU control" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }
  /// Coherent.
  public static var resetValue: UInt64 { 0x400 }

  static var iommuEn: BitField { BitField(0...0, "IommuEn") }
  static var htTunEn: BitField { BitField(1...1, "HtTunEn") }
  static var eventLogEn: BitField { BitField(2...2, "EventLogEn") }
  static var eventIntEn: BitField { BitField(3...3, "EventIntEn") }
  static var comWaitIntEn: BitField { BitField(4...4, "ComWaitIntEn") }
  static var invTimeOut: BitField { BitField(5...7, "InvTimeOut") }
  static var coherent: BitField { BitField(10...10, "Coherent") }
  static var cmdBufEn: BitField { BitField(12...12, "CmdBufEn") }
  static var pprLogEn: BitField { BitField(13...13, "PprLogEn") }
  static var pprIntEn: BitField { BitField(14...14, "PprIntEn") }
  static var pprEn: BitField { BitField(15...15, "PprEn") }
  static var gtEn: BitField { BitField(16...16, "GTEn") }
  static var gaEn: BitField { BitField(17...17, "GAEn") }
  static var smiFEn: BitField { BitField(22...22, "SmiFEn") }
  static var smiFLogEn: BitField { BitField(24...24, "SmiFLogEn") }
  static var gamEn: BitField { BitField(25...27, "GAMEn") }
  static var gaLogEn: BitField { BitField(28...28, "GALogEn") }
  static var gaIntEn: BitField { BitField(29...29, "GAIntEn") }
  static var dualPprLogEn: BitField { BitField(30...31, "DualPprLogEn") }
  static var dualEventLogEn: BitField { BitField(32...33, "DualEventLogEn") }
  static var devTblSegEn: BitField { BitField(34...36, "DevTblSegEn") }
  static var pprAutoRspEn: BitField { BitField(39...39, "PprAutoRspEn") }
  static var marcEn: BitField { BitField(40...40, "MarcEn") }
  static var blkStopMrkEn: BitField { BitField(41...41, "BlkStopMrkEn") }
  static var pprAutoRspAon: BitField { BitField(42...42, "PprAutoRspAon") }
  static var numIntRemapMode: BitField { BitField(43...44, "NumIntRemapMode") }
  static var ephEn: BitField { BitField(45...45, "EPHEn") }
  static var hadUpdate: BitField { BitField(46...47, "HADUpdate") }
  static var gdUpdateDis: BitField { BitField(48...48, "GDUpdateDis") }
  static var xtEn: BitField { BitField(50...50, "XTEn") }
  static var intCapXTEn: BitField { BitField(51...51, "IntCapXTEn") }
  static var vCmdEn: BitField { BitField(52...52, "VCmdEn") }
  static var vIommuEn: BitField { BitField(53...53, "vIommuEn") }
  static var gaUpdateDis: BitField { BitField(54...54, "GAUpdateDis") }
  static var gaPPIEn: BitField { BitField(55...55, "GAPPIEn") }
  static var gcr3TRPMode: BitField { BitField(58...58, "GCR3TRPMode") }
  static var irtCacheDis: BitField { BitField(59...59, "IRTCacheDis") }
  static var snpAVICEn: BitField { BitField(61...63, "SNPAVICEn") }

  public static var registerFields: [RegisterField] {
    let low: [RegisterField] = [
      .readWrite(iommuEn), .readWrite(htTunEn), .readWrite(eventLogEn), .readWrite(eventIntEn),
      .readWrite(comWaitIntEn), .readWrite(invTimeOut), .readWrite(BitField(8...8, "PassPW")),
      .readWrite(BitField(9...9, "ResPassPW")), .readWrite(coherent),
      .readWrite(BitField(11...11, "Isoc")), .readWrite(cmdBufEn), .readWrite(pprLogEn),
      .readWrite(pprIntEn), .readWrite(pprEn), .readWrite(gtEn), .readWrite(gaEn),
      .readWrite(BitField(18...21, "CRW")), .readWrite(smiFEn),
      .readWrite(BitField(23...23, "SlfWBDis")), .readWrite(smiFLogEn), .readWrite(gamEn),
      .readWrite(gaLogEn), .readWrite(gaIntEn), .readWrite(dualPprLogEn),
    ]
    let high: [RegisterField] = [
      .readWrite(dualEventLogEn), .readWrite(devTblSegEn),
      .readWrite(BitField(37...38, "PrivAbrtEn")), .readWrite(pprAutoRspEn), .readWrite(marcEn),
      .readWrite(blkStopMrkEn), .readWrite(pprAutoRspAon), .readWrite(numIntRemapMode),
      .readWrite(ephEn), .readWrite(hadUpdate), .readWrite(gdUpdateDis), .reserved(49...49),
      .readWrite(xtEn), .readWrite(intCapXTEn), .readWrite(vCmdEn), .readWrite(vIommuEn),
      .readWrite(gaUpdateDis), .readWrite(gaPPIEn), .readWrite(BitField(56...56, "TMPMEn")),
      .reserved(57...57), .readWrite(gcr3TRPMode), .readWrite(irtCacheDis),
      .readWrite(BitField(60...60, "GstBufferTRPMode")), .readWrite(snpAVICEn),
    ]
    return low + high
  }

  /// IommuEn: requests are translated and interrupts remapped; otherwise all pass as they are.
  public var isEnabled: Bool {
    get { self[Self.iommuEn] != 0 }
    set { self[Self.iommuEn] = newValue ? 1 : 0 }
  }
  /// EventLogEn: events are logged.
  public var logsEvents: Bool {
    get { self[Self.eventLogEn] != 0 }
    set { self[Self.eventLogEn] = newValue ? 1 : 0 }
  }
  /// EventIntEn: a logged event interrupts.
  public var interruptsOnEvents: Bool {
    get { self[Self.eventIntEn] != 0 }
    set { self[Self.eventIntEn] = newValue ? 1 : 0 }
  }
  /// ComWaitIntEn: a completion wait that asks for it interrupts.
  public var interruptsOnCompletion: Bool {
    get { self[Self.comWaitIntEn] != 0 }
    set { self[Self.comWaitIntEn] = newValue ? 1 : 0 }
  }
  /// InvTimeOut: how long a device may take to answer an invalidation, in milliseconds; 0 for
  /// ever, `nil` for the reserved code.
  public var invalidationTimeout: Int? {
    let code = Int(self[Self.invTimeOut])
    return code == 7 ? nil : [0, 1, 10, 100, 1000, 10_000, 100_000][code]
  }
  /// CmdBufEn: commands are fetched.
  public var fetchesCommands: Bool {
    get { self[Self.cmdBufEn] != 0 }
    set { self[Self.cmdBufEn] = newValue ? 1 : 0 }
  }
  /// PprLogEn: page requests are logged.
  public var logsPageRequests: Bool { self[Self.pprLogEn] != 0 }
  /// PprIntEn: a logged page request interrupts.
  public var interruptsOnPageRequests: Bool { self[Self.pprIntEn] != 0 }
  /// PprEn: page requests are taken.
  public var takesPageRequests: Bool { self[Self.pprEn] != 0 }
  /// GTEn: guest tables are read.
  public var translatesGuests: Bool {
    get { self[Self.gtEn] != 0 }
    set { self[Self.gtEn] = newValue ? 1 : 0 }
  }
  /// GAEn: interrupt table entries have 128 bits.
  public var usesWideInterruptEntries: Bool {
    get { self[Self.gaEn] != 0 }
    set { self[Self.gaEn] = newValue ? 1 : 0 }
  }
  /// SmiFEn: system management interrupts pass the filter.
  public var filtersSystemManagement: Bool { self[Self.smiFEn] != 0 }
  /// GAMEn: how guests' interrupts are delivered; 1 through the virtual APIC.
  public var guestModeCode: Int { Int(self[Self.gamEn]) }
  /// GALogEn: interrupts of guests that do not run are logged.
  public var logsGuestInterrupts: Bool { self[Self.gaLogEn] != 0 }
  /// GAIntEn: a logged interrupt of a guest interrupts.
  public var interruptsOnGuestInterrupts: Bool { self[Self.gaIntEn] != 0 }
  /// DevTblSegEn: the device table has 2 to this power segments; above 3 reserved.
  public var segmentCode: Int {
    get { Int(self[Self.devTblSegEn]) }
    set { self[Self.devTblSegEn] = UInt64(newValue) }
  }
  /// NumIntRemapMode: an interrupt table has up to 2,048 entries, not 512.
  public var usesLargeInterruptTables: Bool { self[Self.numIntRemapMode] == 1 }
  /// MarcEn: the relocation apertures are in force.
  public var relocates: Bool { self[Self.marcEn] != 0 }
  /// PprAutoRspEn: page requests that find no room are answered.
  public var answersPageRequests: Bool { self[Self.pprAutoRspEn] != 0 }
  /// HADUpdate: whether accessed and dirty bits of host tables are set.
  public var hostUpdateCode: Int { Int(self[Self.hadUpdate]) }
  /// GAUpdateDis: accessed bits of guest tables are left alone.
  public var leavesGuestAccessed: Bool { self[Self.gaUpdateDis] != 0 }
  /// GDUpdateDis: dirty bits of guest tables are left alone.
  public var leavesGuestDirty: Bool { self[Self.gdUpdateDis] != 0 }
  /// XTEn: destinations of interrupts are x2APIC ids of 32 bits.
  public var usesExtendedDestinations: Bool {
    get { self[Self.xtEn] != 0 }
    set { self[Self.xtEn] = newValue ? 1 : 0 }
  }
  /// IntCapXTEn: the unit's own interrupts come from the x2APIC registers, not the MSI capability.
  public var usesExtendedOwnInterrupts: Bool { self[Self.intCapXTEn] != 0 }
  /// GCR3TRPMode: the pointer to a GCR3 table is a system physical address.
  public var hasPhysicalGuestRoots: Bool { self[Self.gcr3TRPMode] != 0 }
  /// IRTCacheDis: entries of interrupt tables are not cached.
  public var cachesNoInterruptEntries: Bool { self[Self.irtCacheDis] != 0 }
}
