extension VTd {
  /// IQH_REG, 0x080: the descriptor that hardware fetches next. 64 bits. Specification: Intel VT-d
  /// 11.4.9.1.
  @frozen
  public struct QueueHead: WordEntry, VTdRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// IQT_REG, 0x088: the place of software's next descriptor. 64 bits. Specification: Intel VT-d
  /// 11.4.9.2.
  @frozen
  public struct QueueTail: WordEntry, VTdRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// IQA_REG, 0x090: where the invalidation queue lies and how large it is. 64 bits. Specification:
  /// Intel VT-d 11.4.9.3.
  @frozen
  public struct QueueAddress: WordEntry, VTdRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// ICS_REG, 0x09c: a wait descriptor has asked for an interrupt. 32 bits. Specification: Intel
  /// VT-d 11.4.9.4.
  @frozen
  public struct CompletionStatus: WordEntry, VTdRegister {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// IQERCD_REG, 0x0b0: why the queue stopped. 64 bits. Specification: Intel VT-d 11.4.9.9.
  @frozen
  public struct QueueErrorRecord: WordEntry, VTdRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// IRTA_REG, 0x0b8: where the interrupt remapping table lies. 64 bits. Specification: Intel VT-d
  /// 11.4.10.
  @frozen
  public struct InterruptTableAddress: WordEntry, VTdRegister {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// IQEI: why a descriptor could not be executed. Specification: Intel VT-d 11.4.9.9.
  public enum QueueError: UInt8, Error, Sendable, CaseIterable {
    /// The tail lies beyond the queue.
    case tailBeyondRing = 1
    /// No memory answers where a descriptor should be.
    case fetchFailed = 2
    /// There is no such descriptor.
    case unknownType = 3
    /// A reserved field of a descriptor is set.
    case reservedField = 4
    /// The descriptor has another width than the queue's.
    case wrongWidth = 5
    /// The tail is not at a multiple of a descriptor's length.
    case misalignedTail = 6
    /// A descriptor that the table mode does not allow.
    case badTableMode = 7
  }
}

extension VTd.QueueHead {
  public static var name: StaticString { "IQH_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.9.1" }
  static var qh: BitField { BitField(4...18, "QH", .address) }
  public static var registerFields: [VTd.RegisterField] {
    [.reserved(0...3), .readOnly(qh), .reserved(19...63)]
  }
  /// Bytes from the start of the queue.
  public var byteOffset: UInt64 { addressBits(Self.qh) }
  /// The register at this place of the queue.
  public init(byteOffset: UInt64) { self.init(rawValue: byteOffset & Self.qh.mask) }
}

extension VTd.QueueTail {
  public static var name: StaticString { "IQT_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.9.2" }
  static var qt: BitField { BitField(4...18, "QT", .address) }
  public static var registerFields: [VTd.RegisterField] {
    [.reserved(0...3), .readWrite(qt), .reserved(19...63)]
  }
  /// Bytes from the start of the queue.
  public var byteOffset: UInt64 { addressBits(Self.qt) }

  /// The place of descriptor `index`, of 16 bytes or when `isWide` of 32.
  public init(index: Int, isWide: Bool) {
    self.init(rawValue: UInt64(index) << (isWide ? 5 : 4) & Self.qt.mask)
  }
}

extension VTd.QueueAddress {
  public static var name: StaticString { "IQA_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.9.3" }

  static var qs: BitField { BitField(0...2, "QS") }
  static var dw: BitField { BitField(11...11, "DW") }
  static var iqa: BitField { BitField(12...63, "IQA", .address) }

  public static var registerFields: [VTd.RegisterField] {
    [.readWrite(qs), .reserved(3...10), .readWrite(dw), .readWrite(iqa)]
  }

  /// - Precondition: `queue` is 4 KiB aligned and `sizeCode` below 8.
  public init(queue: PhysicalAddress, sizeCode: Int = 0, isWide: Bool = false) {
    precondition(queue.isAligned(to: 4096), "an invalidation queue lies at a multiple of 4 KiB")
    self.init(rawValue: queue.rawValue)
    self[Self.qs] = UInt64(sizeCode)
    self[Self.dw] = isWide ? 1 : 0
  }

