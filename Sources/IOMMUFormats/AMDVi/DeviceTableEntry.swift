extension AMDVi {
  /// An entry of the device table: which tables translate a device's requests and interrupts, and what
  /// it may ask.
  ///
  /// Thirty-two bytes, by the device's number as the unit sees it. Specification: AMD IOMMU 2.2.2.
  @frozen
  public struct DeviceTableEntry: WideEntry {
    public var quadwords: Quadwords<4>
    @inlinable public init(quadwords: Quadwords<4>) { self.quadwords = quadwords }
  }
}

extension AMDVi.DeviceTableEntry {
  public static var name: StaticString { "device table entry" }
  public static var specification: StaticString { "AMD IOMMU 2.2.2" }
  public static var exampleVariants: [AMDVi.Limits] { AMDVi.Limits.examples }

  @inlinable static var v: BitField { BitField(0...0, "V") }
  @inlinable static var tv: BitField { BitField(1...1, "TV") }
  @inlinable static var had: BitField { BitField(7...8, "HAD") }
  @inlinable static var modeField: BitField { BitField(9...11, "Mode") }
  @inlinable static var rootField: BitField { BitField(12...51, "HPTRoot", .address) }
  @inlinable static var ppr: BitField { BitField(52...52, "PPR") }
  @inlinable static var gprp: BitField { BitField(53...53, "GPRP") }
  @inlinable static var giov: BitField { BitField(54...54, "GIoV") }
  @inlinable static var gv: BitField { BitField(55...55, "GV") }
  @inlinable static var glx: BitField { BitField(56...57, "GLX") }
  @inlinable static var gcr3Low: BitField { BitField(58...60, "GCR3[14:12]") }
  @inlinable static var ir: BitField { BitField(61...61, "IR") }
  @inlinable static var iw: BitField { BitField(62...62, "IW") }
  @inlinable static var domainField: BitField { BitField(64...79, "DomainID") }
  @inlinable static var gcr3Middle: BitField { BitField(80...95, "GCR3[30:15]") }
  @inlinable static var i: BitField { BitField(96...96, "I") }
  @inlinable static var se: BitField { BitField(97...97, "SE") }
  @inlinable static var sa: BitField { BitField(98...98, "SA") }
  @inlinable static var ioctl: BitField { BitField(99...100, "IoCtl") }
  @inlinable static var cache: BitField { BitField(101...101, "Cache") }
  @inlinable static var sd: BitField { BitField(102...102, "SD") }
  @inlinable static var ex: BitField { BitField(103...103, "EX") }
  @inlinable static var sysMgt: BitField { BitField(104...105, "SysMgt") }
  @inlinable static var gcr3High: BitField { BitField(107...127, "GCR3[51:31]") }
  @inlinable static var iv: BitField { BitField(128...128, "IV") }
  @inlinable static var intTabLen: BitField { BitField(129...132, "IntTabLen") }
  @inlinable static var ig: BitField { BitField(133...133, "IG") }
  @inlinable static var intTabRoot: BitField { BitField(134...179, "IntTabRoot", .address) }
  @inlinable static var guestPagingMode: BitField { BitField(182...183, "GuestPagingMode") }
  @inlinable static var initPass: BitField { BitField(184...184, "InitPass") }
  @inlinable static var eintPass: BitField { BitField(185...185, "EIntPass") }
  @inlinable static var nmiPass: BitField { BitField(186...186, "NMIPass") }
  @inlinable static var intCtl: BitField { BitField(188...189, "IntCtl") }
  @inlinable static var lint0Pass: BitField { BitField(190...190, "Lint0Pass") }
  @inlinable static var lint1Pass: BitField { BitField(191...191, "Lint1Pass") }

  public static func fields(_ limits: AMDVi.Limits) -> [BitField] {
    let translation: [BitField] = [
      v, tv, .reserved(2...6), had, modeField, rootField,
      limits.allows([.pageRequests, .pageRequestHandling], ppr),
      limits.allows([.pageRequests, .pageRequestHandling], gprp),
      limits.allows(.guestTablesWithoutPASID, giov), limits.allows(.guestTables, gv),
      limits.allows(.guestTables, glx), limits.allows(.guestTables, gcr3Low), ir, iw,
      .reserved(63...63),
      domainField, limits.allows(.guestTables, gcr3Middle), i, se, sa, ioctl, cache, sd, ex, sysMgt,
      .reserved(106...106), limits.allows(.guestTables, gcr3High),
    ]
    let isGuestUnit = limits.features.contains(.guestUnits)
    let interrupts: [BitField] = [
      iv, intTabLen, ig, intTabRoot, .reserved(180...181),
      limits.guestLevels > 4 ? guestPagingMode : .reserved(guestPagingMode.bits), initPass,
      eintPass, nmiPass, BitField(187...187, "HPTMode", .ignored), intCtl, lint0Pass, lint1Pass,
    ]
    let guest: [BitField] =
      isGuestUnit
      ? [
        .reserved(192...206), BitField(207...207, "vImuEn"), BitField(208...223, "GDeviceID"),
        BitField(224...239, "GuestID"), .reserved(240...245),
      ]
      : [.reserved(192...207), .reserved(208...223), .reserved(224...239), .reserved(240...245)]
    return translation + interrupts + guest
      + [
        BitField(246...246, "AttrV"), BitField(247...247, "Mode0FC"),
        BitField(248...255, "SnoopAttribute"),
      ]
  }

