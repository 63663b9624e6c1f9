extension VTd {
  /// Drops translations: all, those of a domain, or those of a range of pages in a domain.
  ///
  /// Specification: Intel VT-d 6.5.2.3.
  @frozen
  public struct IOTLBDescriptor: InvalidationDescriptor {
    public var low: UInt64
    public var high: UInt64
    @inlinable
    public init(low: UInt64, high: UInt64) {
      self.low = low
      self.high = high
    }
  }
}

extension VTd.IOTLBDescriptor {
  public static var name: StaticString { "IOTLB invalidate descriptor" }
  public static var specification: StaticString { "Intel VT-d 6.5.2.3" }
  public static var type: VTd.DescriptorType { .iotlb }

  static var g: BitField { BitField(4...5, "G") }
  static var dw: BitField { BitField(6...6, "DW") }
  static var dr: BitField { BitField(7...7, "DR") }
  static var did: BitField { BitField(16...31, "DID") }
  static var am: BitField { BitField(64...69, "AM") }
  static var ih: BitField { BitField(70...70, "IH") }
  static var addr: BitField { BitField(76...127, "ADDR", .address) }

  public static func fields(_: VTd.DescriptorRules) -> [BitField] {
    [
      typeLow, g, dw, dr, .reserved(8...8), typeHigh, .reserved(12...15), did, .reserved(32...63),
      am, ih, .reserved(71...75), addr,
    ]
  }

  /// An order to drop what the granularity says; the rest counts where it asks for it.
  public init(
    _ granularity: VTd.Granularity, domainID: UInt16 = 0, address: IOVA = IOVA(0),
    addressMask: Int = 0, hint: Bool = false, drainsReads: Bool = false, drainsWrites: Bool = false
  ) {
    self = .empty
    self[Self.g] = UInt64(granularity.rawValue)
    self[Self.dw] = drainsWrites ? 1 : 0
    self[Self.dr] = drainsReads ? 1 : 0
    self[Self.did] = UInt64(domainID)
    self[Self.am] = UInt64(addressMask)
    self[Self.ih] = hint ? 1 : 0
    self[Self.addr] = address.pageNumber
  }

  /// G; `none` is reserved.
  public var granularity: VTd.Granularity { VTd.Granularity(rawValue: UInt8(self[Self.g]))! }
  /// DID: the domain's number.
  public var domainID: UInt16 { UInt16(self[Self.did]) }
  /// The first page, of 2^AM.
  public var address: IOVA { IOVA(self[Self.addr] << 12) }
  /// AM: 2^AM pages.
  public var addressMask: Int { Int(self[Self.am]) }
  /// IH: only leaf entries have changed.
  public var hint: Bool { self[Self.ih] != 0 }
}
