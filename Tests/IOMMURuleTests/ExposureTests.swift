import IOMMUFormats
import IOMMUKdump
import IOMMURule
import IOMMUTranslation
import Testing

/// R13. It always applies, and in a live crash it is never unknown: all tables are there.
@Suite struct ExposureTests {
  @Test func `on a dump it holds where no mapping that can be written leads into the crash kernel`()
    throws
  {
    let dump = try Dump.vtdWithoutContexts()
    #expect(try dump.check(devices: []).exposure().outcome == .holds)
    // Readable mappings are none.
    let readable = try Dump.vtd()
    for entry in [0x5000, 0x5008, 0x5010, 0x5018] as [UInt64] {
      readable.store(0x20_0001, at: entry)
    }
    readable.store(0, at: 0x8008)
    #expect(try readable.check().exposure().outcome == .holds)
  }

  @Test func `on a dump it is broken by every such mapping, at its own number or another`() throws {
    let dump = try Dump.vtd()
    dump.store(0, at: 0x5008)
    dump.store(0x20_1002, at: 0x7080)
    dump.store(0x20_0083, at: 0x8010)
    let verdict = try dump.check().exposure()
    #expect(verdict.outcome == .broken)
    #expect(verdict.rule.isBrokenByDesign)
    #expect(
      verdict.texts == [
        "00:03.0: can write 0x201000..<0x202000, in the crash kernel, at any time",
        "00:03.0: can write 0x200000..<0x201000, in the crash kernel, at any time",
        "00:03.0: can write 0x202000..<0x204000, in the crash kernel, at any time",
        "00:04.0: can write 0x200000..<0x204000, in the crash kernel, at any time",
        "00:04.0: can write 0x200000..<0x204000, in the crash kernel, at any time",
      ])
    #expect(
      verdict.findings.map(\.iova)
        == [0x1_0000, 0x20_0000, 0x20_2000, 0x20_0000, 0x40_0000].map { IOVA($0) })
  }

  @Test func `on a dump it is broken by an interrupt posted into the crash kernel`() throws {
    // Entry 2 posts in a descriptor at 2 MiB + 40h, entry 3 in one before the crash kernel; the table
    // is not in every dump.
    let dump = try Dump(
      [Dump.unit(status: 0xc300_0000, interruptTable: 0x5007)],
      words: [
        (0x5020, 0x0020_0040_0033_8001), (0x5028, 0x4_00f8),
        (0x5030, 0x001f_ffc0_0033_8001), (0x5038, 0x4_00f8),
      ])
    let verdict = try dump.check(devices: []).exposure()
    #expect(
      verdict.texts == [
        "interrupt 0x2 is posted in a descriptor at 0x200040, in the crash kernel"
      ])
    #expect(verdict.findings.map(\.entryAddress) == [PhysicalAddress(0x5020)])
    #expect(
      try dump.check(devices: [], lacking: [0x5000]).exposure().texts == [
        "interrupts 0x0 to 0xff: unknown, the interrupt remapping table at 0x5000 is not in this dump"
      ])
  }

  @Test func `on a dump it is broken by whoever passes untranslated`() throws {
    let anybody =
      "DMA of any device passes untranslated and can write 0x200000..<0x204000, in the crash kernel, "
      + "at any time"
    #expect(try Dump.nommu().check().exposure().texts == [anybody])
    #expect(try Dump.gart().check().exposure().texts == [anybody])
    #expect(
      try Dump.vtd(status: 0).check().exposure().texts == [
        "DMA of devices of the unit at 0xfed90000 passes untranslated and can write "
          + "0x200000..<0x204000, in the crash kernel, at any time"
      ])
    // 00:03.0 in pass-through.
    let dump = try Dump.vtd()
    dump.store(0x9, at: 0x2180)
    dump.store(0, at: 0x8008)
    #expect(
      try dump.check().exposure().texts == [
        "00:03.0: its DMA passes untranslated and can write 0x200000..<0x204000, in the crash kernel, "
          + "at any time"
      ])
    // A bus that no bridge is above.
    #expect(
      try Dump.calgary().check(devices: ["07:00.0"]).exposure().texts == [
        "bus:00: can write 0x200000..<0x204000, in the crash kernel, at any time",
        "07:00.0: its DMA passes untranslated and can write 0x200000..<0x204000, in the crash kernel, "
          + "at any time",
      ])
  }

  @Test func `on a dump an aperture over part of the crash kernel leaves the rest exposed`() throws
  {
    // RAM of 16 MiB and an aperture of 32 MiB at 0: nothing passes there, and nothing is mapped.
    #expect(try Dump.gart(aperture: 0).check().exposure().outcome == .holds)
  }

  @Test func `on a dump it is unknown where a table is missing, unless another shows one`() throws {
    let dump = try Dump.vtdWithoutContexts()
    #expect(
      try dump.check(lacking: [0x1000]).exposure().texts == [
        "all devices: unknown, the root table at 0x1000 is not in this dump"
      ])
    let verdict = try Dump.vtd().check(lacking: [0x5000]).exposure()
    #expect(verdict.outcome == .broken)
    #expect(
      verdict.texts == [
        "00:04.0: can write 0x200000..<0x204000, in the crash kernel, at any time",
        "00:03.0: 0x200000..<0x400000: unknown, the table of level 1 at 0x5000 is not in this dump",
      ])
  }

  @Test func `on a dump it is unknown where nobody knows whether interrupts are posted`() throws {
    let words: [(UInt64, UInt64)] = [(0x1000, 0x2001)]
    func texts(
      status: UInt32?, table: UInt64? = nil, canPost: Bool = true
    ) throws -> [String] {
      var limits = VTd.Limits.permissive
      if !canPost { limits.features.remove(.postedInterrupts) }
      return try Dump(
        [Dump.unit(status: status, limits: limits, interruptTable: table)], words: words
      ).check(devices: []).exposure().texts
    }
    let start = "whether interrupts are posted in the crash kernel is not known: "
    #expect(try texts(status: nil) == [start + "GSTS_REG of the unit at 0xfed90000 is not"])
    // Intel VT-d 11.4.4.2: bit 25 is IRES.
    #expect(
      try texts(status: 0xc200_0000) == [
        start + "the unit at 0xfed90000 remaps interrupts, and IRTA_REG is not"
      ])
    #expect(try texts(status: 0xc000_0000) == [])
    #expect(try texts(status: 0xc200_0000, table: 0x5007) == [])
    #expect(try texts(status: nil, canPost: false) == [])
  }

  @Test func `a device without the address lines does no harm`() throws {
    let dump = try Dump.vtd()
    func texts(_ mask: UInt64) throws -> [String] {
      try dump.check {
        $0.devices = [
          RuleEvidence.Device(PCI.Function(Requester("00:03.0")!), dmaMask: mask),
          RuleEvidence.Device(PCI.Function(Requester("00:04.0")!), dmaMask: 0xf_ffff),
        ]
      }.exposure().texts
    }
    #expect(try texts(0x1f_ffff) == [])
    #expect(
      try texts(0x20_1fff) == [
        "00:03.0: can write 0x200000..<0x202000, in the crash kernel, at any time"
      ])
  }

  @Test(arguments: [TranslationMode.calgary, .vtd, .amdvi])
  func `in a live crash the Rule breaks it, and without the Rule it holds`(mode: TranslationMode)
    throws
  {
    let with = check(try crash(mode)).exposure()
    #expect(with.outcome == .broken)
    #expect(with.findings.count == 3)
    #expect(with.findings.allSatisfy { $0.iova == IOVA(0x200_0000) })
    #expect(check(try crash(mode, applyingRule: false)).exposure().outcome == .holds)
  }

  @Test(arguments: [TranslationMode.nommu, .swiotlb, .gart])
  func `in a live crash it is broken where devices see physical addresses`(mode: TranslationMode)
    throws
  {
    let text =
      "their DMA passes untranslated and can write 0x2000000..<0x3000000, in the crash kernel, at "
      + "any time"
    #expect(
      check(try crash(mode, applyingRule: false)).exposure().texts
        == ["01:01.0, 02:01.0 and 00:03.0: " + text])
  }
}
