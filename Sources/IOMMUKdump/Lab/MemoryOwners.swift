import IOMMUFormats

/// Whose memory an address is, in the lab.
struct MemoryOwners {
  private var ranges: [(range: Range<PhysicalAddress>, owner: String)] = []
  let map: MemoryMap

  init(map: MemoryMap) { self.map = map }

  mutating func add(_ range: Range<PhysicalAddress>, _ owner: @autoclosure () -> String) {
    ranges.append((range, owner()))
  }

  /// The owner of the first byte of a range that was reached.
  func owner(of range: Range<PhysicalAddress>) -> String {
    if let owner = ranges.last(where: { $0.range.overlaps(range) })?.owner { return owner }
    return map.crashKernelOverlaps(range)
      ? "the capture kernel" : "other memory of the primary kernel"
  }
}
