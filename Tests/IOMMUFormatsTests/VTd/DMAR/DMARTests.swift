import IOMMUFormats
import Testing

/// Vectors: those of the manual's layouts, and a table of a real emulator.
@Suite struct DMARTests {
  /// Eight structures, one of each kind and a second unit.
  static let complete = hexdump(
    """
    444d4152de00000001fa4558414d504c5654445441424c45010000005445535401000000260500000000000000000000
    0000180000000000 0000d9fe00000000 0108000000000200
    0000200001000000 0010d9fe00000000 0308000002f01f07 0408000000001f00
    0100200000000000 0000008b00000000 ffff7f8f00000000 0108000000000200
    0200100000000000 0208000000001c00
    0300140000000000 0010d9fe00000000 00000000
    0400120000000001 5c5f53422e493243 3000
    0500100001000000 01080000006a0100
    0600100000000000 0108020000000200
    """.filter { !$0.isWhitespace })

  /// What QEMU 7.2 gives a q35 machine with intremap and device-iotlb.
  static let qemu = hexdump(
    """
    444d4152780000000115424f4348532042585043202020200100000042585043
    0100000026010000000000000000000000004000000000000000d9fe00000000
    0308000000ff0000010800000000000001080000000001000108000000001f00
    0108000000001f020108000000001f030200080001000000
    """.filter { !$0.isWhitespace })

  /// The manual's own example of a platform, section 8.3.1.4:
  /// two units with scopes, one for all else, and devices that need their caches.
  static let manual = hexdump(
    """
    444d41529800000001194558414d504c5654445441424c45010000005445535401000000260000000000000000000000
    0000200000000000 0000d0fe00000000 0108000000000400 0108000000000500
    0000180000000000 0010d0fe00000000 0208000000000700
    0000200001000000 0020d0fe00000000 0308000000001f07 0408000000001f06
    0500100001000000 0108000000000500
    """.filter { !$0.isWhitespace })

  typealias Scope = VTd.DMAR.DeviceScope

  static let header = ACPI.TableHeader(
    revision: 1, oemID: "EXAMPL", oemTableID: "VTDTABLE", creatorID: "TEST")

  /// The complete table, put together.
  static let built = VTd.DMAR(
    header: header,
    platform: VTd.DMAR.Platform(
      hostAddressWidth: 39, remapsInterrupts: true, optsIntoDMAProtection: true),
    structures: [
      .hardwareUnit(
        .init(base: PhysicalAddress(0xfed9_0000), scopes: [Scope(.endpoint, graphics)])),
      .hardwareUnit(
        .init(
          base: PhysicalAddress(0xfed9_1000), includesAllPCI: true,
          scopes: [
            Scope(.ioapic, Requester("f0:1f.7")!, enumerationID: 2),
            Scope(.hpet, Requester("00:1f.0")!),
          ])),
      .reservedMemory(
        .init(
          PhysicalAddress(0x8b00_0000)..<PhysicalAddress(0x8f80_0000),
          scopes: [Scope(.endpoint, graphics)])),
      .rootPortATS(.init(scopes: [Scope(.subHierarchy, Requester("00:1c.0")!)])),
      .hardwareAffinity(.init(base: PhysicalAddress(0xfed9_1000), proximityDomain: 0)),
      .namespaceDevice(.init(number: 1, name: "\\_SB.I2C0")),
      .integratedATC(
        .init(isRequired: true, scopes: [Scope(.endpoint, Requester("6a:01.0")!)])),
      .integratedProperties(
        .init(scopes: [
          Scope(
            .endpoint, flags: .walkSnoopNotAllowed,
            path: [VTd.DMAR.PathStep(device: 2, function: 0)])
        ])),
    ])
  static let graphics = Requester("00:02.0")!

  @Test func `a table put together is these bytes`() {
    #expect(Self.complete.count == 222)
    #expect(Self.built.bytes == Self.complete)
    #expect(Self.built.findings == [])
  }

  @Test func `a table read is what was put together`() throws {
    #expect(try VTd.DMAR(parsing: Self.complete) == Self.built)
  }

  @Test(arguments: [complete, qemu, manual])
  func `what is read comes out byte for byte`(bytes: [UInt8]) throws {
    #expect(bytes.reduce(0, &+) == 0)
    let table = try VTd.DMAR(parsing: bytes)
    #expect(table.bytes == bytes)
    #expect(table.findings == [])
  }

  @Test func `structures start where the table has them`() throws {
    #expect(Self.built.placedStructures.map(\.offset) == [48, 72, 104, 136, 152, 172, 190, 206])
    #expect(Self.built.structures.map(\.byteCount) == [24, 32, 32, 16, 20, 18, 16, 16])
    // The manual's running text puts the SATC at 128; its table, at 136, is right.
    let table = try VTd.DMAR(parsing: Self.manual)
    #expect(table.placedStructures.map(\.offset) == [48, 80, 104, 136])
    #expect(table.structures.map(\.type.mnemonic) == ["DRHD", "DRHD", "DRHD", "SATC"])
    #expect(table.hardwareUnits.map(\.includesAllPCI) == [false, false, true])
    guard case .integratedATC(let devices) = table.structures[3] else {
      Issue.record("no SATC")
      return
    }
    #expect(devices.isRequired)
    #expect(devices.scopes == [Scope(.endpoint, Requester("00:05.0")!)])
  }

