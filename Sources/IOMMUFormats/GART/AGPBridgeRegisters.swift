/// The AGP side of an aperture: registers of the AGP bridge that northbridges are compared with.
///
/// The bridge is a host bridge with an AGP capability in its list from offset 0x34.
/// Source: Linux `aperture_64.c`.
public enum AGP {
  /// Offset 0x10, base address of the aperture: the low half; the high half follows at 0x14.
  public static let apertureBaseOffset = 0x10
  /// Offset of APSIZE from the first byte of the AGP capability.
  public static let apertureSizeOffset = 0x14
}

extension AGP {
  /// APSIZE of an AGP 3 bridge: how large its aperture is.
  ///
  /// 32 bits, of which the size has twelve. Source: Linux `aperture_64.c`.
  @frozen
  public struct ApertureSize: WordEntry {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// Where the AGP bridge decodes its aperture.
  ///
  /// 64 bits, a base address register: the low half at 0x10. Source: Linux `aperture_64.c`.
  @frozen
  public struct ApertureBase: WordEntry {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension AGP.ApertureSize {
  public static var name: StaticString { "AGP aperture size" }
  public static var specification: StaticString { "AGP capability, +0x14; Linux aperture_64.c" }

  /// Bits 7 to 0: any of them set means that all of bits 11 to 8 count as set.
  static var fineBits: BitField { BitField(0...7, "APSIZE7:0") }
  static var coarseBits: BitField { BitField(8...11, "APSIZE11:8") }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [fineBits, coarseBits, .reserved(12...15), BitField(16...31, "NEPG")]
  }

  /// The order as Linux reads it, 0 to 7: the aperture is 32 MiB << order.
  ///
  /// Seven less the number of bits set, not below 0; some firmware leaves out bits 11 to 8 where
  /// lower ones are set. 7 claims 4 GiB, which no aperture has.
  public var order: Int {
    let fine = self[Self.fineBits]
    let coarse = fine == 0 ? self[Self.coarseBits] : Self.coarseBits.valueMask
    return max(0, 7 - fine.nonzeroBitCount - coarse.nonzeroBitCount)
  }
}

extension AGP.ApertureBase {
  public static var name: StaticString { "AGP aperture base" }
  public static var specification: StaticString { "AGP bridge, 0x10; Linux aperture_64.c" }

  static var base: BitField { BitField(22...63, "BASE", .address) }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [BitField(0...3, "type"), .ignored(4...21), base]
  }

  /// A multiple of 4 MiB.
  public var address: UInt64 { addressBits(Self.base) }
}
