/// An entry in the layout of the processor's own page tables of four or five levels.
///
/// VT-d's first stage and AMD-Vi's guest tables are such tables, so that a device can use a process's.
/// Eight bytes, 512 to a 4 KiB table; levels are counted from the bottom. A level-1 entry maps 4 KiB; with
/// PS set a level-2 entry maps 2 MiB and a level-3 entry 1 GiB; all others lead to the next table.
/// Specification: AMD64 Architecture Programmer's Manual, volume 2, 5.3; Intel VT-d 9.7.
public protocol LongModeEntry: WordEntry where RawValue == UInt64 {}

extension LongModeEntry {
  @inlinable static var p: BitField { BitField(0...0, "P") }
  @inlinable static var rw: BitField { BitField(1...1, "R/W") }
  @inlinable static var us: BitField { BitField(2...2, "U/S") }
  @inlinable static var pwt: BitField { BitField(3...3, "PWT") }
  @inlinable static var pcd: BitField { BitField(4...4, "PCD") }
  @inlinable static var a: BitField { BitField(5...5, "A") }
  @inlinable static var d: BitField { BitField(6...6, "D") }
  @inlinable static var ps: BitField { BitField(7...7, "PS") }
  @inlinable static var addressField: BitField { BitField(12...51, "ADDR", .address) }

  /// Bits 6:0, which no unit and no level gives another meaning.
  static func lowFields(isLeaf: Bool) -> [BitField] {
    [p, rw, us, pwt, pcd, a, isLeaf ? d : .ignored(6...6)]
  }

  /// What the processor's manuals call an entry.
  static func longModeName(level: Int, isLeaf: Bool) -> String {
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

  @inlinable @inline(__always)
  static func sizeLog2(level: Int) -> Int { 12 &+ 9 &* (level &- 1) }

  /// An entry that leads to the next table, with all rights.
  ///
  /// - Precondition: `table` is 4 KiB aligned.
  @inlinable
  public init(table: PhysicalAddress) {
    precondition(table.isAligned(to: 4096), "a page table lies at a multiple of 4 KiB")
    self.init(rawValue: table.rawValue | Self.p.mask | Self.rw.mask | Self.us.mask)
  }

  /// A leaf of `level` 1, 2 or 3; the page can always be read.
  ///
  /// - Parameters:
  ///   - page: The page's first byte.
  ///   - level: 1 for 4 KiB, 2 for 2 MiB, 3 for 1 GiB.
  ///   - isWritable: R/W.
  ///   - isUser: U/S.
  /// - Precondition: `page` is aligned to the page's size.
  @inlinable
  public init(page: PhysicalAddress, level: Int, isWritable: Bool, isUser: Bool = true) {
    precondition(1...3 ~= level, "only entries of levels 1 to 3 map pages")
    precondition(
      page.isAligned(to: 1 << UInt64(Self.sizeLog2(level: level))), "a page is aligned to its size")
    self.init(
      rawValue: page.rawValue | Self.p.mask | (isWritable ? Self.rw.mask : 0)
        | (isUser ? Self.us.mask : 0) | (level > 1 ? Self.ps.mask : 0))
  }

  /// P: hardware looks at the rest of the entry.
  @inlinable public var isPresent: Bool { rawValue & Self.p.mask != 0 }
  /// PS, meaningful in levels 2 and 3.
  @inlinable public var hasPageSizeBit: Bool { rawValue & Self.ps.mask != 0 }
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
  /// U/S: requests of user privilege may pass.
  @inlinable public var isUser: Bool {
    get { self[Self.us] != 0 }
    set { self[Self.us] = newValue ? 1 : 0 }
  }

  /// PAT of a leaf: bit 7 where that is not PS, bit 12 of a large page.
  @inlinable static func pat(level: Int) -> BitField {
    level == 1 ? BitField(7...7, "PAT") : BitField(12...12, "PAT")
  }

  /// PAT, PCD and PWT of a leaf: the number of an entry of the page attribute table, 0 to 7.
  @inlinable
  public func memoryType(level: Int) -> UInt8 {
    UInt8(
      truncatingIfNeeded: self[Self.pat(level: level)] << 2 | self[Self.pcd] << 1 | self[Self.pwt])
  }

  /// Sets PAT, PCD and PWT of a leaf.
  @inlinable
  public mutating func setMemoryType(_ type: UInt8, level: Int) {
    self[Self.pat(level: level)] = UInt64(type >> 2 & 1)
    self[Self.pcd] = UInt64(type >> 1 & 1)
    self[Self.pwt] = UInt64(type & 1)
  }
  /// Bits 51:12: the next table, or a page of 4 KiB.
  @inlinable public var address: PhysicalAddress { PhysicalAddress(addressBits(Self.addressField)) }

  /// The page that a leaf of `level` maps: bit 12 of a large one is PAT and no address.
  @inlinable
  public func page(level: Int) -> PhysicalAddress {
    address.alignedDown(to: 1 &<< UInt64(truncatingIfNeeded: Self.sizeLog2(level: level)))
  }

  /// What a write sets in the leaf.
  @inlinable package static var dirtyBit: UInt64 { d.mask }
}
