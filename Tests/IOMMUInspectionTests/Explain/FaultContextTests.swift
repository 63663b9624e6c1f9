import IOMMUFormats
import IOMMUInspection
import IOMMUTestSupport
import Testing

@Suite struct FaultContextTests {
  /// A unit with a graphics device, one with all else, and memory that the graphics device keeps.
  static let dmar = VTd.DMAR(
    header: ACPI.TableHeader(
      revision: 1, oemID: "EXAMPL", oemTableID: "VTDTABLE", creatorID: "TEST"),
    platform: VTd.DMAR.Platform(hostAddressWidth: 39),
    structures: [
      .hardwareUnit(
        VTd.DMAR.HardwareUnit(
          base: PhysicalAddress(0xfed9_0000),
          scopes: [VTd.DMAR.DeviceScope(.endpoint, Requester("00:02.0")!)])),
      .hardwareUnit(
        VTd.DMAR.HardwareUnit(
          base: PhysicalAddress(0xfed9_1000), includesAllPCI: true,
          scopes: [
            VTd.DMAR.DeviceScope(.ioapic, Requester("f0:1f.0")!, enumerationID: 2),
            VTd.DMAR.DeviceScope(.hpet, Requester("00:1e.6")!),
            VTd.DMAR.DeviceScope(.subHierarchy, Requester("00:1c.4")!),
            VTd.DMAR.DeviceScope(.namespaceDevice, Requester("00:15.1")!, enumerationID: 1),
          ])),
      .namespaceDevice(VTd.DMAR.NamespaceDevice(number: 1, name: "\\_SB.I2C1")),
      .reservedMemory(
        VTd.DMAR.ReservedMemoryRegion(
          PhysicalAddress(0x7b80_0000)..<PhysicalAddress(0x8000_0000),
          scopes: [VTd.DMAR.DeviceScope(.endpoint, Requester("00:02.0")!)])),
    ])

  func hints(_ line: String, _ change: (inout FaultContext) -> Void) throws -> [String] {
    var context = FaultContext()
    change(&context)
    var explanation = FaultExplanation(try #require(log(line).faults.first))
    context.complete(&explanation)
    return explanation.hints
  }

  @Test(arguments: [
    ("00:1e.6", "1000", ["firmware: 00:1e.6 is HPET 0, a timer, behind the unit at 0xfed91000"]),
    ("f0:1f.0", "1000", ["firmware: f0:1f.0 is I/O APIC 2, behind the unit at 0xfed91000"]),
    (
      "00:1c.4", "1000",
      [
        "firmware: 00:1c.4 is a bridge; requests of conventional PCI devices behind it carry its "
          + "number, behind the unit at 0xfed91000"
      ]
    ),
    (
      "00:15.1", "1000",
      ["firmware: 00:15.1 is ACPI device \\_SB.I2C1, behind the unit at 0xfed91000"]
    ),
    (
      "00:02.0", "7b801000",
      [
        "firmware: 00:02.0 is a PCI device, behind the unit at 0xfed90000",
        "the number lies in 0x7b800000..<0x80000000, which firmware reserves for this device (RMRR): "
          + "it has to stay mapped to itself",
      ]
    ),
    (
      "00:14.0", "7fffffff",
      [
        "firmware does not list 00:14.0: the unit at 0xfed91000 has all that is listed nowhere",
        "the number lies in 0x7b800000..<0x80000000, which firmware reserves for 00:02.0 (RMRR)",
      ]
    ),
    (
      "05:00.0", "80000000",
      [
        "firmware does not list 05:00.0 itself; it may be behind a bridge that it lists: 00:1c.4 (unit "
          + "at 0xfed91000)",
        "firmware does not list 05:00.0, and otherwise the unit at 0xfed91000 has all that is listed "
          + "nowhere",
      ]
    ),
    ("0001:00:02.0", "1000", ["firmware lists no unit for PCI segment 0x1"]),
  ])
  func `firmware's table says what a device is`(
    device: String, address: String, hints: [String]
  ) throws {
    let line =
      "DMAR: [DMA Write] Request device [\(device)] fault addr \(address) [fault reason 05] x"
    #expect(try self.hints(line) { $0.firmware = Self.dmar } == hints)
  }

  @Test(arguments: [
    ("00:1e.6", "1000", ["firmware: 00:1e.6 is HPET 0, a timer, behind the unit at 0xfed91000"]),
    (
      "00:14.0", "7fffffff",
      [
        "what there is of firmware's table does not list 00:14.0; the missing part may, and otherwise "
          + "the unit at 0xfed91000 has all that is listed nowhere",
        "the number lies in 0x7b800000..<0x80000000, which firmware reserves for 00:02.0 and perhaps "
          + "others (RMRR)",
      ]
    ),
    (
      "0001:00:02.0", "1000",
      [
        "what there is of firmware's table lists no unit for PCI segment 0x1; the missing part may"
      ]
    ),
  ])
  func `what is not in a part of firmware's table is not known`(
    device: String, address: String, hints: [String]
  ) throws {
    let line =
      "DMAR: [DMA Write] Request device [\(device)] fault addr \(address) [fault reason 05] x"
    #expect(
      try self.hints(line) {
        $0.firmware = Self.dmar
        $0.firmwareIsWhole = false
      } == hints)
  }

  static let iomem = """
    00001000-0009fbff : System RAM
    00100000-7ffdffff : System RAM
      01000000-01dfffff : Kernel code
    7ffe0000-7fffffff : Reserved
    c0000000-febfffff : PCI Bus 0000:00
      fe800000-fe803fff : 0000:00:03.0
        fe800000-fe800fff : nvme
    """

