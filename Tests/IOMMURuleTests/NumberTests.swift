import IOMMUFormats
import IOMMUKdump
import IOMMURule
import IOMMUTranslation
import Testing

/// R2.
@Suite struct NoOtherNumberTests {
  @Test func `on a dump it holds when the crash kernel has no number but its own`() throws {
    #expect(try Dump.vtd().check().noOtherNumber().outcome == .holds)
    #expect(try Dump.vtd().check(devices: []).noOtherNumber().outcome == .holds)
    #expect(try Dump.gart().check(devices: []).noOtherNumber().outcome == .holds)
  }

  @Test func `on a dump it is broken by a stray page, and by the part of a large one`() throws {
    let dump = try Dump.vtd()
    dump.store(0x20_1003, at: 0x7080)
    // 2 MiB at 4 MiB -> 2 MiB; only four pages of it are the crash kernel's.
    dump.store(0x20_0083, at: 0x8010)
    let verdict = try dump.check().noOtherNumber()
    #expect(verdict.outcome == .broken)
    #expect(
      verdict.texts == [
        "00:03.0: 0x10000..<0x11000 maps to 0x201000, in the crash kernel",
        "00:04.0: 0x400000..<0x404000 maps to 0x200000, in the crash kernel",
      ])
    #expect(verdict.findings.map(\.iova) == [IOVA(0x1_0000), IOVA(0x40_0000)])
  }

  @Test func `on a dump it is broken by an aperture that leads into the crash kernel`() throws {
    let dump = try Dump.gart()
    // GATT entry 1: 0x201000, valid and coherent.
    dump.memory.store(0x20_1003 as UInt32, at: PhysicalAddress(0x4_0004))
    #expect(
      try dump.check(devices: []).noOtherNumber().texts == [
        "gart: 0x4001000..<0x4002000 maps to 0x201000, in the crash kernel"
      ])
  }

  @Test func `on a dump it is unknown where any table is missing, unless another breaks it`() throws
  {
    let dump = try Dump.vtd()
    let verdict = try dump.check(lacking: [0x7000]).noOtherNumber()
    #expect(verdict.outcome == .unknown)
    #expect(
      verdict.texts == [
        "00:03.0: 0x0..<0x200000: unknown, the table of level 1 at 0x7000 is not in this dump"
      ])
    dump.store(0x20_1003, at: 0x9020)
    #expect(try dump.check(lacking: [0x7000]).noOtherNumber().outcome == .broken)
    #expect(
      try Dump.vtd().check(lacking: [0x1000]).noOtherNumber().texts == [
        "all devices: unknown, the root table at 0x1000 is not in this dump"
      ])
  }

  @Test func `on a dump it is unknown where no device is known, and holds for one that was named`()
    throws
  {
    let dump = try Dump.vtdWithoutContexts()
    #expect(
      try dump.check(devices: []).noOtherNumber().texts == [
        "no device is known: none has a table in force, and nobody named one"
      ])
    #expect(try dump.check(devices: ["00:03.0"]).noOtherNumber().outcome == .holds)
  }

  @Test func `it does not apply where nothing is translated`() throws {
    #expect(try Dump.nommu().check().noOtherNumber().outcome == .notApplicable)
    // Translation off.
    #expect(try Dump.vtd(status: 0).check().noOtherNumber().outcome == .notApplicable)
    #expect(check(try crash(.nommu)).noOtherNumber().outcome == .notApplicable)
    #expect(check(try crash(.swiotlb)).noOtherNumber().outcome == .notApplicable)
  }

  @Test(arguments: [TranslationMode.gart, .calgary, .vtd, .amdvi])
  func `in a live crash it holds when the primary has done its part`(mode: TranslationMode) throws {
    #expect(check(try crash(mode)).noOtherNumber().outcome == .holds)
  }

  @Test func `in a live crash it is broken by a stray entry`() throws {
    let primary = try crash(.calgary)
    let stray = try #require(primary.mapped.first { $0.device == disk })
    primary.memory.store(
      bigEndian: 0x2ab_c003 as UInt64, at: lastEntry(primary, stray.iova.rawValue))
    let verdict = check(primary).noOtherNumber()
    #expect(verdict.outcome == .broken)
    #expect(verdict.findings.map(\.owner) == [.buses(1...1)])
    #expect(verdict.findings[0].text.hasSuffix(" maps to 0x2abc000, in the crash kernel"))
  }

  @Test func `in a live crash it is unknown where no device was ever used or needed`() throws {
    let unused = idleDevices.map { device in
      var device = device
      device.isUsedByPrimary = false
      return device
    }
    let primary = try crash(.vtd, applyingRule: false, devices: unused)
    #expect(check(primary).noOtherNumber().outcome == .unknown)
  }
}

/// R3. A dump has no history: there it is unknown or does not apply.
@Suite struct ReservedFirstTests {
  @Test func `on a dump it is unknown`() throws {
    let verdict = try Dump.vtd().check().reservedFirst()
    #expect(verdict.outcome == .unknown)
    #expect(verdict.texts == ["what allocators handed out, and when, is not known"])
    #expect(try Dump.vtd().check(lacking: [0x1000]).reservedFirst().outcome == .unknown)
  }

