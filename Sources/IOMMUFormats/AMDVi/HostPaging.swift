extension AMDVi {
  /// The shape of host page tables: 4 KiB pages, tables of 512 entries, up to six levels.
  ///
  /// Levels are counted from the bottom: entries of level 1 map 4 KiB and more. Specification: AMD
  /// IOMMU 2.2.3.
  public enum Paging {
    /// Bits of address that one entry of `level` covers: 12, 21, 30, 39, 48, 57.
    @inlinable @inline(__always)
    public static func sizeLog2(level: Int) -> Int { 12 &+ 9 &* (level &- 1) }

    /// Bits of address that a table of `levels` translates: 21, 30, 39, 48, 57 or 64.
    @inlinable @inline(__always)
    public static func addressWidth(levels: Int) -> Int { min(64, sizeLog2(level: levels &+ 1)) }

    /// Entries in one table: of level 6, whose addresses end at bit 63, a quarter of it.
    @inlinable @inline(__always)
    public static func entryCount(level: Int) -> UInt64 { level == 6 ? 128 : 512 }

    /// The entry of `level` that an address chooses in its table.
    @inlinable @inline(__always)
    public static func index(of address: UInt64, level: Int) -> UInt64 {
      address &>> UInt64(truncatingIfNeeded: sizeLog2(level: level)) & 511
    }

    /// The levels whose entries can map pages.
    @inlinable public static var leafLevels: ClosedRange<Int> { 1...5 }
  }
}