  @Test(arguments: [
    ("1000", "System RAM: perhaps one that was never mapped"),
    ("1000fff", "System RAM, in it Kernel code: perhaps one that was never mapped"),
    (
      "7ffe0000",
      "Reserved: memory of firmware, which devices may still use that firmware has started"
    ),
    ("fe800010", "PCI Bus 0000:00, in it 0000:00:03.0, in it nvme"),
    ("9fc00", "nothing that the kernel lists"),
    ("ffffffffffffffff", "nothing that the kernel lists"),
  ])
  func `the kernel's list says what is at a number`(address: String, what: String) throws {
    let line =
      "DMAR: [DMA Write] Request device [00:03.0] fault addr \(address) [fault reason 05] x"
    #expect(
      try hints(line) { $0.resources = ResourceMap(Self.iomem) } == [
        "as a physical address the number is \(what)"
      ])
  }

  @Test func `an address of the unit's own is looked up as what it is`() throws {
    let line = "AMD-Vi: Event logged [IOTLB_INV_TIMEOUT device=2f:00.0 address=0x1000000]"
    #expect(
      try hints(line) { $0.resources = ResourceMap(Self.iomem) } == [
        "at this address is System RAM, in it Kernel code"
      ])
    let interrupt =
      "DMAR: [INTR-REMAP] Request device [00:1f.0] fault index 0x1 [fault reason 0x22] x"
    #expect(try hints(interrupt) { $0.resources = ResourceMap(Self.iomem) } == [])
  }

  @Test func `lines that are no ranges are passed over`() {
    let map = ResourceMap(
      "nothing\n1-0 : backwards\n0-ffffffffffffffff : all\n: x\n 5 : y\n\u{0}\n")
    #expect(map.entries.isEmpty)
    #expect(!ResourceMap("00000000-00000000 : System RAM").hasAddresses)
  }

  /// A unit 00:00.2 with 00:00.3 to ff:1f.7 behind it, I/O APIC 33 as 00:14.0, 03:00.0 also as the number
  /// that 03:00.1 to 03:1f.7 send with, and memory of those.
  static let ivrs: [UInt8] = {
    let entries: [UInt8] =
      [3, 3, 0, 0, 4, 0xff, 0xff, 0] + [0x48, 0, 0, 0, 0x21, 0xa0, 0, 1]
      + [0x43, 1, 3, 0, 0, 0, 3, 0, 4, 0xff, 3, 0]
    let unit: [UInt8] =
      [0x10, 0, 52, 0, 2, 0, 0x40, 0, 0, 0, 0x30, 0xfd] + [UInt8](repeating: 0, count: 12)
    let memory: [UInt8] =
      [0x22, 7, 32, 0, 0, 3, 0xff, 3] + [UInt8](repeating: 0, count: 8)
      + [0, 0, 0, 0x7e, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0]
    return ACPI.TableHeader(
      revision: 2, oemID: "EXAMPL", oemTableID: "TABLE", creatorID: "TEST"
    ).table(signature: "IVRS", body: [UInt8](repeating: 0, count: 12) + unit + entries + memory)
  }()

  @Test(
    arguments: [
      (
        "00:14.0", "0x1000",
        ["firmware: 00:14.0 is I/O APIC 33, behind the unit 00:00.2 at 0xfd300000"]
      ),
      (
        "03:00.0", "0x7e000040",
        [
          "firmware: requests of 03:00.1 to 03:1f.7 carry this number, behind the unit 00:00.2 at "
            + "0xfd300000",
          "the number lies in 0x7e000000..<0x7e100000, which firmware reserves for this device (IVMD): "
            + "it has to stay mapped to itself",
        ]
      ),
      ("05:00.0", "0x1000", ["firmware: 05:00.0 is behind the unit 00:00.2 at 0xfd300000"]),
      ("00:00.0", "0x1000", ["firmware lists 00:00.0 behind no unit"]),
    ] as [(String, String, [String])])
  func `the table of AMD-Vi units says who a device is`(
    device: String, iova: String, expected: [String]
  ) throws {
    let table = try AMDVi.IVRS(parsing: Self.ivrs)
    let hints = try hints(
      "AMD-Vi: Event logged [IO_PAGE_FAULT device=\(device) domain=0x0001 address=\(iova) flags=0x0020]"
    ) { $0.ivrs = table }
    #expect(expected.allSatisfy(hints.contains), "\(hints)")
  }

  /// The table ends behind the start of the range, behind the range, and in the entry of 03:00.1.
  @Test(
    arguments: [
      (
        76, "05:00.0",
        "what there is of firmware's table lists 05:00.0 behind no unit; the missing part may"
      ),
      (80, "05:00.0", "firmware: 05:00.0 is behind the unit 00:00.2 at 0xfd300000"),
      (95, "00:14.0", "firmware: 00:14.0 is I/O APIC 33, behind the unit 00:00.2 at 0xfd300000"),
      (
        71, "05:00.0",
        "what there is of firmware's table lists no unit for PCI segment 0x0; the missing part may"
      ),
    ] as [(Int, String, String)])
  func `what a cut table of AMD-Vi units may say is not known`(
    count: Int, device: String, expected: String
  ) throws {
    let table = try AMDVi.IVRS(parsing: Array(Self.ivrs.prefix(count)))
    let hints = try hints(
      "AMD-Vi: Event logged [IO_PAGE_FAULT device=\(device) domain=0x0001 address=0x1000 flags=0x0020]"
    ) { $0.ivrs = table }
    #expect(hints.contains(expected), "\(hints)")
  }
}
