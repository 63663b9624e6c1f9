import IOMMUFormats
import IOMMUTranslation

/// What an AMD-Vi unit is: its capability block and feature registers, and choices that the manual
/// leaves open.
public struct AMDViUnitConfiguration: Sendable, Hashable {
  public var capability: AMDVi.CapabilityHeader
  /// EFR. Of a unit without EFRSup zero.
  public var features: AMDVi.ExtendedFeatures
  /// EFR2.
  public var features2: AMDVi.ExtendedFeatures2
  /// PAsize of the capability block: 40, 48 or 52.
  public var physicalAddressWidth: Int
  /// What the unit remembers between two requests.
  public var caches: AMDViCacheConfiguration
  /// The PCI device number of the unit's function; the vendor is AMD.
  public var deviceID: UInt16
  /// Which devices are behind the unit, and by which numbers it sees them; `nil` for all, by their own.
  public var scope: AMDVi.UnitScope?

  public init(
    capability: AMDVi.CapabilityHeader = AMDVi.CapabilityHeader(),
    features: AMDVi.ExtendedFeatures,
    features2: AMDVi.ExtendedFeatures2 = AMDVi.ExtendedFeatures2(rawValue: 0),
    physicalAddressWidth: Int = 48, caches: AMDViCacheConfiguration = .hardware,
    deviceID: UInt16 = 0x1419, scope: AMDVi.UnitScope? = nil
  ) {
    self.capability = capability
    self.features = features
    self.features2 = features2
    self.physicalAddressWidth = physicalAddressWidth
    self.caches = caches
    self.deviceID = deviceID
    self.scope = scope
  }
}

extension AMDViUnitConfiguration {
  /// QEMU's unit: six levels, guest tables announced, device TLBs, NpCache.
  public static let qemu = AMDViUnitConfiguration(
    capability: AMDVi.CapabilityHeader(cachesNotPresent: true),
    features: AMDVi.ExtendedFeatures(rawValue: 0x29d3))

  /// A unit of the first revision: no extended features.
  public static let firstRevision = AMDViUnitConfiguration(
    capability: AMDVi.CapabilityHeader(hasExtendedFeatures: false),
    features: AMDVi.ExtendedFeatures(rawValue: 0), physicalAddressWidth: 40)

  /// All that is here: x2APIC ids, guest tables of five levels and interrupts, PASIDs of 20 bits, page
  /// requests, device table segments, A and D in host tables, 2,048 interrupts for a device.
  public static let current = AMDViUnitConfiguration(
    features: AMDVi.ExtendedFeatures(rawValue: 0x005f_63f3_0031_99df),
    features2: AMDVi.ExtendedFeatures2(rawValue: 0x108), physicalAddressWidth: 52)
}

/// Why a unit cannot be what its capability registers say.
public struct AMDViUnitConfigurationError: Error, Hashable, CustomStringConvertible {
  /// The register, such as `EFR`.
  public var register: String
  /// What is wrong, and the way out.
  public var problem: String

  public var description: String { "\(register): \(problem)" }
}

extension AMDViUnitConfiguration {
  /// Features that a real unit may announce and that are not here, with their bits of EFR.
  private static let missing: [(mask: UInt64, what: String)] = [
    (1 << 9, "PCSup, performance counters; clear bit 9"),
    (3 << 24, "DualPprLogSup, a second log of page requests; clear bits 25:24"),
    (3 << 28, "DualEventLogSup, a second event log; clear bits 29:28"),
    (1 << 31, "SATSSup, secure ATS; clear bit 31"),
    (3 << 42, "MarcSup, relocation apertures; clear bits 43:42"),
    (1 << 44, "BlkStopMrkSup, marks in logs; clear bit 44"),
    (1 << 55, "vIommuSup, units of guests; clear bit 55"),
    (1 << 56, "VmGuardIoSup; clear bit 56"),
    (0xf << 57, "VmTableSize; clear bits 60:57"),
    (1 << 63, "SNPSup, the reverse map; clear bit 63"),
  ]

