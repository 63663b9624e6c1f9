extension VTd {
  /// A PASID table entry: how the requests of one address space are translated.
  ///
  /// Sixty-four bytes, 64 to a 4 KiB table, by PASID bits 5:0. Specification: Intel VT-d 9.6.
  @frozen
  public struct PASIDTableEntry: WideEntry {
    public var quadwords: Quadwords<8>
    @inlinable public init(quadwords: Quadwords<8>) { self.quadwords = quadwords }
  }

  /// The PASID-granular translation type (PGTT) of a PASID table entry, bits 8:6.
  ///
  /// Open: a code that has no name here keeps its value, and is never supported.
  @frozen
  public struct PASIDTranslationType: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt8
    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// First-stage tables.
    @inlinable public static var firstStage: Self { Self(rawValue: 1) }
    /// Second-stage tables.
    @inlinable public static var secondStage: Self { Self(rawValue: 2) }
    /// First-stage tables of a guest, in second-stage tables of its host.
    @inlinable public static var nested: Self { Self(rawValue: 3) }
    /// The IOVA is the physical address.
    @inlinable public static var passThrough: Self { Self(rawValue: 4) }
  }
}

extension VTd.PASIDTableEntry {
  public static var name: StaticString { "PASID table entry" }
  public static var specification: StaticString { "Intel VT-d 9.6" }
  public static var exampleVariants: [VTd.Limits] { VTd.Limits.examples }

  @inlinable static var p: BitField { BitField(0...0, "P") }
  @inlinable static var fpd: BitField { BitField(1...1, "FPD") }
  @inlinable static var aw: BitField { BitField(2...4, "AW") }
  @inlinable static var pgtt: BitField { BitField(6...8, "PGTT") }
  @inlinable static var ssade: BitField { BitField(9...9, "SSADE") }
  @inlinable static var ssptptr: BitField { BitField(12...63, "SSPTPTR", .address) }
  @inlinable static var did: BitField { BitField(64...79, "DID") }
  @inlinable static var pwsnp: BitField { BitField(87...87, "PWSNP") }
  @inlinable static var pgsnp: BitField { BitField(88...88, "PGSNP") }
  @inlinable static var sre: BitField { BitField(128...128, "SRE") }
  @inlinable static var fspm: BitField { BitField(130...131, "FSPM") }
  @inlinable static var wpe: BitField { BitField(132...132, "WPE") }
  @inlinable static var eafe: BitField { BitField(135...135, "EAFE") }
  @inlinable static var fsptptr: BitField { BitField(140...191, "FSPTPTR", .address) }

  public static func fields(_ limits: VTd.Limits) -> [BitField] {
    let width = limits.hostAddressWidth
    let tables = limits.features.contains(.permissionTables)
    var fields = [
      p, fpd, aw, .reserved(5...5), pgtt,
      limits.allows([.secondStage, .secondStageAccessedBits], ssade), .reserved(10...11),
      ssptptr.limited(toBit: width - 1), .reserved(width...63), did,
      .reserved(80...86), limits.allows(.walkSnoop, pwsnp),
      limits.hasSnoopControl ? pgsnp : .reserved(pgsnp.bits),
      limits.allows(.memoryTypes, BitField(89...89, "CD")),
      limits.allows(.memoryTypes, BitField(90...90, "EMTE")), .reserved(91...95),
      limits.allows(.memoryTypes, BitField(96...127, "PAT")),
      limits.allows(.supervisorRequests, sre), .reserved(129...129), fspm, wpe,
      .ignored(133...134), limits.allows(.extendedAccessedBits, eafe), .reserved(136...139),
      fsptptr.limited(toBit: width + 127), .reserved((width + 128)...191),
      .reserved(192...255),
    ]
    fields +=
      tables
      ? [
        BitField(256...257, "HPTSZ"), BitField(258...258, "HPTPFD"), .reserved(259...267),
        BitField(268...(width + 255), "HPTPTR", .address), .reserved((width + 256)...319),
        BitField(320...335, "HPTDID"), .reserved(336...383),
      ] : [.reserved(256...319), .reserved(320...383)]
    return fields + [.reserved(384...447), .reserved(448...511)]
  }

  /// A present entry of domain `domainID` without tables: pass-through, or the start of another.
  public init(type: VTd.PASIDTranslationType, domainID: UInt16) {
    self.init()
    self[Self.p] = 1
    self[Self.pgtt] = UInt64(type.rawValue)
    self[Self.did] = UInt64(domainID)
  }

