extension PCI {
  /// Offset 0x00: who made the function and what it is. All ones where there is no function.
  ///
  /// 32 bits. Specification: PCI Express 7.5.1.1.1.
  @frozen
  public struct Identity: WordEntry {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// Offset 0x04: command and status.
  ///
  /// 32 bits. Specification: PCI Express 7.5.1.1.3.
  @frozen
  public struct CommandStatus: WordEntry {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// Offset 0x08: what kind of device the function is.
  ///
  /// 32 bits. Specification: PCI Express 7.5.1.1.5.
  @frozen
  public struct ClassRevision: WordEntry {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// Offset 0x0c: how the rest of the header is laid out.
  ///
  /// 32 bits. Specification: PCI Express 7.5.1.1.9.
  @frozen
  public struct HeaderType: WordEntry {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// Offset 0x18 of a bridge: the buses on its two sides.
  ///
  /// 32 bits. Specification: PCI Express 7.5.1.3.
  @frozen
  public struct BusNumbers: WordEntry {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }
}

extension PCI.Identity {
  public static var name: StaticString { "PCI identity" }
  public static var specification: StaticString { "PCI Express 7.5.1.1.1" }

  static var vendor: BitField { BitField(0...15, "Vendor ID") }
  static var device: BitField { BitField(16...31, "Device ID") }

  public static func fields(_: OnlyVariant) -> [BitField] { [vendor, device] }

  /// The register of a function of this kind.
  public init(vendorID: UInt16, deviceID: UInt16) {
    self.init(rawValue: 0)
    self[Self.vendor] = UInt64(vendorID)
    self[Self.device] = UInt64(deviceID)
  }

  /// Who made the function; all ones where there is none.
  public var vendorID: UInt16 { UInt16(self[Self.vendor]) }
  /// What the vendor calls the function.
  public var deviceID: UInt16 { UInt16(self[Self.device]) }
  /// No function answers: the bus reads as ones.
  public var isAbsent: Bool { vendorID == 0xffff }
}

extension PCI.CommandStatus {
  public static var name: StaticString { "PCI command and status" }
  public static var specification: StaticString { "PCI Express 7.5.1.1.3" }

  static var ioSpace: BitField { BitField(0...0, "I/O Space Enable") }
  static var memorySpace: BitField { BitField(1...1, "Memory Space Enable") }
  static var busMaster: BitField { BitField(2...2, "Bus Master Enable") }
  static var parityResponse: BitField { BitField(6...6, "Parity Error Response") }
  static var systemErrors: BitField { BitField(8...8, "SERR# Enable") }
  static var interruptDisable: BitField { BitField(10...10, "Interrupt Disable") }
  static var capabilities: BitField { BitField(20...20, "Capabilities List") }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [
      ioSpace, memorySpace, busMaster, .ignored(3...5), parityResponse, .ignored(7...7),
      systemErrors,
      .ignored(9...9), interruptDisable, .reserved(11...15), .ignored(16...18),
      BitField(19...19, "Interrupt Status"), capabilities, .ignored(21...23),
      BitField(24...24, "Master Data Parity Error"), .ignored(25...26),
      BitField(27...27, "Signaled Target Abort"), BitField(28...28, "Received Target Abort"),
      BitField(29...29, "Received Master Abort"), BitField(30...30, "Signaled System Error"),
      BitField(31...31, "Detected Parity Error"),
    ]
  }

  /// The function may start DMA and send MSIs.
  public var isBusMaster: Bool {
    get { self[Self.busMaster] != 0 }
    set { self[Self.busMaster] = newValue ? 1 : 0 }
  }
  /// Offset 0x34 points to a list of capabilities.
  public var hasCapabilities: Bool {
    get { self[Self.capabilities] != 0 }
    set { self[Self.capabilities] = newValue ? 1 : 0 }
  }

