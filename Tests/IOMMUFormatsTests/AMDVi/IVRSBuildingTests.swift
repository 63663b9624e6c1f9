import IOMMUFormats
import IOMMUTestSupport
import Testing

@Suite struct IVRSBuildingTests {
  typealias IVRS = AMDVi.IVRS
  static let bytes = IVRSTests.hexadecimalBytes

  static func requester(_ text: String) -> Requester { Requester(text)! }

  /// Entries whose bytes were worked out by hand.
  static let entries: [(entries: [IVRS.DeviceEntry], bytes: String)] = [
    ([.select(requester("00:14.0"), IVRS.DeviceSettings(rawValue: 0xd7))], "02a000d7"),
    (
      IVRS.DeviceEntry.range(requester("01:00.0"), through: requester("01:1f.7")),
      "0300010004ff0100"
    ),
    ([.alias(requester("03:00.1"), carries: requester("03:00.0"))], "4201030000000300"),
    ([.select(requester("03:00.0"), isWithoutATS: true)], "4600030000000080"),
    ([.ioapic(0x21, carries: requester("00:14.0"))], "4800000021a00001"),
    ([.hpet(0, carries: requester("00:14.0"), .passesLINT1)], "4800008000a00002"),
    (
      [.acpi(requester("00:14.5"), hardwareID: "AMDI0020", path: "\\_SB.FUR0")],
      "f0a50000414d444930303230000000000000000002095c5f53422e46555230"
    ),
    ([.all(.passesNMI)], "01000004"), ([.padding], "00000000"),
    (
      IVRS.DeviceEntry.aliasRange(
        requester("ff:00.0"), through: requester("ff:1f.7"), carries: requester("00:14.5")),
      "4300ff0000a5000004ffff00"
    ),
    (
      IVRS.DeviceEntry.range(
        requester("00:01.0"), through: requester("00:02.0"), .forwardsManagement, isWithoutATS: true
      ),
      "470800100000008004100000"
    ),
  ]

  @Test(arguments: entries)
  func `entries have the bytes of the manual`(entries: [IVRS.DeviceEntry], bytes: String) throws {
    #expect(entries.flatMap(\.bytes) == Self.bytes(bytes))
    let unit = IVRS.Block(
      .acpiUnit, deviceID: Self.requester("00:00.2"), base: PhysicalAddress(0xfd30_0000),
      entries: entries)
    let table = IVRS(header: Self.header, info: Self.info, blocks: [unit])
    #expect(try IVRS(parsing: table.bytes) == table)
    #expect(table.findings == [])
    #expect(table.blocks[0].entries.map(\.bytes) == entries.map(\.bytes))
    #expect(table.blocks[0].entries.first?.offset == 88)
  }

  static let header = ACPI.TableHeader(
    revision: 2, oemID: "AMD", oemTableID: "AmdTable", creatorID: "AMD")
  static let info = IVRS.Info(
    physicalAddressWidth: 48, virtualAddressWidth: 64, guestWidthCode: 2, hasExtendedFeatures: true)

  @Test func `a whole table has the bytes of the manual`() throws {
    // Firmware pads with spaces and zeros, as it likes.
    let header = try IVRS(parsing: IVRSTests.small).header
    let unit = IVRS.Block(
      .unit, deviceID: Self.requester("00:00.2"), base: PhysicalAddress(0xfd30_0000),
      flags: [.hasDeviceTLBs, .isCoherent, .takesPageRequests], features: 0x8004_8f6f,
      entries: IVRS.DeviceEntry.range(
        Self.requester("00:00.3"), through: Self.requester("ff:1f.7"))
        + [.ioapic(0x21, carries: Self.requester("00:14.0"))])
    let memory = IVRS.Block(
      memory: PhysicalAddress(0x7e00_0000)..<PhysicalAddress(0x7e10_0000),
      for: .range(first: Self.requester("03:00.0"), last: Self.requester("03:1f.7")))
    let table = IVRS(header: header, info: Self.info, blocks: [unit, memory])
    #expect(table.bytes == IVRSTests.small)
    #expect(table.checksum == 0xca)
    #expect(table.byteCount == 120)
    #expect(try IVRS(parsing: table.bytes) == table)
  }

  @Test func `what is read comes out byte for byte`() throws {
    for bytes in [IVRSTests.small, IVRSTests.real] {
      #expect(try IVRS(parsing: bytes).bytes == bytes)
    }
  }

  @Test(
    arguments: [
      (.all, false, "2001200000000000"), (.one(requester("00:02.0")), true, "2108200010000000"),
    ] as [(IVRS.MemoryDevices, Bool, String)])
  func `memory is for all devices or for one`(
    devices: IVRS.MemoryDevices, isExclusion: Bool, start: String
  ) throws {
    let block = IVRS.Block(
      memory: PhysicalAddress(0x1000)..<PhysicalAddress(0x3000), for: devices, segment: 3,
      permissions: [], isExclusion: isExclusion)
    #expect(
      block.bytes
        == Self.bytes(start + "0300000000000000" + "0010000000000000" + "0020000000000000"))
    #expect(block.isExclusion == isExclusion)
    #expect(block.memory == PhysicalAddress(0x1000)..<PhysicalAddress(0x3000))
  }

  /// Extended features at their places, of both types that have them.
  @Test(arguments: [IVRS.BlockType.extendedUnit, .acpiUnit])
  func `a unit's registers are in its block`(type: IVRS.BlockType) {
    let block = IVRS.Block(
      type, deviceID: Self.requester("00:00.2"), base: PhysicalAddress(0xfe00_0000),
      segment: 1, flags: .isIsochronous, messageNumber: 3, features: 1,
      extendedFeatures: 0x2465_77ef_a225_4afa, moreExtendedFeatures: 8, entries: [])
    let number = type == .acpiUnit ? "40" : "11"
    #expect(
      block.bytes
        == Self.bytes(
          number + "08280002004000000000fe00000000" + "0100030001000000" + "fa4a25a2ef776524"
            + "0800000000000000"))
    #expect(block.flagNames == ["Isoc", "HATDis"])
  }
}
