/// What software may do to a register's field.
@frozen
public enum RegisterAccess: Sendable {
  /// Read and written.
  case readWrite
  /// Hardware writes it.
  case readOnly
  /// Written only; reads as zero (the manuals leave the value open).
  case writeOnly
  /// Hardware sets it, software clears it by writing 1.
  case writeOneToClear
  /// Reads as zero; what software writes is lost.
  case reserved
}

/// A field of a register and what software may do to it.
public struct RegisterField: Sendable {
  /// Where the field lies.
  public let bits: BitField
  /// What software may do.
  public let access: RegisterAccess
  /// The value survives a warm reset: the suffix S of Intel's manual.
  public let isSticky: Bool

  /// A field that software writes and reads.
  public static func readWrite(_ bits: BitField) -> RegisterField {
    RegisterField(bits: bits, access: .readWrite, isSticky: false)
  }
  /// A field that hardware writes.
  public static func readOnly(_ bits: BitField, sticky: Bool = false) -> RegisterField {
    RegisterField(bits: bits, access: .readOnly, isSticky: sticky)
  }
  /// A field that software writes.
  public static func writeOnly(_ bits: BitField) -> RegisterField {
    RegisterField(bits: bits, access: .writeOnly, isSticky: false)
  }
  /// A field that hardware sets and software clears.
  public static func writeOneToClear(_ bits: BitField, sticky: Bool = true) -> RegisterField {
    RegisterField(bits: bits, access: .writeOneToClear, isSticky: sticky)
  }
  /// Bits that software leaves alone.
  public static func reserved(_ bits: ClosedRange<Int>) -> RegisterField {
    RegisterField(bits: .reserved(bits), access: .reserved, isSticky: false)
  }
}

/// A register of a unit, of at most 128 bits.
///
/// One list names each field with what software may do to it; layout, printing and the register
/// page of a unit are driven by it.
public protocol HardwareRegister: TableEntry where Variant == OnlyVariant {
  /// Every field of the register, once, ascending.
  static var registerFields: [RegisterField] { get }

  /// The value after a reset, as far as the manual defines it.
  static var resetValue: UInt64 { get }
}

extension HardwareRegister {
  public static var resetValue: UInt64 { 0 }
  /// The fields without what software may do to them.
  public static func fields(_: OnlyVariant) -> [BitField] { registerFields.map(\.bits) }

  /// The bits with one of the given kinds of access, as masks over the two quadwords.
  public static func mask(_ isIncluded: (RegisterField) -> Bool) -> (low: UInt64, high: UInt64) {
    registerFields.reduce(into: (low: 0, high: 0)) { masks, field in
      guard isIncluded(field) else { return }
      if field.bits.bits.lowerBound >= 64 {
        masks.high |= field.bits.mask
      } else {
        masks.low |= field.bits.mask
      }
    }
  }
}
