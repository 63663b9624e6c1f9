import IOMMUFormats

/// Addresses are counted from the aperture's first one.
extension GART.GATTFormat: WritableTableFormat {
  public static var tableName: String { "a GATT" }

  @inlinable public var addresses: [ClosedRange<UInt64>] { [0...(apertureByteCount - 1)] }
  @inlinable public var physicalLimit: UInt64 { GART.physicalLimit }

  /// A GATT knows no permissions: what is mapped may be read and written.
  @inlinable
  public func expresses(_ permissions: Permissions) -> Bool { permissions == .readWrite }

  @inlinable public var expressibleAttributes: PageAttributes { .snooped }
  @inlinable public func usualAttributes(for _: Permissions) -> PageAttributes { .snooped }

  /// A flat table leads to no other.
  public func entry(toTable _: PhysicalAddress, level _: Int) -> Entry { clearedEntry }

  @inlinable
  public func entry(
    toPage page: PhysicalAddress, sizeLog2 _: Int, _: Permissions, _ attributes: PageAttributes
  ) -> Entry {
    var entry = Entry(page: page)
    entry.isCoherent = attributes.contains(.snooped)
    return entry
  }

  public func attributes(of leaf: Entry, level _: Int) -> PageAttributes {
    leaf.isCoherent ? .snooped : []
  }
}
