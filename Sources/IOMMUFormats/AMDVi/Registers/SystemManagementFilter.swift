extension AMDVi {
  /// MMIO 0x0060 to 0x00d8: a device whose system management interrupts pass.
  ///
  /// 64 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct SystemManagementFilter: WordEntry, HardwareRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension AMDVi.SystemManagementFilter {
  public static var name: StaticString { "SMI filter" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  static var did: BitField { BitField(0...15, "SmiDID") }
  static var dv: BitField { BitField(16...16, "SmiDV") }
  static var flock: BitField { BitField(17...17, "SmiFLock") }

  public static var registerFields: [RegisterField] {
    [.readWrite(did), .readWrite(dv), .readWrite(flock), .reserved(18...63)]
  }

  /// SmiDID: the device.
  public var device: Requester { Requester(rawValue: UInt16(self[Self.did])) }
  /// SmiDV: the filter is in force.
  public var isValid: Bool { self[Self.dv] != 0 }
  /// SmiFLock: the register keeps its value until a reset.
  public var isLocked: Bool { self[Self.flock] != 0 }
}
