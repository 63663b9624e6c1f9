extension AMDVi {
  /// An entry of an interrupt table where GAEn is 0. 32 bits. Specification: AMD IOMMU 2.2.5.
  @frozen
  public struct InterruptEntry: WordEntry {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }
}

extension AMDVi.InterruptEntry {
  public static var name: StaticString { "interrupt table entry" }
  public static var specification: StaticString { "AMD IOMMU 2.2.5" }

  static var remapEn: BitField { BitField(0...0, "RemapEn") }
  static var supIOPF: BitField { BitField(1...1, "SupIOPF") }
  static var intType: BitField { BitField(2...4, "IntType") }
  static var rqEoi: BitField { BitField(5...5, "RqEoi") }
  static var dm: BitField { BitField(6...6, "DM") }
  static var guestMode: BitField { BitField(7...7, "GuestMode") }
  static var destinationField: BitField { BitField(8...15, "Destination") }
  static var vectorField: BitField { BitField(16...23, "Vector") }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [
      remapEn, supIOPF, intType, rqEoi, dm, guestMode, destinationField, vectorField,
      .reserved(24...31),
    ]
  }

  /// An entry that remaps.
  public init(vector: UInt8, destination: UInt8, isLogical: Bool, isArbitrated: Bool = false) {
    self.init(rawValue: 0)
    self[Self.remapEn] = 1
    self[Self.intType] = isArbitrated ? 1 : 0
    self[Self.dm] = isLogical ? 1 : 0
    self[Self.destinationField] = UInt64(destination)
    self[Self.vectorField] = UInt64(vector)
  }

  /// RemapEn: the entry is in force.
  public var remaps: Bool { self[Self.remapEn] != 0 }
  /// SupIOPF: faults of this entry are not logged.
  public var suppressesFaults: Bool { self[Self.supIOPF] != 0 }
  /// IntType: 0 fixed, 1 arbitrated; others are reserved.
  public var typeCode: UInt8 { UInt8(self[Self.intType]) }
  /// RqEoi: the end of the interrupt is to be told.
  public var requestsEnd: Bool { self[Self.rqEoi] != 0 }
  /// DM: the destination names a set of processors.
  public var isLogical: Bool { self[Self.dm] != 0 }
  /// GuestMode: to a guest; entries of this size cannot.
  public var isGuest: Bool { self[Self.guestMode] != 0 }
  /// An APIC id.
  public var destination: UInt8 { UInt8(self[Self.destinationField]) }
  /// The interrupt's vector.
  public var vector: UInt8 { UInt8(self[Self.vectorField]) }
}
