import IOMMUFormats

extension Calgary {
  /// The layout of a Calgary TCE table: flat, 4 KiB pages.
  @frozen
  public struct TCEFormat: TableFormat {
    public typealias Entry = Calgary.TranslationControlEntry
    public let size: Calgary.TableSize

    @inlinable public init(size: Calgary.TableSize) { self.size = size }

    @inlinable public var levels: Int { 1 }
    @inlinable public func entryCount(level _: Int) -> UInt64 { size.entryCount }
    @inlinable public func sizeLog2(level _: Int) -> Int { 12 }
    @inlinable @inline(__always)
    public func index(of address: UInt64, level _: Int) -> UInt64 { address &>> 12 }
    @inlinable @inline(__always)
    public func kind(of entry: Entry, level _: Int) -> EntryKind {
      entry.permissions.isEmpty ? .empty : .page(entry.page, sizeLog2: 12)
    }
    @inlinable @inline(__always)
    public func permissions(of entry: Entry, level _: Int) -> Permissions { entry.permissions }
  }
}
