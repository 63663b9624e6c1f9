extension AMDVi {
  /// An entry of a guest (v2) page table, in the layout of the processor's own page tables.
  ///
  /// Specification: AMD IOMMU 2.2.6.
  @frozen
  public struct GuestPageTableEntry: LongModeEntry {
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
      AMDVi.GuestPageTableEntry.longModeName(level: level, isLeaf: isLeaf)
    }
  }

  public static var name: StaticString { "guest page table entry" }
  public static var specification: StaticString { "AMD IOMMU 2.2.6" }
  public static var exampleVariants: [Variant] {
    (1...5).map { Variant(level: $0, isLeaf: false) }
      + (2...3).map { Variant(level: $0, isLeaf: true) }
  }

  @inlinable static var nx: BitField { BitField(63...63, "NX") }

  public static func fields(_ variant: Variant) -> [BitField] {
    let size =
      switch variant.level {
      case 1: BitField(7...7, "PAT", .ignored)
      case 2, 3: ps
      default: BitField.reserved(7...7)
      }
    let global: BitField = variant.isLeaf ? BitField(8...8, "G", .ignored) : .ignored(8...8)
    let low = sizeLog2(level: variant.level)
    let address: [BitField] =
      variant.isLeaf && low > 12
      ? [
        BitField(12...12, "PAT", .ignored), .reserved(13...(low - 1)),
        addressField.starting(atBit: low),
      ] : [addressField]
    return lowFields(isLeaf: variant.isLeaf) + [size, global, .ignored(9...11)] + address + [
      .ignored(52...62), nx,
    ]
  }

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

  /// NX: what is read may not be executed.
  @inlinable public var isNoExecute: Bool {
    get { self[Self.nx] != 0 }
    set { self[Self.nx] = newValue ? 1 : 0 }
  }

  /// What a walk sets in every entry that it uses.
  @inlinable package static var accessedBit: UInt64 { a.mask }
}
