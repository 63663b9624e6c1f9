extension AMDVi {
  /// An entry of a host (v1) page table: a PDE, which leads to a table, or a PTE, which maps a page.
  ///
  /// Eight bytes, 512 to a 4 KiB table. The next-level field says which of both it is: 1 to 6 name the
  /// level of the next table, so that levels can be left out; 0 is a page of the level's own size, 7 one
  /// whose size is coded in the address. Specification: AMD IOMMU 2.2.3.
  @frozen
  public struct PageTableEntry: WordEntry {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension AMDVi.PageTableEntry {
  /// Where an entry stands, and what its next-level field makes of it.
  public struct Variant: Sendable, Hashable {
    /// 6 for the uppermost table of the deepest trees, down to 1.
    public var level: Int
    /// The entry maps a page.
    public var isLeaf: Bool

    /// - Precondition: `level` is 1 to 6.
    public init(level: Int, isLeaf: Bool) {
      precondition(1...6 ~= level, "host table levels are 1 to 6")
      self.level = level
      self.isLeaf = isLeaf
    }

    /// The same where entries of the level can be so: those of level 1 lead to no table, and those of
    /// level 6 map no page, whatever their next-level field says.
    @inlinable package var possible: Variant {
      Variant(level: level, isLeaf: level == 1 || level < 6 && isLeaf)
    }

    /// The entry's name for this place.
    public var name: String { isLeaf ? "PTE of level \(level)" : "PDE of level \(level)" }
  }

  public static var name: StaticString { "host page table entry" }
  public static var specification: StaticString { "AMD IOMMU 2.2.3" }
  public static var exampleVariants: [Variant] {
    (1...6).flatMap { level in
      [false, true].map { Variant(level: level, isLeaf: $0) }.filter { $0 == $0.possible }
    }
  }

  @inlinable static var pr: BitField { BitField(0...0, "PR") }
  @inlinable static var a: BitField { BitField(5...5, "A") }
  @inlinable static var d: BitField { BitField(6...6, "D") }
  @inlinable static var nextLevelField: BitField { BitField(9...11, "NextLevel") }
  @inlinable static var addressField: BitField { BitField(12...51, "ADDR", .address) }
  @inlinable static var u: BitField { BitField(59...59, "U") }
  @inlinable static var fc: BitField { BitField(60...60, "FC") }
  @inlinable static var ir: BitField { BitField(61...61, "IR") }
  @inlinable static var iw: BitField { BitField(62...62, "IW") }

  public static func fields(_ variant: Variant) -> [BitField] {
    [pr, .ignored(1...4), a, variant.isLeaf ? d : .ignored(6...6), .ignored(7...8), nextLevelField]
      + [addressField]
      + (variant.isLeaf ? [.reserved(52...58), u, fc] : [.reserved(52...60)])
      + [ir, iw, .ignored(63...63)]
  }

  /// An entry that leads to a table, with both permissions.
  ///
  /// - Parameters:
  ///   - table: The table's first byte.
  ///   - level: The level of that table's entries, 1 to 6.
  ///   - permissions: IR and IW.
  /// - Precondition: `table` is 4 KiB aligned.
  @inlinable
  public init(
    table: PhysicalAddress, level: Int, permissions: Permissions = .readWrite
  ) {
    precondition(table.isAligned(to: 4096), "a page table lies at a multiple of 4 KiB")
    precondition(1...6 ~= level, "tables that entries lead to are of level 1 to 6")
    self.init(rawValue: table.rawValue | Self.pr.mask)
    self[Self.nextLevelField] = UInt64(level)
    self.permissions = permissions
  }

  /// A page of 2^`sizeLog2` bytes, in a table of `level`: next-level 0 where that is the level's own
  /// size, else 7 with the size coded in the address.
  ///
  /// A page larger than what one entry covers has to be stored in all of the entries that it spans.
  ///
  /// - Precondition: `page` is aligned to the size, and entries of `level` can have it.
  @inlinable
  public init(
    page: PhysicalAddress, sizeLog2: Int, level: Int, permissions: Permissions,
    forcesCoherence: Bool = false
  ) {
    let own = AMDVi.Paging.sizeLog2(level: level)
    precondition(
      AMDVi.Paging.leafLevels ~= level && own..<own + 9 ~= sizeLog2 && sizeLog2 <= 52,
      "entries of a level map its own size and larger ones, below that of the next level")
    precondition(page.isAligned(to: 1 << UInt64(sizeLog2)), "a page is aligned to its size")
    self.init(rawValue: page.rawValue | Self.pr.mask)
    if sizeLog2 > own {
      self[Self.nextLevelField] = 7
      // Ones from bit 12 on, and a zero below the address.
      rawValue |= (1 << UInt64(sizeLog2 - 1) - 1) & ~0xfff
    }
    self[Self.fc] = forcesCoherence ? 1 : 0
    self.permissions = permissions
  }

  /// PR: hardware looks at the rest of the entry.
  @inlinable public var isPresent: Bool { rawValue & Self.pr.mask != 0 }
  /// NextLevel: 0 to 7.
  @inlinable
  public var nextLevel: Int { Int(truncatingIfNeeded: self[Self.nextLevelField]) }
  /// The entry maps a page, as far as its next-level field says.
  @inlinable public var isLeaf: Bool { nextLevel == 0 || nextLevel == 7 }
  /// Bits 51:12: the next table, or a page's first byte where no size is coded in it.
  @inlinable public var address: PhysicalAddress { PhysicalAddress(addressBits(Self.addressField)) }
  /// IR and IW.
  @inlinable
  public var permissions: Permissions {
    get { Permissions(rawValue: UInt8(truncatingIfNeeded: self[Self.ir] | self[Self.iw] &<< 1)) }
    set {
      self[Self.ir] = newValue.contains(.read) ? 1 : 0
      self[Self.iw] = newValue.contains(.write) ? 1 : 0
    }
  }
  /// U: the page is reached by untranslated requests only; devices' own TLBs are told so.
  @inlinable public var isUntranslatedOnly: Bool { self[Self.u] != 0 }
  /// FC: accesses look into the processors' caches, whatever requests say.
  @inlinable public var forcesCoherence: Bool { self[Self.fc] != 0 }
  /// A: a walk has used the entry.
  @inlinable public var isAccessed: Bool {
    get { self[Self.a] != 0 }
    set { self[Self.a] = newValue ? 1 : 0 }
  }
  /// D, meaningful in leaves: the page was written.
  @inlinable public var isDirty: Bool {
    get { self[Self.d] != 0 }
    set { self[Self.d] = newValue ? 1 : 0 }
  }
  /// NextLevel, where it lies.
  @inlinable package static var nextLevelMask: UInt64 { nextLevelField.mask }
  /// What a walk sets in every entry that it uses, where the unit keeps marks.
  @inlinable package static var accessedBit: UInt64 { a.mask }
  /// What a write sets in the leaf, where the unit keeps marks.
  @inlinable package static var dirtyBit: UInt64 { d.mask }

  /// The size that a page of `level` has, as a power of two; `nil` where the code is of no size that
  /// entries of the level can have, and for entries that map no page.
  ///
  /// With next-level 7 the lowest bit of the address that is zero, counted from bit 12 on, says it: a
  /// page has twice that bit's value.
  @inlinable
  public func pageSizeLog2(level: Int) -> Int? {
    let own = AMDVi.Paging.sizeLog2(level: level)
    guard level < 6 else { return nil }
    guard nextLevel == 7 else { return nextLevel == 0 ? own : nil }
    let ones = (~rawValue &>> 12).trailingZeroBitCount
    let size = ones &+ 13
    return size > own && size < own &+ 9 && size <= 52 ? size : nil
  }
}
