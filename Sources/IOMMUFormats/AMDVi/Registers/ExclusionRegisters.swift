extension AMDVi {
  /// MMIO 0x0020: the start of the addresses that are not translated; on a unit whose memory a
  /// reverse map guards, of those that completion waits may store to.
  ///
  /// 64 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct ExclusionBase: WordEntry, HardwareRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// MMIO 0x0028: the last page of the addresses that ``ExclusionBase`` starts.
  ///
  /// 64 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct ExclusionLimit: WordEntry, HardwareRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension AMDVi.ExclusionBase {
  public static var name: StaticString { "exclusion base" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  static var exEn: BitField { BitField(0...0, "ExEn") }
  static var allow: BitField { BitField(1...1, "Allow") }
  static var base: BitField { BitField(12...51, "ExclBase", .address) }

  public static var registerFields: [RegisterField] {
    [
      .readWrite(exEn), .readWrite(allow), .reserved(2...11), .readWrite(base), .reserved(52...63),
    ]
  }

  /// The range's first byte.
  public var address: IOVA { IOVA(addressBits(Self.base)) }
  /// ExEn: the range is in force.
  public var isEnabled: Bool { self[Self.exEn] != 0 }
  /// Allow: for all devices, not only those whose entries say so.
  public var allowsAll: Bool { self[Self.allow] != 0 }
}

extension AMDVi.ExclusionLimit {
  public static var name: StaticString { "exclusion limit" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  static var low: BitField { BitField(0...11, "ones") }
  static var limit: BitField { BitField(12...51, "ExclLimit", .address) }

  public static var registerFields: [RegisterField] {
    [.readOnly(low), .readWrite(limit), .reserved(52...63)]
  }

  /// The range's last byte.
  public var lastAddress: IOVA { IOVA(addressBits(Self.limit) | 0xfff) }
}
