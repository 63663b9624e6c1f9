extension Calgary {
  /// CONFIG_RW of a PHB: what it translates and whether its slots are alive.
  ///
  /// 32 bits, big-endian on the bus. Source: Linux `pci-calgary_64.c`.
  @frozen
  public struct ConfigurationRegister: WordEntry {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }
}

extension Calgary.ConfigurationRegister {
  public static var name: StaticString { "CONFIG_RW" }
  public static var specification: StaticString { "Linux pci-calgary_64.c" }
  @inlinable public static var isBigEndian: Bool { true }

  static var mcsrEnable: BitField { BitField(20...20, "MCSR_ENABLE") }
  static var memory2Enable: BitField { BitField(22...22, "MEM2_ENABLE") }
  static var dacDisable: BitField { BitField(24...24, "DAC_DISABLE") }
  static var slotDisable: BitField { BitField(26...28, "SLOT_DISABLE") }
  static var tceEnable: BitField { BitField(29...29, "TCE_ENABLE") }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [
      .ignored(0...19), mcsrEnable, .ignored(21...21), memory2Enable, .ignored(23...23), dacDisable,
      .ignored(25...25), slotDisable, tceEnable, .ignored(30...31),
    ]
  }

  /// The PHB translates through its TCE table.
  public var translates: Bool { self[Self.tceEnable] != 0 }
  /// The second memory window is in force.
  public var hasSecondWindow: Bool { self[Self.memory2Enable] != 0 }
  /// Addresses of 4 GiB and more are refused.
  public var refusesDualAddressCycles: Bool { self[Self.dacDisable] != 0 }
  /// The watchdog has shut the slots after an error.
  public var areSlotsDisabled: Bool { self[Self.slotDisable] != 0 }

  private static var translationMask: UInt32 {
    UInt32(tceEnable.mask | dacDisable.mask | mcsrEnable.mask)
  }

  /// As a driver switches translation on.
  public var enablingTranslation: Self { Self(rawValue: rawValue | Self.translationMask) }
  /// As a driver switches translation off.
  public var disablingTranslation: Self { Self(rawValue: rawValue & ~Self.translationMask) }
  /// As the watchdog shuts the slots.
  public var disablingSlots: Self { Self(rawValue: rawValue | UInt32(Self.slotDisable.mask)) }
}

extension Calgary {
  /// STUFF of a PHB: the buses below it.
  ///
  /// 32 bits, big-endian on the bus. Source: Linux `pci-calgary_64.c`.
  @frozen
  public struct BusRangeRegister: WordEntry {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }
}

extension Calgary.BusRangeRegister {
  public static var name: StaticString { "STUFF" }
  public static var specification: StaticString { "Linux pci-calgary_64.c" }
  @inlinable public static var isBigEndian: Bool { true }

  static var last: BitField { BitField(8...15, "LAST") }
  static var first: BitField { BitField(16...23, "FIRST") }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [.ignored(0...7), last, first, .ignored(24...31)]
  }

  /// The register of a PHB with these buses.
  public init(firstBus: UInt8, lastBus: UInt8) {
    self.init(rawValue: 0)
    self[Self.first] = UInt64(firstBus)
    self[Self.last] = UInt64(lastBus)
  }

  /// The bus directly below the PHB.
  public var firstBus: UInt8 { UInt8(self[Self.first]) }

  /// The buses of this PHB, closed. A last bus of 0 means the first bus alone; empty when they are
  /// the wrong way round, as a driver's loop over them is.
  public var buses: ClosedRange<UInt8>? {
    let last = UInt8(self[Self.last])
    if last == 0 { return firstBus...firstBus }
    return last >= firstBus ? firstBus...last : nil
  }
}
