import IOMMUFormats

/// What software asks the caches of DMA remapping to forget. Specification: Intel VT-d 6.5.
enum CacheInvalidation: Hashable, Sendable {
  case contextGlobal
  case contextDomain(UInt16)
  /// The requesters that agree with this one outside `ignoredBits`.
  ///
  /// Software names the domain too; entries of another domain are dropped all the same, which is
  /// always allowed.
  case contextDevice(UInt16, ignoredBits: UInt16)
  case pasidGlobal
  case pasidDomain(UInt16)
  case pasid(domainID: UInt16, UInt32)
  case iotlbGlobal
  case iotlbDomain(UInt16)
  case iotlbPages(domainID: UInt16, PageRange)
  case pasidIOTLB(domainID: UInt16, pasid: UInt32)
  case pasidIOTLBPages(domainID: UInt16, pasid: UInt32, PageRange)
  /// All of the above: a new root table, or remapping switched off.
  case everything
}

/// An aligned run of 2^n pages in an invalidation.
struct PageRange: Hashable, Sendable {
  /// A byte of the run; bits below 12 + n do not count.
  var address: UInt64
  /// 2^`sizeLog2` bytes, 12 to 75.
  var sizeLog2: Int
  /// IH clear: entries that point to tables may have changed too.
  var includesStructures: Bool
  /// The bits of an address that are compared: those below MGAW, or all.
  var comparedBits: UInt64

  init(
    _ address: IOVA, addressMask: Int, hint: Bool, addressWidth: Int = 64
  ) {
    self.address = address.rawValue
    sizeLog2 = 12 + addressMask
    includesStructures = !hint
    comparedBits = addressWidth >= 64 ? ~0 : 1 << UInt64(addressWidth) - 1
  }

  /// Whether 2^`sizeLog2` bytes at `start`, aligned, have a byte in the run.
  func overlaps(_ start: UInt64, sizeLog2 other: Int) -> Bool {
    let shift = UInt64(max(sizeLog2, other))
    return shift >= 64 || ((start ^ address) & comparedBits) >> shift == 0
  }
}
