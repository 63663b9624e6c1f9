import FoundationEssentials
import IOMMUFormats
import IOMMUInspection
import IOMMUTestSupport
import IOMMUTranslation
import Testing

/// What is printed of the interrupt tables of AMD-Vi.
@Suite struct AMDViInterruptReportTests {
  /// A device table of 128 entries at 0x100000: 00:03.0 and 00:03.1 share a table of 512 entries at
  /// 0x380000, 00:04.0 has one of 32 at 0x390000, interrupts of 00:05.0 are stopped, those of others pass.
  private static func memory() throws -> FlatMemory {
    let memory = try FlatMemory(byteCount: 4 << 20)
    for (device, word) in [
      (0x18, 0x2000_0000_0038_0013), (0x19, 0x2000_0000_0038_0013),
      (0x20, 0x2000_0000_0039_000b), (0x28, 1),
    ] as [(UInt64, UInt64)] {
      memory.store(word, at: PhysicalAddress(0x10_0010 + 32 * device))
    }
    return memory
  }

  private static func machine(control: UInt64?) -> Machine {
    Machine(
      name: "",
      units: [
        .amdvi(
          AMDVi.Unit(
            base: PhysicalAddress(0xfed8_0000),
            deviceTable: AMDVi.DeviceTableBase(rawValue: 0x10_0000),
            control: control.map { AMDVi.Control(rawValue: $0) }))
      ], ram: [PhysicalAddress(0)..<PhysicalAddress(1 << 30)])
  }

  private static func text(_ report: InterruptReport) -> String {
    var screen = ""
    report.writeText(to: &screen)
    return screen
  }

