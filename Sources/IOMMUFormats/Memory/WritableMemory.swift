/// Physical memory in which software can write tables, and hardware can set bits without losing what
/// software stores beside them.
///
/// Builders of tables and units are generic over it. A memory of one's own has to say two things beside
/// what ``PhysicalMemory`` asks for: where stores take effect, and how a quadword is exchanged. All else
/// follows, and may be given where the memory knows a faster way.
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

  /// Stores a little-endian quadword, so that no reader sees half of it.
  ///
  /// - Precondition: `address` is 8-byte aligned and writable.
  func store(_ quadword: UInt64, at address: PhysicalAddress)

  /// Stores a little-endian doubleword, so that no reader sees half of it.
  ///
  /// - Precondition: `address` is 4-byte aligned, and its quadword is writable.
  func store(_ doubleword: UInt32, at address: PhysicalAddress)

  /// Stores quadwords in a row, each `step` more than the one before; each by itself atomic.
  ///
  /// - Parameters:
  ///   - first: The quadword at `address`.
  ///   - step: What each adds to the one before, modulo 2^64.
  ///   - count: Quadwords; 0 stores nothing.
  ///   - isBigEndian: The byte order of all of them.
  ///   - address: Where the first one lies.
  /// - Precondition: `address` is 8-byte aligned, and all of them are writable.
  func storeSeries(
    from first: UInt64, step: UInt64, count: Int, isBigEndian: Bool, at address: PhysicalAddress)

  /// Sets `byteCount` bytes from `address` to zero.
  ///
  /// - Precondition: `address` and `byteCount` are multiples of eight, and all of the bytes are writable.
  func zero(at address: PhysicalAddress, byteCount: UInt64)
}

extension WritableMemory {
  @inlinable
  public func store(_ quadword: UInt64, at address: PhysicalAddress) {
    var expected = self.quadword(at: address) ?? 0
    while let found = compareExchange(at: address, expected: expected, desired: quadword) {
      expected = found
    }
  }

  @inlinable
  public func store(_ doubleword: UInt32, at address: PhysicalAddress) {
    precondition(address.rawValue & 3 == 0, "a doubleword is stored at a multiple of four")
    let place = address.alignedDown(to: 8)
    let shift = (address.rawValue & 4) * 8
    var expected = quadword(at: place) ?? 0
    while true {
      let desired = expected & ~(0xffff_ffff << shift) | UInt64(doubleword) << shift
      guard let found = compareExchange(at: place, expected: expected, desired: desired) else {
        return
      }
      expected = found
    }
  }

  /// Stores a big-endian quadword, so that no reader sees half of it.
  ///
  /// - Precondition: `address` is 8-byte aligned and writable.
  @inlinable
  public func store(bigEndian quadword: UInt64, at address: PhysicalAddress) {
    store(quadword.byteSwapped, at: address)
  }

  /// Stores a big-endian doubleword, so that no reader sees half of it.
  ///
  /// - Precondition: `address` is 4-byte aligned, and its quadword is writable.
  @inlinable
  public func store(bigEndian doubleword: UInt32, at address: PhysicalAddress) {
    store(doubleword.byteSwapped, at: address)
  }

  @inlinable
  public func storeSeries(
    from first: UInt64, step: UInt64, count: Int, isBigEndian: Bool, at address: PhysicalAddress
  ) {
    var word = first
    var place = address.rawValue
    for _ in 0..<count {
      store(isBigEndian ? word.byteSwapped : word, at: PhysicalAddress(place))
      word &+= step
      place &+= 8
    }
  }

  @inlinable
  public func zero(at address: PhysicalAddress, byteCount: UInt64) {
    storeSeries(from: 0, step: 0, count: Int(byteCount / 8), isBigEndian: false, at: address)
  }

  /// Whether stores to all of `byteCount` bytes take effect, as far as the first and the last quadword of
  /// each page of 4 KiB tell.
  ///
  /// - Parameters:
  ///   - address: A multiple of eight.
  ///   - byteCount: A multiple of eight; nothing is writable beyond 2^64 − 1.
  @inlinable
  public func isWritable(_ address: PhysicalAddress, byteCount: UInt64) -> Bool {
    guard byteCount >= 8, let end = address.advanced(byBytes: byteCount) else {
      return byteCount == 0
    }
    var place = address.rawValue
    while place < end.rawValue {
      let last = min(place | 4095, end.rawValue - 1) & ~7
      guard isWritable(at: PhysicalAddress(place)), isWritable(at: PhysicalAddress(last)) else {
        return false
      }
      place = last + 8
    }
    return true
  }
}

extension FlatMemory: WritableMemory {
  @inlinable
  public func isWritable(at address: PhysicalAddress) -> Bool { isBacked(address, byteCount: 8) }
}
