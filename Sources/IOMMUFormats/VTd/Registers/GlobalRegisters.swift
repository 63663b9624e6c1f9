extension VTd {
  /// VER_REG, 0x000: the architecture version. 32 bits. Specification: Intel VT-d 11.4.1.
  @frozen
  public struct Version: WordEntry, VTdRegister {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// GCMD_REG, 0x018: switches parts of the unit on and off. 32 bits, all of them write-only.
  ///
  /// One field changes per write; GSTS_REG tells when it is done. Specification: Intel VT-d
  /// 11.4.4.1.
  @frozen
  public struct GlobalCommand: WordEntry, VTdRegister {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }
}

extension VTd.Version {
  public static var name: StaticString { "VER_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.1" }

  static var minorField: BitField { BitField(0...3, "MIN") }
  static var majorField: BitField { BitField(4...7, "MAX") }

  public static var registerFields: [VTd.RegisterField] {
    [.readOnly(minorField), .readOnly(majorField), .reserved(8...31)]
  }

  /// - Precondition: both are below 16.
  public init(major: Int, minor: Int = 0) {
    self.init(rawValue: 0)
    self[Self.majorField] = UInt64(major)
    self[Self.minorField] = UInt64(minor)
  }

  /// MAX.
  public var major: Int { Int(self[Self.majorField]) }
  /// MIN.
  public var minor: Int { Int(self[Self.minorField]) }
}

extension VTd.GlobalCommand {
  public static var name: StaticString { "GCMD_REG" }
  public static var specification: StaticString { "Intel VT-d 11.4.4.1" }

  static var cfi: BitField { BitField(23...23, "CFI") }
  static var sirtp: BitField { BitField(24...24, "SIRTP") }
  static var ire: BitField { BitField(25...25, "IRE") }
  static var qie: BitField { BitField(26...26, "QIE") }
  static var wbf: BitField { BitField(27...27, "WBF") }
  static var srtp: BitField { BitField(30...30, "SRTP") }
  static var te: BitField { BitField(31...31, "TE") }

  public static var registerFields: [VTd.RegisterField] {
    [
      .reserved(0...22), .writeOnly(cfi), .writeOnly(sirtp), .writeOnly(ire), .writeOnly(qie),
      .writeOnly(wbf), .reserved(28...29), .writeOnly(srtp), .writeOnly(te),
    ]
  }

  /// The commands that are done once rather than being a state: software clears them in what it
  /// reads from GSTS_REG before it writes it back with one more bit.
  static var oneShotMask: UInt32 {
    typealias Status = VTd.GlobalStatus
    return UInt32(Status.irtps.mask | Status.wbfs.mask | Status.fls.mask | Status.rtps.mask)
  }

  /// The state that `status` reports, as a command that changes nothing.
  public init(keeping status: VTd.GlobalStatus) {
    self.init(rawValue: status.rawValue & ~Self.oneShotMask)
  }

  /// TE: DMA requests are remapped.
  public var enablesTranslation: Bool {
    get { self[Self.te] != 0 }
    set { self[Self.te] = newValue ? 1 : 0 }
  }
  /// SRTP: take over the root table address.
  public var setsRootTablePointer: Bool {
    get { self[Self.srtp] != 0 }
    set { self[Self.srtp] = newValue ? 1 : 0 }
  }
  /// WBF: flush the write buffer.
  public var flushesWriteBuffer: Bool {
    get { self[Self.wbf] != 0 }
    set { self[Self.wbf] = newValue ? 1 : 0 }
  }
  /// QIE: invalidations come from the queue.
  public var enablesQueuedInvalidation: Bool {
    get { self[Self.qie] != 0 }
    set { self[Self.qie] = newValue ? 1 : 0 }
  }
  /// IRE: interrupt requests are remapped.
  public var enablesInterruptRemapping: Bool {
    get { self[Self.ire] != 0 }
    set { self[Self.ire] = newValue ? 1 : 0 }
  }
  /// SIRTP: take over the interrupt table address.
  public var setsInterruptTablePointer: Bool {
    get { self[Self.sirtp] != 0 }
    set { self[Self.sirtp] = newValue ? 1 : 0 }
  }
  /// CFI: interrupt requests in the compatibility format pass.
  public var passesCompatibilityInterrupts: Bool {
    get { self[Self.cfi] != 0 }
    set { self[Self.cfi] = newValue ? 1 : 0 }
  }
}

extension VTd.GlobalStatus {
  /// Sets or clears a status bit, as hardware does when a command is done.
  public mutating func set(_ command: Command, _ isOn: Bool) {
    self[command.status] = isOn ? 1 : 0
  }

  /// Whether a command's status bit is set.
  public func has(_ command: Command) -> Bool { self[command.status] != 0 }

  /// The commands of GCMD_REG, each with its status bit.
  public enum Command: Sendable, CaseIterable {
    /// TE, SRTP, WBF, QIE and IRE.
    case translation, rootTablePointer, writeBufferFlush, queuedInvalidation, interruptRemapping
    /// SIRTP and CFI.
    case interruptTablePointer, compatibilityFormatInterrupts

    var status: BitField {
      switch self {
      case .translation: VTd.GlobalStatus.tes
      case .rootTablePointer: VTd.GlobalStatus.rtps
      case .writeBufferFlush: VTd.GlobalStatus.wbfs
      case .queuedInvalidation: VTd.GlobalStatus.qies
      case .interruptRemapping: VTd.GlobalStatus.ires
      case .interruptTablePointer: VTd.GlobalStatus.irtps
      case .compatibilityFormatInterrupts: VTd.GlobalStatus.cfis
      }
    }
  }
}
