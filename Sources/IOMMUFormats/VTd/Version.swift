extension VTd {
  /// VER_REG, 0x000: which version of the architecture the unit follows.
  ///
  /// 32 bits. Specification: Intel VT-d 11.4.1.
  @frozen
  public struct Version: WordEntry {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }
}

extension VTd.Version {
  public static var name: StaticString { "VER_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.1" }

  static var min: BitField { BitField(0...3, "MIN") }
  static var max: BitField { BitField(4...7, "MAX") }

  public static func fields(_: OnlyVariant) -> [BitField] { [min, max, .reserved(8...31)] }

  /// - Precondition: both numbers are 0 to 15.
  public init(major: Int, minor: Int = 0) {
    self.init(rawValue: 0)
    self[Self.max] = UInt64(major)
    self[Self.min] = UInt64(minor)
  }

  public var major: Int { Int(self[Self.max]) }
  public var minor: Int { Int(self[Self.min]) }
}
