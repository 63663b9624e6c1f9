import IOMMUFormats
import IOMMUHardware

/// The remapping unit of a modelled machine and the tables that its kernel makes.
public struct VTdConfiguration: Sendable {
  /// Levels of the second-stage tables, 3 to 5.
  public var levels: Int
  /// The unit has 2 MiB and 1 GiB pages.
  public var hasLargePages: Bool
  /// Invalidations go through a queue rather than registers.
  public var hasInvalidationQueue: Bool
  /// How the kernel's tables are laid out; scalable mode takes a unit that has it, and a queue.
  public var tableMode: VTd.TranslationTableMode
  /// The unit has scalable mode, whether or not the primary kernel uses it.
  public var hasScalableMode: Bool
  /// iommu=pt: requests of all devices pass untranslated.
  public var passesThrough: Bool
  /// Devices that have a TLB of their own (PCIe ATS), which takes a queue.
  public var deviceTLBs: Set<Requester>
  /// What the unit remembers between two requests.
  public var caches: CacheConfiguration

  public init(
    levels: Int = 4, hasLargePages: Bool = true, hasInvalidationQueue: Bool = false,
    tableMode: VTd.TranslationTableMode = .legacy, hasScalableMode: Bool = false,
    passesThrough: Bool = false, deviceTLBs: Set<Requester> = [],
    caches: CacheConfiguration = .hardware
  ) {
    self.levels = levels
    self.hasLargePages = hasLargePages
    self.hasInvalidationQueue = hasInvalidationQueue
    self.tableMode = tableMode
    self.hasScalableMode = hasScalableMode || tableMode == .scalable
    self.passesThrough = passesThrough
    self.deviceTLBs = deviceTLBs
    self.caches = caches
  }

  /// A unit of version 1 with eight fault records and the tables that are asked for.
  var unit: RemappingUnitConfiguration {
    precondition(3...5 ~= levels, "a second-stage table has three to five levels")
    return RemappingUnitConfiguration(
      version: VTd.Version(major: 1, minor: 0),
      capability: VTd.Capability(
        levels: levels...levels, guestAddressWidth: VTd.Paging.addressWidth(levels: levels),
        has2MiBPages: hasLargePages, has1GiBPages: hasLargePages
      ).withRegisters(faultRecordCount: 8, maximumAddressMask: 18),
      extendedCapability: VTd.ExtendedCapability(
        hasQueue: hasInvalidationQueue, hasPassThrough: passesThrough,
        hasDeviceTLBs: !deviceTLBs.isEmpty, hasScalableMode: hasScalableMode),
      hostAddressWidth: 52, caches: caches)
  }
}
