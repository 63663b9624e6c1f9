import IOMMUFormats

extension AMDVi {
  /// The layout of host (v1) page tables. Specification: AMD IOMMU 2.2.3.
  @frozen
  public struct HostFormat: TableFormat, Hashable {
    public typealias Entry = AMDVi.PageTableEntry

    /// Mode: 1 to 6; 0 where there is no table, and nothing to walk.
    public let levels: Int

    /// - Parameter levels: 0 to 6.
    @inlinable
    public init(levels: Int) {
      precondition(0...6 ~= levels, "host tables have up to six levels")
      self.levels = levels
    }

    /// Bits of IOVA that are translated.
    @inlinable public var addressWidth: Int { AMDVi.Paging.addressWidth(levels: levels) }

    @inlinable
    public func entryCount(level: Int) -> UInt64 { AMDVi.Paging.entryCount(level: level) }
    @inlinable @inline(__always)
    public func sizeLog2(level: Int) -> Int { AMDVi.Paging.sizeLog2(level: level) }
    @inlinable @inline(__always)
    public func index(of address: UInt64, level: Int) -> UInt64 {
      AMDVi.Paging.index(of: address, level: level)
    }

    @inlinable
    public func variant(of entry: Entry, level: Int) -> Entry.Variant {
      Entry.Variant(level: level, isLeaf: entry.isPresent && entry.isLeaf).possible
    }

    @inlinable @inline(__always)
    public func kind(of entry: Entry, level: Int) -> EntryKind {
      guard entry.isPresent else { return .empty }
      let next = entry.nextLevel
      guard next == 0 || next == 7 else {
        guard entry.rawValue & AMDVi.HostFormat.reservedInTables == 0 else { return .malformed }
        return .table(entry.address, level: next)
      }
      guard entry.rawValue & AMDVi.HostFormat.reservedInPages == 0,
        let size = entry.pageSizeLog2(level: level)
      else { return .malformed }
      let mask = UInt64.max &<< UInt64(truncatingIfNeeded: size)
      return .page(
        PhysicalAddress(entry.address.rawValue & mask), sizeLog2: size,
        spanLog2: sizeLog2(level: level))
    }

    @inlinable @inline(__always)
    public func permissions(of entry: Entry, level _: Int) -> Permissions { entry.permissions }
  }
}

extension AMDVi.HostFormat {
  // Constants, so that the walk loads none; that they are what the fields say, a test checks.
  @inlinable static var reservedInPages: UInt64 { 0x07f0_0000_0000_0000 }
  @inlinable static var reservedInTables: UInt64 { 0x1ff0_0000_0000_0000 }

  /// Whether a bit is set that must be zero.
  func isReserved(_ entry: Entry) -> Bool {
    entry.rawValue & (entry.isLeaf ? Self.reservedInPages : Self.reservedInTables) != 0
  }
}
