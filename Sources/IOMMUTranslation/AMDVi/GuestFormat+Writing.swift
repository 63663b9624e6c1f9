import IOMMUFormats

extension AMDVi.GuestFormat: WritableTableFormat {
  public static var tableName: String { "an AMD-Vi guest table" }

  /// All that the width has; and the upper half, where bits above the width repeat its highest one. Of
  /// requests with a PASID other than 0 the upper half of the width is none.
  @inlinable public var addresses: [ClosedRange<UInt64>] {
    [0...(1 << UInt64(addressWidth) - 1), (0 &- 1 << UInt64(addressWidth - 1))...(.max)]
  }

  @inlinable public var physicalLimit: UInt64 { 1 << 52 }

  @inlinable
  public func hasPages(ofSizeLog2 sizeLog2: Int) -> Bool {
    sizeLog2 == 12 || sizeLog2 == 21 || sizeLog2 == 30
  }

  @inlinable public var largestPageSizeLog2: Int { 30 }
  @inlinable public func level(ofPageSizeLog2 sizeLog2: Int) -> Int { (sizeLog2 - 12) / 9 + 1 }

  /// What can be reached at all can be read.
  @inlinable
  public func expresses(_ permissions: Permissions) -> Bool {
    permissions.contains(.read) && permissions.isSubset(of: unrestricted)
  }

  @inlinable public var expressibleAttributes: PageAttributes { .longMode }

  /// A and D, so that hardware sets neither. As Linux writes them.
  @inlinable
  public func usualAttributes(for _: Permissions) -> PageAttributes { [.accessed, .dirty] }

  @inlinable
  public func entry(toTable table: PhysicalAddress, level _: Int) -> Entry {
    Entry(accessedTable: table)
  }

  @inlinable
  public func entry(
    toPage page: PhysicalAddress, sizeLog2: Int, _ permissions: Permissions,
    _ attributes: PageAttributes
  ) -> Entry {
    var entry = Entry(
      page: page, level: level(ofPageSizeLog2: sizeLog2), permissions, attributes)
    entry.isNoExecute = attributes.contains(.noExecute)
    return entry
  }

  public func attributes(of leaf: Entry, level: Int) -> PageAttributes {
    leaf.longModeAttributes(level: level, isNoExecute: leaf.isNoExecute)
  }
}

extension AMDVi.GuestRootFormat: WritableTableFormat {
  public static var tableName: String { "a GCR3 table" }

  /// A PASID as the number of a page: ``address(of:)``.
  @inlinable public var addresses: [ClosedRange<UInt64>] { [0...(pasidCount << 12 - 1)] }

  @inlinable public var physicalLimit: UInt64 { 1 << 52 }

  /// The GCR3 entry is all: what devices may do, the guest table says.
  @inlinable
  public func expresses(_ permissions: Permissions) -> Bool { permissions == .readWrite }

  @inlinable
  public func entry(toTable table: PhysicalAddress, level _: Int) -> Entry { Entry(table: table) }

  @inlinable
  public func entry(
    toPage page: PhysicalAddress, sizeLog2 _: Int, _: Permissions, _: PageAttributes
  ) -> Entry { Entry(table: page) }
}
