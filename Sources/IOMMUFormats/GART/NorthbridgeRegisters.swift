extension GART {
  /// 0x90, aperture control: whether the GART translates, for whom, and how large the aperture is.
  ///
  /// 32 bits. Source: Linux `gart.h`; AMD BKDG as read by open firmware.
  @frozen
  public struct ApertureControl: WordEntry {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }
}

extension GART.ApertureControl {
  public static var name: StaticString { "GART aperture control" }
  public static var specification: StaticString { "function 3, 0x90; Linux gart.h" }

  static var gartEn: BitField { BitField(0...0, "GartEn") }
  static var gartSize: BitField { BitField(1...3, "GartSize") }
  static var disGartCpu: BitField { BitField(4...4, "DisGartCpu") }
  static var disGartIo: BitField { BitField(5...5, "DisGartIo") }
  static var disGartTblWlkPrb: BitField { BitField(6...6, "DisGartTblWlkPrb") }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [gartEn, gartSize, disGartCpu, disGartIo, disGartTblWlkPrb, .reserved(7...31)]
  }

  /// - Parameters:
  ///   - isEnabled: GartEn: the aperture is translated, for whoever is not shut out.
  ///   - order: 0 to 7; the aperture is 32 MiB << order.
  ///   - blocksCPU: DisGartCpu: the CPU's accesses to the aperture stay as they are.
  ///   - blocksIO: DisGartIo: devices' accesses to the aperture stay as they are.
  ///   - walksWithoutProbes: DisGartTblWlkPrb: table walks do not look into CPU caches.
  public init(
    isEnabled: Bool, order: Int, blocksCPU: Bool = false, blocksIO: Bool = false,
    walksWithoutProbes: Bool = false
  ) {
    precondition(0...7 ~= order, "an aperture order has three bits")
    self.init(rawValue: 0)
    self[Self.gartEn] = isEnabled ? 1 : 0
    self[Self.gartSize] = UInt64(order)
    self[Self.disGartCpu] = blocksCPU ? 1 : 0
    self[Self.disGartIo] = blocksIO ? 1 : 0
    self[Self.disGartTblWlkPrb] = walksWithoutProbes ? 1 : 0
  }

  /// GartEn: the aperture is translated, for whoever is not shut out.
  public var isEnabled: Bool {
    get { self[Self.gartEn] != 0 }
    set { self[Self.gartEn] = newValue ? 1 : 0 }
  }
  /// 0 to 7; the aperture is 32 MiB << order.
  public var order: Int { Int(self[Self.gartSize]) }
  /// The CPU's accesses to the aperture stay as they are.
  public var blocksCPU: Bool {
    get { self[Self.disGartCpu] != 0 }
    set { self[Self.disGartCpu] = newValue ? 1 : 0 }
  }
  /// Devices' accesses to the aperture stay as they are.
  public var blocksIO: Bool {
    get { self[Self.disGartIo] != 0 }
    set { self[Self.disGartIo] = newValue ? 1 : 0 }
  }
  /// Table walks do not look into CPU caches: the table must be uncacheable.
  public var walksWithoutProbes: Bool {
    get { self[Self.disGartTblWlkPrb] != 0 }
    set { self[Self.disGartTblWlkPrb] = newValue ? 1 : 0 }
  }
  /// Accesses of the CPU to the aperture are translated.
  public var translatesCPU: Bool { isEnabled && !blocksCPU }
  /// Accesses of devices to the aperture are translated.
  public var translatesIO: Bool { isEnabled && !blocksIO }

  /// Bytes of aperture: 32 MiB to 2 GiB; `nil` for order 7, which is not defined.
  public var apertureByteCount: UInt64? { order < 7 ? 0x200_0000 << UInt64(order) : nil }
}

extension GART {
  /// 0x94, aperture base: bits 39:25 of the aperture's first address.
  ///
  /// 32 bits. Source: Linux `gart.h`.
  @frozen
  public struct ApertureBase: WordEntry {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }
}

extension GART.ApertureBase {
  public static var name: StaticString { "GART aperture base" }
  public static var specification: StaticString { "function 3, 0x94; Linux gart.h" }

  static var base: BitField { BitField(0...14, "BASE39:25") }
  /// An aperture starts at a multiple of 32 MiB.
  private static let alignmentLog2: UInt64 = 25

  public static func fields(_: OnlyVariant) -> [BitField] { [base, .reserved(15...31)] }

  /// - Precondition: `address` is a multiple of 32 MiB below 1 TiB.
  public init(address: UInt64) {
    precondition(
      address % (1 << Self.alignmentLog2) == 0 && address < GART.physicalLimit,
      "an aperture starts at a multiple of 32 MiB below 1 TiB")
    self.init(rawValue: 0)
    self[Self.base] = address >> Self.alignmentLog2
  }

  /// The aperture's first address.
  public var address: UInt64 { self[Self.base] << Self.alignmentLog2 }
}

extension GART {
  /// 0x98, table base: where the GATT lies.
  ///
  /// 32 bits. Source: Linux `gart.h`.
  @frozen
  public struct TableBase: WordEntry {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }
}

extension GART.TableBase {
  public static var name: StaticString { "GART table base" }
  public static var specification: StaticString { "function 3, 0x98; Linux gart.h" }

  static var base: BitField { BitField(4...31, "BASE39:12") }

  public static func fields(_: OnlyVariant) -> [BitField] { [.reserved(0...3), base] }

  /// - Precondition: `table` is 4 KiB aligned and below 1 TiB.
  public init(table: PhysicalAddress) {
    precondition(
      table.isAligned(to: 4096) && table.rawValue < GART.physicalLimit,
      "a GATT lies at a multiple of 4 KiB below 1 TiB")
    self.init(rawValue: 0)
    self[Self.base] = table.pageNumber
  }

  /// The table's first byte.
  public var table: PhysicalAddress { PhysicalAddress(self[Self.base] << PageCount.pageSizeLog2) }
}

extension GART {
  /// 0x9c, cache control: drops the GART TLB, and keeps the walk error.
  ///
  /// 32 bits. That GartPteErr is cleared by writing 1 is *assumed*. Source: Linux `k8.c`.
  @frozen
  public struct CacheControl: WordEntry {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }
}

extension GART.CacheControl {
  public static var name: StaticString { "GART cache control" }
  public static var specification: StaticString { "function 3, 0x9c; Linux k8.c" }

  static var invGart: BitField { BitField(0...0, "InvGart") }
  static var gartPteErr: BitField { BitField(1...1, "GartPteErr") }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [invGart, gartPteErr, .reserved(2...31)]
  }

  /// An invalidation is under way, or asked for by a write.
  public var invalidates: Bool {
    get { self[Self.invGart] != 0 }
    set { self[Self.invGart] = newValue ? 1 : 0 }
  }
  /// A walk has met an entry without the valid bit; sticky, and in a write the wish to clear it.
  public var hasWalkError: Bool {
    get { self[Self.gartPteErr] != 0 }
    set { self[Self.gartPteErr] = newValue ? 1 : 0 }
  }
}