  /// An entry with V and TV set, IR and IW, and nothing about interrupts.
  ///
  /// - Parameters:
  ///   - mode: Levels of the host table, 1 to 6; 0 for none.
  ///   - root: The uppermost table's first byte; 0 in mode 0.
  ///   - domainID: By which the unit's TLB tells translations apart.
  ///   - permissions: IR and IW.
  /// - Precondition: `root` is 4 KiB aligned and below 2^52.
  public init(
    mode: Int, root: PhysicalAddress = PhysicalAddress(0), domainID: UInt16,
    permissions: Permissions = .readWrite
  ) {
    precondition(0...7 ~= mode, "a mode has three bits")
    precondition(
      root.rawValue & ~Self.rootField.mask == 0, "a page table lies at a multiple of 4 KiB")
    self.init(low: root.rawValue, high: 0)
    self[Self.v] = 1
    self[Self.tv] = 1
    self[Self.modeField] = UInt64(mode)
    self[Self.ir] = permissions.contains(.read) ? 1 : 0
    self[Self.iw] = permissions.contains(.write) ? 1 : 0
    self[Self.domainField] = UInt64(domainID)
  }

  // MARK: Bits 127:0

  /// V: bits 127:1 are valid; without it addresses pass untranslated.
  @inlinable public var isValid: Bool {
    get { self[Self.v] != 0 }
    set { self[Self.v] = newValue ? 1 : 0 }
  }
  /// TV: the translation fields are valid; without it requests that need them are stopped.
  @inlinable public var isTranslationValid: Bool {
    get { self[Self.tv] != 0 }
    set { self[Self.tv] = newValue ? 1 : 0 }
  }
  /// HAD: which marks walks of the host table leave.
  @inlinable public var hostMarks: UInt8 {
    get { UInt8(truncatingIfNeeded: self[Self.had]) }
    set { self[Self.had] = UInt64(newValue) }
  }
  /// Mode: levels of the host table; 0 for none, 7 is reserved.
  @inlinable public var mode: Int {
    get { Int(truncatingIfNeeded: self[Self.modeField]) }
    set { self[Self.modeField] = UInt64(newValue) }
  }
  /// The host table's first byte.
  @inlinable public var root: PhysicalAddress {
    get { PhysicalAddress(addressBits(Self.rootField)) }
    set {
      quadwords[0] = quadwords[0] & ~Self.rootField.mask | newValue.rawValue & Self.rootField.mask
    }
  }
  /// PPR: page requests of the device are taken.
  @inlinable public var allowsPageRequests: Bool { self[Self.ppr] != 0 }
  /// GIoV: requests without PASID go through the guest table of PASID 0.
  @inlinable public var usesGuestTablesWithoutPASID: Bool {
    get { self[Self.giov] != 0 }
    set { self[Self.giov] = newValue ? 1 : 0 }
  }
  /// GV: requests with PASID go through guest tables.
  @inlinable public var usesGuestTables: Bool {
    get { self[Self.gv] != 0 }
    set { self[Self.gv] = newValue ? 1 : 0 }
  }
  /// GLX: levels of the GCR3 table less one; 3 is reserved.
  @inlinable public var guestRootLevelCode: Int {
    get { Int(truncatingIfNeeded: self[Self.glx]) }
    set { self[Self.glx] = UInt64(newValue) }
  }
  /// The GCR3 table's first byte, put together from its three parts; a guest's address where the host
  /// has a table too.
  @inlinable public var guestRootTable: PhysicalAddress {
    get {
      PhysicalAddress(
        self[Self.gcr3Low] &<< 12 | self[Self.gcr3Middle] &<< 15 | self[Self.gcr3High] &<< 31)
    }
    set {
      self[Self.gcr3Low] = newValue.rawValue >> 12 & 7
      self[Self.gcr3Middle] = newValue.rawValue >> 15 & 0xffff
      self[Self.gcr3High] = newValue.rawValue >> 31 & 0x1f_ffff
    }
  }
  /// IR and IW: what the device may do at all.
  @inlinable public var permissions: Permissions {
    Permissions(rawValue: UInt8(truncatingIfNeeded: self[Self.ir] | self[Self.iw] &<< 1))
  }
  /// The number by which the unit's TLB tells translations apart.
  @inlinable public var domainID: UInt16 {
    get { UInt16(truncatingIfNeeded: self[Self.domainField]) }
    set { self[Self.domainField] = UInt64(newValue) }
  }
  /// I: the device may keep translations of its own.
  @inlinable public var allowsDeviceTLB: Bool {
    get { self[Self.i] != 0 }
    set { self[Self.i] = newValue ? 1 : 0 }
  }
  /// SE: of the device's page faults only the first is logged.
  @inlinable public var suppressesFurtherFaults: Bool { self[Self.se] != 0 }
  /// SA: none of the device's page faults is logged.
  @inlinable public var suppressesFaults: Bool {
    get { self[Self.sa] != 0 }
    set { self[Self.sa] = newValue ? 1 : 0 }
  }
  /// IoCtl: what becomes of requests to port I/O; 3 is reserved.
  @inlinable public var portControl: UInt8 { UInt8(truncatingIfNeeded: self[Self.ioctl]) }
  /// EX: the unit's exclusion range is the device's too.
  @inlinable public var usesExclusionRange: Bool {
    get { self[Self.ex] != 0 }
    set { self[Self.ex] = newValue ? 1 : 0 }
  }
  /// SysMgt: what becomes of system management messages.
  @inlinable public var systemManagement: UInt8 {
    get { UInt8(truncatingIfNeeded: self[Self.sysMgt]) }
    set { self[Self.sysMgt] = UInt64(newValue & 3) }
  }

