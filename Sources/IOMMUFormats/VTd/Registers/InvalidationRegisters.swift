extension VTd {
  /// How much an invalidation command asks for, or has done.
  ///
  /// CIRG, CAIG, IIRG, IAIG and the G field of descriptors 1, 2 and Ah.
  public enum Granularity: UInt8, Sendable {
    /// Reserved in a request; in an answer: nothing was done.
    case none
    /// Everything.
    case global
    /// What belongs to one domain.
    case domain
    /// One device in CCMD_REG, one range of pages in IOTLB_REG.
    case selective
  }

  /// CCMD_REG, 0x028: context-cache invalidation by register. 64 bits. Specification: Intel VT-d
  /// 11.4.6.1.
  @frozen
  public struct ContextCommand: WordEntry, VTdRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// IVA_REG, ECAP.IRO·16: the address of a page-selective invalidation. 64 bits, write-only.
  ///
  /// Specification: Intel VT-d 11.4.6.2.
  @frozen
  public struct InvalidateAddress: WordEntry, VTdRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// IOTLB_REG, ECAP.IRO·16 + 8: IOTLB invalidation by register. 64 bits. Specification: Intel VT-d
  /// 11.4.6.3.
  @frozen
  public struct IOTLBInvalidate: WordEntry, VTdRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension VTd.ContextCommand {
  public static var name: StaticString { "CCMD_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.6.1" }

  static var did: BitField { BitField(0...15, "DID") }
  static var sid: BitField { BitField(16...31, "SID") }
  static var fm: BitField { BitField(32...33, "FM") }
  static var caig: BitField { BitField(59...60, "CAIG") }
  static var cirg: BitField { BitField(61...62, "CIRG") }
  static var icc: BitField { BitField(63...63, "ICC") }

  public static var registerFields: [VTd.RegisterField] {
    [
      .readWrite(did), .writeOnly(sid), .writeOnly(fm), .reserved(34...58), .readOnly(caig),
      .readWrite(cirg), .readWrite(icc),
    ]
  }

  /// A request for hardware: ICC is set.
  public init(
    _ granularity: VTd.Granularity, domainID: UInt16 = 0,
    requester: Requester = Requester(rawValue: 0), functionMask: VTd.FunctionMask = .none
  ) {
    self.init(rawValue: 0)
    self[Self.icc] = 1
    self[Self.cirg] = UInt64(granularity.rawValue)
    self[Self.did] = UInt64(domainID)
    self[Self.sid] = UInt64(requester.rawValue)
    self[Self.fm] = UInt64(functionMask.rawValue)
  }

  /// ICC: software asks for an invalidation; hardware clears it when done.
  public var isPending: Bool {
    get { self[Self.icc] != 0 }
    set { self[Self.icc] = newValue ? 1 : 0 }
  }
  /// CIRG: what software asks for.
  public var requested: VTd.Granularity {
    VTd.Granularity(rawValue: UInt8(self[Self.cirg])) ?? .none
  }
  /// CAIG: what was done.
  public var actual: VTd.Granularity {
    get { VTd.Granularity(rawValue: UInt8(self[Self.caig])) ?? .none }
    set { self[Self.caig] = UInt64(newValue.rawValue) }
  }
  /// DID: the domain's number.
  public var domainID: UInt16 { UInt16(self[Self.did]) }
  /// The device, by its requester-id.
  public var requester: Requester { Requester(rawValue: UInt16(self[Self.sid])) }
  /// FM: the bits of the function that do not count.
  public var functionMask: VTd.FunctionMask {
    VTd.FunctionMask(rawValue: UInt8(self[Self.fm])) ?? .none
  }
}

extension VTd {
  /// FM of a context invalidation: which bits of the function number do not count.
  public enum FunctionMask: UInt8, Sendable, CaseIterable {
    /// All bits count.
    case none
    /// Bit 2 does not count.
    case bit2
    /// Bits 2:1 do not count.
    case bits2To1
    /// Bits 2:0: the function does not count.
    case all

    /// The bits of a requester-id that are left out of the comparison.
    @inlinable
    public var ignoredBits: UInt16 {
      switch self {
      case .none: 0
      case .bit2: 0b100
      case .bits2To1: 0b110
      case .all: 0b111
      }
    }
  }
}

extension VTd.InvalidateAddress {
  public static var name: StaticString { "IVA_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.6.2" }

  static var am: BitField { BitField(0...5, "AM") }
  static var ih: BitField { BitField(6...6, "IH") }
  static var addr: BitField { BitField(12...63, "ADDR", .address) }

  public static var registerFields: [VTd.RegisterField] {
    [.writeOnly(am), .writeOnly(ih), .reserved(7...11), .writeOnly(addr)]
  }

  /// - Precondition: `address` is 4 KiB aligned and `addressMask` below 64.
  public init(address: IOVA, addressMask: Int, hint: Bool = false) {
    precondition(address.isAligned(to: 4096), "an invalidation starts at a page")
    self.init(rawValue: address.rawValue)
    self[Self.am] = UInt64(addressMask)
    self[Self.ih] = hint ? 1 : 0
  }

  /// The first page, of 2^AM.
  public var address: IOVA { IOVA(addressBits(Self.addr)) }
  /// AM: 2^AM pages.
  public var addressMask: Int { Int(self[Self.am]) }
  /// IH: only leaf entries have changed.
  public var hint: Bool { self[Self.ih] != 0 }
}

extension VTd.IOTLBInvalidate {
  public static var name: StaticString { "IOTLB_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.6.3" }

  static var did: BitField { BitField(32...47, "DID") }
  static var dw: BitField { BitField(48...48, "DW") }
  static var dr: BitField { BitField(49...49, "DR") }
  static var iaig: BitField { BitField(57...58, "IAIG") }
  static var iirg: BitField { BitField(60...61, "IIRG") }
  static var ivt: BitField { BitField(63...63, "IVT") }

  public static var registerFields: [VTd.RegisterField] {
    [
      .reserved(0...31), .readWrite(did), .readWrite(dw), .readWrite(dr), .reserved(50...56),
      .readOnly(iaig), .reserved(59...59), .readWrite(iirg), .reserved(62...62), .readWrite(ivt),
    ]
  }

  /// A request for hardware: IVT is set.
  public init(
    _ granularity: VTd.Granularity, domainID: UInt16 = 0, drainsReads: Bool = false,
    drainsWrites: Bool = false
  ) {
    self.init(rawValue: 0)
    self[Self.ivt] = 1
    self[Self.iirg] = UInt64(granularity.rawValue)
    self[Self.did] = UInt64(domainID)
    self[Self.dr] = drainsReads ? 1 : 0
    self[Self.dw] = drainsWrites ? 1 : 0
  }

  /// IVT: software asks for an invalidation; hardware clears it when done.
  public var isPending: Bool {
    get { self[Self.ivt] != 0 }
    set { self[Self.ivt] = newValue ? 1 : 0 }
  }
  /// IIRG: what software asks for.
  public var requested: VTd.Granularity {
    VTd.Granularity(rawValue: UInt8(self[Self.iirg])) ?? .none
  }
  /// IAIG: what was done.
  public var actual: VTd.Granularity {
    get { VTd.Granularity(rawValue: UInt8(self[Self.iaig])) ?? .none }
    set { self[Self.iaig] = UInt64(newValue.rawValue) }
  }
  /// DID: the domain's number.
  public var domainID: UInt16 { UInt16(self[Self.did]) }
}
