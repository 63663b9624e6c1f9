import IOMMUFormats

/// A machine's memory as a dump has it: what does not answer may have been left out.
public struct LackingMemory: PhysicalMemory {
  public let base: FlatMemory
  /// Pages that the dump left out, by their first byte.
  public let leftOut: Set<UInt64>

  /// - Parameter leftOut: Any address of each page that the dump left out.
  public init(_ base: FlatMemory, without leftOut: Set<UInt64> = []) {
    self.base = base
    self.leftOut = Set(leftOut.map { $0 & ~0xfff })
  }

  private func holds(_ address: PhysicalAddress) -> Bool {
    !leftOut.contains(address.rawValue & ~0xfff)
  }

  public func quadword(at address: PhysicalAddress) -> UInt64? {
    holds(address) ? base.quadword(at: address) : nil
  }

  public func doubleword(at address: PhysicalAddress) -> UInt32? {
    holds(address) ? base.doubleword(at: address) : nil
  }

  public func read(at address: PhysicalAddress, into buffer: UnsafeMutableRawBufferPointer) -> Int {
    guard holds(address) else { return 0 }
    let count = min(buffer.count, Int(4096 - address.rawValue % 4096))
    return base.read(at: address, into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<count]))
  }

  public func isAbsent(at address: PhysicalAddress) -> Bool {
    base.doubleword(at: address) == nil || !holds(address)
  }

  public var backedRanges: [Range<PhysicalAddress>] { base.backedRanges }
}

/// A machine's memory as a dump has it that ends too early: nothing answers from an address on.
public struct CutMemory: PhysicalMemory {
  public let base: FlatMemory
  /// The first byte that is lost.
  public let end: UInt64

  public init(_ base: FlatMemory, at end: UInt64) {
    self.base = base
    self.end = end
  }

  private func holds(_ count: UInt64, at address: PhysicalAddress) -> Bool {
    address.rawValue < end && count <= end - address.rawValue
  }

  public func quadword(at address: PhysicalAddress) -> UInt64? {
    holds(8, at: address) ? base.quadword(at: address) : nil
  }

  public func doubleword(at address: PhysicalAddress) -> UInt32? {
    holds(4, at: address) ? base.doubleword(at: address) : nil
  }

  public func read(at address: PhysicalAddress, into buffer: UnsafeMutableRawBufferPointer) -> Int {
    guard address.rawValue < end else { return 0 }
    let count = min(buffer.count, Int(clamping: end - address.rawValue))
    return base.read(at: address, into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<count]))
  }

  public func isAbsent(at address: PhysicalAddress) -> Bool {
    address.rawValue >= end || base.doubleword(at: address) == nil
  }

  public var backedRanges: [Range<PhysicalAddress>] {
    base.backedRanges.compactMap { range in
      let upper = min(range.upperBound, PhysicalAddress(end))
      return range.lowerBound < upper ? range.lowerBound..<upper : nil
    }
  }
}
