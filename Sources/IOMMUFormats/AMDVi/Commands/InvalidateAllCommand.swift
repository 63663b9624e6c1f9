extension AMDVi {
  /// INVALIDATE_IOMMU_ALL: drops all that the unit has cached.
  ///
  /// Specification: AMD IOMMU 2.4.8.
  @frozen
  public struct InvalidateAllCommand: AMDViCommand {
    public var low: UInt64
    public var high: UInt64
    @inlinable
    public init(low: UInt64, high: UInt64) {
      self.low = low
      self.high = high
    }
  }
}

extension AMDVi.InvalidateAllCommand {
  public static var name: StaticString { "invalidate all command" }
  public static var specification: StaticString { "AMD IOMMU 2.4.8" }
  public static var code: AMDVi.CommandCode { .invalidateAll }

  public static func fields(_: AMDVi.CommandRules) -> [BitField] {
    [.reserved(0...59), opcode, .reserved(64...127)]
  }

  /// The command.
  public init() { self = .empty }
}