  /// IommuEn: vectors X1 and X2 of entries of 32 bits.
  @Test func `entries of 32 bits are listed, a shared table once`() throws {
    let memory = try Self.memory()
    memory.store(0x0031_0f41 as UInt32, at: PhysicalAddress(0x38_0000))
    memory.store(0x0041_0205 as UInt32, at: PhysicalAddress(0x38_07fc))
    // IntType 2.
    memory.store(0x0041_0209 as UInt32, at: PhysicalAddress(0x39_0004))
    let report = InterruptReport(Self.machine(control: 1), in: memory)
    #expect(!report.isUnknown)
    #expect(
      Self.text(report) == """
        AMD-Vi unit at 0xfed80000, interrupts of 00:03.0 to 00:03.1
          interrupt remapping table 0x380000, 512 entries, 2 in use
          0x0    vector 0x31 to APIC id 0xf, fixed, logical
          0x1ff  vector 0x41 to APIC id 0x2, lowest priority, physical

        AMD-Vi unit at 0xfed80000, interrupts of 00:04.0
          interrupt remapping table 0x390000, 32 entries, 1 in use
          0x1  vector 0x41 to APIC id 0x2, undefined delivery mode, physical, IntType is 2, and the most is 1

        """)
    var screen = ""
    report.writeTSV(to: &screen)
    let unit = "AMD-Vi unit at 0xfed80000"
    #expect(
      screen == """
        #unit\tindex\tsource\tvector\tdestination\tmode\tdelivery\ttrigger\thint\tposted\traw\tguest_tag
        \(unit)\t0x0\t00:03.0 to 00:03.1\t0x31\t0xf\tlogical\tfixed\t-\t-\t-\t0x00310f41\t-
        \(unit)\t0x1ff\t00:03.0 to 00:03.1\t0x41\t0x2\tphysical\tlowest priority\t-\t-\t-\t0x00410205\t-
        \(unit)\t0x1\t00:04.0\tfault:0x2\t-\t-\t-\t-\t-\t-\t0x00410209\t-

        """)
  }

  /// IommuEn, GAEn, GAMEn, XTEn: vectors X3 and X4 of entries of 128 bits.
  @Test func `entries of 128 bits are listed, and those of guests`() throws {
    let memory = try Self.memory()
    func store(_ low: UInt64, _ high: UInt64, _ address: UInt64) {
      memory.store(low, at: PhysicalAddress(address))
      memory.store(high, at: PhysicalAddress(address + 8))
    }
    store(0x0000_0000_3456_7801, 0x1200_0000_0000_0031, 0x38_0000)
    store(0x0000_cafe_0000_03c5, 0x0000_0000_9abc_d055, 0x38_0250)
    let report = InterruptReport(
      Self.machine(control: 0x4_0000_0202_0001 | 1 << 50), in: memory)
    #expect(
      Self.text(report) == """
        AMD-Vi unit at 0xfed80000, interrupts of 00:03.0 to 00:03.1
          interrupt remapping table 0x380000, 512 entries, 2 in use
          0x0   vector 0x31 to APIC id 0x12345678, fixed, physical
          0x25  vector 0x55 of the guest with tag 0xcafe, virtual APIC at 0x9abcd000, running on APIC id 0x3, logged while it does not run

        AMD-Vi unit at 0xfed80000, interrupts of 00:04.0
          interrupt remapping table 0x390000, 32 entries, none in use

        """)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    let json = String(decoding: try encoder.encode(report), as: UTF8.self)
    #expect(
      json.hasPrefix(
        #"{"units":[{"compatibility":"blocked","devices":["00:03.0 to 00:03.1"],"entries":512,"#
          + #""interrupts":[{"address":"0x380000","delivery":"fixed","destination":"0x12345678","#))
    #expect(
      json.contains(
        #"{"address":"0x380250","destination":"0x3","guest_logged":true,"guest_runs":true,"#
          + #""guest_tag":"0xcafe","index":"0x25","#))
    #expect(json.contains(#""posted":"0x9abcd000","#))
  }

  /// What a hexdump says of the entry at an address: its words, and each field that is not reserved.
  private static func annotations(
    _ annotator: Annotator, at address: UInt64, in memory: FlatMemory
  ) -> [String] {
    annotator.entries(at: PhysicalAddress(address), in: memory).flatMap { annotation in
      [annotation.text]
        + annotation.entry.fields.filter { $0.use != "reserved" }.map {
          "\($0.bits) \($0.name) 0x" + String($0.value, radix: 16)
        }
    }
  }

  @Test func `a hexdump names entries of 32 bits, field by field`() throws {
    let memory = try Self.memory()
    memory.store(0x0031_0f41 as UInt32, at: PhysicalAddress(0x38_0000))
    memory.store(0x0041_0209 as UInt32, at: PhysicalAddress(0x39_0004))
    memory.store(0x0041_0202 as UInt32, at: PhysicalAddress(0x38_07fc))
    // Behind the last entry of 00:04.0's table.
    memory.store(0x0041_0201 as UInt32, at: PhysicalAddress(0x39_0080))
    let annotator = Annotator(Self.machine(control: 1), in: memory)
    #expect(
      Self.annotations(annotator, at: 0x38_0003, in: memory) == [
        "interrupt entry 0x0 of 00:03.0 and 1 more: vector 0x31 to APIC id 0xf, fixed, logical",
        "23:16 Vector 0x31", "15:8 Destination 0xf", "7 GuestMode 0x0", "6 DM 0x1", "5 RqEoi 0x0",
        "4:2 IntType 0x0", "1 SupIOPF 0x0", "0 RemapEn 0x1",
      ])
    var screen = ""
    annotator.writeHexdump(
      PhysicalAddress(0x39_0000)..<PhysicalAddress(0x39_0090), of: memory, to: &screen)
    #expect(
      screen == """
        00390000  00 00 00 00 09 02 41 00  00 00 00 00 00 00 00 00  |......A.........|
                              interrupt entry 0x1 of 00:04.0: vector 0x41 to APIC id 0x2, undefined \
        delivery mode, physical, IntType is 2, and the most is 1
        00390010  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
        *
        00390080  01 02 41 00 00 00 00 00  00 00 00 00 00 00 00 00  |..A.............|
        00390090

        """)
    #expect(
      Self.annotations(annotator, at: 0x38_07fc, in: memory).first
        == "interrupt entry 0x1ff of 00:03.0 and 1 more: not present, faults not logged")
    #expect(annotator.gaps.isEmpty)
  }

  @Test func `a hexdump names entries of 128 bits, field by field, and those of guests`() throws {
    let memory = try Self.memory()
    for (address, word) in [
      (0x38_0000, 0x0000_0000_3456_7801), (0x38_0008, 0x1200_0000_0000_0031),
      (0x38_0250, 0x0000_cafe_0000_03c5), (0x38_0258, 0x0000_0000_9abc_d055),
    ] as [(UInt64, UInt64)] {
      memory.store(word, at: PhysicalAddress(address))
    }
    let machine = Self.machine(control: 0x4_0000_0202_0001 | 1 << 50)
    let annotator = Annotator(machine, in: memory)
    #expect(
      Self.annotations(annotator, at: 0x38_000f, in: memory) == [
        "interrupt entry 0x0 of 00:03.0 and 1 more: vector 0x31 to APIC id 0x12345678, fixed, physical",
        "127:120 Destination31:24 0x12", "71:64 Vector 0x31", "31:8 Destination23:0 0x345678",
        "7 GuestMode 0x0", "6 DM 0x0", "5 RqEoi 0x0", "4:2 IntType 0x0", "1 SupIOPF 0x0",
        "0 RemapEn 0x1",
      ])
    #expect(
      Self.annotations(annotator, at: 0x38_0250, in: memory) == [
        "interrupt entry 0x25 of 00:03.0 and 1 more: vector 0x55 of the guest with tag 0xcafe, "
          + "virtual APIC at 0x9abcd000, running on APIC id 0x3, logged while it does not run",
        "127:120 Destination31:24 0x0", "115:76 GATableRootPtr 0x9abcd", "71:64 Vector 0x55",
        "63:32 GATag 0xcafe", "31:8 Destination23:0 0x3", "7 GuestMode 0x1", "6 IsRun 0x1",
        "2 GALogIntr 0x1", "1 SupIOPF 0x0", "0 RemapEn 0x1",
      ])
    let region = try #require(annotator.entries(at: PhysicalAddress(0x38_0250), in: memory).first)
      .region
    #expect(region.kind == "interrupt remapping table" && region.tableName == "00:03.0")
    #expect(region.byteCount == 0x2000 && region.otherTableCount == 1)
    #expect(region.ownerText == "00:03.0 and 1 more")
    // Nobody knows how wide entries are.
    let unknown = Annotator(Self.machine(control: nil), in: memory)
    #expect(unknown.entries(at: PhysicalAddress(0x38_0250), in: memory).isEmpty)
  }

  @Test func `absent tables are unknown, and so is all without the control register`() throws {
    let memory = try Self.memory()
    let table = InterruptReport(
      Self.machine(control: 1), in: LackingMemory(memory, without: [0x38_0000]))
    #expect(
      Self.text(table).contains(
        "\n  interrupts 0x0 to 0x1ff: unknown, the interrupt remapping table at 0x380000 is not in "
          + "this dump\n"))
    #expect(table.isUnknown)
    // A hexdump says so too.
    let lacking = Annotator(
      Self.machine(control: 1), in: LackingMemory(memory, without: [0x38_0000]))
    #expect(
      lacking.gaps.map(\.text) == [
        "interrupts 0x0 to 0x1ff: unknown, the interrupt remapping table at 0x380000 is not in this dump"
      ])
    // A device table that is not there is told once.
    #expect(
      Annotator(Self.machine(control: 1), in: LackingMemory(memory, without: [0x10_0000])).gaps
        .map(\.text) == ["all devices: unknown, the device table at 0x100000 is not in this dump"])
    let devices = InterruptReport(
      Self.machine(control: 1), in: LackingMemory(memory, without: [0x10_0000]))
    #expect(
      Self.text(devices).contains("unknown, the device table at 0x100000 is not in this dump"))
    #expect(devices.isUnknown)
    let control = InterruptReport(Self.machine(control: nil), in: memory)
    #expect(
      Self.text(control)
        == "AMD-Vi unit at 0xfed80000  which table is in force is not known: whether entries have 32 "
        + "bits or 128 (GAEn) is in the control register, which is not known\n")
    #expect(control.isUnknown)
    #expect(
      Self.text(InterruptReport(Self.machine(control: 0), in: memory))
        == "AMD-Vi unit at 0xfed80000  remaps no interrupts\n")
  }

  @Test func `tables beyond a number of entries are left out, and said to be`() throws {
    // 65,536 devices with a table of 2,048 entries each, at every 128th byte of a memory of ones.
    let memory = try FlatMemory(byteCount: 16 << 20)
    for device in 0..<UInt64(65536) {
      memory.store(
        0x2000_0000_0040_0017 as UInt64 + device << 7,
        at: PhysicalAddress(0x10_0010 + 32 * device))
    }
    for place in stride(from: 0x40_0000, to: 0xd0_0000, by: 8) as StrideTo<UInt64> {
      memory.store(0x0041_0201_0041_0201 as UInt64, at: PhysicalAddress(place))
    }
    let unit = AMDVi.Unit(
      base: PhysicalAddress(0xfed8_0000),
      deviceTable: AMDVi.DeviceTableBase(rawValue: 0x10_01ff),
      // NumIntRemapMode 1.
      control: AMDVi.Control(rawValue: 1 | 1 << 43))
    let machine = Machine(name: "", units: [.amdvi(unit)])
    let all = machine.interruptTables(of: machine.units[0], in: memory)
    #expect(all.tables.map(\.mappings.count).reduce(0, +) == 65536)
    #expect(all.tables.count == 32)
    #expect(
      all.gaps.map(\.text) == [
        "00:04.0 to ff:1f.7: unknown, there are more of them than are looked at"
      ])
    // A hexdump names as many, and says so.
    let annotator = Annotator(machine, in: memory)
    #expect(annotator.gaps == all.gaps)
    #expect(annotator.regions.count { $0.kind == "interrupt remapping table" } == 32)
  }
}
