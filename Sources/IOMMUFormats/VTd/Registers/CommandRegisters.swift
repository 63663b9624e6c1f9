extension VTd {
  /// ECMD_REG, 0x400: a command and its first operand. 64 bits. Specification: Intel VT-d 11.4.14.
  @frozen
  public struct EnhancedCommand: WordEntry, VTdRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// ECEO_REG, 0x408: the second operand of a command. 64 bits. Specification: Intel VT-d 11.4.14.
  @frozen
  public struct EnhancedCommandOperand: WordEntry, VTdRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// ECRSP_REG, 0x410: how a command ended. 64 bits. Specification: Intel VT-d 11.4.14.
  @frozen
  public struct EnhancedCommandResponse: WordEntry, VTdRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// enhanced command status register, 0x420 and 0x428: what commands have switched on. 64 bits. Specification: Intel VT-d 11.4.14.
  @frozen
  public struct EnhancedCommandStatus: WordEntry, VTdRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// enhanced command capability register, 0x430 to 0x448: commands that the unit has, one bit each. 64 bits. Specification: Intel VT-d 11.4.14.
  @frozen
  public struct EnhancedCommandCapability: WordEntry, VTdRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// RDTC_REG, 0xdc0: resource tags of the unit's own accesses. 64 bits. Specification: Intel VT-d 11.4.14.
  @frozen
  public struct ResourceDirectorTag: WordEntry, VTdRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// VCMD_REG, 0xe00: a command to a hypervisor's unit. 64 bits. Specification: Intel VT-d 11.4.14.
  @frozen
  public struct VirtualCommand: WordEntry, VTdRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// VCMD_EO_REG, 0xe08: the second operand of a virtual command. 64 bits. Specification: Intel VT-d 11.4.14.
  @frozen
  public struct VirtualCommandOperand: WordEntry, VTdRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// VCRSP_REG, 0xe10: how a virtual command ended. 64 bits. Specification: Intel VT-d 11.4.14.
  @frozen
  public struct VirtualCommandResponse: WordEntry, VTdRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// VCCAP_REG, 0xe30: virtual commands that the unit has. 64 bits. Specification: Intel VT-d 11.4.14.
  @frozen
  public struct VirtualCommandCapability: WordEntry, VTdRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension VTd.EnhancedCommand {
  public static var name: StaticString { "ECMD_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.14" }
  public static var registerFields: [VTd.RegisterField] {
    [
      .readWrite(BitField(0...7, "CMD")), .reserved(8...15), .readWrite(BitField(16...63, "OA")),
    ]
  }
}

extension VTd.EnhancedCommandOperand {
  public static var name: StaticString { "ECEO_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.14" }
  public static var registerFields: [VTd.RegisterField] {
    [
      .readWrite(BitField(0...63, "OB"))
    ]
  }
}

extension VTd.EnhancedCommandResponse {
  public static var name: StaticString { "ECRSP_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.14" }
  public static var registerFields: [VTd.RegisterField] {
    [
      .readOnly(BitField(0...0, "IP")), .readOnly(BitField(1...7, "SC")), .reserved(8...15),
      .readOnly(BitField(16...63, "RSLT")),
    ]
  }
}

extension VTd.EnhancedCommandStatus {
  public static var name: StaticString { "enhanced command status register" }
  public static var specification: StaticString { "Intel VT-d 11.4.14" }
  public static var registerFields: [VTd.RegisterField] {
    [
      .readOnly(BitField(0...63, "STS"))
    ]
  }
}

extension VTd.EnhancedCommandCapability {
  public static var name: StaticString { "enhanced command capability register" }
  public static var specification: StaticString { "Intel VT-d 11.4.14" }
  public static var registerFields: [VTd.RegisterField] {
    [
      .readOnly(BitField(0...63, "ECC"))
    ]
  }
}

extension VTd.ResourceDirectorTag {
  public static var name: StaticString { "RDTC_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.14" }
  public static var registerFields: [VTd.RegisterField] {
    [
      .readWrite(BitField(0...11, "RMID")), .reserved(12...31),
      .readWrite(BitField(32...36, "CLOS")), .reserved(37...63),
    ]
  }
}

extension VTd.VirtualCommand {
  public static var name: StaticString { "VCMD_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.14" }
  public static var registerFields: [VTd.RegisterField] {
    [
      .readWrite(BitField(0...7, "CMD")), .reserved(8...15), .readWrite(BitField(16...35, "OP")),
      .reserved(36...63),
    ]
  }
}

extension VTd.VirtualCommandOperand {
  public static var name: StaticString { "VCMD_EO_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.14" }
  public static var registerFields: [VTd.RegisterField] {
    [
      .readWrite(BitField(0...63, "OB"))
    ]
  }
}

extension VTd.VirtualCommandResponse {
  public static var name: StaticString { "VCRSP_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.14" }
  public static var registerFields: [VTd.RegisterField] {
    [
      .readOnly(BitField(0...0, "IP")), .readOnly(BitField(1...7, "SC")), .reserved(8...15),
      .readOnly(BitField(16...35, "RSLT")), .reserved(36...63),
    ]
  }
}

extension VTd.VirtualCommandCapability {
  public static var name: StaticString { "VCCAP_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.14" }
  public static var registerFields: [VTd.RegisterField] {
    [
      .readOnly(BitField(0...0, "NS")), .readOnly(BitField(1...1, "PAS")),
      .readOnly(BitField(2...2, "FPS")), .reserved(3...63),
    ]
  }
}