  /// What of a real unit's features is here: the rest cleared.
  public static func supported(_ features: AMDVi.ExtendedFeatures) -> AMDVi.ExtendedFeatures {
    let known = AMDVi.ExtendedFeatures.mask { $0.access != .reserved }.low
    return AMDVi.ExtendedFeatures(
      rawValue: missing.reduce(features.rawValue & known) { $0 & ~$1.mask })
  }

  /// Checks that the registers contradict neither each other nor what is implemented here.
  ///
  /// - Throws: the first thing that is wrong.
  public func validate() throws(AMDViUnitConfigurationError) {
    func wrong(_ register: String, _ problem: String) -> AMDViUnitConfigurationError {
      AMDViUnitConfigurationError(register: register, problem: problem)
    }
    guard capability.isIOMMU else {
      throw wrong("capability header", "it is no IOMMU's: the id is 0xf and the type 3")
    }
    guard [40, 48, 52].contains(physicalAddressWidth) else {
      throw wrong("PAsize", "\(physicalAddressWidth) bits; 40, 48 and 52 are possible")
    }
    guard
      capability.hasExtendedFeatures || features.rawValue == 0 && features2.rawValue == 0
    else { throw wrong("EFR", "features without EFRSup; clear them or set bit 27 of the header") }
    guard features.reservedViolations.isEmpty else {
      throw wrong("EFR", "bits \(features.reservedViolations[0].bits) are reserved; clear them")
    }
    guard features2.reservedViolations.isEmpty else {
      throw wrong("EFR2", "bits \(features2.reservedViolations[0].bits) are reserved; clear them")
    }
    for feature in Self.missing where features.rawValue & feature.mask != 0 {
      throw wrong("EFR", "not implemented: \(feature.what)")
    }
    guard features.guestTableLevels <= 3 else {
      throw wrong("EFR", "GLXSup is 3; the largest is 2")
    }
    guard features.guestLevels != nil else { throw wrong("EFR", "GATS is 3; the largest is 2") }
    let needs: [(Bool, Bool, String)] = [
      (features.hasExtendedDestinations, features.hasWideInterruptEntries, "XTSup needs GASup"),
      (features.hasGuestInterrupts, features.hasWideInterruptEntries, "GAMSup needs GASup"),
      (features.hasGuestIO, features.hasGuestTranslation, "GIoSup needs GTSup"),
      (
        features.hasEarlyPageRequestOverflow, features.hasPageRequests,
        "PprOvrflwEarlySup needs PPRSup"
      ),
      (features.hasPageRequestAnswers, features.hasPageRequests, "PprAutoRspSup needs PPRSup"),
    ]
    for (has, isMet, rule) in needs where has && !isMet {
      throw wrong("EFR", "\(rule); set or clear it")
    }
  }

  /// Whether the unit has the registers of a kind.
  func has(_ requirement: AMDVi.RegisterRequirement) -> Bool {
    switch requirement {
    case .always: true
    case .extendedFeatures: capability.hasExtendedFeatures
    case .pageRequests: features.hasPageRequests
    case .secondPageRequestLog: features.hasSecondPageRequestLog
    case .pageRequestAnswers: features.hasPageRequestAnswers
    case .earlyPageRequestOverflow: features.hasEarlyPageRequestOverflow
    case .guestInterrupts: features.hasGuestInterrupts
    case .secondEventLog: features.hasSecondEventLog
    case .hardwareErrors: features.hasHardwareErrorRegisters
    case .systemManagementFilter: features.hasSystemManagementFilter
    case .segments: features.maximumSegmentCode > 0
    case .interruptCapabilityCopy: features.hasInterruptCapabilityCopy
    case .performanceOptimization: features.hasPerformanceOptimization
    case .extendedDestinations: features.hasExtendedDestinations
    case .relocation: features.relocationApertureCount > 0
    case .virtualUnits: features.hasVirtualUnits
    }
  }