  /// The bits of the command half that software can write.
  public static let writableMask = [
    ioSpace, memorySpace, busMaster, parityResponse, systemErrors, interruptDisable,
  ].reduce(into: UInt32(0)) { $0 |= UInt32($1.mask) }
}

extension PCI.ClassRevision {
  public static var name: StaticString { "PCI class and revision" }
  public static var specification: StaticString { "PCI Express 7.5.1.1.5" }

  static var revision: BitField { BitField(0...7, "Revision ID") }
  static var code: BitField { BitField(8...31, "Class Code") }

  public static func fields(_: OnlyVariant) -> [BitField] { [revision, code] }

  /// - Parameters:
  ///   - classCode: Base class, subclass and interface, 24 bits: 0x01_0601 for AHCI.
  ///   - revision: The vendor's revision of the device.
  /// - Precondition: `classCode` has 24 bits.
  public init(classCode: UInt32, revision: UInt8 = 0) {
    self.init(rawValue: 0)
    self[Self.code] = UInt64(classCode)
    self[Self.revision] = UInt64(revision)
  }

  /// Base class, subclass and interface, 24 bits.
  public var classCode: UInt32 { UInt32(self[Self.code]) }
  /// The vendor's revision of the device.
  public var revisionID: UInt8 { UInt8(self[Self.revision]) }
}

extension PCI.HeaderType {
  public static var name: StaticString { "PCI header type" }
  public static var specification: StaticString { "PCI Express 7.5.1.1.9" }

  static var layoutField: BitField { BitField(16...22, "Header Layout") }
  static var multiFunction: BitField { BitField(23...23, "Multi-Function Device") }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [
      BitField(0...7, "Cache Line Size"), BitField(8...15, "Latency Timer"), layoutField,
      multiFunction, BitField(24...31, "BIST"),
    ]
  }

  /// The register of a device with one function.
  public init(layout: PCI.HeaderLayout) {
    self.init(rawValue: 0)
    self[Self.layoutField] = UInt64(layout.rawValue)
  }

  /// `nil` for a layout that is neither an endpoint's nor a bridge's (CardBus has one).
  public var layout: PCI.HeaderLayout? {
    PCI.HeaderLayout(rawValue: UInt8(self[Self.layoutField]))
  }
  /// Functions 1 to 7 of the device are worth looking for.
  public var isMultiFunction: Bool {
    get { self[Self.multiFunction] != 0 }
    set { self[Self.multiFunction] = newValue ? 1 : 0 }
  }
}

extension PCI.BusNumbers {
  public static var name: StaticString { "PCI bus numbers" }
  public static var specification: StaticString { "PCI Express 7.5.1.3" }

  static var primaryField: BitField { BitField(0...7, "Primary Bus Number") }
  static var secondaryField: BitField { BitField(8...15, "Secondary Bus Number") }
  static var subordinateField: BitField { BitField(16...23, "Subordinate Bus Number") }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [
      primaryField, secondaryField, subordinateField,
      BitField(24...31, "Secondary Latency Timer"),
    ]
  }

  /// The register of a bridge between these buses.
  public init(primary: UInt8, secondary: UInt8, subordinate: UInt8) {
    self.init(rawValue: 0)
    self[Self.primaryField] = UInt64(primary)
    self[Self.secondaryField] = UInt64(secondary)
    self[Self.subordinateField] = UInt64(subordinate)
  }

  /// The bus that the bridge itself is on.
  public var primary: UInt8 { UInt8(self[Self.primaryField]) }
  /// The bus directly below the bridge; 0 before it has a number.
  public var secondary: UInt8 { UInt8(self[Self.secondaryField]) }
  /// The highest bus number anywhere below the bridge.
  public var subordinate: UInt8 { UInt8(self[Self.subordinateField]) }

  /// The bridge passes configuration accesses for this bus on.
  public func contains(_ bus: UInt8) -> Bool {
    secondary != 0 && secondary <= bus && bus <= subordinate
  }

  /// The bits that software can write.
  public static let writableMask = UInt32(
    primaryField.mask | secondaryField.mask | subordinateField.mask)
}
