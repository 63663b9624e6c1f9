extension AMDVi {
  /// An interrupt of a guest that does not run, as the unit logs it.
  ///
  /// 64 bits. Specification: AMD IOMMU 2.7.
  @frozen
  public struct GuestInterruptLogEntry: WordEntry {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension AMDVi.GuestInterruptLogEntry {
  public static var name: StaticString { "GA log entry" }
  public static var specification: StaticString { "AMD IOMMU 2.7" }

  static var tagField: BitField { BitField(0...31, "GATag") }
  static var deviceID: BitField { BitField(32...47, "DeviceID") }
  static var codeField: BitField { BitField(60...63, "GACode") }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [tagField, deviceID, .ignored(48...59), codeField]
  }

  /// An interrupt of this device for the guest of this tag.
  public init(tag: UInt32, device: Requester) {
    self.init(rawValue: 0)
    self[Self.codeField] = 1
    self[Self.tagField] = UInt64(tag)
    self[Self.deviceID] = UInt64(device.rawValue)
  }

  /// Bits 63:60: 1; 0 in a place that is not written yet.
  public var code: UInt8 { UInt8(self[Self.codeField]) }
  /// GATag: what software calls the guest's processor.
  public var tag: UInt32 { UInt32(self[Self.tagField]) }
  /// Who interrupts.
  public var device: Requester { Requester(rawValue: UInt16(self[Self.deviceID])) }
}
