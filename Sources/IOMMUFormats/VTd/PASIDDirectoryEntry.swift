extension VTd {
  /// A PASID directory entry: where the table of 64 PASIDs lies.
  ///
  /// Eight bytes, 128 to 16,384 in a directory, by PASID bits 19:6. Specification: Intel VT-d 9.5.
  @frozen
  public struct PASIDDirectoryEntry: WordEntry {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension VTd.PASIDDirectoryEntry {
  public static var name: StaticString { "PASID directory entry" }
  public static var specification: StaticString { "Intel VT-d 9.5" }
  public static var exampleVariants: [VTd.Limits] { VTd.Limits.examples }

  @inlinable static var p: BitField { BitField(0...0, "P") }
  @inlinable static var fpd: BitField { BitField(1...1, "FPD") }
  @inlinable static var smptblptr: BitField { BitField(12...63, "SMPTBLPTR", .address) }

  public static func fields(_ limits: VTd.Limits) -> [BitField] {
    let width = limits.hostAddressWidth
    return [
      p, fpd, .reserved(2...11), smptblptr.limited(toBit: width - 1),
      .reserved(width...63),
    ]
  }

  /// A present entry.
  ///
  /// - Precondition: `pasidTable` is 4 KiB aligned.
  public init(pasidTable: PhysicalAddress) {
    precondition(pasidTable.isAligned(to: 4096), "a PASID table lies at a multiple of 4 KiB")
    self.init(rawValue: pasidTable.rawValue | Self.p.mask)
  }

  /// P: hardware looks at the rest of the entry.
  @inlinable public var isPresent: Bool { self[Self.p] != 0 }
  /// FPD: faults of these 64 PASIDs are not recorded. Counts also in an entry that is not present.
  @inlinable public var suppressesFaultReports: Bool { self[Self.fpd] != 0 }
  /// The PASID table's first byte.
  @inlinable
  public var pasidTable: PhysicalAddress { PhysicalAddress(addressBits(Self.smptblptr)) }
}
