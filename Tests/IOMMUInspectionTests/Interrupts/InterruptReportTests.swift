import FoundationEssentials
import IOMMUFormats
import IOMMUInspection
import IOMMUTestSupport
import IOMMUTranslation
import Testing

/// What is printed of interrupt remapping tables.
@Suite struct InterruptReportTests {
  /// Two units: one with 256 entries at 1 MiB, of which three are present, and one that remaps nothing.
  static func machine(table: UInt64? = 0x10_0007, status: UInt32 = 0xc300_0000) -> Machine {
    func unit(_ base: UInt64, _ status: UInt32, _ table: UInt64?) -> TranslationUnit {
      .vtd(
        VTd.Unit(
          base: PhysicalAddress(base), rootTableAddress: VTd.RootTableAddress(rawValue: 0x1000),
          status: VTd.GlobalStatus(rawValue: status), limits: .permissive,
          interruptTableAddress: table.map { VTd.InterruptTableAddress(rawValue: $0) }))
    }
    return Machine(
      name: "", units: [unit(0xfed9_0000, status, table), unit(0xfed9_1000, 0xc000_0000, nil)])
  }

  static func memory() throws -> FlatMemory {
    let memory = try FlatMemory(byteCount: 2 << 20)
    for (index, low, high) in [
      (0, 0x0000_0100_0022_0009, 0x4_ff00), (0x10, 0x0020_0040_0033_c001, 0x4_00f8),
      (0xff, 0x0000_0000_0041_1011, 0x7_00f8),
    ] as [(UInt64, UInt64, UInt64)] {
      memory.store(low, at: PhysicalAddress(0x10_0000 + index * 16))
      memory.store(high, at: PhysicalAddress(0x10_0008 + index * 16))
    }
    return memory
  }

  static let heading =
    "Intel VT-d unit at 0xfed90000  interrupt remapping table 0x100000, 256 entries, "

  @Test func `text has a block for each unit and a line for each present entry`() throws {
    var screen = ""
    InterruptReport(Self.machine(), in: try Self.memory()).writeText(to: &screen)
    #expect(
      screen == """
        \(Self.heading)3 in use, the compatibility format is blocked
          0x0   vector 0x22 to APIC id 0x1, fixed, edge, physical, redirection hint, from ff:00.0
          0x10  posts vector 0x33 in the descriptor at 0x200040, urgent, from 00:1f.0
          0xff  vector 0x41 to APIC id 0x0, fixed, level, physical, from 00:1f.0, whatever the function, reserved bits 14:12 are set: 0x1

        Intel VT-d unit at 0xfed91000  remaps no interrupts

        """)
  }

  @Test func `TSV has what hardware makes of each entry`() throws {
    var screen = ""
    InterruptReport(Self.machine(), in: try Self.memory()).writeTSV(to: &screen)
    let unit = "Intel VT-d unit at 0xfed90000"
    #expect(
      screen == """
        #unit\tindex\tsource\tvector\tdestination\tmode\tdelivery\ttrigger\thint\tposted\traw\tguest_tag
        \(unit)\t0x0\tff:00.0\t0x22\t0x1\tphysical\tfixed\tedge\t1\t-\t0x0000010000220009 0x000000000004ff00\t-
        \(unit)\t0x10\t00:1f.0\t0x33\t-\t-\t-\t-\t-\t0x200040\t0x002000400033c001 0x00000000000400f8\t-
        \(unit)\t0xff\t00:1f.0/0xfff8\tfault:0x24\t-\t-\t-\t-\t-\t-\t0x0000000000411011 0x00000000000700f8\t-

        """)
  }

  @Test func `JSON says the same`() throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    let report = InterruptReport(Self.machine(), in: try Self.memory())
    let text = String(decoding: try encoder.encode(report), as: UTF8.self)
    #expect(
      text.hasPrefix(
        #"{"units":[{"compatibility":"blocked","entries":256,"interrupts":[{"address":"0x100000","#
          + #""delivery":"fixed","destination":"0x1","hint":true,"index":"0x0","meaning":"#
          + #""vector 0x22 to APIC id 0x1, fixed, edge, physical, redirection hint, from ff:00.0","#
          + #""mode":"physical","raw":["0x0000010000220009","0x000000000004ff00"],"#
          + #""source":"ff:00.0","trigger":"edge","vector":"0x22","wrong":[]},"#))
    #expect(
      text.hasSuffix(
        #""table":"0x100000","unit":"Intel VT-d unit at 0xfed90000","unknown":[]},"#
          + #"{"compatibility":"not remapped","unit":"Intel VT-d unit at 0xfed91000"}]}"#))
  }

  @Test func `what is not in the dump is unknown, not unused`() throws {
    var screen = ""
    let dump = LackingMemory(try Self.memory(), without: [0x10_0000])
    let report = InterruptReport(Self.machine(), in: dump)
    report.writeText(to: &screen)
    let gap = "interrupts 0x0 to 0xff: unknown, the interrupt remapping table at 0x100000 is not in"
    #expect(
      screen.hasPrefix(
        "\(Self.heading)none as far as this dump says, the compatibility format is blocked\n  \(gap) this dump\n"
      ))
    #expect(report.isUnknown)
    #expect(Annotator(Self.machine(), in: dump).gaps.map(\.text) == ["\(gap) this dump"])
    screen = ""
    InterruptReport(Self.machine(table: nil, status: 0xc380_0000), in: dump).writeTSV(to: &screen)
    #expect(
      screen.contains(
        "\n#unknown\tIntel VT-d unit at 0xfed90000\twhich table is in force is not known: the unit at "
          + "0xfed90000 remaps interrupts, and IRTA_REG is not\n"))
  }

  @Test func `a hexdump names the entries`() throws {
    let memory = try Self.memory()
    let annotator = Annotator(Self.machine(), in: memory)
    #expect(
      annotator.entries(at: PhysicalAddress(0x10_0105), in: memory).map(\.text) == [
        "interrupt entry 0x10: posts vector 0x33 in the descriptor at 0x200040, urgent, from 00:1f.0"
      ])
  }
}
