import IOMMUFormats
import Testing

/// A unit with both large page sizes, and the rest as asked for.
func limits(
  hostAddressWidth: Int, domainIDBits: Int = 16, has2MiBPages: Bool = true,
  has1GiBPages: Bool = true, hasSnoopControl: Bool = false
) -> VTd.Limits {
  VTd.Limits(
    hostAddressWidth: hostAddressWidth, maximumGuestAddressWidth: 57, supportedWidths: 0b1110,
    has2MiBPages: has2MiBPages, has1GiBPages: has1GiBPages, domainIDBits: domainIDBits,
    hasSnoopControl: hasSnoopControl, hasPassThrough: true, hasDeviceTLBs: false,
    hasTransientMappings: false)
}

@Suite struct LimitsTests {
  struct Unit: Sendable, CustomTestStringConvertible {
    var name: String
    var capability: UInt64
    var extendedCapability: UInt64
    var domainIDBits: Int
    var supportedWidths: UInt8
    var guestAddressWidth: Int
    var faultRecordOffset: UInt64
    var mamv: UInt64
    /// QI, DT, IR, EIM, PT, SC: those that the unit has.
    var has: Set<String>
    var features: VTd.Features = []
    var pasidBits = 1
    var testDescription: String { name }
  }

  /// The registers of real units and of QEMU, with what they mean.
  static let units = [
    Unit(
      name: "QEMU 7.2, 39 bits", capability: 0x00d2_008c_2226_0206, extendedCapability: 0xf0_0f4a,
      domainIDBits: 16, supportedWidths: 0b00010, guestAddressWidth: 39, faultRecordOffset: 0x220,
      mamv: 18, has: ["QI", "IR", "PT"]),
    Unit(
      name: "QEMU 7.2, 48 bits", capability: 0x00d2_008c_222f_0606, extendedCapability: 0xf0_0f4a,
      domainIDBits: 16, supportedWidths: 0b00110, guestAddressWidth: 48, faultRecordOffset: 0x220,
      mamv: 18, has: ["QI", "IR", "PT"]),
    Unit(
      name: "QEMU 7.2, scalable", capability: 0x00d2_008c_222f_0606,
      extendedCapability: 0x4900_80f0_0f4a, domainIDBits: 16, supportedWidths: 0b00110,
      guestAddressWidth: 48, faultRecordOffset: 0x220, mamv: 18, has: ["QI", "IR", "PT"],
      features: [.scalableMode, .secondStage, .pasids, .supervisorRequests]),
    Unit(
      name: "client, no graphics", capability: 0x00d2_008c_4066_0462,
      extendedCapability: 0xf0_50da, domainIDBits: 8, supportedWidths: 0b00100,
      guestAddressWidth: 39, faultRecordOffset: 0x400, mamv: 18,
      has: ["QI", "IR", "EIM", "PT", "SC"], features: .zeroLengthReads),
    Unit(
      name: "client, graphics", capability: 0x01c0_000c_4066_0462,
      extendedCapability: 0x19e_2ff0_505e, domainIDBits: 8, supportedWidths: 0b00100,
      guestAddressWidth: 39, faultRecordOffset: 0x400, mamv: 0,
      has: ["QI", "DT", "IR", "EIM", "PT"],
      features: [
        .zeroLengthReads, .firstStage1GiBPages, .memoryTypes, .nesting, .pageRequests,
        .noWriteFlag, .extendedAccessedBits, .pasids,
      ], pasidBits: 20),
    Unit(
      name: "server", capability: 0x08ed_008c_4078_0466, extendedCapability: 0x600_00f0_50df,
      domainIDBits: 16, supportedWidths: 0b00100, guestAddressWidth: 57, faultRecordOffset: 0x400,
      mamv: 45, has: ["C", "QI", "DT", "IR", "EIM", "PT", "SC"],
      features: [.zeroLengthReads, .postedInterrupts]),
  ]

  @Test(arguments: units)
  func `capability registers become limits`(unit: Unit) {
    let limits = VTd.Limits(
      capability: VTd.Capability(rawValue: unit.capability),
      extendedCapability: VTd.ExtendedCapability(rawValue: unit.extendedCapability))
    #expect(limits.domainIDBits == unit.domainIDBits)
    #expect(limits.supportedWidths == unit.supportedWidths)
    #expect(limits.maximumGuestAddressWidth == unit.guestAddressWidth)
    #expect(limits.hostAddressWidth == min(52, unit.guestAddressWidth))
    #expect(limits.has2MiBPages && limits.has1GiBPages)
    #expect(limits.hasPassThrough)
    #expect(limits.hasDeviceTLBs == unit.has.contains("DT"))
    #expect(limits.hasSnoopControl == unit.has.contains("SC"))
    #expect(limits.features == unit.features)
    #expect(limits.pasidBits == unit.pasidBits)
  }

