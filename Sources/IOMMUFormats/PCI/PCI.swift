/// PCI and PCI Express configuration space, as far as DMA depends on it.
///
/// Section numbers are those of the PCI Express Base Specification, revision 6.0. Registers are
/// little-endian; each is described by the aligned doubleword that holds it.
public enum PCI {
  /// Registers of the header, as byte offsets. Specification: 7.5.1.
  public enum RegisterOffset {
    public static let identity = 0x00
    public static let commandStatus = 0x04
    public static let classRevision = 0x08
    public static let headerType = 0x0c
    /// Bridges only.
    public static let busNumbers = 0x18
    public static let capabilitiesPointer = 0x34
    public static let interrupt = 0x3c
    /// The first byte that a capability may take.
    public static let firstCapability = 0x40
    /// The first extended capability, if there is any.
    public static let firstExtendedCapability = 0x100
  }

  /// Names a capability in the list that starts at offset 0x34. Open: others keep their number.
  @frozen
  public struct CapabilityID: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt8
    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

    public static let powerManagement = Self(rawValue: 0x01)
    public static let agp = Self(rawValue: 0x02)
    public static let msi = Self(rawValue: 0x05)
    public static let pciX = Self(rawValue: 0x07)
    public static let express = Self(rawValue: 0x10)
    public static let msiX = Self(rawValue: 0x11)
  }

  /// Names a capability in the list that starts at offset 0x100. Open: others keep their number.
  @frozen
  public struct ExtendedCapabilityID: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt16
    @inlinable public init(rawValue: UInt16) { self.rawValue = rawValue }

    public static let alternativeRoutingID = Self(rawValue: 0x000e)
    public static let addressTranslationServices = Self(rawValue: 0x000f)
    public static let singleRootVirtualization = Self(rawValue: 0x0010)
    public static let pageRequestInterface = Self(rawValue: 0x0013)
    public static let processAddressSpaceID = Self(rawValue: 0x001b)
  }

  /// What a PCI Express function is, from its capability. Specification: 7.5.3.2.
  public enum PortType: UInt8, Sendable, CaseIterable {
    case endpoint = 0
    case legacyEndpoint = 1
    case rootPort = 4
    case upstreamPort = 5
    case downstreamPort = 6
    /// From PCI Express down to conventional PCI or PCI-X.
    case expressToPCIBridge = 7
    /// From conventional PCI or PCI-X down to PCI Express.
    case pciToExpressBridge = 8
    case rootComplexEndpoint = 9
    case rootComplexEventCollector = 10
  }

  /// How the header from offset 0x10 is laid out. Specification: 7.5.1.1.9.
  public enum HeaderLayout: UInt8, Sendable {
    case endpoint = 0
    case bridge = 1
  }
}
