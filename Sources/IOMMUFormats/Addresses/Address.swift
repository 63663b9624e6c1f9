/// What physical addresses and IOVAs have in common: a number of bytes from zero.
///
/// The two are different types so that neither can be passed for the other; there is no `+`
/// between addresses, and adding bytes says what happens on overflow.
public protocol Address: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible
where RawValue == UInt64 {
  /// The address of this number.
  init(rawValue: UInt64)
}

extension Address {
  @inlinable
  public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }

  /// The address `byteCount` bytes further on; `nil` past 2^64 − 1.
  @inlinable
  public func advanced(byBytes byteCount: UInt64) -> Self? {
    let (sum, overflow) = rawValue.addingReportingOverflow(byteCount)
    return overflow ? nil : Self(rawValue: sum)
  }

  /// The nearest multiple of `alignment`, a power of two, at or below this address.
  @inlinable
  public func alignedDown(to alignment: UInt64) -> Self {
    Self(rawValue: rawValue & ~(alignment &- 1))
  }

  /// Whether this address is a multiple of `alignment`, a power of two.
  @inlinable
  public func isAligned(to alignment: UInt64) -> Bool { rawValue & (alignment &- 1) == 0 }

  /// The number of the 4 KiB page that this address lies in.
  @inlinable
  public var pageNumber: UInt64 { rawValue >> PageCount.pageSizeLog2 }

  /// Bytes between the start of the 4 KiB page and this address, 0 to 4,095.
  @inlinable
  public var offsetInPage: UInt64 { rawValue & (PageCount.pageByteCount - 1) }

  public var description: String { hexadecimal(rawValue) }
}

/// A byte of physical memory (or of the physical address space where no memory answers).
@frozen
public struct PhysicalAddress: Address {
  public var rawValue: UInt64
  @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  /// The address of this number.
  @inlinable public init(_ rawValue: UInt64) { self.rawValue = rawValue }
}

/// An I/O virtual address: the number a device puts on the bus.
///
/// Where no translation is in force it is taken as a physical address unchanged.
@frozen
public struct IOVA: Address {
  public var rawValue: UInt64
  @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  /// The address of this number.
  @inlinable public init(_ rawValue: UInt64) { self.rawValue = rawValue }
}

extension Range where Bound: Address {
  /// Bytes in this half-open range.
  @inlinable
  public var byteCount: UInt64 { upperBound.rawValue - lowerBound.rawValue }

  /// The same numbers, taken as the other kind of address.
  @inlinable
  public func mapBounds<Other: Address>(to _: Other.Type) -> Range<Other> {
    // Safe: the same numbers are in the same order.
    unsafe Range<Other>(
      uncheckedBounds: (Other(rawValue: lowerBound.rawValue), Other(rawValue: upperBound.rawValue)))
  }

  /// The range of `byteCount` bytes from `start`; `nil` when it would pass 2^64 − 1.
  @inlinable
  public init?(start: Bound, byteCount: UInt64) {
    guard let end = start.advanced(byBytes: byteCount) else { return nil }
    self = start..<end
  }

  /// `0x1000000..<0x9000000`.
  package var text: String { "\(lowerBound)..<\(upperBound)" }
}

/// `0x1f`, without leading zeros.
package func hexadecimal(_ value: some BinaryInteger) -> String {
  "0x" + String(value, radix: 16)
}

/// The value in hexadecimal without prefix, filled with zeros to `digits`; never cut.
package func hexadecimal(_ value: some BinaryInteger, digits: Int) -> String {
  let text = String(value, radix: 16)
  return String(repeating: "0", count: max(0, digits - text.count)) + text
}
