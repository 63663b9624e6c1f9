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
  /// What the unit remembers between two requests.
  public var caches: CacheConfiguration

  public init(
    levels: Int = 4, hasLargePages: Bool = true, hasInvalidationQueue: Bool = false,
    caches: CacheConfiguration = .hardware
  ) {
    self.levels = levels
    self.hasLargePages = hasLargePages
    self.hasInvalidationQueue = hasInvalidationQueue
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
      extendedCapability: VTd.ExtendedCapability(hasQueue: hasInvalidationQueue),
      hostAddressWidth: 52, caches: caches)
  }
}
