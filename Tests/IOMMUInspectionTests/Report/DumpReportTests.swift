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
}
