extension PCI {
  /// The first doubleword of a capability in the list from offset 0x34.
  ///
  /// 32 bits. Specification: PCI Express 7.5.3.
  @frozen
  public struct CapabilityHeader: WordEntry {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// The first doubleword of the PCI Express capability.
  ///
  /// 32 bits. Specification: PCI Express 7.5.3.2.
  @frozen
  public struct ExpressCapability: WordEntry {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// The first doubleword of a capability in the list from offset 0x100.
  ///
  /// 32 bits. Specification: PCI Express 7.6.3.
  @frozen
  public struct ExtendedCapabilityHeader: WordEntry {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// Capability and control of address translation services, offset 4 of that capability.
  ///
  /// 32 bits. Specification: PCI Express 10.5.1.
  @frozen
  public struct AddressTranslationServices: WordEntry {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }

  /// Where the virtual functions of a physical function are, offset 0x14 of the SR-IOV capability.
  ///
  /// 32 bits. Specification: PCI Express 9.3.3.9.
  @frozen
  public struct VirtualFunctionRouting: WordEntry {
    public var rawValue: UInt32
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  }
}

extension PCI.CapabilityHeader {
  public static var name: StaticString { "PCI capability header" }
  public static var specification: StaticString { "PCI Express 7.5.3" }

  static var idField: BitField { BitField(0...7, "Capability ID") }
  static var nextField: BitField { BitField(8...15, "Next Capability Pointer") }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [idField, nextField, BitField(16...31, "body", .ignored)]
  }

  /// Which capability begins here.
  public var id: PCI.CapabilityID { PCI.CapabilityID(rawValue: UInt8(self[Self.idField])) }
  /// Byte offset of the next capability; 0 ends the list. The two low bits do not count.
  public var next: Int { Int(self[Self.nextField]) & ~3 }
}

extension PCI.ExpressCapability {
  public static var name: StaticString { "PCI Express capability" }
  public static var specification: StaticString { "PCI Express 7.5.3.2" }

  static var version: BitField { BitField(16...19, "Capability Version") }
  static var portTypeField: BitField { BitField(20...23, "Device/Port Type") }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [
      BitField(0...7, "Capability ID"), BitField(8...15, "Next Capability Pointer"), version,
      portTypeField, BitField(24...24, "Slot Implemented"),
      BitField(25...29, "Interrupt Message Number"), .reserved(30...31),
    ]
  }

  /// A capability of version 2.
  public init(portType: PCI.PortType) {
    self.init(rawValue: UInt32(PCI.CapabilityID.express.rawValue))
    self[Self.version] = 2
    self[Self.portTypeField] = UInt64(portType.rawValue)
  }

  /// `nil` for a type that is not defined.
  public var portType: PCI.PortType? { PCI.PortType(rawValue: UInt8(self[Self.portTypeField])) }

  /// Bytes of a capability of version 2.
  public static let byteCount = 0x3c
}

extension PCI.ExtendedCapabilityHeader {
  public static var name: StaticString { "PCI Express extended capability header" }
  public static var specification: StaticString { "PCI Express 7.6.3" }

  static var idField: BitField { BitField(0...15, "Capability ID") }
  static var versionField: BitField { BitField(16...19, "Capability Version") }
  static var nextField: BitField { BitField(20...31, "Next Capability Offset") }

  public static func fields(_: OnlyVariant) -> [BitField] { [idField, versionField, nextField] }

  /// The end of the list, for now.
  ///
  /// - Precondition: `version` is below 16.
  public init(id: PCI.ExtendedCapabilityID, version: Int) {
    self.init(rawValue: UInt32(id.rawValue))
    self[Self.versionField] = UInt64(version)
  }

  /// Which capability begins here.
  public var id: PCI.ExtendedCapabilityID {
    PCI.ExtendedCapabilityID(rawValue: UInt16(self[Self.idField]))
  }
  /// Byte offset of the next one, below 4,096; 0 ends the list. The two low bits do not count.
  public var next: Int {
    get { Int(self[Self.nextField]) & ~3 }
    set { self[Self.nextField] = UInt64(newValue) }
  }
}

extension PCI.AddressTranslationServices {
  public static var name: StaticString { "ATS capability and control" }
  public static var specification: StaticString { "PCI Express 10.5.1" }

  static var depth: BitField { BitField(0...4, "Invalidate Queue Depth") }
  static var aligned: BitField { BitField(5...5, "Page Aligned Request") }
  static var global: BitField { BitField(6...6, "Global Invalidate Supported") }
  static var stu: BitField { BitField(16...20, "Smallest Translation Unit") }
  static var enable: BitField { BitField(31...31, "Enable") }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [
      depth, aligned, global, BitField(7...7, "Relaxed Ordering Supported"), .reserved(8...15),
      stu, .reserved(21...30), enable,
    ]
  }

  /// - Precondition: `invalidateQueueDepth` is 1 to 32.
  public init(invalidateQueueDepth: Int, isPageAligned: Bool, supportsGlobalInvalidate: Bool) {
    precondition(1...32 ~= invalidateQueueDepth, "a device takes 1 to 32 invalidations at a time")
    self.init(rawValue: 0)
    self[Self.depth] = UInt64(invalidateQueueDepth % 32)
    self[Self.aligned] = isPageAligned ? 1 : 0
    self[Self.global] = supportsGlobalInvalidate ? 1 : 0
  }

  /// Invalidations that the device takes before it has answered one: 1 to 32, coded 0 for 32.
  public var invalidateQueueDepth: Int { (Int(self[Self.depth]) + 31) % 32 + 1 }
  /// The device may ask for translations and send translated requests.
  public var isEnabled: Bool {
    get { self[Self.enable] != 0 }
    set { self[Self.enable] = newValue ? 1 : 0 }
  }

  /// The bits that software can write: STU and Enable.
  public static let writableMask = UInt32(stu.mask | enable.mask)
}

extension PCI.VirtualFunctionRouting {
  public static var name: StaticString { "SR-IOV routing" }
  public static var specification: StaticString { "PCI Express 9.3.3.9" }

  static var firstField: BitField { BitField(0...15, "First VF Offset") }
  static var strideField: BitField { BitField(16...31, "VF Stride") }

  public static func fields(_: OnlyVariant) -> [BitField] { [firstField, strideField] }

  /// Virtual functions so far above the physical one, and from each other.
  public init(firstOffset: UInt16, stride: UInt16) {
    self.init(rawValue: 0)
    self[Self.firstField] = UInt64(firstOffset)
    self[Self.strideField] = UInt64(stride)
  }

  /// What the first virtual function's requester is above the physical function's.
  public var firstOffset: UInt16 { UInt16(self[Self.firstField]) }
  /// From one virtual function's requester to the next.
  public var stride: UInt16 { UInt16(self[Self.strideField]) }
}
