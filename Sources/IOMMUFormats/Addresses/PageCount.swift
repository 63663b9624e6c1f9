/// A number of 4 KiB pages: the unit in which every format here maps at least.
@frozen
public struct PageCount: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
  /// Bits of an address inside a page.
  public static let pageSizeLog2: UInt64 = 12
  /// Bytes in a page.
  public static let pageByteCount: UInt64 = 4096

  public var rawValue: UInt64
  @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  /// So many pages.
  @inlinable public init(_ rawValue: UInt64) { self.rawValue = rawValue }

  /// The pages that `byteCount` bytes touch when they start `offset` bytes into a page.
  ///
  /// Rounds up `offset + byteCount`, as the drivers do: nothing at offset 0 takes no page,
  /// nothing at any other offset takes one. `nil` when the sum passes 2^64 − 1.
  @inlinable
  public init?(coveringBytes byteCount: UInt64, atOffset offset: UInt64 = 0) {
    let (sum, overflow) = (offset & (Self.pageByteCount - 1)).addingReportingOverflow(byteCount)
    guard !overflow else { return nil }
    self.init(sum / Self.pageByteCount + (sum % Self.pageByteCount == 0 ? 0 : 1))
  }

  /// Bytes in these pages; `nil` past 2^64 − 1.
  @inlinable
  public var byteCount: UInt64? {
    let (product, overflow) = rawValue.multipliedReportingOverflow(by: Self.pageByteCount)
    return overflow ? nil : product
  }

  @inlinable
  public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }

  public var description: String { "\(rawValue)" }
}
