import IOMMUFormats

extension AMDVi.HostFormat: WritableTableFormat {
  public static var tableName: String { "an AMD-Vi host table" }

  @inlinable public var addresses: [ClosedRange<UInt64>] {
    [0...(levels >= 6 ? .max : 1 << UInt64(addressWidth) - 1)]
  }

  @inlinable public var physicalLimit: UInt64 { 1 << 52 }

  /// Every power of two, 4 KiB to 2^52 bytes.
  @inlinable public func hasPages(ofSizeLog2 sizeLog2: Int) -> Bool { 12...52 ~= sizeLog2 }
  @inlinable public var largestPageSizeLog2: Int { 52 }
  @inlinable public func level(ofPageSizeLog2 sizeLog2: Int) -> Int { (sizeLog2 - 12) / 9 + 1 }

  @inlinable public var expressibleAttributes: PageAttributes { [.snooped, .accessed, .dirty] }

  /// FC, as Linux has it for DMA.
  @inlinable public func usualAttributes(for _: Permissions) -> PageAttributes { .snooped }

  @inlinable
  public func entry(toTable table: PhysicalAddress, level: Int) -> Entry {
    Entry(table: table, level: level)
  }

  @inlinable
  public func entry(
    toPage page: PhysicalAddress, sizeLog2: Int, _ permissions: Permissions,
    _ attributes: PageAttributes
  ) -> Entry {
    var entry = Entry(
      page: page, sizeLog2: sizeLog2, level: level(ofPageSizeLog2: sizeLog2),
      permissions: permissions, forcesCoherence: attributes.contains(.snooped))
    entry.isAccessed = attributes.contains(.accessed)
    entry.isDirty = attributes.contains(.dirty)
    return entry
  }

  public func attributes(of leaf: Entry, level _: Int) -> PageAttributes {
    var attributes: PageAttributes = []
    if leaf.forcesCoherence { attributes.insert(.snooped) }
    if leaf.isAccessed { attributes.insert(.accessed) }
    if leaf.isDirty { attributes.insert(.dirty) }
    return attributes
  }

  /// Puts levels on top of a tree until it has entries for an address.
  ///
  /// What leads to the tree has to be written anew: root and mode are others.
  ///
  /// - Parameters:
  ///   - format: Of the tree as it is; then as it has become, which reaches as far as it could be made to.
  ///   - root: The uppermost table; the new one where there is one.
  ///   - address: The last one that has to be reached.
  ///   - maximumLevels: Of the deepest table that the unit has, 6 at most.
  ///   - memory: Memory that holds the tables, and takes the new ones.
  ///   - allocateTable: Gives a page of zeros for a new table, or `nil` when there is none left.
  /// - Throws: `TableMappingError.noPageForTable`; levels that were put on stay.
  /// - Precondition: The tree has a level.
  public static func grow(
    _ format: inout Self, root: inout PhysicalAddress, toReach address: UInt64,
    maximumLevels: Int, in memory: some WritableMemory, allocateTable: () -> PhysicalAddress?
  ) throws(TableMappingError) {
    precondition(format.levels > 0, "a tree grows from its first level")
    while format.levels < min(maximumLevels, 6), !format.addresses[0].contains(address) {
      let new = try TableEditor(format: format, memory: memory, root: root)
        .newTable(for: address, allocateTable)
      format.entry(toTable: root, level: format.levels).store(to: memory, at: new)
      root = new
      format = Self(levels: format.levels + 1)
    }
  }
}
