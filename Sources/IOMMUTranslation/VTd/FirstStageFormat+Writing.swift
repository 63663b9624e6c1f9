import IOMMUFormats

extension VTd.FirstStageFormat: WritableTableFormat {
  public static var tableName: String { "a VT-d first-stage table" }

  /// The lower and the upper half: bits above the width repeat its highest one.
  @inlinable public var addresses: [ClosedRange<UInt64>] { .canonical(width: addressWidth) }

  /// Of nested tables every address that entries can name: the second stage judges those.
  @inlinable public var physicalLimit: UInt64 {
    1 << UInt64(isNested ? 52 : limits.hostAddressWidth)
  }

  @inlinable
  public func hasPages(ofSizeLog2 sizeLog2: Int) -> Bool {
    switch sizeLog2 {
    case 12, 21: true
    case 30: limits.features.contains(.firstStage1GiBPages)
    default: false
    }
  }

  @inlinable public var largestPageSizeLog2: Int { 30 }
  @inlinable public func level(ofPageSizeLog2 sizeLog2: Int) -> Int { (sizeLog2 - 12) / 9 + 1 }

  /// What can be reached at all can be read.
  @inlinable
  public func expresses(_ permissions: Permissions) -> Bool {
    permissions.contains(.read) && permissions.isSubset(of: unrestricted)
  }

  @inlinable public var expressibleAttributes: PageAttributes { .longMode }

  /// A, and D where the page may be written, so that hardware sets neither. As Linux writes them.
  @inlinable
  public func usualAttributes(for permissions: Permissions) -> PageAttributes {
    permissions.contains(.write) ? [.accessed, .dirty] : .accessed
  }

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

// What VT-d's first stage and AMD-Vi's guest tables have in common: the processor's own entries.

extension PageAttributes {
  @inlinable static var longMode: Self {
    [.accessed, .dirty, .supervisorOnly, .noExecute, .memoryTypes]
  }
}

extension [ClosedRange<UInt64>] {
  /// The addresses whose bits from `width` on repeat the highest one below.
  @inlinable
  static func canonical(width: Int) -> Self {
    let half: UInt64 = 1 << UInt64(width - 1)
    return [0...(half - 1), (0 &- half)...(.max)]
  }
}

extension LongModeEntry {
  /// What leads to a table, accessed already.
  @inlinable
  init(accessedTable table: PhysicalAddress) {
    self.init(table: table)
    isAccessed = true
  }

  /// A leaf with all that it says beside what its format alone has.
  @inlinable
  init(
    page: PhysicalAddress, level: Int, _ permissions: Permissions, _ attributes: PageAttributes
  ) {
    self.init(
      page: page, level: level, isWritable: permissions.contains(.write),
      isUser: !attributes.contains(.supervisorOnly))
    isAccessed = attributes.contains(.accessed)
    isDirty = attributes.contains(.dirty)
    setMemoryType(attributes.memoryType, level: level)
  }

  func longModeAttributes(level: Int, isNoExecute: Bool) -> PageAttributes {
    var attributes = PageAttributes.memoryType(memoryType(level: level))
    if isAccessed { attributes.insert(.accessed) }
    if isDirty { attributes.insert(.dirty) }
    if !isUser { attributes.insert(.supervisorOnly) }
    if isNoExecute { attributes.insert(.noExecute) }
    return attributes
  }
}