  @Test(arguments: units)
  func `capability fields lie where the manual has them`(unit: Unit) {
    let capability = VTd.Capability(rawValue: unit.capability)
    func value(_ name: String) -> UInt64 {
      capability[VTd.Capability.field(name, OnlyVariant())]
    }
    #expect(value("FRO") * 16 == unit.faultRecordOffset)
    #expect(value("NFR") == 0)
    #expect(value("MAMV") == unit.mamv)
    #expect(value("SSLPS") == 3)
    #expect(value("CM") == 0)
    let extended = VTd.ExtendedCapability(rawValue: unit.extendedCapability)
    for name in ["C", "QI", "DT", "IR", "EIM", "PT", "SC"] {
      let field = VTd.ExtendedCapability.field(name, OnlyVariant())
      #expect(extended[field] == (unit.has.contains(name) ? 1 : 0), "\(name)")
    }
    #expect(extended[VTd.ExtendedCapability.field("MHMV", OnlyVariant())] == 15)
  }

  @Test func `the DMAR table's width goes before the guess`() {
    let limits = VTd.Limits(
      capability: VTd.Capability(rawValue: 0x00d2_008c_2226_0206),
      extendedCapability: VTd.ExtendedCapability(rawValue: 0xf0_0f4a), hostAddressWidth: 46)
    #expect(limits.hostAddressWidth == 46)
    #expect(limits.maximumGuestAddressWidth == 39)
  }

  @Test func `only widths of three to five levels that SAGAW names are supported`() {
    var limits = VTd.Limits.permissive
    #expect((0...8).filter { limits.supports(levels: $0) } == [3, 4, 5])
    limits.supportedWidths = 0b00010
    #expect((0...8).filter { limits.supports(levels: $0) } == [3])
    limits.supportedWidths = 0b11111
    #expect((0...8).filter { limits.supports(levels: $0) } == [3, 4, 5])
    limits.supportedWidths = 0
    #expect((0...8).filter { limits.supports(levels: $0) } == [])
  }

  @Test func `a capability made for given tables reads back as them`() {
    let capability = VTd.Capability(
      levels: 3...4, guestAddressWidth: 48, has2MiBPages: true, has1GiBPages: false)
    let limits = VTd.Limits(
      capability: capability, extendedCapability: VTd.ExtendedCapability(rawValue: 0))
    #expect(limits.supportedWidths == 0b00110)
    #expect(limits.maximumGuestAddressWidth == 48)
    #expect(limits.domainIDBits == 16)
    #expect(limits.has2MiBPages && !limits.has1GiBPages)
    #expect(!limits.hasPassThrough && !limits.hasSnoopControl && !limits.hasDeviceTLBs)
  }

  /// Feature by feature, the bit of CAP_REG or ECAP_REG that says it.
  static let bits: [(feature: VTd.Features, isExtended: Bool, bit: UInt64)] = [
    (.zeroLengthReads, false, 22), (.firstStage1GiBPages, false, 56),
    (.fiveLevelFirstStage, false, 60), (.memoryTypes, true, 25), (.nesting, true, 26),
    (.pageRequests, true, 29), (.executeRequests, true, 30), (.supervisorRequests, true, 31),
    (.noWriteFlag, true, 33), (.extendedAccessedBits, true, 34), (.pasids, true, 40),
    (.scalableMode, true, 43), (.secondStageAccessedBits, true, 45), (.secondStage, true, 46),
    (.firstStage, true, 47), (.walkSnoop, true, 48), (.requesterPASID, true, 49),
    (.abortDMA, true, 52), (.requesterPrivilege, true, 53), (.permissionTables, true, 55),
    (.translatedRequestPASIDs, true, 56), (.secondStageIOPermissions, true, 57),
    (.postedInterrupts, false, 59), (.requiredExtendedInterrupts, true, 61),
    (.requiredInterruptRemapping, true, 62),
  ]

  @Test(arguments: bits.indices)
  func `a feature is one register bit, read and written`(index: Int) {
    let (feature, isExtended, bit) = Self.bits[index]
    let word: UInt64 = 1 << bit
    var limits = VTd.Limits(
      capability: VTd.Capability(rawValue: isExtended ? 0 : word),
      extendedCapability: VTd.ExtendedCapability(rawValue: isExtended ? word : 0))
    #expect(limits.features == feature)
    limits.supportedWidths = 0
    let written = isExtended ? limits.extendedCapability.rawValue : limits.capability.rawValue
    #expect(written & word != 0)
  }

  @Test func `every feature has its bit, and those that let something pass are all`() {
    let demands: VTd.Features = [.requiredExtendedInterrupts, .requiredInterruptRemapping]
    #expect(
      Self.bits.reduce(into: VTd.Features()) { $0.insert($1.feature) } == .all.union(demands))
    #expect(VTd.Features.all.isDisjoint(with: demands))
    #expect(VTd.Limits.permissive.features == .all)
    #expect(
      VTd.Limits(
        capability: VTd.Limits.permissive.capability,
        extendedCapability: VTd.Limits.permissive.extendedCapability
      ).features == .all)
  }

  @Test(arguments: seeds)
  func `any register value whatever gives limits and layouts`(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    for _ in 0..<300 {
      let limits = VTd.Limits(
        capability: VTd.Capability(rawValue: generator.next()),
        extendedCapability: VTd.ExtendedCapability(rawValue: generator.next()))
      #expect(VTd.ContextEntry.reservedMasks(limits).high & 0xf80 == 0x80)
      for level in 1...5 {
        _ = VTd.SecondStageEntry.reservedMasks(.init(level: level, isLeaf: true, limits: limits))
      }
    }
  }
}
