extension AMDVi {
  /// MMIO 0x0200 + 0x18·n: the start of an aperture that is moved elsewhere (MARC).
  ///
  /// 64 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct RelocationBase: WordEntry, HardwareRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// MMIO 0x0208 + 0x18·n: where an aperture is moved to.
  ///
  /// 64 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct RelocationTarget: WordEntry, HardwareRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// MMIO 0x0210 + 0x18·n: how long an aperture is.
  ///
  /// 64 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct RelocationLength: WordEntry, HardwareRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension AMDVi.RelocationBase {
  public static var name: StaticString { "MARC aperture base" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  static var base: BitField { BitField(12...51, "MarcBaseAddr", .address) }
  public static var registerFields: [RegisterField] {
    [.reserved(0...11), .readWrite(base), .reserved(52...63)]
  }
}

extension AMDVi.RelocationTarget {
  public static var name: StaticString { "MARC aperture relocation" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  static var relocEn: BitField { BitField(0...0, "RelocEn") }
  static var readOnly: BitField { BitField(1...1, "ReadOnly") }
  static var target: BitField { BitField(12...51, "MarcRelocAddr", .address) }
  public static var registerFields: [RegisterField] {
    [
      .readWrite(relocEn), .readWrite(readOnly), .reserved(2...11), .readWrite(target),
      .reserved(52...63),
    ]
  }
}

extension AMDVi.RelocationLength {
  public static var name: StaticString { "MARC aperture length" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  static var length: BitField { BitField(12...51, "MarcLength", .address) }
  public static var registerFields: [RegisterField] {
    [.reserved(0...11), .readWrite(length), .reserved(52...63)]
  }
}
