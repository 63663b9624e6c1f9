extension VTd {
  /// A first-stage paging entry: FS-PML5E, FS-PML4E, FS-PDPE, FS-PDE or FS-PTE.
  ///
  /// In the layout of the processor's own page tables. Specification: Intel VT-d 3.6, 9.7.
  @frozen
  public struct FirstStageEntry: LongModeEntry {
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
      "FS-" + VTd.FirstStageEntry.longModeName(level: level, isLeaf: isLeaf)
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

  @inlinable static var ea: BitField { BitField(10...10, "EA") }
  @inlinable static var xd: BitField { BitField(63...63, "XD", .ignored) }

  public static func fields(_ variant: Variant) -> [BitField] {
    let limits = variant.limits
    let width = variant.isNested ? 52 : limits.hostAddressWidth
    var fields = lowFields(isLeaf: variant.isLeaf)
    switch variant.level {
    case 1: fields += [pat(level: 1)]
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
    let low = sizeLog2(level: variant.level)
    if variant.isLeaf && low > 12 {
      fields += [
        pat(level: 2), .reserved(13...(low - 1)),
        addressField.starting(atBit: low).limited(toBit: width - 1),
      ]
    } else {
      fields += [addressField.limited(toBit: width - 1)]
    }
    if width < 52 { fields += [.reserved(width...51)] }
    return fields + [.ignored(52...62), xd]
  }

  /// P as the right to read, R/W and U/S; nothing in an entry that is not present.
  @inlinable
  public var permissions: Permissions {
    isPresent
      ? Permissions(
        rawValue: Permissions.read.rawValue
          | (self[Self.rw] != 0 ? Permissions.write.rawValue : 0)
          | (self[Self.us] != 0 ? Permissions.user.rawValue : 0)) : []
  }

  /// XD: what is read may not be executed, as far as processors look.
  @inlinable public var isNoExecute: Bool {
    get { self[Self.xd] != 0 }
    set { self[Self.xd] = newValue ? 1 : 0 }
  }

  /// What a walk sets in every entry that it uses.
  @inlinable
  package static func accessedBits(extended: Bool) -> UInt64 { a.mask | (extended ? ea.mask : 0) }
}
