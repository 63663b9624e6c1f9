extension AMDVi {
  /// INVALIDATE_IOTLB_PAGES: asks a device to drop translations that it keeps.
  ///
  /// Specification: AMD IOMMU 2.4.4.
  @frozen
  public struct InvalidateDeviceTLBCommand: AMDViCommand {
    public var low: UInt64
    public var high: UInt64
    @inlinable
    public init(low: UInt64, high: UInt64) {
      self.low = low
      self.high = high
    }
  }
}

extension AMDVi.InvalidateDeviceTLBCommand {
  public static var name: StaticString { "invalidate IOTLB pages command" }
  public static var specification: StaticString { "AMD IOMMU 2.4.4" }
  public static var code: AMDVi.CommandCode { .invalidateDeviceTLB }

  static var deviceID: BitField { BitField(0...15, "DeviceID") }
  // Linux, whose commands work, has the two bytes of the PASID this way round.
  static var pasidMiddle: BitField { BitField(16...23, "PASID15:8") }
  static var maxpend: BitField { BitField(24...31, "Maxpend") }
  static var queue: BitField { BitField(32...47, "QueueID") }
  static var pasidLow: BitField { BitField(48...55, "PASID7:0") }
  static var pasidHigh: BitField { BitField(56...59, "PASID19:16") }
  static var type: BitField { BitField(68...69, "Type") }

  public static func fields(_ rules: AMDVi.CommandRules) -> [BitField] {
    [
      deviceID, pasidMiddle, maxpend, queue, pasidLow, pasidHigh, opcode, blockField,
      .reserved(65...65), guest(rules), .reserved(67...67),
      rules.hasDeviceInvalidationType ? type : .reserved(68...69), .reserved(70...75),
      addressField,
    ]
  }

  /// - Parameters:
  ///   - device: The device that is asked.
  ///   - pasid: GN: guest addresses of this PASID.
  ///   - address: In the block.
  ///   - sizeLog2: The block has 2 to this power bytes: 12 for a page, 64 for everything.
  ///   - pendingLimit: Maxpend: invalidations that the device takes before it has answered one.
  ///   - queueID: QueueID: those with the same number share the limit; the device's as a rule.
  /// - Precondition: `sizeLog2` is 12 to 64.
  public init(
    _ device: Requester, pasid: PASID? = nil, address: IOVA = IOVA(0), sizeLog2: Int = 64,
    pendingLimit: UInt8 = 32, queueID: UInt16? = nil
  ) {
    self = .empty
    self[Self.deviceID] = UInt64(device.rawValue)
    self[Self.maxpend] = UInt64(pendingLimit)
    self[Self.queue] = UInt64(queueID ?? device.rawValue)
    if let pasid {
      self[Self.guestField] = 1
      self[Self.pasidLow] = UInt64(pasid.rawValue & 0xff)
      self[Self.pasidMiddle] = UInt64(pasid.rawValue >> 8 & 0xff)
      self[Self.pasidHigh] = UInt64(pasid.rawValue >> 16)
    }
    setAddresses(address, sizeLog2: sizeLog2)
  }

  /// The device that is asked.
  public var device: Requester { Requester(rawValue: UInt16(self[Self.deviceID])) }
  /// GN: guest addresses of this PASID; `nil` for those without one.
  public var pasid: PASID? {
    guard self[Self.guestField] != 0 else { return nil }
    return PASID(
      UInt32(self[Self.pasidHigh] << 16 | self[Self.pasidMiddle] << 8 | self[Self.pasidLow]))
  }
  /// The addresses whose translations go.
  public var addresses: ClosedRange<IOVA> { addressRange }
  /// Maxpend: invalidations that the device takes before it has answered one.
  public var pendingLimit: UInt8 { UInt8(self[Self.maxpend]) }
  /// QueueID: those with the same number share the limit.
  public var queueID: UInt16 { UInt16(self[Self.queue]) }
}
