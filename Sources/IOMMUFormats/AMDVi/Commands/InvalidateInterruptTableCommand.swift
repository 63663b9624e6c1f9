extension AMDVi {
  /// INVALIDATE_INTERRUPT_TABLE: drops the interrupt table entries of a device.
  ///
  /// Specification: AMD IOMMU 2.4.5.
  @frozen
  public struct InvalidateInterruptTableCommand: AMDViCommand {
    public var low: UInt64
    public var high: UInt64
    @inlinable
    public init(low: UInt64, high: UInt64) {
      self.low = low
      self.high = high
    }
  }
}

extension AMDVi.InvalidateInterruptTableCommand {
  public static var name: StaticString { "invalidate interrupt table command" }
  public static var specification: StaticString { "AMD IOMMU 2.4.5" }
  public static var code: AMDVi.CommandCode { .invalidateInterruptTable }

  static var deviceID: BitField { BitField(0...15, "DeviceID") }

  public static func fields(_: AMDVi.CommandRules) -> [BitField] {
    [deviceID, .reserved(16...59), opcode, .reserved(64...127)]
  }

  /// An order to drop the interrupt table entries of this device.
  public init(_ device: Requester) {
    self = .empty
    self[Self.deviceID] = UInt64(device.rawValue)
  }

  /// The device whose entries go.
  public var device: Requester { Requester(rawValue: UInt16(self[Self.deviceID])) }
}
