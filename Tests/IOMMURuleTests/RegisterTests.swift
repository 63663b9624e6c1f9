import IOMMUFormats
import IOMMUKdump
import IOMMURule
import IOMMUTranslation
import Testing

/// R5. On a dump it is unknown or does not apply: what the kdump kernel writes is not in it. In a live
/// crash every write is on a list, and it is never unknown.
@Suite struct NoRegisterWritesTests {
  @Test func `on a dump it is unknown, and does not apply without a unit`() throws {
    let verdict = try Dump.vtd().check().noRegisterWrites()
    #expect(verdict.outcome == .unknown)
    #expect(verdict.texts == ["what the kdump kernel wrote is not known"])
    #expect(try Dump.nommu().check().noRegisterWrites().outcome == .notApplicable)
  }

  @Test
  func `in a live crash it holds for a kernel that writes none and names the write of another`()
    throws
  {
    let primary = try crash(.vtd)
    #expect(check(primary).noRegisterWrites().outcome == .holds)
    let verdict = check(primary) {
      $0.registerWritesByKdump = [.init(unit: "unit at 0xfed90000", offset: 0x18, value: 0)]
    }.noRegisterWrites()
    #expect(verdict.outcome == .broken)
    #expect(verdict.texts == ["unit at 0xfed90000: register 0x18 was written with 0x0"])
    #expect(check(try crash(.nommu)).noRegisterWrites().outcome == .notApplicable)
  }
}

/// R10. In a live crash it is never unknown: the registers are there.
@Suite struct InterruptTests {
  @Test(
    arguments: [
      // GSTS: TES, RTPS, IRES and CFIS; IRTA: EIME.
      (0xc200_0000, 0x7, .broken), (0xc280_0000, 0x7, .holds), (0xc280_0000, 0x807, .broken),
      (0xc280_0000, nil, .unknown), (0xc000_0000, nil, .notApplicable), (nil, 0x7, .unknown),
    ] as [(UInt32?, UInt64?, RuleVerdict.Outcome)])
  func `on a dump it is what the registers say`(
    status: UInt32?, table: UInt64?, outcome: RuleVerdict.Outcome
  ) throws {
    let dump = try Dump([Dump.unit(status: status, interruptTable: table)])
    #expect(try dump.check().interrupts().outcome == outcome)
  }

  @Test func `on a dump the finding says why`() throws {
    #expect(
      try Dump.vtd(status: 0xc200_0000).check().interrupts().texts == [
        "the unit at 0xfed90000 remaps interrupts and blocks those in the compatibility format "
          + "(GSTS.CFIS=0)"
      ])
    #expect(
      try Dump.vtd(status: nil).check().interrupts().texts == [
        "whether the unit at 0xfed90000 remaps interrupts is not known: GSTS_REG is not"
      ])
  }

  @Test func `of two units the worse counts`() throws {
    func outcome(_ statuses: [UInt32?]) throws -> RuleVerdict.Outcome {
      try Dump(statuses.map { Dump.unit(status: $0, interruptTable: 0x7) }).check().interrupts()
        .outcome
    }
    #expect(try outcome([0xc280_0000, 0xc200_0000]) == .broken)
    #expect(try outcome([nil, 0xc200_0000]) == .broken)
    #expect(try outcome([nil, 0xc280_0000]) == .unknown)
    #expect(try outcome([0xc280_0000, 0xc000_0000]) == .holds)
  }

  @Test func `in a live crash it is what the registers say`() throws {
    let primary = try crash(.vtd)
    #expect(check(primary).interrupts().outcome == .notApplicable)
    #expect(check(try crash(.gart)).interrupts().outcome == .notApplicable)
    for (status, outcome) in [
      (0xc200_0000 as UInt32, RuleVerdict.Outcome.broken), (0xc280_0000, .holds),
    ] {
      var unit = try #require(primary.machine.units[0].as(VTd.Unit.self))
      unit.status = VTd.GlobalStatus(rawValue: status)
      unit.interruptTableAddress = VTd.InterruptTableAddress(rawValue: 0x7)
      let verdict = check(primary) { $0.machine.units = [.vtd(unit)] }.interrupts()
      #expect(verdict.outcome == outcome)
    }
  }
}

/// R11. In a live crash it is never unknown: where RAM lies is known.
@Suite struct CPUViewTests {
  // 0x90 = 0x1 translates for the CPU as well, 0x11 does not. The aperture: 32 MiB.

  @Test func `on a dump it holds when the CPU's aperture lies over no RAM`() throws {
    // At 64 MiB, above 16 MiB of RAM.
    #expect(try Dump.gart().check().cpuView().outcome == .holds)
  }

  @Test func `on a dump it is broken when the CPU reads RAM through the aperture`() throws {
    #expect(
      try Dump.gart(aperture: 0).check().cpuView().texts == [
        "the aperture 0x0..<0x2000000 of 00:18.3 is the CPU's too (DisGartCpu=0) and lies over RAM "
          + "0x0..<0x1000000"
      ])
    // What the dump holds is RAM, whether or not the machine file says so.
    var silent = try Dump.gart(aperture: 0)
    silent.machine.ram = []
    #expect(try silent.check().cpuView().outcome == .broken)
  }

  @Test func `on a dump it is unknown where nobody says where RAM is`() throws {
    var dump = try Dump.gart()
    dump.machine.ram = []
    #expect(
      try dump.check().cpuView().texts == [
        "the aperture 0x4000000..<0x6000000 of 00:18.3 is the CPU's too (DisGartCpu=0); whether RAM "
          + "lies under it is not known"
      ])
  }

  @Test func `it does not apply where no unit translates for the CPU`() throws {
    #expect(
      try Dump.gart(aperture: 0, control: 0x11).check().cpuView().outcome == .notApplicable)
    #expect(try Dump.vtd().check().cpuView().outcome == .notApplicable)
    #expect(check(try crash(.calgary)).cpuView().outcome == .notApplicable)
  }

  @Test func `in a live crash it is broken by an aperture over RAM`() throws {
    let primary = try crash(.gart)
    #expect(check(primary).cpuView().outcome == .holds)
    // 64 MiB over RAM at 0x8000000.
    for (control, outcome) in [
      (0x03 as UInt32, RuleVerdict.Outcome.broken), (0x13, .notApplicable),
    ] {
      var node = try #require(primary.machine.units[0].as(GART.Node.self))
      node.base = GART.ApertureBase(rawValue: 0x4)
      node.control = GART.ApertureControl(rawValue: control)
      let verdict = check(primary) { $0.machine.units = [.gart(node)] }.cpuView()
      #expect(verdict.outcome == outcome)
    }
  }
}
