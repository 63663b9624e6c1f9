extension VTd {
  /// MTRRCAP_REG, 0x100: memory type ranges that the unit has. 64 bits. Specification: Intel VT-d 11.4.12.
  @frozen
  public struct MemoryTypeCapability: WordEntry, VTdRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// MTRRDEF_REG, 0x108: the memory type outside all ranges. 64 bits. Specification: Intel VT-d 11.4.12.
  @frozen
  public struct MemoryTypeDefault: WordEntry, VTdRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// fixed-range MTRR, 0x120 to 0x170: eight memory types, one byte each. 64 bits. Specification: Intel VT-d 11.4.12.
  @frozen
  public struct FixedMemoryTypes: WordEntry, VTdRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// variable-range MTRR base, 0x180 + 16·n: where a range starts, and its type. 64 bits. Specification: Intel VT-d 11.4.12.
  @frozen
  public struct VariableMemoryTypeBase: WordEntry, VTdRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// variable-range MTRR mask, 0x188 + 16·n: how long a range is. 64 bits. Specification: Intel VT-d 11.4.12.
  @frozen
  public struct VariableMemoryTypeMask: WordEntry, VTdRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension VTd.MemoryTypeCapability {
  public static var name: StaticString { "MTRRCAP_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.12" }
  public static var registerFields: [VTd.RegisterField] {
    [
      .readOnly(BitField(0...7, "VCNT")), .readOnly(BitField(8...8, "FIX")), .reserved(9...9),
      .readOnly(BitField(10...10, "WC")), .reserved(11...63),
    ]
  }
}

extension VTd.MemoryTypeDefault {
  public static var name: StaticString { "MTRRDEF_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.12" }
  public static var registerFields: [VTd.RegisterField] {
    [
      .readWrite(BitField(0...7, "TYPE")), .reserved(8...9), .readWrite(BitField(10...10, "FE")),
      .readWrite(BitField(11...11, "E")), .reserved(12...63),
    ]
  }
}

extension VTd.FixedMemoryTypes {
  public static var name: StaticString { "fixed-range MTRR" }
  public static var specification: StaticString { "Intel VT-d 11.4.12" }
  public static var registerFields: [VTd.RegisterField] {
    [
      .readWrite(BitField(0...7, "R0")), .readWrite(BitField(8...15, "R1")),
      .readWrite(BitField(16...23, "R2")), .readWrite(BitField(24...31, "R3")),
      .readWrite(BitField(32...39, "R4")), .readWrite(BitField(40...47, "R5")),
      .readWrite(BitField(48...55, "R6")), .readWrite(BitField(56...63, "R7")),
    ]
  }
}

extension VTd.VariableMemoryTypeBase {
  public static var name: StaticString { "variable-range MTRR base" }
  public static var specification: StaticString { "Intel VT-d 11.4.12" }
  public static var registerFields: [VTd.RegisterField] {
    [
      .readWrite(BitField(0...7, "TYPE")), .reserved(8...11),
      .readWrite(BitField(12...63, "PHYSBASE")),
    ]
  }
}

extension VTd.VariableMemoryTypeMask {
  public static var name: StaticString { "variable-range MTRR mask" }
  public static var specification: StaticString { "Intel VT-d 11.4.12" }
  public static var registerFields: [VTd.RegisterField] {
    [
      .reserved(0...10), .readWrite(BitField(11...11, "V")),
      .readWrite(BitField(12...63, "PHYSMASK")),
    ]
  }
}
