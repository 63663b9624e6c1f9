extension AMDVi {
  /// MMIO 0x0138 (DSFX): what an implementation can do beside the manual.
  ///
  /// 64 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct DeviceSpecificFeatures: WordEntry, HardwareRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// MMIO 0x0140 (DSCX): what of it is switched on.
  ///
  /// 64 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct DeviceSpecificControl: WordEntry, HardwareRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// MMIO 0x0148 (DSSX): what of it waits for software.
  ///
  /// 64 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct DeviceSpecificStatus: WordEntry, HardwareRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension AMDVi.DeviceSpecificFeatures {
  public static var name: StaticString { "device-specific features" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  public static var registerFields: [RegisterField] {
    [
      .readOnly(BitField(0...23, "DevSpecific")), .readOnly(BitField(24...27, "RevMinor")),
      .readOnly(BitField(28...31, "RevMajor")), .reserved(32...63),
    ]
  }
}

extension AMDVi.DeviceSpecificControl {
  public static var name: StaticString { "device-specific control" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  public static var registerFields: [RegisterField] {
    [
      .readWrite(BitField(0...23, "DevSpecific")), .readWrite(BitField(24...27, "RevMinor")),
      .readWrite(BitField(28...31, "RevMajor")), .reserved(32...63),
    ]
  }
}

extension AMDVi.DeviceSpecificStatus {
  public static var name: StaticString { "device-specific status" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  public static var registerFields: [RegisterField] {
    [
      .readOnly(BitField(0...23, "DevSpecific")), .readOnly(BitField(24...27, "RevMinor")),
      .readOnly(BitField(28...31, "RevMajor")), .reserved(32...63),
    ]
  }
}
