import IOMMUFormats

/// The protected memory regions in force. Specification: Intel VT-d 11.4.8.
struct ProtectedRegions: Sendable, Hashable {
  /// Closed ranges of physical addresses that no device reaches; empty when the regions are off.
  private(set) var ranges: [ClosedRange<UInt64>] = []

  @inline(__always) var isEmpty: Bool { ranges.isEmpty }

  /// Adds a region, unless its limit lies below its base.
  mutating func add(base: UInt64, limit: UInt64) {
    if base <= limit { ranges.append(base...limit) }
  }

  /// Bytes from `address` that may be reached, at most `byteCount`; 0 inside a region.
  func reachableBytes(from address: UInt64, atMost byteCount: UInt64) -> UInt64 {
    var reachable = byteCount
    for range in ranges {
      if range.contains(address) { return 0 }
      if address < range.lowerBound { reachable = min(reachable, range.lowerBound - address) }
    }
    return reachable
  }
}

extension RemappingUnit {
  /// What the registers say of protected memory: base with its low bits zero, limit with its low
  /// bits one.
  var protectedRegions: ProtectedRegions {
    var regions = ProtectedRegions()
    let has = configuration.capability
    guard has.hasProtectedLowMemory || has.hasProtectedHighMemory,
      page[VTd.ProtectedMemoryEnable.self, VTd.RegisterOffset.protectedMemoryEnable].isOn
    else { return regions }
    if has.hasProtectedLowMemory {
      let low = VTd.ProtectedLowMemory.self
      regions.add(
        base: UInt64(page[low, VTd.RegisterOffset.protectedLowBase].rawValue),
        limit: UInt64(page[low, VTd.RegisterOffset.protectedLowLimit].rawValue)
          | (1 << UInt64(low.alignmentLog2) - 1))
    }
    if has.hasProtectedHighMemory {
      let high = VTd.ProtectedHighMemory.self
      regions.add(
        base: page[high, VTd.RegisterOffset.protectedHighBase].rawValue,
        limit: page[high, VTd.RegisterOffset.protectedHighLimit].rawValue
          | (1 << UInt64(high.alignmentLog2) - 1))
    }
    return regions
  }
}
