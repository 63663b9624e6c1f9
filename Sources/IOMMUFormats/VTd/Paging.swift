extension VTd {
  /// The shape of page tables, which both stages share: 4 KiB pages, and tables of 512 entries.
  ///
  /// Levels are counted from the bottom: entries of level 1 map 4 KiB. Specification: Intel VT-d
  /// 3.6, 3.7.
  public enum Paging {
    /// Bits of an address inside the smallest page.
    @inlinable public static var pageBits: Int { 12 }

    /// Bits of an address that choose an entry of one table.
    @inlinable public static var indexBits: Int { 9 }

    /// Entries in a table.
    @inlinable public static var entryCount: UInt64 { 1 &<< UInt64(indexBits) }

    /// The bits of an address inside a region: what one table of level 1 maps, 2 MiB.
    @inlinable public static var regionMask: UInt64 {
      1 &<< UInt64(truncatingIfNeeded: pageBits &+ indexBits) &- 1
    }

    /// The levels whose entries can map pages.
    @inlinable public static var leafLevels: ClosedRange<Int> { 1...3 }

    /// Bits of address that one entry of `level` covers: 12, 21, 30, 39, 48.
    @inlinable @inline(__always)
    public static func sizeLog2(level: Int) -> Int { pageBits &+ indexBits &* (level &- 1) }

    /// Bits of address that a table of `levels` translates: 39, 48 or 57 for 3 to 5 of them.
    @inlinable @inline(__always)
    public static func addressWidth(levels: Int) -> Int { pageBits &+ indexBits &* levels }

    /// The entry of `level` that an address chooses in its table, 0 to 511.
    @inlinable @inline(__always)
    public static func index(of address: UInt64, level: Int) -> UInt64 {
      address &>> UInt64(truncatingIfNeeded: sizeLog2(level: level)) & (entryCount &- 1)
    }
  }
}
