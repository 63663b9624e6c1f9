import IOMMUFormats
import IOMMUKdump
import IOMMURule
import IOMMUTestSupport
import IOMMUTranslation
import Testing

@Suite struct ConclusionTests {
  private func conclusion(_ check: RuleCheck<LackingMemory>) -> RuleConclusion {
    RuleConclusion(check.all())
  }

  @Test func `the Rule holds when R1, R2 and R8 are known to and no other is broken`() throws {
    let check = try Dump.vtd().check()
    #expect(conclusion(check) == .holds)
    // What no dump shows does not stand against it, and R13 is the Rule's own price.
    #expect(
      check.all().map(\.outcome) == [
        .holds, .holds, .unknown, .holds, .unknown, .unknown, .notApplicable, .holds, .unknown,
        .notApplicable, .notApplicable, .unknown, .broken,
      ])
  }

  @Test func `where every device passes the Rule asks for nothing, and holds`() throws {
    #expect(conclusion(try Dump.nommu().check(devices: [])) == .holds)
    #expect(conclusion(try Dump.gart().check(devices: [])) == .holds)
  }

  @Test func `nothing is claimed of an empty set of devices`() throws {
    let check = try Dump.vtdWithoutContexts().check(devices: [])
    #expect(
      check.all().map(\.outcome) == [
        .unknown, .unknown, .unknown, .holds, .unknown, .unknown, .notApplicable, .unknown,
        .unknown,
        .notApplicable, .notApplicable, .unknown, .holds,
      ])
    #expect(conclusion(check) == .unknown([.identity, .noOtherNumber, .deviceHasTable]))
  }

  @Test func `without the devices that are needed R8 is open`() throws {
    #expect(conclusion(try Dump.vtd().check(devices: [])) == .unknown([.deviceHasTable]))
  }

  @Test func `one rule that is broken is enough, whatever else is unknown`() throws {
    #expect(
      conclusion(try Dump.vtd().check(devices: ["00:05.0"], lacking: [0x5000]))
        == .broken([.identity, .deviceHasTable]))
  }

  @Test func `a device that may be another unit's is not judged by a guess`() throws {
    var dump = try Dump.vtd()
    // A second unit knows 00:03.0 too, and has other tables for it.
    var other = try #require(dump.machine.units[0].as(VTd.Unit.self))
    other.rootTableAddress = VTd.RootTableAddress(rawValue: 0xa000)
    dump.machine.units.append(.vtd(other))
    for (address, word) in [(0xa000, 0xb001), (0xb180, 0x6001), (0xb188, 0x301)] {
      dump.store(UInt64(word), at: UInt64(address))
    }
    let check = try dump.check(devices: ["00:03.0", "00:04.0"])
    #expect(check.identity().texts == ["00:03.0: 2 units or tables may be the device's"])
    #expect(conclusion(check) == .unknown([.identity, .noOtherNumber, .deviceHasTable]))
    #expect(check.exposure().findings.contains { $0.kind == .unknown })
    // Two northbridges with one aperture are no two answers.
    var nodes = try Dump.gart()
    nodes.machine.units += nodes.machine.units
    #expect(try nodes.check().identity().outcome == .holds)
  }

  @Test func `devices of other PCI segments are judged by the units that serve them`() throws {
    var dump = try Dump.vtd()
    // The unit of segment 1 has one device, with the second device's tables, of which a page is missing.
    var other = try #require(dump.machine.units[0].as(VTd.Unit.self))
    other.rootTableAddress = VTd.RootTableAddress(rawValue: 0xa000)
    other.segment = 1
    dump.machine.units.append(.vtd(other))
    for (address, word) in [(0xa000, 0xb001), (0xb180, 0x6001), (0xb188, 0x401), (0x9008, 0)] {
      dump.store(UInt64(word), at: UInt64(address))
    }
    let text =
      "1 of 4 pages are not mapped to themselves; the first: read faults: read without read "
      + "permission, or no mapping"
    #expect(
      try dump.check(devices: []).identity().texts
        == ["00:04.0 and 0001:00:03.0: " + text])
    let named = try dump.check {
      $0.devices = [
        RuleEvidence.Device(PCI.Function(segment: 1, Requester("00:03.0")!)),
        RuleEvidence.Device(PCI.Function(segment: 1, Requester("00:04.0")!)),
        RuleEvidence.Device(PCI.Function(segment: 2, Requester("00:03.0")!)),
      ]
    }
    #expect(named.identity().texts.first == "0001:00:03.0: " + text)
    let verdict = named.deviceHasTable()
    #expect(
      verdict.texts.first
        == "0001:00:04.0: has no table: the device has no domain: context entry not present")
    #expect(
      verdict.texts.last?.hasPrefix("0002:00:03.0: no unit is known to serve PCI segment 0x2; ")
        == true)
  }

  @Test func `a table that is missing leaves it open`() throws {
    #expect(
      conclusion(try Dump.vtd().check(lacking: [0x1000]))
        == .unknown([.identity, .noOtherNumber, .deviceHasTable]))
    #expect(conclusion(try Dump.vtd().check(lacking: [0x7000])) == .unknown([.noOtherNumber]))
  }

  @Test func `a dump without a crash kernel is no evidence`() throws {
    var machine = try Dump.vtd().machine
    machine.crashKernel = []
    #expect(RuleEvidence(dump: machine) == nil)
    let evidence = try #require(
      RuleEvidence(
        dump: machine,
        crashKernel: [.addresses(0x30_0000..<0x31_0000), .addresses(0x20_0000..<0x21_0000)]))
    #expect(
      evidence.machine.crashKernel == [
        .addresses(0x20_0000..<0x21_0000), .addresses(0x30_0000..<0x31_0000),
      ])
  }

  @Test(arguments: TranslationMode.allCases)
  func `in a live crash the Rule holds when the primary has done its part`(mode: TranslationMode)
    throws
  {
    #expect(RuleConclusion(check(try crash(mode)).all()) == .holds)
  }

  @Test func `findings beyond the limit are not kept, and it is said`() throws {
    // Every other number of a table for 128 MiB leads to the crash kernel's one page.
    let dump = try Dump.calgary(.kib256)
    for page in UInt64(0)..<32_768 where page != 0x200 {
      dump.memory.store(bigEndian: 0x20_0003 as UInt64, at: PhysicalAddress(0x10_0000 + page * 8))
    }
    let verdict = try dump.check(devices: []) {
      $0.machine.crashKernel = [.addresses(0x20_0000..<0x20_1000)]
    }.noOtherNumber()
    #expect(verdict.findings.count == 1024)
    #expect(verdict.isTruncated)
  }
}
