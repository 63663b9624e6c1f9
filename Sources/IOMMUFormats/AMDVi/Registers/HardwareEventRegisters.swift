extension AMDVi {
  /// MMIO 0x0040: the first quadword of an event that tells of a hardware error.
  ///
  /// 64 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct HardwareEventHigh: WordEntry, HardwareRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// MMIO 0x0048: the second quadword of an event that tells of a hardware error.
  ///
  /// 64 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct HardwareEventLow: WordEntry, HardwareRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// MMIO 0x0050: whether a hardware error waits for software.
  ///
  /// 64 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct HardwareEventStatus: WordEntry, HardwareRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension AMDVi.HardwareEventHigh {
  public static var name: StaticString { "hardware event, first quadword" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  static var operand: BitField { BitField(0...59, "FirstEventOperand") }
  static var code: BitField { BitField(60...63, "EventCode") }

  public static var registerFields: [RegisterField] { [.readWrite(operand), .readWrite(code)] }
}

extension AMDVi.HardwareEventLow {
  public static var name: StaticString { "hardware event, second quadword" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  public static var registerFields: [RegisterField] {
    [.readWrite(BitField(0...63, "SecondEventOperand"))]
  }
}

extension AMDVi.HardwareEventStatus {
  public static var name: StaticString { "hardware event status" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  static var hev: BitField { BitField(0...0, "HEV") }
  static var heo: BitField { BitField(1...1, "HEO") }

  public static var registerFields: [RegisterField] {
    [
      .writeOneToClear(hev, sticky: false), .writeOneToClear(heo, sticky: false), .reserved(2...63),
    ]
  }

  /// HEV: the two registers hold an event.
  public var isValid: Bool {
    get { self[Self.hev] != 0 }
    set { self[Self.hev] = newValue ? 1 : 0 }
  }
  /// HEO: a further event found the registers full.
  public var hasOverflow: Bool {
    get { self[Self.heo] != 0 }
    set { self[Self.heo] = newValue ? 1 : 0 }
  }
}
