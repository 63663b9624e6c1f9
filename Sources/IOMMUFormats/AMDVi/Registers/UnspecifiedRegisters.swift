extension AMDVi {
  /// MMIO 0x0190: units of guests. Only its place is known here.
  ///
  /// 64 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct VirtualUnitStatus: WordEntry, HardwareRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// MMIO 0x1ff8: a register that the manual keeps for later.
  ///
  /// 64 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct ReservedRegister: WordEntry, HardwareRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension AMDVi.VirtualUnitStatus {
  public static var name: StaticString { "vIOMMU status" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  public static var registerFields: [RegisterField] { [.reserved(0...63)] }
}

extension AMDVi.ReservedRegister {
  public static var name: StaticString { "reserved register" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  public static var registerFields: [RegisterField] { [.reserved(0...63)] }
}
