extension VTd {
  /// Drops PASID entries: all, those of a domain, or one PASID of a domain.
  ///
  /// Specification: Intel VT-d 6.5.2.2.
  @frozen
  public struct PASIDCacheDescriptor: InvalidationDescriptor {
    public var low: UInt64
    public var high: UInt64
    @inlinable
    public init(low: UInt64, high: UInt64) {
      self.low = low
      self.high = high
    }
  }
}

extension VTd.PASIDCacheDescriptor {
  public static var name: StaticString { "PASID-cache invalidate descriptor" }
  public static var specification: StaticString { "Intel VT-d 6.5.2.2" }
  public static var type: VTd.DescriptorType { .pasidCache }

  static var g: BitField { BitField(4...5, "G") }
  static var did: BitField { BitField(16...31, "DID") }
  static var pasidField: BitField { BitField(32...51, "PASID") }

  public static func fields(_: VTd.DescriptorRules) -> [BitField] {
    [
      typeLow, g, .reserved(6...8), typeHigh, .reserved(12...15), did, pasidField,
      .reserved(52...63), .reserved(64...127),
    ]
  }

  /// G of this descriptor; code 2 is reserved.
  public enum Granularity: UInt8, Sendable {
    /// The entries of a domain.
    case domain = 0
    /// The entry of one PASID in a domain.
    case pasid = 1
    /// All entries.
    case global = 3
  }

  /// An order to drop what the granularity says; the rest counts where it asks for it.
  public init(_ granularity: Granularity, domainID: UInt16 = 0, pasid: UInt32 = 0) {
    self = .empty
    self[Self.g] = UInt64(granularity.rawValue)
    self[Self.did] = UInt64(domainID)
    self[Self.pasidField] = UInt64(pasid)
  }

  /// `nil` for the reserved code.
  public var granularity: Granularity? { Granularity(rawValue: UInt8(self[Self.g])) }
  /// DID: the domain's number.
  public var domainID: UInt16 { UInt16(self[Self.did]) }
  /// The PASID that is meant, where the granularity asks for one.
  public var pasid: UInt32 { UInt32(self[Self.pasidField]) }
}
