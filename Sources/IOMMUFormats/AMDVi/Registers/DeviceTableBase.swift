extension AMDVi {
  /// MMIO 0x0000: where the device table lies and how long it is; with segments, the first one.
  ///
  /// 64 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct DeviceTableBase: WordEntry, HardwareRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// MMIO 0x0100 to 0x0130: where segment 1 to 7 of the device table lies and how long it is.
  ///
  /// 64 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct DeviceTableSegmentBase: WordEntry, HardwareRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension AMDVi.DeviceTableBase {
  public static var name: StaticString { "device table base" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  static var size: BitField { BitField(0...8, "Size") }
  static var base: BitField { BitField(12...51, "DevTabBase", .address) }

  public static var registerFields: [RegisterField] {
    [.readWrite(size), .reserved(9...11), .readWrite(base), .reserved(52...63)]
  }

  /// The register of a table of this length.
  ///
  /// - Parameters:
  ///   - address: The table's first byte.
  ///   - byteCount: Whole pages.
  /// - Precondition: `address` is 4 KiB aligned and below 2^52; `byteCount` is 4 KiB to 2 MiB, in
  ///   steps of 4 KiB.
  public init(address: PhysicalAddress, byteCount: UInt64 = 1 << 21) {
    precondition(
      address.rawValue & ~Self.base.mask == 0, "a device table lies at a multiple of 4 KiB")
    precondition(
      byteCount % 4096 == 0 && 1...512 ~= byteCount / 4096, "a device table has 1 to 512 pages")
    self.init(rawValue: address.rawValue)
    self[Self.size] = byteCount / 4096 - 1
  }

  /// The table's first byte.
  public var address: PhysicalAddress { PhysicalAddress(addressBits(Self.base)) }
  /// Bytes in the table: 4 KiB to 2 MiB.
  public var byteCount: UInt64 { (self[Self.size] + 1) << 12 }
}

extension AMDVi.DeviceTableSegmentBase {
  public static var name: StaticString { "device table segment base" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }

  static var size: BitField { BitField(0...7, "Size") }
  static var base: BitField { BitField(12...51, "DevTabBase", .address) }

  public static var registerFields: [RegisterField] {
    [.readWrite(size), .reserved(8...11), .readWrite(base), .reserved(52...63)]
  }

  /// The segment's first byte.
  public var address: PhysicalAddress { PhysicalAddress(addressBits(Self.base)) }
  /// Bytes in the segment: 4 KiB to 1 MiB.
  public var byteCount: UInt64 { (self[Self.size] + 1) << 12 }
}
