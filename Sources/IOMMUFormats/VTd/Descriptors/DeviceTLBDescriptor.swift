extension VTd {
  /// Asks a device to drop translations from its own cache.
  ///
  /// Specification: Intel VT-d 6.5.2.5.
  @frozen
  public struct DeviceTLBDescriptor: InvalidationDescriptor {
    public var low: UInt64
    public var high: UInt64
    @inlinable
    public init(low: UInt64, high: UInt64) {
      self.low = low
      self.high = high
    }
  }
}

extension VTd.DeviceTLBDescriptor {
  public static var name: StaticString { "device-TLB invalidate descriptor" }
  public static var specification: StaticString { "Intel VT-d 6.5.2.5" }
  public static var type: VTd.DescriptorType { .deviceTLB }

  static var mip: BitField { BitField(16...20, "MIP") }
  static var sid: BitField { BitField(32...47, "SID") }
  static var s: BitField { BitField(64...64, "S") }
  static var addr: BitField { BitField(76...127, "ADDR", .address) }

  public static func fields(_ rules: VTd.DescriptorRules) -> [BitField] {
    [
      typeLow, .reserved(4...8), typeHigh,
      rules.hasInvalidationThrottle ? pfsidLow : .reserved(12...15), mip, .reserved(21...31), sid,
      .reserved(48...51), rules.hasInvalidationThrottle ? pfsidHigh : .reserved(52...63), s,
      .reserved(65...75), addr,
    ]
  }

  static var pfsidLow: BitField { BitField(12...15, "PFSID[3:0]") }
  static var pfsidHigh: BitField { BitField(52...63, "PFSID[15:4]") }

  /// An order for one device; `isRange` says that `address` codes a range.
  public init(
    requester: Requester, address: IOVA, isRange: Bool, physicalFunction: Requester? = nil,
    maximumInvalidationsPending: Int = 0
  ) {
    self = .empty
    self[Self.sid] = UInt64(requester.rawValue)
    self[Self.mip] = UInt64(maximumInvalidationsPending)
    self[Self.pfsidLow] = UInt64(physicalFunction?.rawValue ?? 0) & 15
    self[Self.pfsidHigh] = UInt64(physicalFunction?.rawValue ?? 0) >> 4
    self[Self.s] = isRange ? 1 : 0
    self[Self.addr] = address.pageNumber
  }

  /// The device, by its requester-id.
  public var requester: Requester { Requester(rawValue: UInt16(self[Self.sid])) }
  /// Where ECAP.DIT is set: the function whose queue of invalidations is throttled.
  public var physicalFunction: Requester {
    Requester(rawValue: UInt16(self[Self.pfsidHigh] << 4 | self[Self.pfsidLow]))
  }
  /// The pages that the device is to drop.
  public var range: VTd.DeviceTLBRange {
    VTd.DeviceTLBRange(pageNumber: self[Self.addr], isRange: self[Self.s] != 0)
  }
}
