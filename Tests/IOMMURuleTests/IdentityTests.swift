import IOMMUFormats
import IOMMUKdump
import IOMMURule
import IOMMUTranslation
import Testing

/// R1. It is never "not applicable": some device may always do DMA, and one that passes untranslated
/// reaches the crash kernel at its own addresses, so that it holds.
@Suite struct IdentityOnADumpTests {
  @Test func `it holds when every page is mapped to itself for each device`() throws {
    #expect(try Dump.vtd().check().identity().outcome == .holds)
    #expect(try Dump.vtd().check(devices: []).identity().outcome == .holds)
    #expect(try Dump.calgary().check(devices: ["01:02.0"]).identity().outcome == .holds)
  }

  @Test func `it holds for devices that pass untranslated, whoever they are`() throws {
    for devices in [[], ["05:00.0"]] {
      #expect(try Dump.nommu().check(devices: devices).identity().outcome == .holds)
      #expect(try Dump.gart().check(devices: devices).identity().outcome == .holds)
    }
    // 00:03.0 with translation type pass-through.
    let dump = try Dump.vtd()
    dump.store(0x9, at: 0x2180)
    #expect(try dump.check(devices: ["00:03.0"]).identity().outcome == .holds)
  }

  @Test func `it is broken by one page that is missing`() throws {
    let dump = try Dump.vtd()
    dump.store(0, at: 0x5008)
    let verdict = try dump.check().identity()
    #expect(verdict.outcome == .broken)
    #expect(verdict.findings.map(\.iova) == [IOVA(0x20_1000)])
    #expect(
      verdict.texts == [
        "00:03.0: 1 of 4 pages are not mapped to themselves; the first: read faults: read without "
          + "read permission, or no mapping"
      ])
  }

  @Test func `it is broken by a page that can only be read`() throws {
    let dump = try Dump.calgary()
    dump.memory.store(bigEndian: 0x20_3001 as UInt64, at: PhysicalAddress(0x10_1018))
    #expect(
      try dump.check(devices: []).identity().texts == [
        "bus:00: 1 of 4 pages are not mapped to themselves; the first: write faults: TCE without "
          + "write permission"
      ])
  }

  @Test func `it is broken where an aperture lies over the crash kernel`() throws {
    let verdict = try Dump.gart(aperture: 0x0).check(devices: []).identity()
    #expect(verdict.outcome == .broken)
    #expect(verdict.findings.map(\.owner) == [.aperture])
  }

  @Test func `it is unknown where the page table is not in the dump, unless another breaks it`()
    throws
  {
    let dump = try Dump.vtd()
    let verdict = try dump.check(lacking: [0x5000]).identity()
    #expect(verdict.outcome == .unknown)
    #expect(
      verdict.texts == [
        "00:03.0: 0x200000..<0x400000: unknown, the table of level 1 at 0x5000 is not in this dump"
      ])
    dump.store(0, at: 0x9000)
    let both = try dump.check(lacking: [0x5000]).identity()
    #expect(both.outcome == .broken)
    #expect(both.findings.map(\.kind) == [.broken, .unknown])
  }

  @Test func `a table for other numbers may be missing`() throws {
    #expect(try Dump.vtd().check(lacking: [0x7000]).identity().outcome == .holds)
  }

  @Test(arguments: [[], ["00:03.0"]])
  func `it is unknown where the context or the root table is not in the dump`(devices: [String])
    throws
  {
    let contexts = try Dump.vtd().check(devices: devices, lacking: [0x2000]).identity()
    #expect(contexts.outcome == .unknown)
    #expect(contexts.texts == ["bus 00: unknown, the context table at 0x2000 is not in this dump"])
    let root = try Dump.vtd().check(devices: devices, lacking: [0x1000]).identity()
    #expect(root.outcome == .unknown)
    #expect(root.texts == ["all devices: unknown, the root table at 0x1000 is not in this dump"])
  }

  @Test func `where the machine has no memory a table that is not there is no table`() throws {
    var dump = try Dump.vtd()
    dump.machine.ram = [.addresses(0x3000..<0x100_0000)]
    let verdict = try dump.check(devices: ["00:03.0"], lacking: [0x1000]).identity()
    #expect(verdict.outcome == .broken)
  }

  @Test func `it is unknown where no device is known`() throws {
    let verdict = try Dump.vtdWithoutContexts().check(devices: []).identity()
    #expect(verdict.outcome == .unknown)
    #expect(
      verdict.texts == ["no device is known: none has a table in force, and nobody named one"])
  }
}

