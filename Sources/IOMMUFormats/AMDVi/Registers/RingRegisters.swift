extension AMDVi {
  /// MMIO 0x0008: where the command buffer lies and how long it is.
  ///
  /// 64 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct CommandBufferBase: WordEntry, AMDViRingBase {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// MMIO 0x0010, and 0x00f8 of a second log: where the event log lies and how long it is.
  ///
  /// 64 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct EventLogBase: WordEntry, AMDViRingBase {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// MMIO 0x0038, and 0x00f0 of a second log: where the log of page requests lies and how long it
  /// is.
  ///
  /// 64 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct PageRequestLogBase: WordEntry, AMDViRingBase {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// MMIO 0x00e0: where the log of guests' interrupts lies and how long it is.
  ///
  /// 64 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct GuestLogBase: WordEntry, AMDViRingBase {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// MMIO 0x00e8: where the unit stores the tail of the log of guests' interrupts.
  ///
  /// 64 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct GuestLogTailAddress: WordEntry, HardwareRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// MMIO 0x2000 to 0x2038 and 0x2050 to 0x2078: the head or the tail of a ring of 16-byte entries.
  ///
  /// 64 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct RingPointer: WordEntry, HardwareRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// MMIO 0x2040 and 0x2048: the head or the tail of the log of guests' interrupts.
  ///
  /// 64 bits. Specification: AMD IOMMU 3.4.
  @frozen
  public struct GuestLogPointer: WordEntry, HardwareRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

/// A register that says where a ring lies and how many entries it has.
public protocol AMDViRingBase: HardwareRegister, WordEntry where RawValue == UInt64 {
  /// Bits 51:12, as the manual calls them.
  static var base: BitField { get }
  /// Bits 59:56, as the manual calls them.
  static var length: BitField { get }
  /// Bytes in one entry.
  static var entryByteCount: UInt64 { get }
}

extension AMDViRingBase {
  public static var specification: StaticString { "AMD IOMMU 3.4" }
  /// 256 entries, at address 0.
  public static var resetValue: UInt64 { 8 << 56 }
  /// 16, but for one log.
  public static var entryByteCount: UInt64 { 16 }

  public static var registerFields: [RegisterField] {
    [
      .reserved(0...11), .readWrite(base), .reserved(52...55), .readWrite(length),
      .reserved(60...63),
    ]
  }

  /// The register of a ring of `entryCount` entries.
  ///
  /// - Precondition: `address` is 4 KiB aligned and below 2^52; `entryCount` is one of those that
  ///   the register can tell.
  public init(address: PhysicalAddress, entryCount: Int) {
    precondition(address.rawValue & ~Self.base.mask == 0, "a ring lies at a multiple of 4 KiB")
    let code = UInt64(truncatingIfNeeded: entryCount.trailingZeroBitCount) - Self.codeDistance
    precondition(
      entryCount > 0 && entryCount.nonzeroBitCount == 1 && 8...15 ~= code, "no length of a ring")
    self.init(rawValue: address.rawValue)
    self[Self.length] = code
  }

  /// The ring's first byte.
  public var address: PhysicalAddress { PhysicalAddress(addressBits(Self.base)) }

  /// The length code; 8 to 15 are legal.
  public var lengthCode: Int { Int(self[Self.length]) }

  /// Entries in the ring; `nil` for a length that is reserved.
  public var entryCount: Int? { byteCount.map { Int($0 / Self.entryByteCount) } }

  /// Bytes in the ring, 4 KiB to 512 KiB; `nil` for a length that is reserved.
  public var byteCount: UInt64? { lengthCode >= 8 ? 16 << self[Self.length] : nil }

  /// Smaller entries, more of them: the shortest ring takes a page in any case.
  private static var codeDistance: UInt64 { entryByteCount == 16 ? 0 : 1 }
}

extension AMDVi.CommandBufferBase {
  public static var name: StaticString { "command buffer base" }
  public static var base: BitField { BitField(12...51, "ComBase", .address) }
  public static var length: BitField { BitField(56...59, "ComLen") }
}

extension AMDVi.EventLogBase {
  public static var name: StaticString { "event log base" }
  public static var base: BitField { BitField(12...51, "EventBase", .address) }
  public static var length: BitField { BitField(56...59, "EventLen") }
}

extension AMDVi.PageRequestLogBase {
  public static var name: StaticString { "PPR log base" }
  public static var base: BitField { BitField(12...51, "PPRLogBase", .address) }
  public static var length: BitField { BitField(56...59, "PPRLogLen") }
}

extension AMDVi.GuestLogBase {
  public static var name: StaticString { "GA log base" }
  public static var base: BitField { BitField(12...51, "GALogBase", .address) }
  public static var length: BitField { BitField(56...59, "GALogLen") }
  /// Linux counts 512 entries where the length code is 8: the ring takes a page.
  public static var entryByteCount: UInt64 { 8 }
}

extension AMDVi.GuestLogTailAddress {
  public static var name: StaticString { "GA log tail address" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }
  static var tail: BitField { BitField(3...51, "GATailAddr", .address) }
  public static var registerFields: [RegisterField] {
    [.reserved(0...2), .readWrite(tail), .reserved(52...63)]
  }
  /// Where the tail is stored.
  public var address: PhysicalAddress { PhysicalAddress(addressBits(Self.tail)) }
}

extension AMDVi.RingPointer {
  public static var name: StaticString { "ring pointer" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }
  static var offset: BitField { BitField(4...18, "Ptr", .address) }
  public static var registerFields: [RegisterField] {
    [.reserved(0...3), .readWrite(offset), .reserved(19...63)]
  }
  /// Bytes from the start of the ring; what lies outside of 18:4 is dropped.
  public init(byteOffset: UInt64) { self.init(rawValue: byteOffset & Self.offset.mask) }
  /// Bytes from the start of the ring.
  public var byteOffset: UInt64 { addressBits(Self.offset) }
}

extension AMDVi.GuestLogPointer {
  public static var name: StaticString { "GA log pointer" }
  public static var specification: StaticString { "AMD IOMMU 3.4" }
  static var offset: BitField { BitField(3...15, "GAPtr", .address) }
  public static var registerFields: [RegisterField] {
    [.reserved(0...2), .readWrite(offset), .reserved(16...63)]
  }
  /// Bytes from the start of the log; what lies outside of 15:3 is dropped.
  public init(byteOffset: UInt64) { self.init(rawValue: byteOffset & Self.offset.mask) }
  /// Bytes from the start of the log.
  public var byteOffset: UInt64 { addressBits(Self.offset) }
}
