extension VTd {
  /// A legacy-mode root entry: where one bus's context table lies.
  ///
  /// Sixteen bytes, 256 to a 4 KiB root table, by bus. Specification: Intel VT-d 9.1.
  @frozen
  public struct RootEntry: TableEntry {
    public var low: UInt64
    public var high: UInt64
    @inlinable
    public init(low: UInt64 = 0, high: UInt64 = 0) {
      self.low = low
      self.high = high
    }
  }
}

extension VTd.RootEntry {
  public static var name: StaticString { "root entry" }
  public static var specification: StaticString { "Intel VT-d 9.1" }
  @inlinable public static var bitCount: Int { 128 }
  public static var exampleVariants: [VTd.Limits] { VTd.Limits.examples }

  @inlinable static var p: BitField { BitField(0...0, "P") }
  @inlinable static var ctp: BitField { BitField(12...63, "CTP", .address) }

  public static func fields(_ limits: VTd.Limits) -> [BitField] {
    let width = limits.hostAddressWidth
    return [
      p, .reserved(1...11), ctp.limited(toBit: width - 1), .reserved(width...63),
      .reserved(64...127),
    ]
  }

  /// A present entry.
  ///
  /// - Precondition: `contextTable` is 4 KiB aligned.
  public init(contextTable: PhysicalAddress) {
    precondition(contextTable.isAligned(to: 4096), "a context table lies at a multiple of 4 KiB")
    self.init(low: contextTable.rawValue)
    self[Self.p] = 1
  }

  /// P: hardware looks at the rest of the entry.
  @inlinable public var isPresent: Bool { self[Self.p] != 0 }

  /// The context table's first byte.
  @inlinable public var contextTable: PhysicalAddress { PhysicalAddress(addressBits(Self.ctp)) }
}

extension VTd.Limits {
  /// A narrow unit, a wide one and one of today, for checks that hold of all entries.
  static var examples: [VTd.Limits] {
    [
      .permissive,
      VTd.Limits(
        hostAddressWidth: 39, maximumGuestAddressWidth: 39, supportedWidths: 0b00010,
        has2MiBPages: false, has1GiBPages: false, domainIDBits: 8, hasSnoopControl: false,
        hasPassThrough: false, hasDeviceTLBs: false, hasTransientMappings: false),
      VTd.Limits(
        hostAddressWidth: 46, maximumGuestAddressWidth: 57, supportedWidths: 0b01110,
        has2MiBPages: true, has1GiBPages: true, domainIDBits: 16, hasSnoopControl: true,
        hasPassThrough: true, hasDeviceTLBs: true, hasTransientMappings: false,
        features: VTd.Features.all.subtracting(.permissionTables), pasidBits: 20),
    ]
  }
}
