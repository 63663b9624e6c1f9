extension VTd {
  /// A first-stage paging entry: FS-PML5E, FS-PML4E, FS-PDPE, FS-PDE or FS-PTE.
  ///
  /// Eight bytes, 512 to a 4 KiB table, in the layout of the processor's own page tables. A level-1
  /// entry maps 4 KiB; with PS set a level-2 entry maps 2 MiB and a level-3 entry 1 GiB; all others
  /// point to the next table. Specification: Intel VT-d 3.6, 9.7.
  @frozen
  public struct FirstStageEntry: WordEntry {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension VTd.FirstStageEntry {
  /// Where an entry stands and what the unit allows: what decides the meaning of its bits.
  public struct Variant: Sendable {
    /// 5 for an FS-PML5E down to 1 for an FS-PTE.
    public var level: Int
    /// The entry maps a page rather than pointing to a table.
    public var isLeaf: Bool
    /// The tables lie in guest addresses, whose width the second stage judges.
    public var isNested: Bool
    /// What the unit allows.
    public var limits: VTd.Limits

    /// - Precondition: `level` is 1 to 5; only levels 1 to 3 can be leaves, and level 1 always is.
    public init(level: Int, isLeaf: Bool, isNested: Bool = false, limits: VTd.Limits) {
      precondition(1...5 ~= level, "first-stage levels are 1 to 5")
      self.level = level
      self.isLeaf = level == 1 || isLeaf && VTd.Paging.leafLevels ~= level
      self.isNested = isNested
      self.limits = limits
    }

    /// The entry's own name for this place.
    public var name: String {
      switch (level, isLeaf) {
      case (5, _): "FS-PML5E"
      case (4, _): "FS-PML4E"
      case (3, false): "FS-PDPE"
      case (3, true): "FS-PDPE (1 GiB page)"
      case (2, false): "FS-PDE"
      case (2, true): "FS-PDE (2 MiB page)"
      default: "FS-PTE"
      }
    }
  }

  public static var name: StaticString { "first-stage entry" }
  public static var specification: StaticString { "Intel VT-d 9.7" }
  public static var exampleVariants: [Variant] {
    VTd.Limits.examples.flatMap { limits in
      (1...5).map { Variant(level: $0, isLeaf: false, limits: limits) }
        + (2...3).map { Variant(level: $0, isLeaf: true, limits: limits) }
        + (1...5).map { Variant(level: $0, isLeaf: false, isNested: true, limits: limits) }
    }
  }

  @inlinable static var p: BitField { BitField(0...0, "P") }
  @inlinable static var rw: BitField { BitField(1...1, "R/W") }
  @inlinable static var us: BitField { BitField(2...2, "U/S") }
  @inlinable static var a: BitField { BitField(5...5, "A") }
  @inlinable static var d: BitField { BitField(6...6, "D") }
  @inlinable static var ps: BitField { BitField(7...7, "PS") }
  @inlinable static var ea: BitField { BitField(10...10, "EA") }
  @inlinable static var addressField: BitField { BitField(12...51, "ADDR", .address) }

  public static func fields(_ variant: Variant) -> [BitField] {
    let limits = variant.limits
    let width = variant.isNested ? 52 : limits.hostAddressWidth
    var fields = [p, rw, us, BitField(3...3, "PWT"), BitField(4...4, "PCD"), a]
    fields += [variant.isLeaf ? d : .ignored(6...6)]
    switch variant.level {
    case 1: fields += [BitField(7...7, "PAT")]
    case 2: fields += [ps]
    // PS clear needs no permission; PS set where the unit has no such page is a reserved bit set.
    case 3:
      fields += [
        variant.isLeaf && !limits.features.contains(.firstStage1GiBPages) ? .reserved(7...7) : ps
      ]
    default: fields += [.reserved(7...7)]
    }
    fields += [
      variant.isLeaf ? BitField(8...8, "G", .ignored) : .ignored(8...8), .ignored(9...9), ea,
      .ignored(11...11),
    ]
    let low = VTd.Paging.sizeLog2(level: variant.level)
    if variant.isLeaf && low > 12 {
      fields += [
        BitField(12...12, "PAT"), .reserved(13...(low - 1)),
        addressField.starting(atBit: low).limited(toBit: width - 1),
      ]
    } else {
      fields += [addressField.limited(toBit: width - 1)]
    }
    if width < 52 { fields += [.reserved(width...51)] }
    return fields + [.ignored(52...62), BitField(63...63, "XD", .ignored)]
  }

  /// An entry that points to the next table, with all rights.
  ///
  /// - Precondition: `table` is 4 KiB aligned.
  public init(table: PhysicalAddress) {
    precondition(table.isAligned(to: 4096), "a first-stage table lies at a multiple of 4 KiB")
    self.init(rawValue: table.rawValue | Self.p.mask | Self.rw.mask | Self.us.mask)
  }

  /// A leaf of `level` 1, 2 or 3; the page can always be read.
  ///
  /// - Precondition: `page` is aligned to the page's size.
  public init(page: PhysicalAddress, level: Int, isWritable: Bool, isUser: Bool) {
    precondition(
      VTd.Paging.leafLevels ~= level, "only entries of levels 1 to 3 map pages")
    precondition(
      page.isAligned(to: 1 << UInt64(VTd.Paging.sizeLog2(level: level))),
      "a page is aligned to its size")
    self.init(
      rawValue: page.rawValue | Self.p.mask | (isWritable ? Self.rw.mask : 0)
        | (isUser ? Self.us.mask : 0) | (level > 1 ? Self.ps.mask : 0))
  }

  /// P: hardware looks at the rest of the entry.
  @inlinable public var isPresent: Bool { rawValue & Self.p.mask != 0 }
  /// P as the right to read, R/W and U/S; nothing in an entry that is not present.
  @inlinable
  public var permissions: Permissions {
    isPresent
      ? Permissions(
        rawValue: Permissions.read.rawValue
          | (self[Self.rw] != 0 ? Permissions.write.rawValue : 0)
          | (self[Self.us] != 0 ? Permissions.user.rawValue : 0)) : []
  }
  /// PS, meaningful in levels 2 and 3.
  @inlinable public var hasPageSizeBit: Bool { rawValue & Self.ps.mask != 0 }
  /// A: a walk has used the entry.
  @inlinable public var isAccessed: Bool { rawValue & Self.a.mask != 0 }
  /// D, meaningful in leaves: the page was written.
  @inlinable public var isDirty: Bool { rawValue & Self.d.mask != 0 }
  /// Bits 51:12, the next table, or a page of 4 KiB.
  @inlinable public var address: PhysicalAddress { PhysicalAddress(addressBits(Self.addressField)) }

  /// The page that a leaf of `level` maps: bit 12 of a large one is PAT and no address.
  @inlinable
  public func page(level: Int) -> PhysicalAddress {
    address.alignedDown(to: 1 &<< UInt64(truncatingIfNeeded: VTd.Paging.sizeLog2(level: level)))
  }

  /// What a walk sets in every entry that it uses.
  @inlinable
  package static func accessedBits(extended: Bool) -> UInt64 { a.mask | (extended ? ea.mask : 0) }
  /// What a write sets in the leaf.
  @inlinable package static var dirtyBit: UInt64 { d.mask }
}
