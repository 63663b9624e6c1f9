extension VTd {
  /// A second-stage paging entry: SS-PML5E, SS-PML4E, SS-PDPE, SS-PDE or SS-PTE.
  ///
  /// Eight bytes, 512 to a 4 KiB table. A level-1 entry maps 4 KiB; with PS set a level-2 entry
  /// maps 2 MiB and a level-3 entry 1 GiB; all others point to the next table. Specification:
  /// Intel VT-d 3.7, 9.8.
  @frozen
  public struct SecondStageEntry: WordEntry {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension VTd.SecondStageEntry {
  /// Where an entry stands and what the unit allows: what decides the meaning of its bits.
  public struct Variant: Sendable {
    /// 5 for an SS-PML5E down to 1 for an SS-PTE.
    public var level: Int
    /// The entry maps a page rather than pointing to a table.
    public var isLeaf: Bool
    /// RTADDR_REG.SSIRWE: IR and IW say what devices may do, and R and W are ignored.
    public var usesIOPermissions: Bool
    /// What the unit allows.
    public var limits: VTd.Limits

    /// - Precondition: `level` is 1 to 5; only levels 1 to 3 can be leaves, and level 1 always is.
    public init(level: Int, isLeaf: Bool, usesIOPermissions: Bool = false, limits: VTd.Limits) {
      precondition(1...5 ~= level, "second-stage levels are 1 to 5")
      self.level = level
      self.usesIOPermissions = usesIOPermissions
      self.isLeaf = level == 1 || isLeaf && VTd.Paging.leafLevels ~= level
      self.limits = limits
    }

    /// The entry's own name for this place.
    public var name: String {
      switch (level, isLeaf) {
      case (5, _): "SS-PML5E"
      case (4, _): "SS-PML4E"
      case (3, false): "SS-PDPE"
      case (3, true): "SS-PDPE (1 GiB page)"
      case (2, false): "SS-PDE"
      case (2, true): "SS-PDE (2 MiB page)"
      default: "SS-PTE"
      }
    }
  }

  public static var name: StaticString { "second-stage entry" }
  public static var specification: StaticString { "Intel VT-d 9.8" }
  public static var exampleVariants: [Variant] {
    VTd.Limits.examples.flatMap { limits in
      (1...5).map { Variant(level: $0, isLeaf: false, limits: limits) }
        + (2...3).map { Variant(level: $0, isLeaf: true, limits: limits) }
        + (1...5).map { Variant(level: $0, isLeaf: false, usesIOPermissions: true, limits: limits) }
    }
  }

  @inlinable static var r: BitField { BitField(0...0, "R") }
  @inlinable static var w: BitField { BitField(1...1, "W") }
  @inlinable static var emt: BitField { BitField(3...5, "EMT") }
  @inlinable static var ipat: BitField { BitField(6...6, "IPAT") }
  @inlinable static var a: BitField { BitField(8...8, "A") }
  @inlinable static var d: BitField { BitField(9...9, "D") }
  @inlinable static var snp: BitField { BitField(11...11, "SNP") }
  @inlinable static var ir: BitField { BitField(61...61, "IR") }
  @inlinable static var iw: BitField { BitField(62...62, "IW") }
  @inlinable static var ps: BitField { BitField(7...7, "PS") }
  @inlinable static var addressField: BitField { BitField(12...51, "ADDR", .address) }

  public static func fields(_ variant: Variant) -> [BitField] {
    let limits = variant.limits
    let width = limits.hostAddressWidth
    let allowsPage =
      switch variant.level {
      case 2: limits.has2MiBPages
      case 3: limits.has1GiBPages
      default: false
      }
    let usesIOPermissions = variant.usesIOPermissions
    var fields = usesIOPermissions ? [r.asIgnored, w.asIgnored] : [r, w]
    fields += [.ignored(2...2)]
    if variant.isLeaf {
      fields += [emt, ipat]
    } else {
      fields += [.ignored(3...6)]
    }
    switch variant.level {
    case 1: fields += [.ignored(7...7)]
    // PS clear needs no permission; PS set where the unit has no such page is a reserved bit set.
    case 2, 3: fields += [variant.isLeaf && !allowsPage ? .reserved(7...7) : ps]
    default: fields += [.reserved(7...7)]
    }
    fields += [a]
    if variant.isLeaf {
      fields += [
        d, .ignored(10...10),
        limits.hasSnoopControl ? snp : .reserved(snp.bits),
      ]
      let low = VTd.Paging.sizeLog2(level: variant.level)
      if low > 12 { fields += [.reserved(12...(low - 1))] }
      fields += [addressField.starting(atBit: low).limited(toBit: width - 1)]
    } else {
      fields += [
        .ignored(9...10), .reserved(11...11), addressField.limited(toBit: width - 1),
      ]
    }
    if width < 52 { fields += [.reserved(width...51)] }
    fields += [.ignored(52...60)]
    if usesIOPermissions {
      fields += [ir, iw]
    } else {
      fields += [
        ir.asIgnored,
        variant.isLeaf && limits.hasTransientMappings
          ? BitField(62...62, "TM") : .reserved(62...62),
      ]
    }
    return fields + [.ignored(63...63)]
  }

  /// An entry that points to the next table, with both permissions.
  ///
  /// - Precondition: `table` is 4 KiB aligned.
  @inlinable
  public init(table: PhysicalAddress) {
    precondition(table.isAligned(to: 4096), "a second-stage table lies at a multiple of 4 KiB")
    self.init(rawValue: table.rawValue | Self.r.mask | Self.w.mask)
  }

  /// A leaf of `level` 1, 2 or 3.
  ///
  /// - Precondition: `page` is aligned to the page's size.
  @inlinable
  public init(page: PhysicalAddress, level: Int, permissions: Permissions) {
    precondition(
      VTd.Paging.leafLevels ~= level, "only entries of levels 1 to 3 map pages")
    precondition(
      page.isAligned(to: 1 << UInt64(VTd.Paging.sizeLog2(level: level))),
      "a page is aligned to its size")
    self.init(rawValue: page.rawValue)
    self.permissions = permissions
    if level > 1 { self[Self.ps] = 1 }
  }

  /// R and W; an entry with neither is not present and its other bits are ignored.
  @inlinable
  public var permissions: Permissions {
    get { Permissions(rawValue: UInt8(truncatingIfNeeded: self[Self.r] | self[Self.w] &<< 1)) }
    set {
      self[Self.r] = newValue.contains(.read) ? 1 : 0
      self[Self.w] = newValue.contains(.write) ? 1 : 0
    }
  }
  /// P: hardware looks at the rest of the entry.
  @inlinable public var isPresent: Bool { rawValue & (Self.r.mask | Self.w.mask) != 0 }
  /// IR and IW, which take the place of R and W under RTADDR_REG.SSIRWE.
  @inlinable
  public var ioPermissions: Permissions {
    get { Permissions(rawValue: UInt8(truncatingIfNeeded: self[Self.ir] | self[Self.iw] &<< 1)) }
    set {
      self[Self.ir] = newValue.contains(.read) ? 1 : 0
      self[Self.iw] = newValue.contains(.write) ? 1 : 0
    }
  }
  /// A: a walk has used the entry.
  @inlinable public var isAccessed: Bool {
    get { rawValue & Self.a.mask != 0 }
    set { self[Self.a] = newValue ? 1 : 0 }
  }
  /// D, meaningful in leaves: the page was written.
  @inlinable public var isDirty: Bool {
    get { rawValue & Self.d.mask != 0 }
    set { self[Self.d] = newValue ? 1 : 0 }
  }
  /// SNP, meaningful in leaves: accesses look into the processors' caches.
  @inlinable public var snoops: Bool {
    get { self[Self.snp] != 0 }
    set { self[Self.snp] = newValue ? 1 : 0 }
  }
  /// EMT, meaningful in leaves: the memory type, where the unit and the PASID's entry say that it counts.
  @inlinable public var memoryType: UInt8 {
    get { UInt8(truncatingIfNeeded: self[Self.emt]) }
    set { self[Self.emt] = UInt64(newValue & 7) }
  }
  /// IPAT, meaningful in leaves: the memory type counts alone.
  @inlinable public var ignoresPAT: Bool {
    get { self[Self.ipat] != 0 }
    set { self[Self.ipat] = newValue ? 1 : 0 }
  }
  /// What a walk sets in every entry that it uses, under SSADE.
  @inlinable package static var accessedBit: UInt64 { a.mask }
  /// What a write sets in the leaf, under SSADE.
  @inlinable package static var dirtyBit: UInt64 { d.mask }
  /// PS, meaningful in levels 2 and 3.
  @inlinable public var hasPageSizeBit: Bool { rawValue & Self.ps.mask != 0 }
  /// Bits 51:12, the next table or the page.
  @inlinable public var address: PhysicalAddress { PhysicalAddress(addressBits(Self.addressField)) }
}