@Suite struct IdentityOnALiveCrashTests {
  @Test(arguments: TranslationMode.allCases)
  func `it holds when the primary has done its part`(mode: TranslationMode) throws {
    #expect(check(try crash(mode)).identity().outcome == .holds)
  }

  @Test(arguments: [TranslationMode.calgary, .vtd, .amdvi])
  func `it is broken when the primary has done nothing`(mode: TranslationMode) throws {
    let verdict = check(try crash(mode, applyingRule: false)).identity()
    #expect(verdict.outcome == .broken)
    #expect(verdict.findings.count == 3)
    #expect(verdict.findings[0].text.hasPrefix("4096 of 4096 pages are not mapped to themselves"))
  }

  @Test func `it finds the one page that is missing`() throws {
    let primary = try crash(.calgary)
    primary.memory.store(0 as UInt64, at: lastEntry(primary, 0x2ff_f000))
    let verdict = check(primary).identity()
    #expect(verdict.findings.map(\.iova) == [IOVA(0x2ff_f000)])
    #expect(
      verdict.texts == [
        "01:01.0: 1 of 4096 pages are not mapped to themselves; the first: read faults: TCE "
          + "without read and write permission"
      ])
  }

  @Test func `it is unknown of a kdump kernel that needs no device`() throws {
    #expect(
      check(try crash(.vtd, applyingRule: false, devices: idleDevices)).identity().outcome
        == .unknown)
  }
}

/// R7.
@Suite struct LowPartTests {
  static let high = Range<PhysicalAddress>.addresses(0x1_0800_0000..<0x1_0900_0000)
  static let low = Range<PhysicalAddress>.addresses(0x2f00_0000..<0x2f80_0000)

  /// The dump's crash kernel with a part above 4 GiB that need not be in the dump.
  private func dump() throws -> Dump {
    var dump = try Dump.vtd()
    dump.machine.crashKernel.append(Self.high)
    return dump
  }

  @Test func `on a dump it holds when the low part is mapped to itself`() throws {
    #expect(try dump().check().lowPart().outcome == .holds)
  }

  @Test func `on a dump it is broken without a low part, and by one that is not mapped`() throws {
    var without = try dump()
    without.machine.crashKernel = [Self.high]
    #expect(
      try without.check().lowPart().texts == [
        "the crash kernel is above 4 GiB and has no part below it"
      ])
    let dump = try dump()
    dump.store(0, at: 0x5018)
    #expect(
      try dump.check().lowPart().texts == [
        "00:03.0: low part 0x200000..<0x204000: read faults: read without read permission, or no "
          + "mapping"
      ])
  }

  @Test func `on a dump it is unknown where the page table is missing or no device is known`()
    throws
  {
    #expect(try dump().check(lacking: [0x9000]).lowPart().outcome == .unknown)
    var empty = try Dump.vtdWithoutContexts()
    empty.machine.crashKernel.append(Self.high)
    #expect(try empty.check(devices: []).lowPart().outcome == .unknown)
  }

  @Test func `on a dump it does not apply to a crash kernel below 4 GiB`() throws {
    #expect(try Dump.vtd().check().lowPart().outcome == .notApplicable)
  }

  @Test func `in a live crash all four can be seen`() throws {
    func verdict(_ crashKernel: [Range<PhysicalAddress>], rule: Bool = true, _ devices: [Device])
      throws -> RuleVerdict.Outcome
    {
      check(
        try crash(
          .vtd, applyingRule: rule, devices: devices, crashKernel: crashKernel,
          ramByteCount: 4 << 30)
      ).lowPart().outcome
    }
    #expect(try verdict([Self.high, Self.low], Device.usual) == .holds)
    #expect(try verdict([Self.high], Device.usual) == .broken)
    // The low part reserved, but not mapped for the devices.
    #expect(try verdict([Self.high, Self.low], rule: false, Device.usual) == .broken)
    #expect(try verdict([Self.high, Self.low], rule: false, idleDevices) == .unknown)
    #expect(try verdict([Self.low], Device.usual) == .notApplicable)
  }
}
