extension AMDVi {
  /// Capability block, offset 0x00: which capability it is and what the unit has.
  ///
  /// 32 bits. Specification: AMD IOMMU 3.2.
  @frozen
  public struct CapabilityHeader: WordEntry, HardwareRegister {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// Capability block, offset 0x04: where the register window lies, bits 31:0.
  ///
  /// 32 bits. Specification: AMD IOMMU 3.2.
  @frozen
  public struct CapabilityBaseLow: WordEntry, HardwareRegister {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// Capability block, offset 0x08: where the register window lies, bits 63:32.
  ///
  /// 32 bits. Specification: AMD IOMMU 3.2.
  @frozen
  public struct CapabilityBaseHigh: WordEntry, HardwareRegister {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// Capability block, offset 0x0c: the devices of the unit.
  ///
  /// 32 bits. Specification: AMD IOMMU 3.2.
  @frozen
  public struct CapabilityRange: WordEntry, HardwareRegister {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// Capability block, offset 0x10: address widths, and the messages of the unit.
  ///
  /// 32 bits. Specification: AMD IOMMU 3.2.
  @frozen
  public struct CapabilityMiscellaneous: WordEntry, HardwareRegister {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// Capability block, offset 0x14: the message of the log of guests' interrupts.
  ///
  /// 32 bits. Specification: AMD IOMMU 3.2.
  @frozen
  public struct CapabilityMiscellaneous1: WordEntry, HardwareRegister {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// Registers of the capability block, as offsets from its start. Specification: AMD IOMMU 3.2.
  public enum CapabilityOffset {
    /// ``CapabilityHeader``.
    public static let header = 0x00
    /// ``CapabilityBaseLow``.
    public static let baseLow = 0x04
    /// ``CapabilityBaseHigh``.
    public static let baseHigh = 0x08
    /// ``CapabilityRange``.
    public static let range = 0x0c
    /// ``CapabilityMiscellaneous``.
    public static let miscellaneous = 0x10
    /// ``CapabilityMiscellaneous1``.
    public static let miscellaneous1 = 0x14
    /// Bytes of the block.
    public static let byteCount = 0x18
  }
}

extension AMDVi.CapabilityHeader {
  public static var name: StaticString { "IOMMU capability header" }
  public static var specification: StaticString { "AMD IOMMU 3.2" }

  static var id: BitField { BitField(0...7, "CapID") }
  static var next: BitField { BitField(8...15, "CapPtr") }
  static var type: BitField { BitField(16...18, "CapType") }
  static var revision: BitField { BitField(19...23, "CapRev") }
  static var iotlbSup: BitField { BitField(24...24, "IotlbSup") }
  static var npCache: BitField { BitField(26...26, "NpCache") }
  static var efrSup: BitField { BitField(27...27, "EFRSup") }
  static var capExt: BitField { BitField(28...28, "CapExt") }

  public static var registerFields: [RegisterField] {
    [
      .readOnly(id), .readOnly(next), .readOnly(type), .readOnly(revision), .readOnly(iotlbSup),
      .readOnly(BitField(25...25, "HtTunnel")), .readOnly(npCache), .readOnly(efrSup),
      .readOnly(capExt), .reserved(29...31),
    ]
  }

  /// The block of an IOMMU, with its second word of widths.
  ///
  /// - Parameters:
  ///   - next: Where the next capability is.
  ///   - hasIOTLB: IotlbSup: devices may have translation caches of their own.
  ///   - cachesNotPresent: NpCache: entries that are not present may be cached.
  ///   - hasExtendedFeatures: EFRSup: the register of extended features exists.
  public init(
    next: UInt8 = 0, hasIOTLB: Bool = true, cachesNotPresent: Bool = false,
    hasExtendedFeatures: Bool = true
  ) {
    self.init(rawValue: 0)
    self[Self.id] = 0x0f
    self[Self.next] = UInt64(next)
    self[Self.type] = 3
    self[Self.revision] = 1
    self[Self.iotlbSup] = hasIOTLB ? 1 : 0
    self[Self.npCache] = cachesNotPresent ? 1 : 0
    self[Self.efrSup] = hasExtendedFeatures ? 1 : 0
    self[Self.capExt] = 1
  }

  /// The block is an IOMMU's.
  public var isIOMMU: Bool { self[Self.id] == 0x0f && self[Self.type] == 3 }
  /// IotlbSup: devices may have translation caches of their own.
  public var hasIOTLB: Bool { self[Self.iotlbSup] != 0 }
  /// NpCache: entries that are not present may be cached.
  public var cachesNotPresent: Bool { self[Self.npCache] != 0 }
  /// EFRSup: the register of extended features exists.
  public var hasExtendedFeatures: Bool { self[Self.efrSup] != 0 }
}

extension AMDVi.CapabilityBaseLow {
  public static var name: StaticString { "IOMMU base address, low" }
  public static var specification: StaticString { "AMD IOMMU 3.2" }

