extension AMDVi {
  /// MMIO 0x0150: the numbers of the messages of the unit, as in the capability block.
  ///
  /// 32 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct InterruptVectors: WordEntry, HardwareRegister {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// MMIO 0x0154: the number of the message of the log of guests' interrupts.
  ///
  /// 32 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct GuestInterruptVector: WordEntry, HardwareRegister {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// MMIO 0x0158: the header of the MSI capability once more.
  ///
  /// 32 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct MessageCapability: WordEntry, HardwareRegister {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// MMIO 0x015c: the address of the MSI capability once more, bits 31:0.
  ///
  /// 32 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct MessageAddress: WordEntry, HardwareRegister {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// MMIO 0x0160: the address of the MSI capability once more, bits 63:32.
  ///
  /// 32 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct MessageUpperAddress: WordEntry, HardwareRegister {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// MMIO 0x0164: the data of the MSI capability once more.
  ///
  /// 32 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct MessageData: WordEntry, HardwareRegister {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// MMIO 0x0168: the header of the MSI mapping capability once more.
  ///
  /// 32 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct MessageMapping: WordEntry, HardwareRegister {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// MMIO 0x016c: performance optimisation.
  ///
  /// 32 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct PerformanceOptimization: WordEntry, HardwareRegister {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// MMIO 0x0170, 0x0178, 0x0180: an interrupt of the unit itself, with an x2APIC id.
  ///
  /// 64 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct ExtendedInterruptControl: WordEntry, HardwareRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension AMDVi.InterruptVectors {
  public static var name: StaticString { "message numbers" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  public static var registerFields: [RegisterField] {
    AMDVi.CapabilityMiscellaneous.registerFields
  }
}

extension AMDVi.GuestInterruptVector {
  public static var name: StaticString { "message number of the GA log" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  public static var registerFields: [RegisterField] {
    [.readWrite(BitField(0...4, "MsiNumGA")), .reserved(5...31)]
  }
}

extension AMDVi.MessageCapability {
  public static var name: StaticString { "MSI capability header, copy" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  static var id: BitField { BitField(0...7, "CapID") }
  static var enable: BitField { BitField(16...16, "MsiEn") }
  static var multiple: BitField { BitField(20...22, "MsiMultMessEn") }

  public static var registerFields: [RegisterField] {
    [
      .readOnly(id), .readOnly(BitField(8...15, "CapPtr")), .readWrite(enable),
      .readOnly(BitField(17...19, "MsiMultMessCap")), .readWrite(multiple),
      .readOnly(BitField(23...23, "Msi64En")), .reserved(24...31),
    ]
  }
  /// An MSI capability for four messages, with an address of 64 bits.
  public static var resetValue: UInt64 { 0x0084_0005 }

  /// MsiEn: the unit may interrupt.
  public var isEnabled: Bool { self[Self.enable] != 0 }
  /// MsiMultMessEn: bits of the data that say which of up to 32 messages it is.
  public var messageMask: UInt32 { 1 << UInt32(min(5, self[Self.multiple])) - 1 }
}

extension AMDVi.MessageAddress {
  public static var name: StaticString { "MSI address, copy" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  static var address: BitField { BitField(2...31, "MsiAddr", .address) }
  public static var registerFields: [RegisterField] { [.reserved(0...1), .readWrite(address)] }
}

extension AMDVi.MessageUpperAddress {
  public static var name: StaticString { "MSI upper address, copy" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  public static var registerFields: [RegisterField] {
    [.readWrite(BitField(0...31, "MsiAddr63:32"))]
  }
}

extension AMDVi.MessageData {
  public static var name: StaticString { "MSI data, copy" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  static var data: BitField { BitField(0...15, "MsiData") }
  public static var registerFields: [RegisterField] { [.readWrite(data), .reserved(16...31)] }
}

extension AMDVi.MessageMapping {
  public static var name: StaticString { "MSI mapping capability header, copy" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  public static var registerFields: [RegisterField] {
    [
      .readOnly(BitField(0...7, "CapID")), .readOnly(BitField(8...15, "CapPtr")),
      .readOnly(BitField(16...16, "MsiMapEn")), .readOnly(BitField(17...17, "MsiMapFixd")),
      .reserved(18...26), .readOnly(BitField(27...31, "MsiMapCapType")),
    ]
  }
  /// HyperTransport messages at a fixed place, the last capability.
  public static var resetValue: UInt64 { 0xa803_0008 }
}

extension AMDVi.PerformanceOptimization {
  public static var name: StaticString { "performance optimisation" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  public static var registerFields: [RegisterField] {
    [.reserved(0...12), .readWrite(BitField(13...13, "PerfOptEn")), .reserved(14...31)]
  }
}

extension AMDVi.ExtendedInterruptControl {
  public static var name: StaticString { "x2APIC interrupt control" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  static var dm: BitField { BitField(2...2, "DestMode") }
  static var destinationLow: BitField { BitField(8...31, "Dest23:0") }
  static var vectorField: BitField { BitField(32...39, "Vector") }
  static var delivery: BitField { BitField(40...40, "DeliveryMode") }
  static var destinationHigh: BitField { BitField(56...63, "Dest31:24") }

  public static var registerFields: [RegisterField] {
    [
      .reserved(0...1), .readWrite(dm), .reserved(3...7), .readWrite(destinationLow),
      .readWrite(vectorField), .readWrite(delivery), .reserved(41...55),
      .readWrite(destinationHigh),
    ]
  }

  /// DestMode: the destination names a set of processors.
  public var isLogical: Bool { self[Self.dm] != 0 }
  /// An x2APIC id of 32 bits.
  public var destination: UInt32 {
    UInt32(self[Self.destinationHigh] << 24 | self[Self.destinationLow])
  }
  /// The interrupt's vector.
  public var vector: UInt8 { UInt8(self[Self.vectorField]) }
  /// DeliveryMode: to whichever of the set has least to do.
  public var isArbitrated: Bool { self[Self.delivery] != 0 }
}
