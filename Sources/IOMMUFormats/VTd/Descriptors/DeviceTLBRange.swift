extension VTd {
  /// The pages that a device-TLB invalidation names, coded as PCIe ATS does.
  ///
  /// With S clear one page; with S set the lowest clear bit k of the page number says that it is
  /// 2^(k + 1) pages, aligned. Specification: Intel VT-d 6.5.2.5, PCIe ATS.
  public struct DeviceTLBRange: Sendable, Hashable {
    /// The first byte, a multiple of the range's length.
    public let address: IOVA
    /// 2^`sizeLog2` bytes, 12 to 64; 64 is everything.
    public let sizeLog2: Int

    /// - Parameters:
    ///   - pageNumber: ADDR of the descriptor, 52 bits.
    ///   - isRange: S of the descriptor.
    public init(pageNumber: UInt64, isRange: Bool) {
      let ones = isRange ? (~pageNumber).trailingZeroBitCount + 1 : 0
      sizeLog2 = min(64, 12 + ones)
      let mask = ones >= 52 ? 0 : ~UInt64(0) << UInt64(ones)
      address = IOVA((pageNumber & mask) << 12)
    }

    /// Whether a page of 2^`sizeLog2` bytes at `address` has a byte in this range.
    public func overlaps(_ other: IOVA, sizeLog2 otherSizeLog2: Int) -> Bool {
      let shift = max(sizeLog2, otherSizeLog2)
      return shift >= 64 || address.rawValue >> UInt64(shift) == other.rawValue >> UInt64(shift)
    }
  }

  /// RC of a page group response. Open: other codes keep their value. Specification: Intel VT-d
  /// 7.6.1.
  @frozen
  public struct PageResponseCode: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// The pages are there.
    public static let success = Self(rawValue: 0)
    /// There is no such page, or not with these rights.
    public static let invalidRequest = Self(rawValue: 1)
    /// Something went wrong; the device is not to ask again.
    public static let failure = Self(rawValue: 15)
  }
}
