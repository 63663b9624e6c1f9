/// What a device and its bus ask of the addresses that they are given.
public struct DMALimits: Sendable, Hashable {
  /// The highest address the device can put on the bus: 2^n − 1. Linux 7.0 takes the smaller of
  /// this and the bus's limit; a caller that models a narrower bus passes that.
  public var mask: UInt64

  /// No mapping crosses a multiple of this plus one byte: 2^n − 1.
  public var segmentBoundaryMask: UInt64

  /// Bits of the original address that the device wants to see unchanged: 2^n − 1, or 0 for none.
  ///
  /// NVMe controllers have 0xfff here. Linux 2.6.27 knows no such thing and does not look.
  public var minAlignMask: UInt64

  /// The defaults are a PCI device's: 32 bits, no crossing of 4 GiB, no alignment.
  ///
  /// - Precondition: Each is one less than a power of two.
  public init(
    mask: UInt64 = 0xffff_ffff, segmentBoundaryMask: UInt64 = 0xffff_ffff, minAlignMask: UInt64 = 0
  ) {
    for value in [mask, segmentBoundaryMask, minAlignMask] {
      precondition(value & (value &+ 1) == 0, "a DMA mask is one less than a power of two")
    }
    self.mask = mask
    self.segmentBoundaryMask = segmentBoundaryMask
    self.minAlignMask = minAlignMask
  }
}
