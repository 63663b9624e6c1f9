extension Calgary {
  /// CCR of a chip: how long a split transaction may take, for each PHB.
  ///
  /// 64 bits, big-endian on the bus. Source: Linux `pci-calgary_64.c`.
  @frozen
  public struct ChipConfigurationRegister: WordEntry {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension Calgary.ChipConfigurationRegister {
  public static var name: StaticString { "CCR" }
  public static var specification: StaticString { "Linux pci-calgary_64.c" }
  @inlinable public static var isBigEndian: Bool { true }

  static var timeout0: BitField { BitField(44...47, "TIMEOUT_0") }
  static var timeout1: BitField { BitField(40...43, "TIMEOUT_1") }
  static var timeout2: BitField { BitField(36...39, "TIMEOUT_2") }
  static var timeout3: BitField { BitField(28...31, "TIMEOUT_3") }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [
      .ignored(0...27), timeout3, .ignored(32...35), timeout2, timeout1, timeout0,
      .ignored(48...63),
    ]
  }

  /// The only code that is known: two seconds.
  public static let twoSeconds: UInt8 = 0xe

  static func timeoutField(_ phb: Int) -> BitField {
    switch phb {
    case 0: timeout0
    case 1: timeout1
    case 2: timeout2
    default: timeout3
    }
  }

  /// The code of one PHB's timeout, 0 to 15.
  public func splitCompletionTimeout(_ phb: Int) -> UInt8 { UInt8(self[Self.timeoutField(phb)]) }

  /// This register with another timeout for one PHB, as a driver writes it.
  public func settingSplitCompletionTimeout(_ code: UInt8, phb: Int) -> Self {
    var register = self
    register[Self.timeoutField(phb)] = UInt64(code & 0xf)
    return register
  }
}

extension Calgary {
  /// The split queue of a PHB: idle when the first byte on the bus is 0xff.
  ///
  /// 64 bits, big-endian on the bus. Drivers poll it while they quiesce a PHB. What the other bytes
  /// say is not known. Source: Linux `pci-calgary_64.c`.
  @frozen
  public struct SplitQueueRegister: WordEntry {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension Calgary.SplitQueueRegister {
  public static var name: StaticString { "SPLIT_QUEUE" }
  public static var specification: StaticString { "Linux pci-calgary_64.c" }
  @inlinable public static var isBigEndian: Bool { true }

  static var slots: BitField { BitField(56...63, "IDLE") }

  public static func fields(_: OnlyVariant) -> [BitField] { [.ignored(0...55), slots] }

  /// Nothing is on its way.
  public var isIdle: Bool { self[Self.slots] == 0xff }

  /// This register when everything has arrived.
  public var becomingIdle: Self {
    var register = self
    register[Self.slots] = 0xff
    return register
  }
}

extension Calgary {
  /// PAGE_MIG_CTRL and PAGE_MIG_DEBUG of a CalIOC2's PHB: stop it before its cache is dropped.
  ///
  /// 32 bits, big-endian on the bus; the two registers use the same three bits.
  /// Source: Linux `pci-calgary_64.c`.
  @frozen
  public struct PageMigrationRegister: WordEntry {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }
}

extension Calgary.PageMigrationRegister {
  public static var name: StaticString { "PAGE_MIG" }
  public static var specification: StaticString { "Linux pci-calgary_64.c" }
  @inlinable public static var isBigEndian: Bool { true }

  static var hardStop: BitField { BitField(29...29, "HARDSTOP") }
  static var softStopFault: BitField { BitField(30...30, "SOFTSTOPFAULT") }
  static var softStop: BitField { BitField(31...31, "SOFTSTOP") }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [.ignored(0...28), hardStop, softStopFault, softStop]
  }

  /// No bit is set.
  public static var empty: Self { Self(rawValue: 0) }

  /// In the control register: stop after what is on its way.
  public var softStops: Bool {
    get { self[Self.softStop] != 0 }
    set { self[Self.softStop] = newValue ? 1 : 0 }
  }
  /// In the debug register: the stop did not work; begin anew.
  public var hasSoftStopFault: Bool {
    get { self[Self.softStopFault] != 0 }
    set { self[Self.softStopFault] = newValue ? 1 : 0 }
  }
  /// The PHB stands still.
  public var isHardStopped: Bool {
    get { self[Self.hardStop] != 0 }
    set { self[Self.hardStop] = newValue ? 1 : 0 }
  }
}

extension Calgary {
  /// SAVIOR_L2 of a CalIOC2's PHB, of which one bit is known: drivers set it once.
  ///
  /// 32 bits, big-endian on the bus. Source: Linux `pci-calgary_64.c`.
  @frozen
  public struct SaviorRegister: WordEntry {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }
}

extension Calgary.SaviorRegister {
  public static var name: StaticString { "SAVIOR_L2" }
  public static var specification: StaticString { "Linux pci-calgary_64.c" }
  @inlinable public static var isBigEndian: Bool { true }

  static var quirk: BitField { BitField(23...23, "QUIRK") }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [.ignored(0...22), quirk, .ignored(24...31)]
  }

  /// As a driver sets it up.
  public var applyingQuirk: Self {
    var register = self
    register[Self.quirk] = 1
    return register
  }
}
