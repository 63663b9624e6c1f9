import IOMMUFormats
import IOMMUHardware
import Testing

@Suite struct ConfigurationTests {
  @Test(arguments: [
    RemappingUnitConfiguration.qemu, .unit2008, .currentServer,
  ])
  func `the presets are units`(configuration: RemappingUnitConfiguration) throws {
    try configuration.validate()
    #expect(configuration.capability.reservedViolations.isEmpty)
  }

  /// The capability registers of real units, as the manual's decoding table has them.
  @Test(
    arguments: [
      (0x00d2_008c_2226_0206, 0xf0_0f4a), (0x00d2_008c_222f_0606, 0x4900_80f0_0f4a),
      (0x00d2_008c_4066_0462, 0xf0_50da), (0x08ed_008c_4078_0466, 0x600_00f0_50df),
    ] as [(UInt64, UInt64)])
  func `units that were built can be made`(capability: UInt64, extendedCapability: UInt64) throws {
    try RemappingUnitConfiguration(
      version: VTd.Version(major: 1), capability: VTd.Capability(rawValue: capability),
      extendedCapability: VTd.ExtendedCapability(rawValue: extendedCapability),
      hostAddressWidth: 46
    ).validate()
  }

  struct Wrong: Sendable, CustomTestStringConvertible {
    var what: String
    var set: UInt64 = 0
    var clear: UInt64 = 0
    var extendedSet: UInt64 = 0
    var extendedClear: UInt64 = 0
    var testDescription: String { what }
  }

  static let wrong = [
    Wrong(what: "ND is 7", set: 7), Wrong(what: "AFL", set: 1 << 3),
    Wrong(what: "30 or 64 bits", set: 1 << 8), Wrong(what: "30 or 64 bits", set: 1 << 12),
    Wrong(what: "no width", clear: 0x1f << 8), Wrong(what: "64 bits; 57", set: 0x3f << 16),
    Wrong(what: "SSLPS", set: 1 << 36), Wrong(what: "ECMDS", set: 1 << 61),
    Wrong(what: "MAMV without PSI", clear: 1 << 39), Wrong(what: "reserved", set: 1 << 13),
    Wrong(what: "DT needs QI", extendedClear: 1 << 1),
    Wrong(what: "EIM needs IR", extendedClear: 1 << 3),
    Wrong(what: "PRS needs DT", extendedClear: 1 << 2),
    Wrong(what: "NEST needs", extendedClear: 1 << 47),
    Wrong(what: "ECS", extendedSet: 1 << 24), Wrong(what: "ERS", extendedSet: 1 << 30),
    Wrong(what: "VCS", extendedSet: 1 << 44), Wrong(what: "PMS", extendedSet: 1 << 51),
    Wrong(what: "HPTS", extendedSet: 1 << 55), Wrong(what: "RDTS", extendedSet: 1 << 60),
    Wrong(what: "FRCD_REG on VER_REG", clear: 0x3ff << 24),
    Wrong(what: "FRCD_REG on IVA_REG", extendedClear: 0x10 << 8),
  ]

  @Test(arguments: wrong)
  func `registers that contradict themselves are refused with a reason`(wrong: Wrong) throws {
    var configuration = RemappingUnitConfiguration.currentServer
    configuration.capability.rawValue = configuration.capability.rawValue & ~wrong.clear | wrong.set
    configuration.extendedCapability.rawValue =
      configuration.extendedCapability.rawValue & ~wrong.extendedClear | wrong.extendedSet
    let error = #expect(throws: RemappingUnitConfigurationError.self) {
      try configuration.validate()
    }
    #expect(error?.description.contains(wrong.what) == true, "\(error?.description ?? "")")
  }

  @Test func `a host has 32 to 52 bits`() {
    var configuration = RemappingUnitConfiguration.qemu
    for width in [0, 31, 53, 64] {
      configuration.hostAddressWidth = width
      #expect(throws: RemappingUnitConfigurationError.self) { try configuration.validate() }
    }
  }
}