  // MARK: Bits 255:128

  /// IV: bits 255:128 are valid, whatever V says; without it interrupts pass as they are.
  @inlinable public var isInterruptValid: Bool {
    get { self[Self.iv] != 0 }
    set { self[Self.iv] = newValue ? 1 : 0 }
  }
  /// IntTabLen: the interrupt table has 2^n entries; 12 and more are illegal.
  @inlinable public var interruptTableLengthCode: Int {
    get { Int(truncatingIfNeeded: self[Self.intTabLen]) }
    set { self[Self.intTabLen] = UInt64(newValue) }
  }
  /// IG: interrupts that have no entry are stopped without an event.
  @inlinable public var suppressesInterruptFaults: Bool { self[Self.ig] != 0 }
  /// The interrupt remapping table's first byte, at a multiple of 128.
  @inlinable public var interruptTable: PhysicalAddress {
    get { PhysicalAddress(addressBits(Self.intTabRoot)) }
    set {
      quadwords[2] = quadwords[2] & ~Self.intTabRoot.mask | newValue.rawValue & Self.intTabRoot.mask
    }
  }
  /// GuestPagingMode: guest tables have this many levels less four; 2 and 3 are reserved.
  @inlinable public var guestPagingModeCode: Int {
    get { Int(truncatingIfNeeded: self[Self.guestPagingMode]) }
    set { self[Self.guestPagingMode] = UInt64(newValue) }
  }
  /// IntCtl: what becomes of fixed and arbitrated interrupts.
  @inlinable public var interruptControl: AMDVi.InterruptControl {
    get { AMDVi.InterruptControl(rawValue: UInt8(truncatingIfNeeded: self[Self.intCtl])) }
    set { self[Self.intCtl] = UInt64(newValue.rawValue & 3) }
  }
  /// InitPass, EIntPass, NMIPass, Lint0Pass and Lint1Pass.
  public var passes: AMDVi.InterruptPasses {
    get {
      let fields: [(BitField, AMDVi.InterruptPasses)] = Self.passFields
      return fields.reduce(into: []) { if self[$1.0] != 0 { $0.insert($1.1) } }
    }
    set {
      for (field, pass) in Self.passFields { self[field] = newValue.contains(pass) ? 1 : 0 }
    }
  }

  private static var passFields: [(BitField, AMDVi.InterruptPasses)] {
    [
      (initPass, .initialization), (eintPass, .external), (nmiPass, .nonMaskable),
      (lint0Pass, .localInterrupt0), (lint1Pass, .localInterrupt1),
    ]
  }
}

extension AMDVi {
  /// IntCtl of a device table entry.
  @frozen
  public struct InterruptControl: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt8
    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Interrupts are stopped without a word.
    @inlinable public static var abort: Self { Self(rawValue: 0) }
    /// Interrupts pass as they are.
    @inlinable public static var forward: Self { Self(rawValue: 1) }
    /// Interrupts are remapped.
    @inlinable public static var remap: Self { Self(rawValue: 2) }
    /// Illegal.
    @inlinable public static var reserved: Self { Self(rawValue: 3) }
  }

  /// Which interrupts, of those that no table remaps, pass.
  @frozen
  public struct InterruptPasses: OptionSet, Hashable, Sendable {
    public var rawValue: UInt8
    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// INIT.
    @inlinable public static var initialization: Self { Self(rawValue: 1 << 0) }
    /// ExtINT.
    @inlinable public static var external: Self { Self(rawValue: 1 << 1) }
    /// NMI.
    @inlinable public static var nonMaskable: Self { Self(rawValue: 1 << 2) }
    /// LINT0.
    @inlinable public static var localInterrupt0: Self { Self(rawValue: 1 << 3) }
    /// LINT1.
    @inlinable public static var localInterrupt1: Self { Self(rawValue: 1 << 4) }
  }

  /// Bytes of one device table entry.
  @inlinable public static var deviceTableEntryByteCount: UInt64 { 32 }
}
