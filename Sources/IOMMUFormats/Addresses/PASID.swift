/// A process address space identifier: which of a device's address spaces a request is for.
///
/// 20 bits. Written in decimal, as in `00:03.0/5`.
@frozen
public struct PASID: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
  public var rawValue: UInt32

  /// The lower 20 bits of `rawValue`; there are no others.
  @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue & 0xf_ffff }
  /// The lower 20 bits of `rawValue`; there are no others.
  @inlinable public init(_ rawValue: UInt32) { self.init(rawValue: rawValue) }

  /// The entry of the PASID directory, PASID bits 19:6. Specification: Intel VT-d 9.5.
  @inlinable public var directoryIndex: UInt64 { UInt64(rawValue >> 6) }
  /// The entry of the PASID table, PASID bits 5:0. Specification: Intel VT-d 9.6.
  @inlinable public var tableIndex: UInt64 { UInt64(rawValue & 63) }

  @inlinable
  public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }

  public var description: String { "\(rawValue)" }
}
