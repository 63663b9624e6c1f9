extension VTd {
  /// PERFCAP_REG, 0x300: counters that the unit has. 64 bits. Specification: Intel VT-d 11.4.13.
  @frozen
  public struct PerformanceCapability: WordEntry, VTdRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// performance offset register, 0x310 to 0x31c: where another group of performance registers lies. 32 bits. Specification: Intel VT-d 11.4.13.
  @frozen
  public struct PerformanceOffset: WordEntry, VTdRegister {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// PERFINTRSTS_REG, 0x324: a counter has run over. 32 bits. Specification: Intel VT-d 11.4.13.
  @frozen
  public struct PerformanceInterruptStatus: WordEntry, VTdRegister {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// PERFEVNTCAP_REG, 0x380 + 8·n: events that a group can count. 64 bits. Specification: Intel VT-d 11.4.13.
  @frozen
  public struct PerformanceEventCapability: WordEntry, VTdRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension VTd.PerformanceCapability {
  public static var name: StaticString { "PERFCAP_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.13" }
  public static var registerFields: [VTd.RegisterField] {
    [
      .readOnly(BitField(0...15, "CN")), .readOnly(BitField(16...22, "CW")), .reserved(23...23),
      .readOnly(BitField(24...28, "EG")), .reserved(29...31), .readOnly(BitField(32...36, "FIL")),
      .reserved(37...49), .readOnly(BitField(50...50, "INT")), .reserved(51...51),
      .readOnly(BitField(52...54, "STRIDE")), .reserved(55...63),
    ]
  }
}

extension VTd.PerformanceOffset {
  public static var name: StaticString { "performance offset register" }
  public static var specification: StaticString { "Intel VT-d 11.4.13" }
  public static var registerFields: [VTd.RegisterField] {
    [
      .readOnly(BitField(0...31, "OFFSET"))
    ]
  }
}

extension VTd.PerformanceInterruptStatus {
  public static var name: StaticString { "PERFINTRSTS_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.13" }
  public static var registerFields: [VTd.RegisterField] {
    [
      .writeOneToClear(BitField(0...0, "PIS")), .reserved(1...31),
    ]
  }
}

extension VTd.PerformanceEventCapability {
  public static var name: StaticString { "PERFEVNTCAP_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.13" }
  public static var registerFields: [VTd.RegisterField] {
    [
      .readOnly(BitField(0...63, "ES"))
    ]
  }
}
