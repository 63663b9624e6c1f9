extension AMDVi {
  /// An entry of a guest (v2) page table, in the layout of the processor's own page tables.
  ///
  /// Eight bytes, 512 to a 4 KiB table. A level-1 entry maps 4 KiB; with PS set a level-2 entry maps
  /// 2 MiB and a level-3 entry 1 GiB; all others lead to the next table. Specification: AMD IOMMU
  /// 2.2.6; AMD64 Architecture Programmer's Manual, volume 2, 5.3.
  @frozen
  public struct GuestPageTableEntry: WordEntry {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension Permissions {
  /// What is read may be executed. Bit 3; of AMD-Vi's guest tables, the inverse of NX.
  @inlinable package static var execute: Permissions { Permissions(rawValue: 8) }
}

extension AMDVi.GuestPageTableEntry {
  /// Where an entry stands.
  public struct Variant: Sendable, Hashable {
    /// 5 for the uppermost table of the deepest trees, down to 1.
    public var level: Int
    /// The entry maps a page.
    public var isLeaf: Bool

    /// - Precondition: `level` is 1 to 5; only levels 1 to 3 can be leaves, and level 1 always is.
    public init(level: Int, isLeaf: Bool) {
      precondition(1...5 ~= level, "guest table levels are 1 to 5")
      self.level = level
      self.isLeaf = level == 1 || isLeaf && 2...3 ~= level
    }

    /// The entry's own name for this place.
    public var name: String {
      switch (level, isLeaf) {
      case (5, _): "PML5E"
      case (4, _): "PML4E"
      case (3, false): "PDPE"
      case (3, true): "PDPE (1 GiB page)"
      case (2, false): "PDE"
      case (2, true): "PDE (2 MiB page)"
      default: "PTE"
      }
    }
  }

  public static var name: StaticString { "guest page table entry" }
  public static var specification: StaticString { "AMD IOMMU 2.2.6" }
  public static var exampleVariants: [Variant] {
    (1...5).map { Variant(level: $0, isLeaf: false) }
      + (2...3).map { Variant(level: $0, isLeaf: true) }
  }

  @inlinable static var p: BitField { BitField(0...0, "P") }
  @inlinable static var rw: BitField { BitField(1...1, "R/W") }
  @inlinable static var us: BitField { BitField(2...2, "U/S") }
  @inlinable static var a: BitField { BitField(5...5, "A") }
  @inlinable static var d: BitField { BitField(6...6, "D") }
  @inlinable static var ps: BitField { BitField(7...7, "PS") }
  @inlinable static var addressField: BitField { BitField(12...51, "ADDR", .address) }
  @inlinable static var nx: BitField { BitField(63...63, "NX") }

  public static func fields(_ variant: Variant) -> [BitField] {
    let head =
      [p, rw, us, BitField(3...3, "PWT"), BitField(4...4, "PCD"), a]
      + [variant.isLeaf ? d : .ignored(6...6)]
    let size =
      switch variant.level {
      case 1: BitField(7...7, "PAT", .ignored)
      case 2, 3: ps
      default: BitField.reserved(7...7)
      }
    let global: BitField = variant.isLeaf ? BitField(8...8, "G", .ignored) : .ignored(8...8)
    let low = AMDVi.Paging.sizeLog2(level: variant.level)
    let address: [BitField] =
      variant.isLeaf && low > 12
      ? [
        BitField(12...12, "PAT", .ignored), .reserved(13...(low - 1)),
        addressField.starting(atBit: low),
      ] : [addressField]
    return head + [size, global, .ignored(9...11)] + address + [.ignored(52...62), nx]
  }

  /// An entry that leads to the next table, with all rights.
  ///
  /// - Precondition: `table` is 4 KiB aligned.
  public init(table: PhysicalAddress) {
    precondition(table.isAligned(to: 4096), "a guest page table lies at a multiple of 4 KiB")
    self.init(rawValue: table.rawValue | Self.p.mask | Self.rw.mask | Self.us.mask)
  }

  /// A leaf of `level` 1, 2 or 3; the page can always be read.
  ///
  /// - Precondition: `page` is aligned to the page's size.
  public init(page: PhysicalAddress, level: Int, isWritable: Bool, isUser: Bool = true) {
    precondition(1...3 ~= level, "only entries of levels 1 to 3 map pages")
    precondition(
      page.isAligned(to: 1 << UInt64(AMDVi.Paging.sizeLog2(level: level))),
      "a page is aligned to its size")
    self.init(
      rawValue: page.rawValue | Self.p.mask | (isWritable ? Self.rw.mask : 0)
        | (isUser ? Self.us.mask : 0) | (level > 1 ? Self.ps.mask : 0))
  }

  /// P: hardware looks at the rest of the entry.
  @inlinable public var isPresent: Bool { rawValue & Self.p.mask != 0 }
  /// P as the right to read, R/W, U/S, and the inverse of NX; nothing in an entry that is not present.
  @inlinable
  public var permissions: Permissions {
    guard isPresent else { return [] }
    var permissions: Permissions = .read
    if self[Self.rw] != 0 { permissions.insert(.write) }
    if self[Self.us] != 0 { permissions.insert(.user) }
    if self[Self.nx] == 0 { permissions.insert(.execute) }
    return permissions
  }
  /// PS, meaningful in levels 2 and 3.
  @inlinable public var hasPageSizeBit: Bool { rawValue & Self.ps.mask != 0 }
  /// A: a walk has used the entry.
  @inlinable public var isAccessed: Bool { rawValue & Self.a.mask != 0 }
  /// D, meaningful in leaves: the page was written.
  @inlinable public var isDirty: Bool { rawValue & Self.d.mask != 0 }
  /// Bits 51:12: the next table, or a page of 4 KiB.
  @inlinable public var address: PhysicalAddress { PhysicalAddress(addressBits(Self.addressField)) }

  /// The page that a leaf of `level` maps: bit 12 of a large one is PAT and no address.
  @inlinable
  public func page(level: Int) -> PhysicalAddress {
    address.alignedDown(to: 1 &<< UInt64(truncatingIfNeeded: AMDVi.Paging.sizeLog2(level: level)))
  }

  /// What a walk sets in every entry that it uses.
  @inlinable package static var accessedBit: UInt64 { a.mask }
  /// What a write sets in the leaf.
  @inlinable package static var dirtyBit: UInt64 { d.mask }
}
