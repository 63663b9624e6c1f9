import IOMMUFormats

extension VTd.SecondStageFormat: WritableTableFormat {
  public static var tableName: String { "a VT-d second-stage table" }

  @inlinable public var addresses: [ClosedRange<UInt64>] {
    [0...(1 << UInt64(VTd.Paging.addressWidth(levels: levels)) - 1)]
  }

  @inlinable public var physicalLimit: UInt64 { 1 << UInt64(limits.hostAddressWidth) }

  @inlinable
  public func hasPages(ofSizeLog2 sizeLog2: Int) -> Bool {
    switch sizeLog2 {
    case 12: true
    case 21: limits.has2MiBPages
    case 30: limits.has1GiBPages
    default: false
    }
  }

  @inlinable public var largestPageSizeLog2: Int { 30 }
  @inlinable public func level(ofPageSizeLog2 sizeLog2: Int) -> Int { (sizeLog2 - 12) / 9 + 1 }

  /// SNP where the unit has it; A and D always, which it reads only where the PASID's entry has SSADE.
  @inlinable public var expressibleAttributes: PageAttributes {
    let all: PageAttributes = [.accessed, .dirty, .ignoresPAT, .memoryTypes]
    return limits.hasSnoopControl ? all.union(.snooped) : all
  }

  @inlinable
  public func entry(toTable table: PhysicalAddress, level _: Int) -> Entry {
    var entry = Entry(table: table)
    if usesIOPermissions { entry.ioPermissions = .readWrite }
    return entry
  }

  @inlinable
  public func entry(
    toPage page: PhysicalAddress, sizeLog2: Int, _ permissions: Permissions,
    _ attributes: PageAttributes
  ) -> Entry {
    var entry = Entry(
      page: page, level: level(ofPageSizeLog2: sizeLog2), permissions: permissions)
    if usesIOPermissions { entry.ioPermissions = permissions }
    guard !attributes.isEmpty else { return entry }
    entry.snoops = attributes.contains(.snooped)
    entry.isAccessed = attributes.contains(.accessed)
    entry.isDirty = attributes.contains(.dirty)
    entry.ignoresPAT = attributes.contains(.ignoresPAT)
    entry.memoryType = attributes.memoryType
    return entry
  }

  public func attributes(of leaf: Entry, level _: Int) -> PageAttributes {
    var attributes = PageAttributes.memoryType(leaf.memoryType)
    if leaf.snoops { attributes.insert(.snooped) }
    if leaf.isAccessed { attributes.insert(.accessed) }
    if leaf.isDirty { attributes.insert(.dirty) }
    if leaf.ignoresPAT { attributes.insert(.ignoresPAT) }
    return attributes
  }
}
