extension AMDVi {
  /// An entry of an interrupt table where GAEn is 1. 128 bits. Specification: AMD IOMMU 2.2.5.
  @frozen
  public struct WideInterruptEntry: TableEntry {
    public var low: UInt64
    public var high: UInt64
    @inlinable
    public init(low: UInt64 = 0, high: UInt64 = 0) {
      self.low = low
      self.high = high
    }

    /// What the bits of an entry mean.
    public struct Variant: Sendable, Hashable {
      /// GuestMode: to a guest.
      public var isGuest: Bool
      /// XTEn: destinations have 32 bits, otherwise 8.
      public var usesExtendedDestinations: Bool

      /// An entry of this kind in a unit that runs so.
      public init(isGuest: Bool, usesExtendedDestinations: Bool) {
        self.isGuest = isGuest
        self.usesExtendedDestinations = usesExtendedDestinations
      }
    }
  }
}

extension AMDVi.WideInterruptEntry {
  public static var name: StaticString { "wide interrupt table entry" }
  public static var specification: StaticString { "AMD IOMMU 2.2.5" }
  @inlinable public static var bitCount: Int { 128 }
  public static var exampleVariants: [Variant] {
    [false, true].flatMap { isGuest in
      [false, true].map { Variant(isGuest: isGuest, usesExtendedDestinations: $0) }
    }
  }

  static var remapEn: BitField { BitField(0...0, "RemapEn") }
  static var supIOPF: BitField { BitField(1...1, "SupIOPF") }
  static var intType: BitField { BitField(2...4, "IntType") }
  static var gaLogIntr: BitField { BitField(2...2, "GALogIntr") }
  static var rqEoi: BitField { BitField(5...5, "RqEoi") }
  static var dm: BitField { BitField(6...6, "DM") }
  static var isRun: BitField { BitField(6...6, "IsRun") }
  static var guestMode: BitField { BitField(7...7, "GuestMode") }
  static var destinationLow: BitField { BitField(8...31, "Destination23:0") }
  static var destinationShort: BitField { BitField(8...15, "Destination") }
  static var gaTag: BitField { BitField(32...63, "GATag") }
  static var vectorField: BitField { BitField(64...71, "Vector") }
  static var root: BitField { BitField(76...115, "GATableRootPtr", .address) }
  static var destinationHigh: BitField { BitField(120...127, "Destination31:24") }

  public static func fields(_ variant: Variant) -> [BitField] {
    let destination =
      variant.usesExtendedDestinations ? [destinationLow] : [destinationShort, .ignored(16...31)]
    let upper = variant.usesExtendedDestinations ? destinationHigh : .ignored(120...127)
    return variant.isGuest
      ? [remapEn, supIOPF, gaLogIntr, .reserved(3...5), isRun, guestMode] + destination
        + [gaTag, vectorField, .reserved(72...75), root, .reserved(116...119), upper]
      : [remapEn, supIOPF, intType, rqEoi, dm, guestMode] + destination
        + [.reserved(32...63), vectorField, .reserved(72...119), upper]
  }

  /// An entry that remaps to a processor.
  public init(vector: UInt8, destination: UInt32, isLogical: Bool, isArbitrated: Bool = false) {
    self.init()
    self[Self.remapEn] = 1
    self[Self.intType] = isArbitrated ? 1 : 0
    self[Self.dm] = isLogical ? 1 : 0
    self[Self.destinationLow] = UInt64(destination & 0xff_ffff)
    self[Self.destinationHigh] = UInt64(destination >> 24)
    self[Self.vectorField] = UInt64(vector)
  }

  /// An entry that remaps to a guest.
  ///
  /// - Parameters:
  ///   - vector: In the guest.
  ///   - page: The guest's virtual APIC.
  ///   - tag: GATag: what software calls the guest's processor.
  ///   - destination: Where the guest runs.
  ///   - isRunning: IsRun: the guest runs there.
  ///   - isLogged: GALogIntr: an interrupt while it does not run is logged.
  /// - Precondition: `page` is 4 KiB aligned and below 2^52.
  public init(
    guestVector vector: UInt8, page: PhysicalAddress, tag: UInt32, destination: UInt32,
    isRunning: Bool, isLogged: Bool
  ) {
    precondition(page.rawValue & ~Self.root.mask == 0, "a virtual APIC lies at a multiple of 4 KiB")
    self.init()
    self[Self.remapEn] = 1
    self[Self.guestMode] = 1
    self[Self.isRun] = isRunning ? 1 : 0
    self[Self.gaLogIntr] = isLogged ? 1 : 0
    self[Self.destinationLow] = UInt64(destination & 0xff_ffff)
    self[Self.destinationHigh] = UInt64(destination >> 24)
    self[Self.gaTag] = UInt64(tag)
    self[Self.vectorField] = UInt64(vector)
    self[Self.root] = page.pageNumber
  }

  /// RemapEn: the entry is in force.
  public var remaps: Bool { self[Self.remapEn] != 0 }
  /// SupIOPF: faults of this entry are not logged.
  public var suppressesFaults: Bool { self[Self.supIOPF] != 0 }
  /// IntType, of an entry that is not a guest's: 0 fixed, 1 arbitrated; others are reserved.
  public var typeCode: UInt8 { UInt8(self[Self.intType]) }
  /// RqEoi, of an entry that is not a guest's: the end of the interrupt is to be told.
  public var requestsEnd: Bool { self[Self.rqEoi] != 0 }
  /// DM, of an entry that is not a guest's: the destination names a set of processors.
  public var isLogical: Bool { self[Self.dm] != 0 }
  /// GuestMode: to a guest.
  public var isGuest: Bool { self[Self.guestMode] != 0 }
  /// An x2APIC id of 32 bits; of a unit that runs without them, the lower 8 count.
  public var destination: UInt32 {
    UInt32(self[Self.destinationHigh] << 24 | self[Self.destinationLow])
  }
  /// The interrupt's vector.
  public var vector: UInt8 { UInt8(self[Self.vectorField]) }
  /// IsRun, of a guest's entry: the guest runs.
  public var isRunning: Bool { self[Self.isRun] != 0 }
  /// GALogIntr, of a guest's entry: an interrupt while it does not run is logged.
  public var isLogged: Bool { self[Self.gaLogIntr] != 0 }
  /// GATag, of a guest's entry: what software calls the guest's processor.
  public var tag: UInt32 { UInt32(self[Self.gaTag]) }
  /// Of a guest's entry: the guest's virtual APIC.
  public var page: PhysicalAddress { PhysicalAddress(addressBits(Self.root)) }
}
