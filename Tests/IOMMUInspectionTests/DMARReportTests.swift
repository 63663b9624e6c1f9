import IOMMUFormats
import IOMMUInspection
import Testing

@Suite struct DMARReportTests {
  typealias Scope = VTd.DMAR.DeviceScope

  static let table = VTd.DMAR(
    header: ACPI.TableHeader(
      revision: 1, oemID: "EXAMPL", oemTableID: "VTDTABLE", creatorID: "TEST"),
    platform: VTd.DMAR.Platform(
      hostAddressWidth: 39, remapsInterrupts: true, optsIntoDMAProtection: true),
    structures: [
      .hardwareUnit(
        .init(
          base: PhysicalAddress(0xfed9_0000),
          scopes: [Scope(.endpoint, Requester("00:02.0")!)])),
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
          scopes: [
            Scope(
              .endpoint,
              path: [
                VTd.DMAR.PathStep(device: 0x1c, function: 4),
                VTd.DMAR.PathStep(device: 0, function: 0),
              ])
          ])),
      .rootPortATS(.allPorts()),
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
      .unknown(.init(type: VTd.DMAR.StructureType(rawValue: 9), body: [1, 2])),
    ])

  @Test func `a table is told structure by structure`() {
    var screen = ""
    DMARReport(Self.table).write(to: &screen)
    #expect(
      screen == """
        DMAR  (Intel VT-d 8.1)
        bytes     222, revision 1, checksum 0xf3
        made by   EXAMPL, VTDTABLE
        platform  host addresses of 39 bits, INTR_REMAP, DMA_CTRL_PLATFORM_OPT_IN

        byte  48  DRHD  24 bytes: unit at 0xfed90000, 4 KiB of registers, segment 0
        byte  64          endpoint 00:02.0
        byte  72  DRHD  32 bytes: unit at 0xfed91000, 4 KiB of registers, segment 0, all PCI devices that are listed nowhere else
        byte  88          I/O APIC 2 at f0:1f.7
        byte  96          HPET 0 at 00:1f.0
        byte 104  RMRR  34 bytes: memory 0x8b000000 to 0x8f7fffff, 72 MiB, segment 0
        byte 128          endpoint 00:1c.4 -> 00.0
        byte 138  ATSR  8 bytes: ATS below all root ports of segment 0
        byte 146  RHSA  20 bytes: unit at 0xfed91000 is near to memory node 0
        byte 166  ANDD  18 bytes: ACPI device 1 is \\_SB.I2C0
        byte 184  SATC  16 bytes: devices of segment 0 with a translation cache that they need
        byte 192          endpoint 6a:01.0
        byte 200  SIDP  16 bytes: properties of devices of segment 0
        byte 208          endpoint 00:02.0, REQ_WO_PASID_PWSNP_NOTALLOWED
        byte 216  type 9  6 bytes: a structure of a later revision, skipped

        """)
    #expect(DMARReport(Self.table).isWellFormed)
  }

  @Test func `complaints come after the structures`() {
    var table = Self.table
    table.structures.removeFirst(2)
    let report = DMARReport(table)
    #expect(!report.isWellFormed)
    var screen = ""
    report.write(to: &screen)
    #expect(
      screen.hasSuffix(
        """

        at byte 0x5a: RHSA: names a unit at 0xfed91000, and no DRHD does
        at byte 0x0: segment 0 has no DRHD

        """))
  }
}
