extension VTd {
  /// Asks a device to drop translations of one PASID, or of all, from its own cache.
  ///
  /// Specification: Intel VT-d 6.5.2.6.
  @frozen
  public struct PASIDDeviceTLBDescriptor: InvalidationDescriptor {
    public var low: UInt64
    public var high: UInt64
    @inlinable
    public init(low: UInt64, high: UInt64) {
      self.low = low
      self.high = high
    }
  }
}

extension VTd.PASIDDeviceTLBDescriptor {
  public static var name: StaticString { "PASID-based device-TLB invalidate descriptor" }
  public static var specification: StaticString { "Intel VT-d 6.5.2.6" }
  public static var type: VTd.DescriptorType { .pasidDeviceTLB }

  static var mip: BitField { BitField(4...8, "MIP") }
  static var sid: BitField { BitField(16...31, "SID") }
  static var pasidField: BitField { BitField(32...51, "PASID") }
  static var gi: BitField { BitField(64...64, "GI") }
  static var s: BitField { BitField(75...75, "S") }
  static var addr: BitField { BitField(76...127, "ADDR", .address) }

  public static func fields(_ rules: VTd.DescriptorRules) -> [BitField] {
    [
      typeLow, mip, typeHigh, rules.hasInvalidationThrottle ? pfsidLow : .reserved(12...15), sid,
      pasidField, rules.hasInvalidationThrottle ? pfsidHigh : .reserved(52...63), gi,
      .reserved(65...74), s, addr,
    ]
  }

  static var pfsidLow: BitField { BitField(12...15, "PFSID[3:0]") }
  static var pfsidHigh: BitField { BitField(52...63, "PFSID[15:4]") }

  /// An order for one device, and one PASID or all; `isRange` says that `address` codes a range.
  public init(
    requester: Requester, pasid: UInt32?, address: IOVA, isRange: Bool,
    physicalFunction: Requester? = nil, maximumInvalidationsPending: Int = 0
  ) {
    self = .empty
    self[Self.mip] = UInt64(maximumInvalidationsPending)
    self[Self.sid] = UInt64(requester.rawValue)
    self[Self.pasidField] = UInt64(pasid ?? 0)
    self[Self.gi] = pasid == nil ? 1 : 0
    self[Self.pfsidLow] = UInt64(physicalFunction?.rawValue ?? 0) & 15
    self[Self.pfsidHigh] = UInt64(physicalFunction?.rawValue ?? 0) >> 4
    self[Self.s] = isRange ? 1 : 0
    self[Self.addr] = address.pageNumber
  }

  /// The device, by its requester-id.
  public var requester: Requester { Requester(rawValue: UInt16(self[Self.sid])) }
  /// `nil` when GI says that all PASIDs are meant.
  public var pasid: UInt32? { self[Self.gi] != 0 ? nil : UInt32(self[Self.pasidField]) }
  /// Where ECAP.DIT is set: the function whose queue of invalidations is throttled.
  public var physicalFunction: Requester {
    Requester(rawValue: UInt16(self[Self.pfsidHigh] << 4 | self[Self.pfsidLow]))
  }
  /// The pages that the device is to drop.
  public var range: VTd.DeviceTLBRange {
    VTd.DeviceTLBRange(pageNumber: self[Self.addr], isRange: self[Self.s] != 0)
  }
}