  @Test func `on a dump it does not apply where no table is for the crash kernel's numbers`() throws
  {
    #expect(try Dump.nommu().check().reservedFirst().outcome == .notApplicable)
    #expect(try Dump.gart().check().reservedFirst().outcome == .notApplicable)
    // The aperture lies over the crash kernel.
    #expect(try Dump.gart(aperture: 0).check().reservedFirst().outcome == .unknown)
  }

  @Test(arguments: [TranslationMode.calgary, .vtd, .amdvi])
  func `in a live crash it holds when the numbers were reserved before drivers started`(
    mode: TranslationMode
  ) throws {
    #expect(check(try crash(mode)).reservedFirst().outcome == .holds)
  }

  @Test func `in a live crash it is broken when a number of the crash kernel was handed out`()
    throws
  {
    let primary = try crash(.calgary, applyingRule: false)
    // Next fit climbs: 48 MiB of mappings reach the crash kernel's numbers at 32 MiB.
    for _ in 0..<48 {
      _ = try primary.mapNewBuffer(byteCount: 1 << 20, for: disk, direction: .fromDevice)
    }
    let verdict = check(primary).reservedFirst()
    #expect(verdict.outcome == .broken)
    #expect(
      verdict.findings.contains { $0.device == PCI.Function(disk.requester) && $0.iova != nil })
  }

  @Test func `in a live crash it is broken when one of two ranges was never reserved`() throws {
    let primary = try crash(.vtd)
    let verdict = check(primary) {
      $0.machine.crashKernel.append(.addresses(0x400_0000..<0x410_0000))
    }.reservedFirst()
    #expect(
      verdict.texts == [
        "01:01.0: the crash kernel's numbers were never reserved",
        "02:01.0: the crash kernel's numbers were never reserved",
        "00:03.0: the crash kernel's numbers were never reserved",
      ])
  }

  @Test func `in a live crash it is unknown of a kdump kernel that needs no device`() throws {
    let primary = try crash(.vtd, applyingRule: false, devices: idleDevices)
    #expect(check(primary).reservedFirst().outcome == .unknown)
  }

  @Test(arguments: [TranslationMode.nommu, .swiotlb, .gart])
  func `in a live crash it does not apply where numbers are never those of RAM`(
    mode: TranslationMode
  ) throws {
    #expect(check(try crash(mode)).reservedFirst().outcome == .notApplicable)
  }
}

/// R4. It always applies: on any machine DMA may go on. In a live crash it is never unknown: what
/// devices still do is on a list.
@Suite struct LeftoverTests {
  @Test func `on a dump it holds when no mapping has to do with the crash kernel but its own`()
    throws
  {
    #expect(try Dump.vtd().check().leftoverDisjoint().outcome == .holds)
  }

  @Test func `on a dump every mapping counts, by its numbers and by its memory`() throws {
    let dump = try Dump.vtd()
    // The number of the crash kernel's first page leads elsewhere, and another number to its second.
    dump.store(0x80_0003, at: 0x5000)
    dump.store(0x20_1003, at: 0x7080)
    let verdict = try dump.check().leftoverDisjoint()
    #expect(verdict.outcome == .broken)
    #expect(
      verdict.texts == [
        "00:03.0: leftover DMA ends at 0x201000..<0x202000, in the crash kernel",
        "00:03.0: leftover DMA at 0x200000..<0x201000 has numbers of the crash kernel",
      ])
  }

  @Test func `on a dump it is unknown where a table is missing, and where devices pass`() throws {
    #expect(try Dump.vtd().check(lacking: [0x7000]).leftoverDisjoint().outcome == .unknown)
    #expect(try Dump.vtd().check(lacking: [0x1000]).leftoverDisjoint().outcome == .unknown)
    #expect(
      try Dump.nommu().check().leftoverDisjoint().texts == [
        "DMA of any device passes untranslated: nothing tells where it goes on"
      ])
    let dump = try Dump.vtd()
    dump.store(0x9, at: 0x2180)
    #expect(
      try dump.check().leftoverDisjoint().texts == [
        "00:03.0: its DMA passes untranslated: nothing tells where it goes on"
      ])
  }

  @Test(arguments: TranslationMode.allCases)
  func `in a live crash it holds for the DMA of ordinary drivers`(mode: TranslationMode) throws {
    #expect(check(try crash(mode)).leftoverDisjoint().outcome == .holds)
  }

  @Test func `in a live crash it is broken by a number or a byte of the crash kernel`() throws {
    let primary = try crash(.vtd)
    for (iova, target, text) in [
      (
        0x200_0000, 0x800_0000,
        "leftover DMA at 0x2000000..<0x2001000 has numbers of the crash kernel"
      ),
      (
        0xffff_0000, 0x200_0000, "leftover DMA ends at 0x2000000..<0x2001000, in the crash kernel"
      ),
    ] as [(UInt64, UInt64, String)] {
      let verdict = check(primary) {
        $0.leftovers = .known([
          RuleEvidence.Leftover(
            requester: disk.requester, iova: IOVA(iova)..<IOVA(iova + 0x1000),
            target: .addresses(target..<target + 0x1000))
        ])
      }.leftoverDisjoint()
      #expect(verdict.outcome == .broken)
      #expect(verdict.texts == ["01:01.0: " + text])
    }
  }
}
