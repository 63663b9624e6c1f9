import IOMMUFormats

/// How a kernel decides whether a device reaches a buffer without help.
///
/// Help is a remapping where there is an IOMMU, a bounce buffer where there is swiotlb; with nommu
/// there is none, and the mapping is refused. The rules differ by one byte, and one of them by a
/// whole buffer.
public enum MappingRule: Sendable, Hashable, CaseIterable {
  /// Help when the first byte after the buffer is above the mask.
  ///
  /// Quirk Q8: one byte too strict, a buffer that ends with the last reachable byte is sent away.
  ///
  /// Source: Linux 2.6.27 `pci-gart_64.c`, `pci-nommu.c`.
  case gartAndNommuLinux2_6_27

  /// Help when the buffer's first byte is above the mask.
  ///
  /// Quirk Q9: the end is not looked at. A buffer that starts within reach and ends beyond it is
  /// handed out as it is, and the device's address counter wraps or sticks at the mask.
  ///
  /// Source: Linux 2.6.27 `lib/swiotlb.c`.
  case swiotlbLinux2_6_27

  /// Help when the first byte after the buffer is above the mask.
  ///
  /// Q9 mended, and Q8 taken over with the mending.
  ///
  /// Source: Linux 2.6.28 `lib/swiotlb.c`.
  case swiotlbLinux2_6_28

  /// Help when the buffer's last byte is above the mask. Neither quirk.
  ///
  /// Source: Linux 7.0 `dma-direct.h`.
  case linux7_0

  /// What coherent memory of nommu is tested with: too high when the first byte after it is at or
  /// above the mask, two bytes too strict.
  ///
  /// The kernel then tries again in the zone below 16 MiB.
  ///
  /// Source: Linux 2.6.27 `pci-nommu.c`.
  case coherentLinux2_6_27

  /// The quirk that this rule shows, as the project numbers them; `nil` for an exact rule.
  public var quirk: String? {
    switch self {
    case .gartAndNommuLinux2_6_27, .swiotlbLinux2_6_28: "Q8"
    case .swiotlbLinux2_6_27: "Q9"
    case .linux7_0, .coherentLinux2_6_27: nil
    }
  }

  /// Whether the rule finds `buffer` out of the device's reach.
  ///
  /// - Parameters:
  ///   - buffer: Bytes, half-open, not empty.
  ///   - mask: The highest address the device can put on the bus.
  @inlinable
  public func needsHelp(_ buffer: Range<PhysicalAddress>, mask: UInt64) -> Bool {
    let start = buffer.lowerBound.rawValue
    let end = buffer.upperBound.rawValue
    return switch self {
    case .gartAndNommuLinux2_6_27, .swiotlbLinux2_6_28: end > mask
    case .swiotlbLinux2_6_27: start & ~mask != 0
    // Safe: an empty buffer at 0 wraps to "help", and there is no empty buffer.
    case .linux7_0: end &- 1 > mask
    case .coherentLinux2_6_27: end >= mask
    }
  }
}
