extension AMDVi {
  /// COMPLETE_PPR_REQUEST: answers a device's page requests.
  ///
  /// Specification: AMD IOMMU 2.4.7.
  @frozen
  public struct CompletePageRequestCommand: AMDViCommand {
    public var low: UInt64
    public var high: UInt64
    @inlinable
    public init(low: UInt64, high: UInt64) {
      self.low = low
      self.high = high
    }
  }
}

extension AMDVi.CompletePageRequestCommand {
  public static var name: StaticString { "complete page request command" }
  public static var specification: StaticString { "AMD IOMMU 2.4.7" }
  public static var code: AMDVi.CommandCode { .completePageRequest }

  static var deviceID: BitField { BitField(0...15, "DeviceID") }
  static var pasidField: BitField { BitField(32...51, "PASID") }
  static var tagField: BitField { BitField(96...104, "Tag") }
  static var responseField: BitField { BitField(108...111, "Response") }

  public static func fields(_ rules: AMDVi.CommandRules) -> [BitField] {
    [
      deviceID, .reserved(16...31), pasidField, .reserved(52...59), opcode, .reserved(64...65),
      guest(rules), .reserved(67...95), tagField, .reserved(105...107), responseField,
      .reserved(112...127),
    ]
  }

  /// - Parameters:
  ///   - device: Who asked.
  ///   - pasid: GN: for an address space of this PASID.
  ///   - tag: The group of requests that is answered; its lower 9 bits.
  ///   - response: 0 success, 1 invalid, 15 failure; its lower 4 bits.
  public init(_ device: Requester, pasid: PASID? = nil, tag: UInt16, response: UInt8) {
    self = .empty
    self[Self.deviceID] = UInt64(device.rawValue)
    self[Self.pasidField] = UInt64(pasid?.rawValue ?? 0)
    self[Self.guestField] = pasid == nil ? 0 : 1
    self[Self.tagField] = UInt64(tag & 0x1ff)
    self[Self.responseField] = UInt64(response & 0xf)
  }

  /// Who asked.
  public var device: Requester { Requester(rawValue: UInt16(self[Self.deviceID])) }
  /// GN: for an address space of this PASID.
  public var pasid: PASID? {
    self[Self.guestField] != 0 ? PASID(UInt32(self[Self.pasidField])) : nil
  }
  /// The group of requests that is answered.
  public var tag: UInt16 { UInt16(self[Self.tagField]) }
  /// 0 success, 1 invalid, 15 failure.
  public var response: UInt8 { UInt8(self[Self.responseField]) }
}
