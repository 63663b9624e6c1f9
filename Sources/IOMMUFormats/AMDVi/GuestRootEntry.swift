extension AMDVi {
  /// An entry of a GCR3 table: where the guest table of a PASID lies, or the next table of GCR3 entries.
  ///
  /// Eight bytes, 512 to a 4 KiB table. Specification: AMD IOMMU 2.2.6.
  @frozen
  public struct GuestRootEntry: WordEntry {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension AMDVi.GuestRootEntry {
  public static var name: StaticString { "GCR3 table entry" }
  public static var specification: StaticString { "AMD IOMMU 2.2.6" }

  @inlinable static var v: BitField { BitField(0...0, "V") }
  @inlinable static var addressField: BitField { BitField(12...51, "GCR3", .address) }

  /// *Assumed*: no reader of the manual says of the other bits that they are checked.
  public static func fields(_: OnlyVariant) -> [BitField] {
    [v, .ignored(1...11), addressField, .ignored(52...63)]
  }

  /// A valid entry.
  ///
  /// - Precondition: `table` is 4 KiB aligned.
  public init(table: PhysicalAddress) {
    precondition(table.isAligned(to: 4096), "a guest table lies at a multiple of 4 KiB")
    self.init(rawValue: table.rawValue | Self.v.mask)
  }

  /// V: hardware looks at the rest of the entry.
  @inlinable public var isValid: Bool { self[Self.v] != 0 }
  /// The guest table, or the next table of GCR3 entries.
  @inlinable public var table: PhysicalAddress { PhysicalAddress(addressBits(Self.addressField)) }
}