  /// The queue's first byte.
  public var queue: PhysicalAddress { PhysicalAddress(addressBits(Self.iqa)) }
  /// DW: descriptors of 256 bits.
  public var isWide: Bool { self[Self.dw] != 0 }
  /// Bytes in one descriptor.
  public var descriptorByteCount: UInt64 { isWide ? 32 : 16 }
  /// QS: 2^QS pages.
  public var byteCount: UInt64 { 4096 << self[Self.qs] }
}

extension VTd.CompletionStatus {
  public static var name: StaticString { "ICS_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.9.4" }
  static var iwc: BitField { BitField(0...0, "IWC") }
  public static var registerFields: [VTd.RegisterField] {
    [.writeOneToClear(iwc), .reserved(1...31)]
  }
  /// IWC: an interrupt was asked for and not yet acknowledged.
  public var isComplete: Bool {
    get { self[Self.iwc] != 0 }
    set { self[Self.iwc] = newValue ? 1 : 0 }
  }
}

extension VTd.QueueErrorRecord {
  public static var name: StaticString { "IQERCD_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.9.9" }

  static var iqei: BitField { BitField(0...3, "IQEI") }
  static var itesid: BitField { BitField(32...47, "ITESID") }
  static var icesid: BitField { BitField(48...63, "ICESID") }

  public static var registerFields: [VTd.RegisterField] {
    [
      .readOnly(iqei, sticky: true), .reserved(4...31), .readOnly(itesid, sticky: true),
      .readOnly(icesid, sticky: true),
    ]
  }

  /// IQEI, while FSTS.IQE is set.
  public var error: VTd.QueueError? {
    get { VTd.QueueError(rawValue: UInt8(self[Self.iqei])) }
    set { self[Self.iqei] = UInt64(newValue?.rawValue ?? 0) }
  }
  /// ITESID, while FSTS.ITE is set: the device that did not answer.
  public var timedOut: Requester {
    get { Requester(rawValue: UInt16(self[Self.itesid])) }
    set { self[Self.itesid] = UInt64(newValue.rawValue) }
  }
  /// ICESID, while FSTS.ICE is set: the device that answered wrongly.
  public var completedWrongly: Requester {
    get { Requester(rawValue: UInt16(self[Self.icesid])) }
    set { self[Self.icesid] = UInt64(newValue.rawValue) }
  }
}

extension VTd.InterruptTableAddress {
  public static var name: StaticString { "IRTA_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.10" }

  static var s: BitField { BitField(0...3, "S") }
  static var eime: BitField { BitField(11...11, "EIME") }
  static var irta: BitField { BitField(12...63, "IRTA", .address) }

  public static var registerFields: [VTd.RegisterField] {
    [.readWrite(s), .reserved(4...10), .readWrite(eime), .readWrite(irta)]
  }

  /// - Parameters:
  ///   - table: The table's first byte.
  ///   - sizeCode: S; the table has 2^(S+1) entries.
  ///   - usesExtendedMode: EIME: destinations are x2APIC ids of 32 bits.
  /// - Precondition: `table` is 4 KiB aligned and `sizeCode` below 16.
  public init(table: PhysicalAddress, sizeCode: Int, usesExtendedMode: Bool = false) {
    precondition(table.isAligned(to: 4096), "an interrupt table lies at a multiple of 4 KiB")
    self.init(rawValue: table.rawValue)
    self[Self.s] = UInt64(sizeCode)
    self[Self.eime] = usesExtendedMode ? 1 : 0
  }

  /// The table's first byte.
  public var table: PhysicalAddress { PhysicalAddress(addressBits(Self.irta)) }
  /// Entries in the table, 2 to 65,536.
  public var entryCount: Int { 2 << Int(self[Self.s]) }
  /// EIME: destinations are x2APIC ids of 32 bits.
  public var usesExtendedMode: Bool { self[Self.eime] != 0 }
}