  /// P: hardware looks at the rest of the entry.
  @inlinable public var isPresent: Bool { self[Self.p] != 0 }
  /// FPD: faults of this PASID are not recorded. Counts also in an entry that is not present.
  @inlinable public var suppressesFaultReports: Bool { self[Self.fpd] != 0 }
  /// PGTT: how requests are translated.
  @inlinable
  public var translationType: VTd.PASIDTranslationType {
    get { VTd.PASIDTranslationType(rawValue: UInt8(truncatingIfNeeded: self[Self.pgtt])) }
    set { self[Self.pgtt] = UInt64(newValue.rawValue) }
  }
  /// Levels of the second-stage table; 3 to 5 are legal, others are what the bits say.
  @inlinable
  public var secondStageLevels: Int {
    get { Int(truncatingIfNeeded: self[Self.aw]) &+ 2 }
    set { self[Self.aw] = UInt64(newValue - 2) }
  }
  /// SSADE: hardware keeps accessed and dirty bits in second-stage entries.
  @inlinable
  public var marksSecondStage: Bool {
    get { self[Self.ssade] != 0 }
    set { self[Self.ssade] = newValue ? 1 : 0 }
  }
  /// The second-stage table's first byte.
  @inlinable
  public var secondStageTable: PhysicalAddress {
    get { PhysicalAddress(addressBits(Self.ssptptr)) }
    set { self[Self.ssptptr] = newValue.rawValue >> Self.ssptptr.shift }
  }
  /// DID: the domain's number.
  @inlinable public var domainID: UInt16 { UInt16(truncatingIfNeeded: self[Self.did]) }
  /// PWSNP: walks of the tables see the processors' caches.
  @inlinable
  public var snoopsWalks: Bool {
    get { self[Self.pwsnp] != 0 }
    set { self[Self.pwsnp] = newValue ? 1 : 0 }
  }
  /// SRE: requests of supervisor privilege are allowed.
  @inlinable
  public var allowsSupervisor: Bool {
    get { self[Self.sre] != 0 }
    set { self[Self.sre] = newValue ? 1 : 0 }
  }
  /// FSPM, the coded width of the first-stage table: four less than its levels; 0 and 1 are legal.
  @inlinable
  public var firstStageLevels: Int {
    get { Int(truncatingIfNeeded: self[Self.fspm]) &+ 4 }
    set { self[Self.fspm] = UInt64(newValue - 4) }
  }
  /// WPE: pages without R/W are not written by supervisor requests either.
  @inlinable
  public var protectsFromSupervisor: Bool {
    get { self[Self.wpe] != 0 }
    set { self[Self.wpe] = newValue ? 1 : 0 }
  }
  /// EAFE: hardware keeps the extended accessed bit in first-stage entries.
  @inlinable
  public var marksExtendedAccessed: Bool {
    get { self[Self.eafe] != 0 }
    set { self[Self.eafe] = newValue ? 1 : 0 }
  }
  /// The first-stage table's first byte: a host address, or a guest address when nested.
  @inlinable
  public var firstStageTable: PhysicalAddress {
    get { PhysicalAddress(addressBits(Self.fsptptr)) }
    set { self[Self.fsptptr] = newValue.rawValue >> Self.fsptptr.shift }
  }

  /// The entry with the pointers zero that its type does not use: hardware does not look at them.
  package var withoutUnusedPointers: Self {
    var entry = self
    if !translationType.hasSecondStage { entry.secondStageTable = PhysicalAddress(0) }
    if !translationType.hasFirstStage { entry.firstStageTable = PhysicalAddress(0) }
    return entry
  }
}

extension VTd.PASIDTranslationType {
  /// Whether second-stage tables are walked.
  @inlinable public var hasSecondStage: Bool { self == .secondStage || self == .nested }
  /// Whether first-stage tables are walked.
  @inlinable public var hasFirstStage: Bool { self == .firstStage || self == .nested }
}

extension VTd.Limits {
  /// Whether a unit has the entry's type, and the widths that the type uses. Fault 5Bh when not.
  public func supports(_ entry: VTd.PASIDTableEntry) -> Bool {
    let type = entry.translationType
    let isSupported =
      switch type {
      case .firstStage: features.contains(.firstStage)
      case .secondStage: features.contains(.secondStage)
      case .nested: features.contains(.nesting)
      case .passThrough: hasPassThrough
      default: false
      }
    guard isSupported else { return false }
    if type.hasFirstStage {
      let levels = entry.firstStageLevels
      guard levels == 4 || levels == 5 && features.contains(.fiveLevelFirstStage) else {
        return false
      }
    }
    guard type.hasSecondStage else { return true }
    guard supports(levels: entry.secondStageLevels) else { return false }
    // The guest's own table has to lie where the second stage reaches.
    let width = UInt64(secondStageWidth(levels: entry.secondStageLevels))
    return type != .nested || entry.firstStageTable.rawValue >> width == 0
  }
}
