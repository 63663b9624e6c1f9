extension VTd {
  /// Drops context entries: all, those of a domain, or those of a device.
  ///
  /// Specification: Intel VT-d 6.5.2.1.
  @frozen
  public struct ContextCacheDescriptor: InvalidationDescriptor {
    public var low: UInt64
    public var high: UInt64
    @inlinable
    public init(low: UInt64, high: UInt64) {
      self.low = low
      self.high = high
    }
  }
}

extension VTd.ContextCacheDescriptor {
  public static var name: StaticString { "context-cache invalidate descriptor" }
  public static var specification: StaticString { "Intel VT-d 6.5.2.1" }
  public static var type: VTd.DescriptorType { .contextCache }

  static var g: BitField { BitField(4...5, "G") }
  static var did: BitField { BitField(16...31, "DID") }
  static var sid: BitField { BitField(32...47, "SID") }
  static var fm: BitField { BitField(48...49, "FM") }

  public static func fields(_: VTd.DescriptorRules) -> [BitField] {
    [
      typeLow, g, .reserved(6...8), typeHigh, .reserved(12...15), did, sid, fm, .reserved(50...63),
      .reserved(64...127),
    ]
  }

  /// An order to drop what the granularity says; the rest counts where it asks for it.
  public init(
    _ granularity: VTd.Granularity, domainID: UInt16 = 0,
    requester: Requester = Requester(rawValue: 0), functionMask: VTd.FunctionMask = .none
  ) {
    self = .empty
    self[Self.g] = UInt64(granularity.rawValue)
    self[Self.did] = UInt64(domainID)
    self[Self.sid] = UInt64(requester.rawValue)
    self[Self.fm] = UInt64(functionMask.rawValue)
  }

  /// G; `none` is reserved.
  public var granularity: VTd.Granularity { VTd.Granularity(rawValue: UInt8(self[Self.g]))! }
  /// DID: the domain's number.
  public var domainID: UInt16 { UInt16(self[Self.did]) }
  /// The device, by its requester-id.
  public var requester: Requester { Requester(rawValue: UInt16(self[Self.sid])) }
  /// FM: the bits of the function that do not count.
  public var functionMask: VTd.FunctionMask { VTd.FunctionMask(rawValue: UInt8(self[Self.fm]))! }
}
