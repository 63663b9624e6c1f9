extension Calgary {
  /// CSR of a PHB: whether a DMA has gone wrong, and whose.
  ///
  /// 32 bits, big-endian on the bus. Which bit means which error was never published: any of them
  /// outside the agent's number means that there is one. Source: Linux `pci-calgary_64.c`.
  @frozen
  public struct ChannelStatusRegister: WordEntry {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }
}

extension Calgary.ChannelStatusRegister {
  public static var name: StaticString { "CSR" }
  public static var specification: StaticString { "Linux pci-calgary_64.c" }
  @inlinable public static var isBigEndian: Bool { true }

  static var lowErrors: BitField { BitField(0...15, "ERROR_LOW") }
  static var agentField: BitField { BitField(16...20, "AGENT") }
  static var highErrors: BitField { BitField(21...31, "ERROR_HIGH") }

  public static func fields(_: OnlyVariant) -> [BitField] { [lowErrors, agentField, highErrors] }

  /// The register without the agent's number: not zero when there is an error.
  public var errors: UInt32 { rawValue & ~UInt32(Self.agentField.mask) }

  /// Whether a DMA has gone wrong.
  public var hasError: Bool { errors != 0 }

  /// Whose request failed, 0 to 31; means nothing without an error.
  public var agent: UInt8 {
    get { UInt8(self[Self.agentField]) }
    set { self[Self.agentField] = UInt64(newValue & 31) }
  }
}
