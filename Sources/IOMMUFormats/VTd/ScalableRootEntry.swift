extension VTd {
  /// A scalable-mode root entry: where one bus's two context tables lie.
  ///
  /// Sixteen bytes, 256 to a 4 KiB root table, by bus. The lower table serves devices and functions
  /// 0 to 127, the upper one 128 to 255; each half has its own present bit, and the other bits of a
  /// half that is not present are not looked at. Specification: Intel VT-d 9.2.
  @frozen
  public struct ScalableRootEntry: TableEntry {
    public var low: UInt64
    public var high: UInt64
    @inlinable
    public init(low: UInt64 = 0, high: UInt64 = 0) {
      self.low = low
      self.high = high
    }
  }
}

extension VTd.ScalableRootEntry {
  public static var name: StaticString { "scalable-mode root entry" }
  public static var specification: StaticString { "Intel VT-d 9.2" }
  @inlinable public static var bitCount: Int { 128 }
  public static var exampleVariants: [VTd.Limits] { VTd.Limits.examples }

  @inlinable static var lp: BitField { BitField(0...0, "LP") }
  @inlinable static var lctp: BitField { BitField(12...63, "LCTP", .address) }
  @inlinable static var up: BitField { BitField(64...64, "UP") }
  @inlinable static var uctp: BitField { BitField(76...127, "UCTP", .address) }

  public static func fields(_ limits: VTd.Limits) -> [BitField] {
    let width = limits.hostAddressWidth
    return [
      lp, .reserved(1...11), lctp.limited(toBit: width - 1), .reserved(width...63),
      up, .reserved(65...75), uctp.limited(toBit: width + 63),
      .reserved((width + 64)...127),
    ]
  }

  /// An entry with the tables that are there.
  ///
  /// - Precondition: both are 4 KiB aligned.
  public init(lowerContextTable: PhysicalAddress?, upperContextTable: PhysicalAddress?) {
    self.init()
    for (table, present, pointer) in [
      (lowerContextTable, Self.lp, Self.lctp), (upperContextTable, Self.up, Self.uctp),
    ] {
      guard let table else { continue }
      precondition(table.isAligned(to: 4096), "a context table lies at a multiple of 4 KiB")
      self[present] = 1
      self[pointer] = table.rawValue >> pointer.shift
    }
  }

  /// LP: the table of devices and functions 0 to 127 is there.
  @inlinable public var isLowerPresent: Bool { self[Self.lp] != 0 }
  /// UP: the table of devices and functions 128 to 255 is there.
  @inlinable public var isUpperPresent: Bool { self[Self.up] != 0 }
  /// The first byte of the table for devices and functions 0 to 127.
  @inlinable
  public var lowerContextTable: PhysicalAddress { PhysicalAddress(addressBits(Self.lctp)) }
  /// The first byte of the table for devices and functions 128 to 255.
  @inlinable
  public var upperContextTable: PhysicalAddress { PhysicalAddress(addressBits(Self.uctp)) }

  /// The context table that serves a device and function; `nil` when it is not present.
  @inlinable
  public func contextTable(deviceFunction: UInt8) -> PhysicalAddress? {
    deviceFunction < 128
      ? (isLowerPresent ? lowerContextTable : nil) : (isUpperPresent ? upperContextTable : nil)
  }
}
