extension GART {
  /// 0x40, machine check control of the northbridge: which errors are reported to the CPU.
  ///
  /// 32 bits. A walk error is logged whether or not its report is enabled; AMD advises to keep the
  /// report off. Source: AMD BKDG for family 0Fh, machine check bank 4, as quoted by Linux
  /// `mce_64.c`.
  @frozen
  public struct MachineCheckControl: WordEntry {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// 0x48 and 0x4c, machine check status of the northbridge: what went wrong last.
  ///
  /// 64 bits, the low half at 0x48. Source: AMD BKDG for family 0Fh, machine check bank 4; Linux
  /// `edac_mce_amd.c`.
  @frozen
  public struct MachineCheckStatus: WordEntry {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// 0x50 and 0x54, machine check address of the northbridge.
  ///
  /// 64 bits, the low half at 0x50. *Assumed*: for a walk error, the address that was asked for.
  @frozen
  public struct MachineCheckAddress: WordEntry {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension GART.MachineCheckControl {
  public static var name: StaticString { "northbridge machine check control" }
  public static var specification: StaticString { "function 3, 0x40; Linux mce_64.c" }

  static var gartTblWkEn: BitField { BitField(10...10, "GartTblWkEn") }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [
      BitField(0...9, "other reports"), gartTblWkEn, BitField(11...12, "other reports"),
      .reserved(13...31),
    ]
  }

  /// A GART walk error is reported to the CPU as a machine check.
  public var reportsWalkErrors: Bool {
    get { self[Self.gartTblWkEn] != 0 }
    set { self[Self.gartTblWkEn] = newValue ? 1 : 0 }
  }
}

extension GART.MachineCheckStatus {
  public static var name: StaticString { "northbridge machine check status" }
  public static var specification: StaticString { "function 3, 0x48; Linux edac_mce_amd.c" }

  static var levelField: BitField { BitField(0...1, "LL") }
  static var transactionField: BitField { BitField(2...3, "TT") }
  static var classField: BitField { BitField(4...15, "class") }
  static var extendedField: BitField { BitField(16...20, "ErrorCodeExt") }
  static var pcc: BitField { BitField(57...57, "PCC") }
  static var addrV: BitField { BitField(58...58, "ADDRV") }
  static var miscV: BitField { BitField(59...59, "MISCV") }
  static var en: BitField { BitField(60...60, "EN") }
  static var uc: BitField { BitField(61...61, "UC") }
  static var over: BitField { BitField(62...62, "OVER") }
  static var val: BitField { BitField(63...63, "VAL") }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [
      levelField, transactionField, classField, extendedField,
      BitField(21...56, "syndrome, link and CPU"), pcc, addrV, miscV, en, uc, over, val,
    ]
  }

  /// What the northbridge logs when a walk meets an invalid entry: TLB class, transaction and level
  /// generic, extended code 5, uncorrected, address valid.
  ///
  /// - Parameter isReported: Whether the report was enabled when it happened.
  public static func walkError(isReported: Bool) -> Self {
    var status = Self(rawValue: 0)
    status[levelField] = 3
    status[transactionField] = 2
    status[classField] = 1
    status[extendedField] = 5
    status[addrV] = 1
    status[en] = isReported ? 1 : 0
    status[uc] = 1
    status[val] = 1
    return status
  }

  /// VAL: the register holds an error.
  public var isValid: Bool { self[Self.val] != 0 }
  /// Another error came while this one stood.
  public var hasOverflowed: Bool {
    get { self[Self.over] != 0 }
    set { self[Self.over] = newValue ? 1 : 0 }
  }
  /// UC: the error was not corrected.
  public var isUncorrected: Bool { self[Self.uc] != 0 }
  /// The report was enabled, so the CPU took a machine check.
  public var isReported: Bool { self[Self.en] != 0 }
  /// ADDRV: the address register holds something.
  public var hasAddress: Bool { self[Self.addrV] != 0 }
  /// MISCV: a further register holds something.
  public var hasMiscellaneous: Bool { self[Self.miscV] != 0 }
  /// PCC: the processor cannot go on.
  public var hasCorruptedContext: Bool { self[Self.pcc] != 0 }
  /// Bits 15:0: what kind of error; 0x1b for a TLB error, transaction and level generic.
  public var errorCode: UInt16 {
    UInt16(low & (Self.levelField.mask | Self.transactionField.mask | Self.classField.mask))
  }
  /// 5 for a GART walk error.
  public var extendedCode: Int { Int(self[Self.extendedField]) }
  /// TT, 2 for generic.
  public var transaction: Int { Int(self[Self.transactionField]) }
  /// LL, 3 for generic.
  public var level: Int { Int(self[Self.levelField]) }
}

extension GART.MachineCheckAddress {
  public static var name: StaticString { "northbridge machine check address" }
  public static var specification: StaticString { "function 3, 0x50; Linux edac_mce_amd.c" }

  static var addressField: BitField { BitField(3...39, "ADDR39:3", .address) }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [.reserved(0...2), addressField, .reserved(40...63)]
  }

  /// Keeps what the register has room for: bits 39 to 3.
  public init(address: UInt64) {
    self.init(rawValue: address & Self.addressField.mask)
  }

  /// A multiple of eight below 1 TiB.
  public var address: UInt64 { addressBits(Self.addressField) }
}
