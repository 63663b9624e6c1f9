import IOMMUFormats

extension GART {
  /// The layout of a GATT: flat, 4 KiB pages, no permissions.
  @frozen
  public struct GATTFormat: TableFormat {
    public typealias Entry = GART.GATTEntry
    public let apertureByteCount: UInt64
    /// What is stored where nothing is mapped: all zeros, or an entry of a scratch page.
    public let clearedEntry: GART.GATTEntry

    @inlinable
    public init(
      apertureByteCount: UInt64, clearedEntry: GART.GATTEntry = GART.GATTEntry(rawValue: 0)
    ) {
      self.apertureByteCount = apertureByteCount
      self.clearedEntry = clearedEntry
    }

    @inlinable public var levels: Int { 1 }
    @inlinable public func entryCount(level _: Int) -> UInt64 { apertureByteCount &>> 12 }
    @inlinable public func sizeLog2(level _: Int) -> Int { 12 }
    @inlinable @inline(__always)
    public func index(of address: UInt64, level _: Int) -> UInt64 { address &>> 12 }
    @inlinable @inline(__always)
    public func kind(of entry: Entry, level _: Int) -> EntryKind {
      entry.isValid ? .page(entry.page, sizeLog2: 12) : .empty
    }
    @inlinable @inline(__always)
    public func permissions(of entry: Entry, level _: Int) -> Permissions { .readWrite }
  }
}
