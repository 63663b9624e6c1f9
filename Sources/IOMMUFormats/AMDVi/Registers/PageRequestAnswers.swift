extension AMDVi {
  /// MMIO 0x2080: what a page request without room is answered.
  ///
  /// 64 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct PageRequestAnswer: WordEntry, HardwareRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// MMIO 0x2088 and 0x2090: when a log of page requests counts as nearly full.
  ///
  /// 64 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct PageRequestEarlyOverflow: WordEntry, HardwareRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension AMDVi.PageRequestAnswer {
  public static var name: StaticString { "PPR auto response" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  static var code: BitField { BitField(0...3, "PprAutoRspCode") }
  static var maskGen: BitField { BitField(4...4, "PprAutoMaskGn") }
  public static var registerFields: [RegisterField] {
    [.readWrite(code), .readWrite(maskGen), .reserved(5...63)]
  }
  /// PprAutoRspCode: 0 success, 1 invalid, 15 failure.
  public var code: UInt8 { UInt8(self[Self.code]) }
}

extension AMDVi.PageRequestEarlyOverflow {
  public static var name: StaticString { "PPR log overflow early" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  static var thresholdField: BitField { BitField(0...14, "PprOvrflwEarlyThreshold") }
  static var intEn: BitField { BitField(30...30, "PprOvrflwEarlyIntEn") }
  static var enable: BitField { BitField(31...31, "PprOvrflwEarlyEn") }
  public static var registerFields: [RegisterField] {
    [
      .readWrite(thresholdField), .reserved(15...29), .readWrite(intEn), .readWrite(enable),
      .reserved(32...63),
    ]
  }
  /// PprOvrflwEarlyThreshold: entries.
  public var threshold: Int { Int(self[Self.thresholdField]) }
  /// PprOvrflwEarlyIntEn: the warning interrupts.
  public var interrupts: Bool { self[Self.intEn] != 0 }
  /// PprOvrflwEarlyEn: the warning is given.
  public var isEnabled: Bool { self[Self.enable] != 0 }
}
