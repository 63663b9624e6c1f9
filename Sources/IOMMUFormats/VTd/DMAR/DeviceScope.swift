extension VTd.DMAR {
  /// What a device scope names. Open: later types keep their number.
  @frozen
  public struct ScopeType: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt8
    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// A PCI device.
    public static let endpoint = Self(rawValue: 1)
    /// A bridge and all that hangs below it.
    public static let subHierarchy = Self(rawValue: 2)
    /// An I/O APIC.
    public static let ioapic = Self(rawValue: 3)
    /// A timer (HPET) that sends MSIs.
    public static let hpet = Self(rawValue: 4)
    /// A device that an ANDD structure names.
    public static let namespaceDevice = Self(rawValue: 5)

    static let known: Set<Self> = [.endpoint, .subHierarchy, .ioapic, .hpet, .namespaceDevice]

    /// `sub-hierarchy`; `type 7` where the manual has none.
    public var name: String {
      switch self {
      case .endpoint: "endpoint"
      case .subHierarchy: "sub-hierarchy"
      case .ioapic: "I/O APIC"
      case .hpet: "HPET"
      case .namespaceDevice: "ACPI device"
      default: "type \(rawValue)"
      }
    }
  }

  /// What firmware says of a device of the chip, inside SIDP.
  @frozen
  public struct ScopeFlags: OptionSet, Hashable, Sendable {
    public var rawValue: UInt8
    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Requests without PASID must not be nested.
    public static let nestedNotAllowed = Self(rawValue: 1)
    /// PWSNP must be zero for requests without PASID.
    public static let walkSnoopNotAllowed = Self(rawValue: 2)
    /// PGSNP must be zero for requests without PASID.
    public static let pageSnoopNotAllowed = Self(rawValue: 4)
    /// The device's translation cache can be trusted.
    public static let hardenedATC = Self(rawValue: 8)
    /// The device does not work without its translation cache.
    public static let requiresATC = Self(rawValue: 16)

    /// The manual's names, in the order of the bits.
    public static let names: [(flag: Self, name: String)] = [
      (.nestedNotAllowed, "REQ_WO_PASID_NESTED_NOTALLOWED"),
      (.walkSnoopNotAllowed, "REQ_WO_PASID_PWSNP_NOTALLOWED"),
      (.pageSnoopNotAllowed, "REQ_WO_PASID_PGSNP_NOTALLOWED"),
      (.hardenedATC, "ATC_HARDENED"), (.requiresATC, "ATC_REQUIRED"),
    ]
  }

  /// The quadword that a device scope starts with, its first path pair included.
  ///
  /// 64 bits. Specification: Intel VT-d 8.3.1.
  @frozen
  public struct ScopeHeader: WordEntry {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }

    public static var name: StaticString { "device scope" }
    public static var specification: StaticString { "Intel VT-d 8.3.1" }

    static var type: BitField { BitField(0...7, "Type") }
    static var length: BitField { BitField(8...15, "Length") }
    static var flags: BitField { BitField(16...20, "Flags") }
    static var enumeration: BitField { BitField(32...39, "Enumeration ID") }
    static var startBus: BitField { BitField(40...47, "Start Bus Number") }
    static var device: BitField { BitField(48...52, "Device Number") }
    static var function: BitField { BitField(56...58, "Function Number") }

    public static func fields(_: OnlyVariant) -> [BitField] {
      [
        type, length, flags, .reserved(21...23), .reserved(24...31), enumeration, startBus, device,
        .reserved(53...55), function, .reserved(59...63),
      ]
    }
  }

  /// One step of a path: where the next bridge, or the device itself, is on its bus.
  public struct PathStep: Sendable, Hashable {
    /// 0 to 31; whatever the byte holds.
    public var device: UInt8
    /// 0 to 7; whatever the byte holds.
    public var function: UInt8

    /// A step to a function of the bus.
    public init(device: UInt8, function: UInt8) {
      self.device = device
      self.function = function
    }

    /// Both are numbers that a PCI function can have.
    public var isValid: Bool { device < 32 && function < 8 }
  }

  /// A device or a bridge, by the way to it: a bus, then a step through each bridge.
  ///
  /// Six bytes and two for each step. Specification: Intel VT-d 8.3.1.
  public struct DeviceScope: Sendable, Hashable {
    /// The first quadword; its length is the path's.
    var header: ScopeHeader
    /// The steps after the first.
    var furtherSteps: [PathStep]

    /// - Parameters:
    ///   - type: What the scope names: an endpoint, a bridge, or a thing with a source-id.
    ///   - enumerationID: The I/O APIC's id in the MADT, the HPET's number, or the number of the
    ///     ANDD structure; 0 for PCI devices.
    ///   - flags: Empty but inside a SIDP.
    ///   - startBus: Where the path starts; of a source-id, for types 4 and 5, its bus.
    ///   - path: The steps from `startBus` on, one through each bridge; the last is to the device.
    /// - Precondition: `path` has 1 to 124 steps of legal numbers.
    public init(
      _ type: ScopeType, enumerationID: UInt8 = 0, flags: ScopeFlags = [], startBus: UInt8 = 0,
      path: [PathStep]
    ) {
      precondition(1...124 ~= path.count, "a device scope has 1 to 124 steps")
      precondition(path.allSatisfy(\.isValid), "a PCI device is 0 to 31 and a function 0 to 7")
      header = ScopeHeader(rawValue: 0)
      header[ScopeHeader.type] = UInt64(type.rawValue)
      header[ScopeHeader.flags] = UInt64(flags.rawValue)
      header[ScopeHeader.enumeration] = UInt64(enumerationID)
      header[ScopeHeader.startBus] = UInt64(startBus)
      header[ScopeHeader.device] = UInt64(path[0].device)
      header[ScopeHeader.function] = UInt64(path[0].function)
      furtherSteps = Array(path.dropFirst())
      header[ScopeHeader.length] = UInt64(byteCount)
    }

    /// A device on a root bus, or a thing with a source-id of its own.
    public init(_ type: ScopeType, _ requester: Requester, enumerationID: UInt8 = 0) {
      self.init(
        type, enumerationID: enumerationID, startBus: requester.bus,
        path: [PathStep(device: requester.device, function: requester.function)])
    }

    init(header: ScopeHeader, furtherSteps: [PathStep]) {
      self.header = header
      self.furtherSteps = furtherSteps
    }

    /// What is named.
    public var type: ScopeType { ScopeType(rawValue: UInt8(header[ScopeHeader.type])) }
    /// What firmware says of a device of the chip; in SIDP only.
    public var flags: ScopeFlags { ScopeFlags(rawValue: UInt8(header[ScopeHeader.flags])) }
    /// The number of an I/O APIC, a timer or a namespace device; 0 for PCI devices.
    public var enumerationID: UInt8 { UInt8(header[ScopeHeader.enumeration]) }
    /// The bus on which the path starts.
    public var startBus: UInt8 { UInt8(header[ScopeHeader.startBus]) }

    /// At least one step.
    public var path: [PathStep] {
      let bytes = header.bytes
      return [PathStep(device: bytes[6], function: bytes[7])] + furtherSteps
    }

    /// The reserved bits that are set, by the first quadword's fields.
    public var violations: [BitField] { header.reservedViolations }

    var furtherStepsAreValid: Bool { furtherSteps.allSatisfy(\.isValid) }

    /// Bytes that the scope takes in its structure.
    public var byteCount: Int { 8 + 2 * furtherSteps.count }

    /// The scope as it lies in its structure.
    public var bytes: [UInt8] {
      header.bytes + furtherSteps.flatMap { [$0.device, $0.function] }
    }
  }
}
