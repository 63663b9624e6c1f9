/// PCI and PCI Express configuration space, as far as DMA depends on it.
///
/// Section numbers are those of the PCI Express Base Specification, revision 6.0. Registers are
/// little-endian; each is described by the aligned doubleword that holds it.
public enum PCI {
  /// Registers of the header, as byte offsets. Specification: 7.5.1.
  public enum RegisterOffset {
    /// Vendor and device.
    public static let identity = 0x00
    /// Command and status.
    public static let commandStatus = 0x04
    /// Class and revision.
    public static let classRevision = 0x08
    /// Layout of the header.
    public static let headerType = 0x0c
    /// Bridges only.
    public static let busNumbers = 0x18
    /// Where the list of capabilities begins.
    public static let capabilitiesPointer = 0x34
    /// Interrupt line and pin.
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

    /// Power management.
    public static let powerManagement = Self(rawValue: 0x01)
    /// AGP.
    public static let agp = Self(rawValue: 0x02)
    /// Message signalled interrupts.
    public static let msi = Self(rawValue: 0x05)
    /// PCI-X.
    public static let pciX = Self(rawValue: 0x07)
    /// PCI Express.
    public static let express = Self(rawValue: 0x10)
    /// MSI-X.
    public static let msiX = Self(rawValue: 0x11)
  }

  /// Names a capability in the list that starts at offset 0x100. Open: others keep their number.
  @frozen
  public struct ExtendedCapabilityID: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt16
    @inlinable public init(rawValue: UInt16) { self.rawValue = rawValue }

    /// ARI: functions above 7.
    public static let alternativeRoutingID = Self(rawValue: 0x000e)
    /// ATS: the device has a TLB of its own.
    public static let addressTranslationServices = Self(rawValue: 0x000f)
    /// SR-IOV: virtual functions.
    public static let singleRootVirtualization = Self(rawValue: 0x0010)
    /// PRI: the device can ask for pages.
    public static let pageRequestInterface = Self(rawValue: 0x0013)
    /// PASID: the device sends requests of several address spaces.
    public static let processAddressSpaceID = Self(rawValue: 0x001b)
  }

  /// What a PCI Express function is, from its capability. Specification: 7.5.3.2.
  public enum PortType: UInt8, Sendable, CaseIterable {
    /// A device.
    case endpoint = 0
    /// A device that may do what PCI devices did.
    case legacyEndpoint = 1
    /// The port of the root complex.
    case rootPort = 4
    /// A switch's port towards the root.
    case upstreamPort = 5
    /// A switch's port away from the root.
    case downstreamPort = 6
    /// From PCI Express down to conventional PCI or PCI-X.
    case expressToPCIBridge = 7
    /// From conventional PCI or PCI-X down to PCI Express.
    case pciToExpressBridge = 8
    /// A device of the chip set itself.
    case rootComplexEndpoint = 9
    /// What collects events of the chip set's devices.
    case rootComplexEventCollector = 10
  }

  /// How the header from offset 0x10 is laid out. Specification: 7.5.1.1.9.
  public enum HeaderLayout: UInt8, Sendable {
    /// Any other function's.
    case endpoint = 0
    /// A PCI-to-PCI bridge's.
    case bridge = 1
  }
}
