import IOMMUFormats
import IOMMUHardware

/// The AMD-Vi unit of a modelled machine and the kernel that drives it.
public struct AMDViConfiguration: Sendable {
  /// Which of Linux's drivers the primary kernel has.
  public enum Kernel: Hashable, Sendable {
    /// Linux 2.6.27: 4 KiB pages, numbers from the bottom of an aperture of so many bytes, one domain for
    /// all devices unless `isolatesDevices`.
    ///
    /// 32 MiB to 1 GiB, a power of two; 64 MiB where `amd_iommu_size=` says nothing.
    case linux2_6_27(apertureByteCount: UInt64 = 64 << 20, isolatesDevices: Bool = false)
    /// Linux since it shares an allocator with VT-d: numbers from the top of 4 GiB downwards, pages of
    /// every power of two, a domain for each device.
    case current(flushes: AMDViFlushes = .strict)
  }

  public var kernel: Kernel
  /// Levels of the deepest table that the unit has, 4 to 6.
  public var hostLevels: Int
  /// Entries that are not present may be cached, as emulators say of themselves.
  public var cachesNotPresent: Bool
  /// What firmware says of the unit's links, and of what it can.
  public var firmwareFlags: AMDVi.IVRS.UnitFlags
  /// Blocks of firmware's table behind the unit's own: memory that is to be mapped to itself, or left
  /// untranslated (IVMD).
  public var firmwareBlocks: [AMDVi.IVRS.Block]
  /// iommu=pt: requests of all devices pass untranslated. Today's kernel alone.
  public var passesThrough: Bool
  /// Devices that have a TLB of their own (PCIe ATS). Today's kernel alone.
  public var deviceTLBs: Set<Requester>
  /// What the unit remembers between two requests.
  public var caches: AMDViCacheConfiguration

  public init(
    kernel: Kernel = .current(), hostLevels: Int = 6, cachesNotPresent: Bool = false,
    firmwareFlags: AMDVi.IVRS.UnitFlags = [.hasDeviceTLBs, .isCoherent],
    firmwareBlocks: [AMDVi.IVRS.Block] = [], passesThrough: Bool = false,
    deviceTLBs: Set<Requester> = [], caches: AMDViCacheConfiguration = .hardware
  ) {
    precondition(4...6 ~= hostLevels, "a unit has host tables of 4 to 6 levels")
    self.kernel = kernel
    self.hostLevels = hostLevels
    self.cachesNotPresent = cachesNotPresent
    self.firmwareFlags = firmwareFlags
    self.firmwareBlocks = firmwareBlocks
    self.passesThrough = passesThrough
    self.deviceTLBs = deviceTLBs
    self.caches = caches
  }
}

extension AMDViConfiguration.Kernel {
  /// The driver, with the unit switched on.
  func driver(
    pages: PagePool, platform: AMDViPlatform, device: Requester, configuration: AMDViConfiguration
  ) throws(SetUpError) -> any DMADriver {
    switch self {
    case .linux2_6_27(let apertureByteCount, let isolatesDevices):
      try LinuxAMDViDriver(
        pages: pages, platform: platform, apertureByteCount: apertureByteCount,
        isolatesDevices: isolatesDevices)
    case .current(let flushes):
      try AMDViDriver(
        pages: pages, platform: platform, device: device, flushes: flushes,
        passesThrough: configuration.passesThrough, deviceTLBs: configuration.deviceTLBs)
    }
  }
}

extension AMDViConfiguration {
  /// A unit with host tables alone, that drops everything with one command.
  var unit: AMDViUnitConfiguration {
    AMDViUnitConfiguration(
      capability: AMDVi.CapabilityHeader(cachesNotPresent: cachesNotPresent),
      features: AMDVi.ExtendedFeatures(hostLevels: hostLevels), physicalAddressWidth: 52,
      caches: caches)
  }
}

extension AMDVi.ExtendedFeatures {
  /// IASup, and HATS for tables of 4 to 6 levels.
  fileprivate init(hostLevels: Int) {
    self.init(rawValue: 1 << 6 | UInt64(hostLevels - 4) << 10)
  }
}

/// When a kernel tells the unit of pages that it has taken back.
public enum AMDViFlushes: String, Sendable, CaseIterable {
  /// At once: a number is free when the unit has forgotten it.
  case strict
  /// Many at a time: until then the device may still reach the page.
  case lazy
}
