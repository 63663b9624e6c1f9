extension VTd {
  /// Answers a group of page requests of a device.
  ///
  /// Specification: Intel VT-d 7.6.1.
  @frozen
  public struct PageGroupResponseDescriptor: InvalidationDescriptor {
    public var low: UInt64
    public var high: UInt64
    @inlinable
    public init(low: UInt64, high: UInt64) {
      self.low = low
      self.high = high
    }
  }
}

extension VTd.PageGroupResponseDescriptor {
  public static var name: StaticString { "page group response descriptor" }
  public static var specification: StaticString { "Intel VT-d 7.6.1" }
  public static var type: VTd.DescriptorType { .pageGroupResponse }

  static var pp: BitField { BitField(4...4, "PP") }
  static var rc: BitField { BitField(12...15, "RC") }
  static var rid: BitField { BitField(16...31, "RID") }
  static var pasidField: BitField { BitField(32...51, "PASID") }
  static var prgi: BitField { BitField(67...75, "PRGI") }

  public static func fields(_: VTd.DescriptorRules) -> [BitField] {
    [
      typeLow, pp, .reserved(5...8), typeHigh, rc, rid, pasidField, .reserved(52...63),
      .reserved(64...65), .ignored(66...66), prgi, .reserved(76...127),
    ]
  }

  /// An answer to all requests of a group.
  public init(
    requester: Requester, pasid: UInt32?, groupIndex: UInt16, code: VTd.PageResponseCode
  ) {
    self = .empty
    self[Self.rid] = UInt64(requester.rawValue)
    self[Self.pp] = pasid == nil ? 0 : 1
    self[Self.pasidField] = UInt64(pasid ?? 0)
    self[Self.prgi] = UInt64(groupIndex)
    self[Self.rc] = UInt64(code.rawValue)
  }

  /// The device, by its requester-id.
  public var requester: Requester { Requester(rawValue: UInt16(self[Self.rid])) }
  /// The PASID; `nil` when there is none.
  public var pasid: UInt32? { self[Self.pp] != 0 ? UInt32(self[Self.pasidField]) : nil }
  /// PRGI, as the requests of the group had it.
  public var groupIndex: UInt16 { UInt16(self[Self.prgi]) }
  /// RC: how the requests ended.
  public var code: VTd.PageResponseCode {
    VTd.PageResponseCode(rawValue: UInt8(self[Self.rc]))
  }
}
