import IOMMUFormats

extension Calgary.TCEFormat: WritableTableFormat {
  public static var tableName: String { "a TCE table" }

  @inlinable public var addresses: [ClosedRange<UInt64>] { [0...(size.coverage - 1)] }
  @inlinable public var physicalLimit: UInt64 { 1 << 48 }

  /// A flat table leads to no other.
  public func entry(toTable _: PhysicalAddress, level _: Int) -> Entry { clearedEntry }

  @inlinable
  public func entry(
    toPage page: PhysicalAddress, sizeLog2 _: Int, _ permissions: Permissions, _: PageAttributes
  ) -> Entry { Entry(page: page, permissions: permissions) }
}
