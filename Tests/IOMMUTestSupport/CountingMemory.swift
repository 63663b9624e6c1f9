import IOMMUFormats
import Synchronization

/// A memory that counts what is read of it from an address on.
public final class CountingMemory: PhysicalMemory {
  public let base: FlatMemory
  /// Where counting begins.
  public let start: UInt64
  private let counted = Mutex(0)

  public init(_ base: FlatMemory, from start: UInt64) {
    self.base = base
    self.start = start
  }

  /// Reads that `body` makes from ``start`` on, of a word or of up to a page.
  public func reads(by body: () throws -> Void) rethrows -> Int {
    counted.withLock { $0 = 0 }
    try body()
    return counted.withLock { $0 }
  }

  private func count(_ address: PhysicalAddress) {
    if address.rawValue >= start { counted.withLock { $0 += 1 } }
  }

  public func quadword(at address: PhysicalAddress) -> UInt64? {
    count(address)
    return base.quadword(at: address)
  }

  public func doubleword(at address: PhysicalAddress) -> UInt32? {
    count(address)
    return base.doubleword(at: address)
  }

  public func read(at address: PhysicalAddress, into buffer: UnsafeMutableRawBufferPointer) -> Int {
    count(address)
    return base.read(at: address, into: buffer)
  }

  public func isAbsent(at address: PhysicalAddress) -> Bool { base.isAbsent(at: address) }
  public var backedRanges: [Range<PhysicalAddress>] { base.backedRanges }
}
