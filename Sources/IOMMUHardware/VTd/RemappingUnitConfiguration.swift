import IOMMUFormats

/// What a remapping unit is: its capability registers, and choices that the manual leaves open.
public struct RemappingUnitConfiguration: Sendable, Hashable {
  public var version: VTd.Version
  public var capability: VTd.Capability
  public var extendedCapability: VTd.ExtendedCapability
  /// HAW: bits of a physical address, 32 to 52. Software learns it from the DMAR table.
  public var hostAddressWidth: Int
  /// What the unit remembers between two requests.
  public var caches: CacheConfiguration
  /// A fault of a requester that has a record already is not recorded again (7.2.1, optional).
  public var compressesFaults: Bool
  /// A queue of 128-bit descriptors goes on working under scalable-mode tables. The manual answers
  /// with an error; QEMU does not.
  public var acceptsNarrowQueueInScalableMode: Bool

  public init(
    version: VTd.Version, capability: VTd.Capability, extendedCapability: VTd.ExtendedCapability,
    hostAddressWidth: Int, caches: CacheConfiguration = .hardware, compressesFaults: Bool = false,
    acceptsNarrowQueueInScalableMode: Bool = false
  ) {
    self.version = version
    self.capability = capability
    self.extendedCapability = extendedCapability
    self.hostAddressWidth = hostAddressWidth
    self.caches = caches
    self.compressesFaults = compressesFaults
    self.acceptsNarrowQueueInScalableMode = acceptsNarrowQueueInScalableMode
  }
}

extension RemappingUnitConfiguration {
  /// QEMU's unit: 48 bits, a queue, interrupt remapping, pass-through, no scalable mode.
  public static let qemu = RemappingUnitConfiguration(
    version: VTd.Version(major: 1, minor: 0),
    capability: VTd.Capability(rawValue: 0x00d2_008c_222f_0606),
    extendedCapability: VTd.ExtendedCapability(rawValue: 0xf0_0f4a), hostAddressWidth: 48,
    compressesFaults: true)

  /// A unit as chipsets of 2008 had it: 36 bits, three levels, 16 domains, no large pages, no
  /// queue, no interrupt remapping; protected memory regions.
  public static let unit2008 = RemappingUnitConfiguration(
    version: VTd.Version(major: 1, minor: 0),
    capability: VTd.Capability(rawValue: 0x00c9_0080_20e3_0260),
    extendedCapability: VTd.ExtendedCapability(rawValue: 0x1000), hostAddressWidth: 36)

  /// A unit as servers have it today: 57 bits, scalable mode with both stages and nesting, PASIDs,
  /// device TLBs, page requests, posted interrupts. Version 6: no invalidation by register.
  public static let currentServer = RemappingUnitConfiguration(
    version: VTd.Version(major: 6, minor: 0),
    capability: VTd.Capability(rawValue: 0x19ed_008c_4078_0c66),
    extendedCapability: VTd.ExtendedCapability(rawValue: 0x0003_ef9e_a6f0_50df),
    hostAddressWidth: 52)
}

/// Why a unit cannot be what its capability registers say.
public struct RemappingUnitConfigurationError: Error, Hashable, CustomStringConvertible {
  /// The register, such as `ECAP_REG`.
  public var register: String
  /// What is wrong, and the way out.
  public var problem: String

  public var description: String { "\(register): \(problem)" }
}

extension RemappingUnitConfiguration {
  /// Checks that the registers contradict neither each other nor what is implemented here.
  ///
  /// - Throws: the first thing that is wrong.
  public func validate() throws(RemappingUnitConfigurationError) {
    try validateCapability()
    try validateExtendedCapability()
    try validateLayout()
  }

  private func validateCapability() throws(RemappingUnitConfigurationError) {
    func wrong(_ problem: String) -> RemappingUnitConfigurationError {
      RemappingUnitConfigurationError(register: "CAP_REG", problem: problem)
    }
    guard 32...52 ~= hostAddressWidth else {
      throw RemappingUnitConfigurationError(
        register: "host address width", problem: "\(hostAddressWidth) bits; 32 to 52 are possible")
    }
    guard capability.reservedViolations.isEmpty else {
      throw wrong("bits \(capability.reservedViolations[0].bits) are reserved; clear them")
    }
    guard capability.domainIDCode <= 6 else { throw wrong("ND is 7; the largest is 6") }
    guard capability.supportedWidths & 0b10001 == 0 else {
      throw wrong("SAGAW has a width of 30 or 64 bits, which no revision in use has")
    }
    guard capability.supportedWidths != 0 else { throw wrong("SAGAW names no width") }
    guard capability.maximumGuestAddressWidth <= 57 else {
      throw wrong("MGAW says \(capability.maximumGuestAddressWidth) bits; 57 are the most")
    }
    guard capability.supportedPageSizes & 0b1100 == 0 else {
      throw wrong("SSLPS has pages of 512 GiB or 1 TiB, which no revision in use has")
    }
    guard !capability.hasAdvancedFaultLog else {
      throw wrong("AFL, the advanced fault log, is gone since revision 3; clear bit 3")
    }
    guard !capability.hasEnhancedCommands else {
      throw wrong("ECMDS: enhanced commands are not implemented; clear bit 61")
    }
    guard capability.hasPageSelectiveInvalidation || capability.maximumAddressMask == 0 else {
      throw wrong("MAMV without PSI; clear bits 53:48 or set bit 39")
    }
  }

