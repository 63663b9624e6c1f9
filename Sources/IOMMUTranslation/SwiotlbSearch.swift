import IOMMUFormats

extension BouncePool {
  /// Where a mapping may begin, and the order in which a kernel tries the places.
  struct Search {
    /// Slabs that the mapping takes.
    let slabCount: Int
    /// Bytes between the start of the first slab and the first byte for the device.
    let offset: UInt64
    private let version: Version
    private let stride: Int
    /// Slabs between two boundaries that the device does not cross; a power of two.
    private let boundarySlabCount: UInt64
    /// The pool's address below the boundary.
    private let base: UInt64
    /// Bits of a slab's address that are 0.
    private let zeroBits: UInt64
    /// Bits of a slab's address that equal those of the original.
    private let equalBits: UInt64
    private let original: UInt64

    init(
      pool: PhysicalAddress, version: Version, original: PhysicalAddress?, byteCount: UInt64,
      limits: DMALimits
    ) {
      let slabMask = BouncePool.slabByteCount - 1
      self.version = version
      self.original = original?.rawValue ?? 0
      boundarySlabCount = limits.segmentBoundaryMask / BouncePool.slabByteCount + 1
      base = pool.rawValue & limits.segmentBoundaryMask
      switch version {
      case .linux2_6_27:
        offset = 0
        (zeroBits, equalBits) = (0, 0)
        // More than a page is page aligned. Exactly a page is not.
        stride = byteCount > 4096 ? 2 : 1
      case .linux7_0:
        offset = original == nil ? 0 : self.original & limits.minAlignMask & slabMask
        // Without a mask, a page and more is page aligned.
        let pageBits: UInt64 = limits.minAlignMask == 0 && byteCount >= 4096 ? 0xfff : 0
        zeroBits = pageBits | slabMask
        // A kernel without an original to look at takes any place.
        equalBits = original == nil ? 0 : limits.minAlignMask & ~zeroBits
        let wider = max(zeroBits, limits.minAlignMask & ~zeroBits)
        stride = Int(clamping: wider / BouncePool.slabByteCount + 1)
      }
      let (sum, overflow) = (byteCount + offset).addingReportingOverflow(slabMask)
      slabCount = overflow ? .max : Int(sum / BouncePool.slabByteCount)
    }

    /// The first position, in the version's order, that keeps to the device's limits and satisfies
    /// `hasRoom`.
    ///
    /// 7.0 counts a skipped stride in full even where the pool's end cut it short, so a search for
    /// unusual alignment may end before it has seen the positions just before the hint.
    func firstMatch(from hint: Int, of count: Int, where hasRoom: (Int) -> Bool) -> Int? {
      var slab = hint
      if version == .linux2_6_27 {
        slab = (hint + stride - 1) / stride * stride
        if slab >= count { slab = 0 }
      }
      var checked = 0
      while checked < count {
        var step = 1
        if isAligned(slab) {
          if !crossesBoundary(slab), hasRoom(slab) { return slab }
          step = stride
        }
        slab = step < count - slab ? slab + step : 0
        checked += min(step, count)
      }
      return nil
    }

    private func isAligned(_ slab: Int) -> Bool {
      let address = base &+ UInt64(slab) &* BouncePool.slabByteCount
      return address & zeroBits == 0 && (address ^ original) & equalBits == 0
    }

    private func crossesBoundary(_ slab: Int) -> Bool {
      let first = base / BouncePool.slabByteCount + UInt64(slab)
      return first % boundarySlabCount + UInt64(slabCount) > boundarySlabCount
    }
  }
}
