/// A run of bits in an entry or register, numbered as its manual numbers them.
///
/// Bits 64 to 127 lie in an entry's second quadword, and so on; a field never spans two.
@frozen
public struct BitField: Sendable {
  /// What hardware does with the bits.
  public enum Use: Sendable {
    /// A number or flag that hardware reads.
    case value
    /// An address; the field holds its bits at their own places.
    case address
    /// Hardware does not look; software may keep something here.
    case ignored
    /// Must be zero: hardware checks it, or nobody knows what it does.
    case reserved
  }

  /// The bits, closed, counted from the entry's first quadword on.
  public let bits: ClosedRange<Int>
  /// The manual's name, or `reserved`, or `ignored`.
  public let name: StaticString
  /// What hardware does with the bits.
  public let use: Use

  @inlinable @inline(__always)
  /// A field of an entry.
  public init(_ bits: ClosedRange<Int>, _ name: StaticString, _ use: Use = .value) {
    self.bits = bits
    self.name = name
    self.use = use
  }

  /// A reserved run.
  @inlinable @inline(__always)
  public static func reserved(_ bits: ClosedRange<Int>) -> BitField {
    BitField(bits, "reserved", .reserved)
  }

  /// An ignored run.
  @inlinable @inline(__always)
  public static func ignored(_ bits: ClosedRange<Int>) -> BitField {
    BitField(bits, "ignored", .ignored)
  }

  /// The same field as far as it exists: without the bits above `bit`.
  ///
  /// - Precondition: `bit` is one of the field's.
  public func limited(toBit bit: Int) -> BitField {
    BitField(bits.lowerBound...min(bit, bits.upperBound), name, use)
  }

  /// The same field without the bits below `bit`.
  ///
  /// - Precondition: `bit` is one of the field's.
  public func starting(atBit bit: Int) -> BitField {
    BitField(max(bit, bits.lowerBound)...bits.upperBound, name, use)
  }

  /// The field as hardware that does not look at it sees it.
  var asIgnored: BitField { BitField(bits, name, .ignored) }

  /// The field's bits at the bottom of a word.
  @inlinable @inline(__always)
  public var valueMask: UInt64 { ~0 &>> UInt64(truncatingIfNeeded: 64 &- bits.count) }

  /// How far the field lies from the bottom of its quadword.
  @inlinable @inline(__always)
  public var shift: UInt64 { UInt64(truncatingIfNeeded: bits.lowerBound & 63) }

  /// The field's bits where they lie in their quadword.
  @inlinable @inline(__always)
  public var mask: UInt64 { valueMask &<< shift }

  /// The quadword of the entry that the field lies in.
  @inlinable @inline(__always)
  public var quadwordIndex: Int { bits.lowerBound &>> 6 }
}
