import IOMMUFormats

extension GART {
  /// A GART aperture in force: translated inside, passed unchanged outside.
  @frozen
  public struct Window: Sendable, Hashable {
    public let base: UInt64
    public let byteCount: UInt64
    public let table: PhysicalAddress
    public let hasErratum156: Bool

    @inlinable
    public init(
      base: UInt64, byteCount: UInt64, table: PhysicalAddress, hasErratum156: Bool = false
    ) {
      self.base = base
      self.byteCount = byteCount
      self.table = table
      self.hasErratum156 = hasErratum156
    }

    @inlinable public var root: PhysicalAddress { table }
    @inlinable public var format: GART.GATTFormat { GART.GATTFormat(apertureByteCount: byteCount) }

    @inlinable
    func translate(
      _ address: UInt64, byteCount length: UInt64, access: Access, in memory: some PhysicalMemory,
      observer: inout some WalkObserver
    ) -> Translation {
      let offset = address &- base
      guard offset < byteCount else {
        // Passes unchanged, at most up to the aperture.
        let untilWindow = address < base ? base &- address : .max
        return .mapped(PhysicalAddress(address), byteCount: min(length, untilWindow))
      }
      let walk = format.walk(offset, from: table, in: memory, observer: &observer)
      let length = bytesInPage(offset, sizeLog2: 12, atMost: length)
      switch walk.end {
      case .page:
        return .mapped(place(offset, in: walk.page, sizeLog2: 12), byteCount: length)
      case .unreadable:
        return .fault(.gart(.tableUnreadable))
      case .empty, .malformed, .skippedBits, .refused:
        // Erratum 156: the read goes to the page that the invalid entry names.
        if hasErratum156, access == .read {
          let named = GART.GATTEntry(low: walk.entry, high: 0).page
          return .mapped(place(offset, in: named, sizeLog2: 12), byteCount: length)
        }
        return .fault(.gart(.invalidEntry))
      }
    }
  }
}

extension GART.Window: IOTable {
  public var space: IOVASpace {
    let end = base.addingReportingOverflow(byteCount)
    return IOVASpace(
      base: base, byteCount: byteCount,
      passing: [0..<base, (end.overflow ? .max : end.partialValue) ..< .max]
        .filter { !$0.isEmpty })
  }
  public var identity: Self { self }
}
