extension VTd {
  /// Drops entries of the host permission table's cache.
  ///
  /// Specification: Intel VT-d 6.5.2.7.
  @frozen
  public struct HostPermissionsDescriptor: InvalidationDescriptor {
    public var low: UInt64
    public var high: UInt64
    @inlinable
    public init(low: UInt64, high: UInt64) {
      self.low = low
      self.high = high
    }
  }
}

extension VTd.HostPermissionsDescriptor {
  public static var name: StaticString { "HPT invalidate descriptor" }
  public static var specification: StaticString { "Intel VT-d 6.5.2.7" }
  public static var type: VTd.DescriptorType { .hostPermissions }

  static var g: BitField { BitField(4...5, "G") }
  static var did: BitField { BitField(16...31, "HPTDID") }
  static var am: BitField { BitField(64...69, "AM") }
  static var ih: BitField { BitField(70...71, "IH") }
  static var addr: BitField { BitField(76...127, "ADDR", .address) }

  public static func fields(_: VTd.DescriptorRules) -> [BitField] {
    [
      typeLow, g, .reserved(6...8), typeHigh, .reserved(12...15), did, .reserved(32...63), am, ih,
      .reserved(72...75), addr,
    ]
  }

  /// An order to drop what the granularity says; the rest counts where it asks for it.
  public init(
    _ granularity: VTd.Granularity, domainID: UInt16 = 0, address: PhysicalAddress? = nil,
    addressMask: Int = 0
  ) {
    self = .empty
    self[Self.g] = UInt64(granularity.rawValue)
    self[Self.did] = UInt64(domainID)
    self[Self.am] = UInt64(addressMask)
    self[Self.addr] = (address ?? PhysicalAddress(0)).pageNumber
  }

  /// G; `none` is reserved.
  public var granularity: VTd.Granularity { VTd.Granularity(rawValue: UInt8(self[Self.g]))! }
  /// HPTDID.
  public var domainID: UInt16 { UInt16(self[Self.did]) }
  /// The first page, of 2^AM.
  public var address: PhysicalAddress {
    PhysicalAddress(self[Self.addr] << PageCount.pageSizeLog2)
  }
  /// AM: 2^AM pages.
  public var addressMask: Int { Int(self[Self.am]) }
}
