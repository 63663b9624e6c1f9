import IOMMUFormats
import IOMMUInspection
import IOMMURule
import IOMMUTestSupport
import IOMMUTranslation
import Testing

/// The page that tells all of a dump.
@Suite struct DumpReportTests {
  private func page(
    _ machine: Machine, _ memory: some PhysicalMemory, rule: RuleReport? = nil
  ) -> (text: String, blindness: Blindness) {
    let report = DumpReport(title: "dump", machine: machine, in: memory, rule: rule)
    var text = ""
    report.write(to: &text)
    return (text, report.blindness)
  }

  @Test func `a table that the dump lacks is told, and nothing of it counts as empty`() throws {
    let small = try SmallMachine()
    let whole = page(small.machine, small.memory)
    #expect(!whole.text.contains("Not known"))
    #expect(whole.blindness.isEmpty)
    // The second-stage table of 00:03.0 and 00:03.1.
    let part = page(small.machine, LackingMemory(small.memory, without: [0x33000]))
    #expect(part.text.contains("<h2 id=\"unknown\">Not known</h2>"))
    #expect(
      part.text.contains(
        "<li>00:03.0 IOVA 0x0..&lt;0x8000000000: unknown, the table of level 3 at 0x33000 is not in "
          + "this dump</li>"))
    #expect(!part.blindness.hidesUnit)
    // The root table: nothing is said of any device, and nothing maps nothing.
    let root = small.machine.units(of: VTd.Unit.self)[0].rootTableAddress.rootTable
    var machine = small.machine
    machine.units = machine.units(of: VTd.Unit.self).map { .vtd($0) }
    let none = page(machine, LackingMemory(small.memory, without: [root.rawValue]))
    #expect(none.text.contains("<li>all devices: unknown, the root table at \(root) is not in"))
    #expect(none.text.contains("No table that is in this dump maps anything."))
    #expect(none.blindness.hidesUnit)
  }

  @Test func `a walk has a line for each of its lines`() throws {
    let small = try SmallMachine()
    var machine = small.machine
    machine.crashKernel = [PhysicalAddress(0x70_0000)..<PhysicalAddress(0x70_1000)]
    let evidence = try #require(
      RuleEvidence(dump: machine, devices: [PCI.Function(Requester("00:03.0")!)]))
    let text = page(machine, small.memory, rule: RuleReport(evidence, in: small.memory)).text
    #expect(text.contains("\n\n1  root entry [0x0] at 0x30000\n"))
    #expect(!text.contains("\\u{A}"))
  }

  /// The page for a crash kernel of one page, which twelve other numbers of 00:03.0 lead to.
  private func crowded() throws -> String {
    let small = try SmallMachine()
    // 00:03.1, which has the same table.
    small.memory.store(0 as UInt64, at: PhysicalAddress(0x31190))
    for index in 0..<12 as Range<UInt64> {
      small.memory.store(0x70_0003 as UInt64, at: PhysicalAddress(0x35000 + 8 * (20 + 2 * index)))
    }
    var machine = small.machine
    machine.crashKernel = [PhysicalAddress(0x70_0000)..<PhysicalAddress(0x70_1000)]
    let evidence = try #require(
      RuleEvidence(dump: machine, devices: [PCI.Function(Requester("00:03.0")!)]))
    return page(machine, small.memory, rule: RuleReport(evidence, in: small.memory)).text
  }

  @Test func `a long list of findings is summed up, and its end is folded`() throws {
    let text = try crowded()
    let part = try #require(
      text.firstMatch(of: /<h3>R2: no other number maps into the crash kernel (?s:.*?)<h3>/)?.0)
    #expect(part.contains("<span class=\"count\">12 findings</span></h3>\n<ol "))
    let halves = part.split(separator: "</ol>\n<details><summary>the rest</summary>\n")
    try #require(halves.count == 2)
    #expect(halves[0].ranges(of: "<li>").count == 8)
    #expect(halves[1].contains("<ol class=\"findings\" start=\"9\">"))
    #expect(halves[1].ranges(of: "<li>").count == 4)
    #expect(halves[0].contains("<li>0x14000..&lt;0x15000 maps to 0x700000, in the crash kernel:"))
    #expect(halves[1].contains("<li>0x2a000..&lt;0x2b000 maps to 0x700000, in the crash kernel:"))
  }

  @Test func `outcomes are told apart without colours`() throws {
    let text = try crowded()
    #expect(
      text.contains("<div>no other number maps into the crash kernel<i><b>✗</b>broken</i></div>"))
    #expect(text.contains("<i><b>?</b>unknown</i>"))
    #expect(text.contains("<i><b>✓</b>holds</i>"))
    #expect(text.contains("<i><b>–</b>not applicable</i>"))
  }

  @Test func `paper has what is folded on a screen`() throws {
    let text = try crowded()
    let print = try #require(text.firstMatch(of: /@media print\{(?s:.*?)\n/)?.0)
    for rule in ["svg{min-width:0}", "::details-content{content-visibility:visible"] {
      #expect(print.contains(rule), "no \(rule)")
    }
  }

  @Test func `labels of windows are whole, in two rows where one has no room`() throws {
    let memory = try FlatMemory(byteCount: 0x10_0000)
    // Bus 0: context table 0x31000; 00:03.0: four levels from 0x33000.
    for (address, entry) in [
      (0x30000, 0x31001), (0x31000 + 0x18 * 16, 0x33001), (0x31000 + 0x18 * 16 + 8, 0x102),
      // A page of 4 KiB, and one of 1 GiB.
      (0x34000, 0x35003), (0x35000, 0x36003), (0x36000, 0x50003), (0x37000, 0x4000_0083),
    ] as [(UInt64, UInt64)] {
      memory.store(entry, at: PhysicalAddress(address))
    }
    // Eight windows, 512 GiB apart, the first of them wide: there is no room for a label over the others.
    for index in [1, 2, 3, 4, 5, 6, 7, 255] as [UInt64] {
      let table: UInt64 = index == 1 ? 0x37003 : 0x34003
      memory.store(table, at: PhysicalAddress(0x33000 + 8 * index))
    }
    let unit = VTd.Unit(
      base: PhysicalAddress(0xfed9_0000), rootTableAddress: VTd.RootTableAddress(rawValue: 0x30000),
      status: VTd.GlobalStatus(rawValue: 0xc000_0000), limits: .permissive)
    let text = page(Machine(name: "wide", units: [.vtd(unit)]), memory).text
    #expect(text.contains("<text x=\"96\" y=\"12\">0x8000000000</text>"))
    #expect(text.contains(">0x7f8000000000</text>"))
    #expect(text.contains("<title>0x7f8000000000 to 0x7f80000fffff</title>"))
    #expect(text.contains("y=\"12\">0x10000000000</text>"))
    #expect(text.contains("y=\"26\">0x18000000000</text>"))
    #expect(text.contains("y=\"12\">0x20000000000</text>"))
    #expect(!text.contains("…"))
  }
}