  static var enable: BitField { BitField(0...0, "Enable") }
  static var base: BitField { BitField(14...31, "BaseAddress31:14", .address) }

  public static var registerFields: [RegisterField] {
    [.readWrite(enable), .reserved(1...13), .readWrite(base)]
  }

  /// Enable: the window is there, and the block keeps its values until a reset.
  public var isEnabled: Bool { self[Self.enable] != 0 }
  /// Bits 31:14 of the window's address.
  public var address: UInt64 { addressBits(Self.base) }
}

extension AMDVi.CapabilityBaseHigh {
  public static var name: StaticString { "IOMMU base address, high" }
  public static var specification: StaticString { "AMD IOMMU 3.2" }

  static var base: BitField { BitField(0...31, "BaseAddress63:32") }
  public static var registerFields: [RegisterField] { [.readWrite(base)] }
}

extension AMDVi.CapabilityRange {
  public static var name: StaticString { "IOMMU range" }
  public static var specification: StaticString { "AMD IOMMU 3.2" }

  static var valid: BitField { BitField(7...7, "RngValid") }
  static var bus: BitField { BitField(8...15, "BusNumber") }
  static var first: BitField { BitField(16...23, "FirstDevice") }
  static var last: BitField { BitField(24...31, "LastDevice") }

  public static var registerFields: [RegisterField] {
    [
      .readOnly(BitField(0...4, "UnitID")), .reserved(5...6), .readWrite(valid), .readWrite(bus),
      .readWrite(first), .readWrite(last),
    ]
  }

  /// The devices of the unit; `nil` when the register names none.
  public var devices: ClosedRange<Requester>? {
    guard self[Self.valid] != 0, self[Self.first] <= self[Self.last] else { return nil }
    let bus = UInt16(self[Self.bus]) << 8
    return Requester(
      rawValue: bus | UInt16(self[Self.first]))...Requester(rawValue: bus | UInt16(self[Self.last]))
  }
}

extension AMDVi.CapabilityMiscellaneous {
  public static var name: StaticString { "IOMMU miscellaneous information" }
  public static var specification: StaticString { "AMD IOMMU 3.2" }

  static var msiNum: BitField { BitField(0...4, "MsiNum") }
  static var gvaSize: BitField { BitField(5...7, "GVAsize") }
  static var paSize: BitField { BitField(8...14, "PAsize") }
  static var vaSize: BitField { BitField(15...21, "VAsize") }
  static var htAtsResv: BitField { BitField(22...22, "HtAtsResv") }
  static var msiNumPPR: BitField { BitField(27...31, "MsiNumPPR") }

  public static var registerFields: [RegisterField] {
    [
      .readOnly(msiNum), .readOnly(gvaSize), .readOnly(paSize), .readOnly(vaSize),
      .readOnly(htAtsResv), .reserved(23...26), .readOnly(msiNumPPR),
    ]
  }

  /// A unit with these widths.
  ///
  /// - Precondition: Widths are below 128, message numbers below 32.
  public init(
    physicalAddressWidth: Int, virtualAddressWidth: Int = 64, message: Int = 0,
    pageRequestMessage: Int = 1
  ) {
    self.init(rawValue: 0)
    self[Self.msiNum] = UInt64(message)
    self[Self.gvaSize] = 2
    self[Self.paSize] = UInt64(physicalAddressWidth)
    self[Self.vaSize] = UInt64(virtualAddressWidth)
    self[Self.msiNumPPR] = UInt64(pageRequestMessage)
  }

  /// MsiNum: which of the unit's messages tells of events and completions.
  public var message: Int { Int(self[Self.msiNum]) }
  /// MsiNumPPR: which of the unit's messages tells of page requests.
  public var pageRequestMessage: Int { Int(self[Self.msiNumPPR]) }
  /// PAsize: bits of a system physical address.
  public var physicalAddressWidth: Int { Int(self[Self.paSize]) }
  /// VAsize: bits of an address that devices use.
  public var virtualAddressWidth: Int { Int(self[Self.vaSize]) }
}

extension AMDVi.CapabilityMiscellaneous1 {
  public static var name: StaticString { "IOMMU miscellaneous information 1" }
  public static var specification: StaticString { "AMD IOMMU 3.2" }

  static var msiNumGA: BitField { BitField(0...4, "MsiNumGA") }
  public static var registerFields: [RegisterField] {
    [.readOnly(msiNumGA), .readOnly(BitField(5...31, "implementation"))]
  }
  /// MsiNumGA: which of the unit's messages tells of guests' interrupts.
  public var guestMessage: Int { Int(self[Self.msiNumGA]) }
}
