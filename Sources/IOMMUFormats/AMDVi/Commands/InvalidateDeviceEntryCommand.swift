extension AMDVi {
  /// INVALIDATE_DEVTAB_ENTRY: drops the device table entry of a device.
  ///
  /// Specification: AMD IOMMU 2.4.2.
  @frozen
  public struct InvalidateDeviceEntryCommand: AMDViCommand {
    public var low: UInt64
    public var high: UInt64
    @inlinable
    public init(low: UInt64, high: UInt64) {
      self.low = low
      self.high = high
    }
  }
}

extension AMDVi.InvalidateDeviceEntryCommand {
  public static var name: StaticString { "invalidate device entry command" }
  public static var specification: StaticString { "AMD IOMMU 2.4.2" }
  public static var code: AMDVi.CommandCode { .invalidateDeviceEntry }

  static var deviceID: BitField { BitField(0...15, "DeviceID") }

  public static func fields(_: AMDVi.CommandRules) -> [BitField] {
    [deviceID, .reserved(16...59), opcode, .reserved(64...127)]
  }

  /// An order to drop the entry of this device.
  public init(_ device: Requester) {
    self = .empty
    self[Self.deviceID] = UInt64(device.rawValue)
  }

  /// The device whose entry goes.
  public var device: Requester { Requester(rawValue: UInt16(self[Self.deviceID])) }
}