  private func validateExtendedCapability() throws(RemappingUnitConfigurationError) {
    let ecap = extendedCapability
    func wrong(_ problem: String) -> RemappingUnitConfigurationError {
      RemappingUnitConfigurationError(register: "ECAP_REG", problem: problem)
    }
    // What needs what, 11.4.3.
    let needs: [(Bool, Bool, String)] = [
      (ecap.hasDeviceTLBs, ecap.hasQueue, "DT needs QI"),
      (ecap.hasInterruptRemapping, ecap.hasQueue, "IR needs QI"),
      (ecap.hasExtendedInterruptMode, ecap.hasInterruptRemapping, "EIM needs IR"),
      (ecap.hasScalableMode, ecap.hasQueue, "SMTS needs QI"),
      (ecap.hasPageRequests, ecap.hasDeviceTLBs && ecap.hasScalableMode, "PRS needs DT and SMTS"),
      (
        ecap.hasNesting, ecap.hasScalableMode && ecap.hasFirstStage && ecap.hasSecondStage,
        "NEST needs SMTS, FSTS and SSTS"
      ),
      (ecap.hasPASIDs, ecap.hasScalableMode, "PASID needs SMTS"),
    ]
    for (has, isMet, rule) in needs where has && !isMet { throw wrong("\(rule); set or clear it") }
    let missing: [(Bool, String)] = [
      (ecap.hasExtendedContexts, "ECS, the extended mode of revision 2; clear bit 24"),
      (ecap.hasExecuteRequests, "ERS, execute requests; clear bit 30"),
      (ecap.hasVirtualCommands, "VCS, virtual commands; clear bit 44"),
      (ecap.hasPerformanceMonitoring, "PMS, performance monitoring; clear bit 51"),
      (ecap.hasPermissionTables, "HPTS, host permission tables; clear bit 55"),
      (ecap.hasResourceDirector, "RDTS, resource tags; clear bit 60"),
    ]
    for (has, what) in missing where has { throw wrong("not implemented: \(what)") }
  }

  /// Registers that the capability registers place do not lie on others.
  private func validateLayout() throws(RemappingUnitConfigurationError) {
    var taken: [UInt64: String] = [:]
    for register in VTd.registerMap where has(register.requirement) {
      for place in places(of: register) {
        for byte in place..<(place + UInt64(register.format.byteCount)) {
          if let other = taken[byte] {
            throw RemappingUnitConfigurationError(
              register: other == "FRCD_REG" || register.name == "FRCD_REG"
                ? "CAP_REG" : "ECAP_REG",
              problem: "FRO or IRO puts \(register.name) on \(other) at \(hexadecimal(byte))")
          }
          taken[byte] = register.name
        }
      }
    }
  }
}

extension RemappingUnitConfiguration {
  /// Whether the unit has the registers of a kind.
  func has(_ requirement: VTd.RegisterRequirement) -> Bool {
    switch requirement {
    case .always: true
    case .protectedLowMemory: capability.hasProtectedLowMemory
    case .protectedHighMemory: capability.hasProtectedHighMemory
    case .protectedMemory: capability.hasProtectedLowMemory || capability.hasProtectedHighMemory
    case .queuedInvalidation: extendedCapability.hasQueue
    case .interruptRemapping: extendedCapability.hasInterruptRemapping
    case .pageRequests: extendedCapability.hasPageRequests
    case .memoryTypes: extendedCapability.hasMemoryTypes
    case .performanceMonitoring: extendedCapability.hasPerformanceMonitoring
    case .enhancedCommands: capability.hasEnhancedCommands
    case .resourceDirector: extendedCapability.hasResourceDirector
    case .virtualCommands: extendedCapability.hasVirtualCommands
    }
  }

  /// Where the registers of a row lie in this unit's window.
  func places(of register: VTd.RegisterDescription) -> [UInt64] {
    let first: UInt64
    switch register.place {
    case .at(let offset): first = offset
    case .invalidation(let offset):
      first = extendedCapability.invalidationRegisterOffset + offset
    case .faultRecords(let offset): first = capability.faultRecordOffset + offset
    }
    let count = register.count ?? capability.faultRecordCount
    return (0..<count).map { first + UInt64($0 * register.strideByteCount) }
  }

  var limits: VTd.Limits {
    var limits = VTd.Limits(
      capability: capability, extendedCapability: extendedCapability,
      hostAddressWidth: hostAddressWidth, majorVersion: version.major)
    // Before version 4 bit 62 of a leaf was TM, legal in units with device TLBs.
    limits.hasTransientMappings = version.major < 4 && limits.hasDeviceTLBs
    return limits
  }

  var descriptorRules: VTd.DescriptorRules {
    VTd.DescriptorRules(
      hasInvalidationThrottle: extendedCapability.hasInvalidationThrottle,
      hasPageRequestDrain: extendedCapability.hasPageRequestDrain)
  }
}
