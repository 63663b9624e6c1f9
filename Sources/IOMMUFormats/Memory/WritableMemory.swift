/// Physical memory in which hardware can set bits without losing what software stores beside them.
public protocol WritableMemory: PhysicalMemory {
  /// Whether a store to the quadword at `address` takes effect; false for ROM.
  func isWritable(at address: PhysicalAddress) -> Bool

  /// Replaces the little-endian quadword at `address` when it still holds `expected`.
  ///
  /// - Returns: `nil` when the exchange was made, otherwise what the quadword holds.
  /// - Precondition: `address` is 8-byte aligned and writable.
  func compareExchange(
    at address: PhysicalAddress, expected: UInt64, desired: UInt64
  ) -> UInt64?
}

extension FlatMemory: WritableMemory {
  @inlinable
  public func isWritable(at address: PhysicalAddress) -> Bool { isBacked(address, byteCount: 8) }
}
