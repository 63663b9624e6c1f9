extension AMDVi {
  /// PREFETCH_IOMMU_PAGES: translations that will be asked for soon.
  ///
  /// Specification: AMD IOMMU 2.4.6.
  @frozen
  public struct PrefetchPagesCommand: AMDViCommand {
    public var low: UInt64
    public var high: UInt64
    @inlinable
    public init(low: UInt64, high: UInt64) {
      self.low = low
      self.high = high
    }
  }
}

extension AMDVi.PrefetchPagesCommand {
  public static var name: StaticString { "prefetch pages command" }
  public static var specification: StaticString { "AMD IOMMU 2.4.6" }
  public static var code: AMDVi.CommandCode { .prefetchPages }

  static var deviceID: BitField { BitField(0...15, "DeviceID") }
  static var pfCount: BitField { BitField(24...31, "PFCount") }
  static var pasidField: BitField { BitField(32...51, "PASID") }
  static var inval: BitField { BitField(68...68, "Inval") }

  public static func fields(_ rules: AMDVi.CommandRules) -> [BitField] {
    [
      deviceID, .reserved(16...23), pfCount, pasidField, .reserved(52...59), opcode, blockField,
      .reserved(65...65), guest(rules), .reserved(67...67), inval, .reserved(69...75),
      addressField,
    ]
  }

  /// - Parameters:
  ///   - device: Whose translations.
  ///   - pasid: GN: guest addresses of this PASID.
  ///   - address: The first page.
  ///   - count: PFCount: pages.
  ///   - invalidates: Inval: what is cached of them is dropped first.
  public init(
    _ device: Requester, pasid: PASID? = nil, address: IOVA, count: UInt8,
    invalidates: Bool = false
  ) {
    self = .empty
    self[Self.deviceID] = UInt64(device.rawValue)
    self[Self.pfCount] = UInt64(count)
    self[Self.pasidField] = UInt64(pasid?.rawValue ?? 0)
    self[Self.guestField] = pasid == nil ? 0 : 1
    self[Self.inval] = invalidates ? 1 : 0
    setAddresses(address, sizeLog2: 12)
  }

  /// Whose translations.
  public var device: Requester { Requester(rawValue: UInt16(self[Self.deviceID])) }
  /// GN: guest addresses of this PASID; `nil` for those without one.
  public var pasid: PASID? {
    self[Self.guestField] != 0 ? PASID(UInt32(self[Self.pasidField])) : nil
  }
  /// The first page, or with S the block.
  public var addresses: ClosedRange<IOVA> { addressRange }
  /// PFCount: pages.
  public var count: UInt8 { UInt8(self[Self.pfCount]) }
  /// Inval: what is cached of them is dropped first.
  public var invalidates: Bool { self[Self.inval] != 0 }
}
