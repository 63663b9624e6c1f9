extension VTd {
  /// Drops translations of one PASID: all of them, or those of a range of pages.
  ///
  /// Specification: Intel VT-d 6.5.2.4.
  @frozen
  public struct PASIDIOTLBDescriptor: InvalidationDescriptor {
    public var low: UInt64
    public var high: UInt64
    @inlinable
    public init(low: UInt64, high: UInt64) {
      self.low = low
      self.high = high
    }
  }
}

extension VTd.PASIDIOTLBDescriptor {
  public static var name: StaticString { "PASID-based IOTLB invalidate descriptor" }
  public static var specification: StaticString { "Intel VT-d 6.5.2.4" }
  public static var type: VTd.DescriptorType { .pasidIOTLB }

  static var g: BitField { BitField(4...5, "G") }
  static var did: BitField { BitField(16...31, "DID") }
  static var pasidField: BitField { BitField(32...51, "PASID") }
  static var am: BitField { BitField(64...69, "AM") }
  static var ih: BitField { BitField(70...70, "IH") }
  static var addr: BitField { BitField(76...127, "ADDR", .address) }

  public static func fields(_: VTd.DescriptorRules) -> [BitField] {
    [
      typeLow, g, .reserved(6...8), typeHigh, .reserved(12...15), did, pasidField,
      .reserved(52...63), am, ih, .reserved(71...75), addr,
    ]
  }

  /// G of this descriptor; the codes 0 and 1 are reserved.
  public enum Granularity: UInt8, Sendable {
    /// All translations of the PASID.
    case pasid = 2
    /// Those of a range of pages.
    case page = 3
  }

  /// An order to drop translations of a PASID.
  public init(
    _ granularity: Granularity, domainID: UInt16, pasid: UInt32, address: IOVA = IOVA(0),
    addressMask: Int = 0, hint: Bool = false
  ) {
    self = .empty
    self[Self.g] = UInt64(granularity.rawValue)
    self[Self.did] = UInt64(domainID)
    self[Self.pasidField] = UInt64(pasid)
    self[Self.am] = UInt64(addressMask)
    self[Self.ih] = hint ? 1 : 0
    self[Self.addr] = address.pageNumber
  }

  /// `nil` for the reserved codes.
  public var granularity: Granularity? { Granularity(rawValue: UInt8(self[Self.g])) }
  /// DID: the domain's number.
  public var domainID: UInt16 { UInt16(self[Self.did]) }
  /// The PASID that is meant.
  public var pasid: UInt32 { UInt32(self[Self.pasidField]) }
  /// The first page, of 2^AM.
  public var address: IOVA { IOVA(self[Self.addr] << 12) }
  /// AM: 2^AM pages.
  public var addressMask: Int { Int(self[Self.am]) }
  /// IH: only leaf entries have changed.
  public var hint: Bool { self[Self.ih] != 0 }
}
