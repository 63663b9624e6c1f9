extension VTd {
  /// What a unit and its platform allow in table entries: widths, page sizes, optional bits.
  ///
  /// Read from the capability registers; they decide which bits of an entry are reserved.
  public struct Limits: Sendable, Hashable {
    /// HAW: physical addresses have this many bits, 12 to 52. From the DMAR table.
    public var hostAddressWidth: Int
    /// MGAW: IOVAs have at most this many bits. Specification: 11.4.2, MGAW.
    public var maximumGuestAddressWidth: Int
    /// SAGAW: bit n set means tables of n + 2 levels are supported. Specification: 11.4.2, SAGAW.
    public var supportedWidths: UInt8
    /// SSLPS bit 0: a level-2 entry may map 2 MiB.
    public var has2MiBPages: Bool
    /// SSLPS bit 1: a level-3 entry may map 1 GiB.
    public var has1GiBPages: Bool
    /// ND: a domain-id has this many bits. Specification: 11.4.2, ND.
    public var domainIDBits: Int
    /// ECAP.SC: the SNP bit of a leaf is legal.
    public var hasSnoopControl: Bool
    /// ECAP.PT: context entries of type pass-through are legal.
    public var hasPassThrough: Bool
    /// ECAP.DT: context entries of type 01 are legal.
    public var hasDeviceTLBs: Bool
    /// Bit 62 of a leaf is the TM bit of revisions before 4.0 rather than reserved.
    public var hasTransientMappings: Bool
    /// What else the unit has, of all that scalable mode depends on.
    public var features: Features
    /// PSS: PASIDs have this many bits, 1 to 20. Specification: 11.4.3, PSS.
    public var pasidBits: Int
    /// The major version of the architecture, VER_REG. Specification: 11.4.1.
    public var majorVersion: Int
    /// Nobody knows whether the unit can snoop table walks, so that it is held against no table
    /// that they do not. ``Features/walkSnoop`` alone makes PWSNP legal, and asks for it.
    public var toleratesUnsnoopedWalks = false

    /// Everything legal: for reading tables of a unit whose capabilities are not known. What any
    /// unit lets pass, these do.
    public static let permissive: Limits = {
      var limits = Limits(
        hostAddressWidth: 52, maximumGuestAddressWidth: 57, supportedWidths: 0b01110,
        has2MiBPages: true, has1GiBPages: true, domainIDBits: 16, hasSnoopControl: true,
        hasPassThrough: true, hasDeviceTLBs: true, hasTransientMappings: true, features: .all,
        pasidBits: 20)
      limits.toleratesUnsnoopedWalks = true
      return limits
    }()

    /// Limits of which all is known.
    public init(
      hostAddressWidth: Int, maximumGuestAddressWidth: Int, supportedWidths: UInt8,
      has2MiBPages: Bool, has1GiBPages: Bool, domainIDBits: Int, hasSnoopControl: Bool,
      hasPassThrough: Bool, hasDeviceTLBs: Bool, hasTransientMappings: Bool,
      features: Features = [], pasidBits: Int = 1, majorVersion: Int = 1
    ) {
      precondition(32...52 ~= hostAddressWidth, "a host address width is 32 to 52 bits")
      precondition(1...20 ~= pasidBits, "a PASID has 1 to 20 bits")
      self.hostAddressWidth = hostAddressWidth
      self.maximumGuestAddressWidth = maximumGuestAddressWidth
      self.supportedWidths = supportedWidths
      self.has2MiBPages = has2MiBPages
      self.has1GiBPages = has1GiBPages
      self.domainIDBits = domainIDBits
      self.hasSnoopControl = hasSnoopControl
      self.hasPassThrough = hasPassThrough
      self.hasDeviceTLBs = hasDeviceTLBs
      self.hasTransientMappings = hasTransientMappings
      self.features = features
      self.pasidBits = pasidBits
      self.majorVersion = majorVersion
    }

    /// The limits that a unit's capability registers state.
    ///
    /// - Parameters:
    ///   - capability: CAP_REG.
    ///   - extendedCapability: ECAP_REG.
    ///   - hostAddressWidth: Where the DMAR table says it. Without it the width is taken to be that
    ///     of the unit's guest addresses, at most 52 (*assumed*; so it is in QEMU and in clients).
    ///   - majorVersion: From VER_REG.
    public init(
      capability: Capability, extendedCapability: ExtendedCapability, hostAddressWidth: Int? = nil,
      majorVersion: Int = 1
    ) {
      self.init(
        hostAddressWidth: max(32, min(52, hostAddressWidth ?? capability.maximumGuestAddressWidth)),
        maximumGuestAddressWidth: capability.maximumGuestAddressWidth,
        supportedWidths: UInt8(capability[Capability.sagaw]),
        has2MiBPages: capability[Capability.sslps] & 1 != 0,
        has1GiBPages: capability[Capability.sslps] & 2 != 0,
        domainIDBits: min(16, 4 + 2 * Int(capability[Capability.nd])),
        hasSnoopControl: extendedCapability[ExtendedCapability.sc] != 0,
        hasPassThrough: extendedCapability[ExtendedCapability.pt] != 0,
        hasDeviceTLBs: extendedCapability[ExtendedCapability.dt] != 0,
        hasTransientMappings: false,
        features: Features(capability: capability, extendedCapability: extendedCapability),
        pasidBits: min(20, Int(extendedCapability[ExtendedCapability.pss]) + 1),
        majorVersion: majorVersion)
    }

    /// Whether walks may set accessed and dirty bits: fault 7Ch or 90h when not.
    ///
    /// *Assumed*: a unit that cannot choose (ECAP.SMPWCS clear) sets them; one that can, only in
    /// walks that snoop the processors' caches. Specification: Intel VT-d 3.6, 3.7, 9.6.
    ///
    /// - Parameter snoopsWalks: PWSNP of the PASID table entry.
    public func allowsMarks(snoopsWalks: Bool) -> Bool {
      snoopsWalks || toleratesUnsnoopedWalks || !features.contains(.walkSnoop)
    }

    /// Bits of address that a second-stage table of `levels` translates: CAP.MGAW or its own width.
    @inlinable
    public func secondStageWidth(levels: Int) -> Int {
      min(maximumGuestAddressWidth, Paging.addressWidth(levels: levels))
    }

    /// Whether tables of this many levels are supported (3 to 5 are defined).
    @inlinable
    public func supports(levels: Int) -> Bool {
      3...5 ~= levels && supportedWidths & (1 << UInt8(levels - 2)) != 0
    }
  }
}