  @Test func `QEMU's table names an I/O APIC and five devices`() throws {
    let table = try VTd.DMAR(parsing: Self.qemu)
    #expect(table.platform.hostAddressWidth == 39)
    #expect(table.platform.remapsInterrupts)
    #expect(!table.platform.optsOutOfX2APIC)
    #expect(!table.platform.optsIntoDMAProtection)
    let unit = try #require(table.hardwareUnits.first)
    #expect(unit.base == PhysicalAddress(0xfed9_0000))
    #expect(!unit.includesAllPCI)
    #expect(unit.registerByteCount == 4096)
    #expect(
      unit.scopes == [
        Scope(.ioapic, Requester("ff:00.0")!), Scope(.endpoint, Requester("00:00.0")!),
        Scope(.endpoint, Requester("00:01.0")!), Scope(.endpoint, Requester("00:1f.0")!),
        Scope(.endpoint, Requester("00:1f.2")!), Scope(.endpoint, Requester("00:1f.3")!),
      ])
    #expect(table.structures.last == .rootPortATS(.allPorts()))
    #expect(String(decoding: table.header.oemID, as: UTF8.self) == "BOCHS ")
    #expect(table.header.creatorRevision == 1)
  }

  static let scopes: [(Scope, String)] = [
    (Scope(.endpoint, Requester("00:04.0")!), "0108000000000400"),
    (Scope(.subHierarchy, Requester("00:1c.0")!), "0208000000001c00"),
    (
      Scope(
        .endpoint,
        path: [
          VTd.DMAR.PathStep(device: 0x1c, function: 4), VTd.DMAR.PathStep(device: 0, function: 0),
          VTd.DMAR.PathStep(device: 3, function: 1),
        ]), "010c000000001c0400000301"
    ),
    (Scope(.ioapic, Requester("f0:1f.7")!, enumerationID: 2), "0308000002f01f07"),
    (Scope(.hpet, Requester("00:1f.0")!), "0408000000001f00"),
    (
      Scope(.namespaceDevice, Requester("00:15.0")!, enumerationID: 1), "0508000001001500"
    ),
  ]

  @Test(arguments: scopes)
  func `a device scope is these bytes`(scope: Scope, bytes: String) {
    #expect(scope.bytes == hexdump(bytes))
    #expect(scope.byteCount == bytes.count / 2)
    #expect(scope.violations.isEmpty)
  }

  @Test func `a structure of an unknown type is kept and skipped by its length`() throws {
    let unknown = VTd.DMAR.UnknownStructure(
      type: VTd.DMAR.StructureType(rawValue: 0x1234), body: [1, 2, 3])
    var table = Self.built
    table.structures.insert(.unknown(unknown), at: 2)
    #expect(table.bytes[104..<111] == [0x34, 0x12, 0x07, 0x00, 1, 2, 3])
    let read = try VTd.DMAR(parsing: table.bytes)
    #expect(read == table)
    #expect(read.placedStructures.map(\.offset) == [48, 72, 104, 111, 143, 159, 179, 197, 213])
    #expect(read.structures[2].type.mnemonic == "type 4660")
  }

  @Test func `reserved fields come out as they were read`() throws {
    var bytes = Self.complete
    for offset in [37, 40, 47, 48 + 4, 48 + 5, 104 + 4, 136 + 5, 152 + 7, 172 + 4, 206 + 11, 217] {
      bytes[offset] |= 0xa0
    }
    bytes[9] = bytes[9] &- bytes.reduce(0, &+)
    let table = try VTd.DMAR(parsing: bytes)
    #expect(table.bytes == bytes)
    #expect(!table.findings.isEmpty)
  }

  @Test func `bytes after the table are not its own`() throws {
    #expect(try VTd.DMAR(parsing: Self.complete + [1, 2, 3]) == Self.built)
  }

  @Test func `a size of N means 2^N pages of registers`() {
    let unit = VTd.DMAR.HardwareUnit(base: PhysicalAddress(0x1_0000), pageCountLog2: 3)
    #expect(unit.registerByteCount == 32_768)
    #expect(VTd.DMAR.Structure.hardwareUnit(unit).bytes[5] == 3)
  }

  @Test func `a reserved region ends with its limit`() throws {
    let table = try VTd.DMAR(parsing: Self.complete)
    let region = try #require(table.reservedMemoryRegions.first)
    #expect(region.limit == PhysicalAddress(0x8f7f_ffff))
    #expect(region.memory == PhysicalAddress(0x8b00_0000)..<PhysicalAddress(0x8f80_0000))
  }
}