  /// How many registers of an array the unit has.
  func count(of register: AMDVi.RegisterDescription) -> Int {
    switch register.requirement {
    case .segments: min(register.count, 1 << features.maximumSegmentCode - 1)
    case .systemManagementFilter: min(register.count, features.systemManagementFilterCount)
    default: register.count
    }
  }

  /// Bits of the control register that the unit has: those of features that it does not announce read
  /// as zero (*assumed*).
  var controlBits: UInt64 {
    let optional: [(Bool, UInt64)] = [
      (features.hasPageRequests, 0xe000), (features.hasGuestTranslation, 1 << 16),
      (features.hasWideInterruptEntries, 1 << 17),
      (features.hasSystemManagementFilter, 1 << 22 | 1 << 24),
      (features.hasGuestInterrupts, 7 << 25 | 3 << 28), (features.hasSecondPageRequestLog, 3 << 30),
      (features.hasSecondEventLog, 3 << 32), (features.maximumSegmentCode > 0, 7 << 34),
      (features.hasPrivilege, 3 << 37), (features.hasPageRequestAnswers, 1 << 39 | 1 << 42),
      (features.relocationApertureCount > 0, 1 << 40), (false, 1 << 41),
      (features2.hasLargeInterruptTables, 3 << 43), (features.hasEnhancedPageRequests, 1 << 45),
      (features.hasHostAccessed || features.hasHostDirty, 3 << 46),
      (features.hasGuestTranslation, 1 << 48 | 1 << 54),
      (features.hasExtendedDestinations, 3 << 50), (features.hasVirtualUnits, 3 << 52),
      (features2.hasPhysicalGuestRoots, 1 << 58),
      (features.hasGuestProcessorInterrupts, 1 << 55),
      (features2.hasGuardedGuestInterrupts, 7 << 61),
      // The first revision has the lowest 13.
      (capability.hasExtendedFeatures, ~0x1fff),
    ]
    return optional.reduce(~0) { $1.0 ? $0 : $0 & ~$1.1 }
  }

  /// The features that decide what tables may hold: a unit without the register has host tables of all
  /// depths and nothing else.
  var tableFeatures: AMDVi.ExtendedFeatures {
    capability.hasExtendedFeatures ? features : AMDVi.ExtendedFeatures(rawValue: 0x800)
  }
}

/// How large the caches of a unit are. Specification: AMD IOMMU 2.4.
public struct AMDViCacheConfiguration: Hashable, Sendable {
  /// Device table entries, by device.
  public var deviceEntries: CacheSize
  /// Entries of GCR3 tables, by device and PASID.
  public var guestRoots: CacheSize
  /// Pages, by domain, PASID and address.
  public var translations: CacheSize
  /// Pointers to lower tables, by domain, PASID and address.
  public var pageWalks: CacheSize
  /// Entries of interrupt tables, by device and index.
  public var interruptEntries: CacheSize

  public init(
    deviceEntries: CacheSize, guestRoots: CacheSize, translations: CacheSize, pageWalks: CacheSize,
    interruptEntries: CacheSize
  ) {
    self.deviceEntries = deviceEntries
    self.guestRoots = guestRoots
    self.translations = translations
    self.pageWalks = pageWalks
    self.interruptEntries = interruptEntries
  }

  /// Every request reads all of its tables.
  public static let none = Self(
    deviceEntries: .none, guestRoots: .none, translations: .none, pageWalks: .none,
    interruptEntries: .none)

  /// Sizes as a unit may have them (*assumed*: no data sheet tells).
  public static let hardware = Self(
    deviceEntries: .fixed(sets: 16, ways: 4), guestRoots: .fixed(sets: 16, ways: 4),
    translations: .fixed(sets: 64, ways: 4), pageWalks: .fixed(sets: 16, ways: 4),
    interruptEntries: .fixed(sets: 32, ways: 4))

  /// Everything the manual lets a unit keep: what software that forgets an invalidation meets at worst.
  public static let everything = Self(
    deviceEntries: .unbounded, guestRoots: .unbounded, translations: .unbounded,
    pageWalks: .unbounded, interruptEntries: .unbounded)
}
