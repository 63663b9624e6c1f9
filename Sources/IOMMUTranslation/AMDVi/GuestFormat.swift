import IOMMUFormats

extension AMDVi {
  /// The layout of guest (v2) page tables. Specification: AMD IOMMU 2.2.6.
  @frozen
  public struct GuestFormat: TableFormat, Hashable {
    public typealias Entry = AMDVi.GuestPageTableEntry

    public let levels: Int

    /// - Parameter levels: 4 or 5.
    @inlinable
    public init(levels: Int) {
      precondition(4...5 ~= levels, "a guest table has four or five levels")
      self.levels = levels
    }

    /// Bits of address that count: 48 or 57.
    @inlinable public var addressWidth: Int { AMDVi.Paging.addressWidth(levels: levels) }

    @inlinable public func entryCount(level _: Int) -> UInt64 { 512 }
    @inlinable @inline(__always)
    public func sizeLog2(level: Int) -> Int { AMDVi.Paging.sizeLog2(level: level) }
    @inlinable @inline(__always)
    public func index(of address: UInt64, level: Int) -> UInt64 {
      AMDVi.Paging.index(of: address, level: level)
    }

    @inlinable
    public func variant(of entry: Entry, level: Int) -> Entry.Variant {
      Entry.Variant(level: level, isLeaf: entry.hasPageSizeBit)
    }

    @inlinable @inline(__always)
    public func kind(of entry: Entry, level: Int) -> EntryKind {
      guard entry.isPresent else { return .empty }
      if level == 1 { return .page(entry.address, sizeLog2: 12) }
      guard entry.hasPageSizeBit else { return .table(entry.address, level: level &- 1) }
      // Bits 13 to the page's size; PS itself above level 3.
      let size = sizeLog2(level: level)
      guard level <= 3, entry.rawValue & (1 &<< UInt64(size) &- 1) & ~0x1fff == 0 else {
        return .malformed
      }
      return .page(entry.page(level: level), sizeLog2: size)
    }

    @inlinable @inline(__always)
    public func permissions(of entry: Entry, level _: Int) -> Permissions { entry.permissions }

    @inlinable public var unrestricted: Permissions { [.read, .write, .user, .execute] }
  }

  /// The layout of GCR3 tables: a PASID is looked up as the number of a page is.
  ///
  /// A table of `levels` 1 to 3 serves PASIDs of 9, 18 or 20 bits. Specification: AMD IOMMU 2.2.6.
  @frozen
  public struct GuestRootFormat: TableFormat, Hashable {
    public typealias Entry = AMDVi.GuestRootEntry

    public let levels: Int

    /// - Parameter levels: 1 to 3.
    @inlinable
    public init(levels: Int) {
      precondition(1...3 ~= levels, "GCR3 tables have one to three levels")
      self.levels = levels
    }

    /// Where a PASID is looked up.
    @inlinable
    public static func address(of pasid: PASID) -> UInt64 { UInt64(pasid.rawValue) &<< 12 }

    /// PASIDs from 0 on that the table has entries for.
    @inlinable public var pasidCount: UInt64 { min(1 &<< 20, 1 &<< UInt64(9 &* levels)) }

    @inlinable public func entryCount(level _: Int) -> UInt64 { 512 }
    @inlinable public func sizeLog2(level: Int) -> Int { AMDVi.Paging.sizeLog2(level: level) }
    @inlinable
    public func index(of address: UInt64, level: Int) -> UInt64 {
      AMDVi.Paging.index(of: address, level: level)
    }
    @inlinable
    public func kind(of entry: Entry, level: Int) -> EntryKind {
      guard entry.isValid else { return .empty }
      return level == 1
        ? .page(entry.table, sizeLog2: 12) : .table(entry.table, level: level &- 1)
    }
    @inlinable
    public func permissions(of _: Entry, level _: Int) -> Permissions { .readWrite }
  }
}
