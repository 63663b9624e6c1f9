import IOMMUFormats
import IOMMUKdump
import IOMMURule
import IOMMUTestSupport
import IOMMUTranslation
import Testing

/// R6. It always applies: every device has some number of address lines.
@Suite struct FitsMasksTests {
  @Test func `on a dump it is unknown, because no dump has the masks`() throws {
    #expect(
      try Dump.vtd().check().fitsMasks().texts == [
        "00:03.0: its DMA mask is not known", "00:04.0: its DMA mask is not known",
      ])
    #expect(
      try Dump.vtd().check(devices: []).fitsMasks().texts == ["no device's DMA mask is known"])
    #expect(try Dump.nommu().check(devices: []).fitsMasks().outcome == .unknown)
  }

  @Test func `on a dump it is judged by the masks that somebody knows`() throws {
    func outcome(_ masks: [UInt64?]) throws -> RuleVerdict.Outcome {
      try Dump.vtd().check {
        $0.devices = masks.map {
          RuleEvidence.Device(PCI.Function(Requester("00:03.0")!), dmaMask: $0)
        }
      }.fitsMasks().outcome
    }
    // The crash kernel's last byte is 0x203fff.
    #expect(try outcome([0x3f_ffff, 0xffff_ffff]) == .holds)
    #expect(try outcome([0x3f_ffff, nil]) == .unknown)
    #expect(try outcome([0x1f_ffff, nil]) == .broken)
  }

  @Test func `in a live crash it is broken by a 32-bit device and a crash kernel above 4 GiB`()
    throws
  {
    #expect(check(try crash(.vtd)).fitsMasks().outcome == .holds)
    let primary = try crash(
      .vtd, crashKernel: [.addresses(0x1_0800_0000..<0x1_0900_0000)], ramByteCount: 4 << 30)
    let verdict = check(primary).fitsMasks()
    #expect(verdict.outcome == .broken)
    #expect(
      verdict.texts == [
        "00:03.0: 0x108000000..<0x109000000 is beyond the device's mask 0xffffffff"
      ])
  }

  @Test func `in a live crash it is unknown of a kdump kernel that needs no device`() throws {
    #expect(check(try crash(.nommu, devices: idleDevices)).fitsMasks().outcome == .unknown)
  }
}

/// R6 and R8 where a kernel lists the machine's devices, and nobody says which are needed.
@Suite struct PresentDevicesTests {
  private static func check(_ devices: [(String, UInt64?)]?) throws -> RuleCheck<LackingMemory> {
    try Dump.vtd().check(devices: []) {
      $0.presentDevices = devices?.map { name, mask in
        RuleEvidence.Device(PCI.Function(Requester(name)!), name: name + " card", dmaMask: mask)
      }
    }
  }

  @Test func `what holds of all of them holds`() throws {
    // The crash kernel's last byte is 0x203fff.
    let check = try Self.check([("00:03.0", 0x3f_ffff), ("00:04.0", 0xffff_ffff)])
    #expect(check.fitsMasks().outcome == .holds)
    #expect(check.deviceHasTable().outcome == .holds)
  }

  @Test func `one of which it does not leaves it open whether that one is needed`() throws {
    let check = try Self.check([("00:03.0", 0x1f_ffff), ("00:05.0", nil), ("00:04.0", .max)])
    #expect(
      check.fitsMasks().texts == [
        "nobody says which devices the kdump kernel needs, and 00:03.0 card is not known to reach all of "
          + "the crash kernel, nor is one more device"
      ])
    #expect(check.fitsMasks().outcome == .unknown && check.deviceHasTable().outcome == .unknown)
    #expect(try Self.check([]).deviceHasTable().outcome == .unknown)
    #expect(try Self.check(nil).fitsMasks().texts == ["no device's DMA mask is known"])
  }
}

/// R8.
@Suite struct DeviceHasTableTests {
  @Test func `on a dump it holds for devices that somebody named and that have a table`() throws {
    #expect(try Dump.vtd().check().deviceHasTable().outcome == .holds)
  }

  @Test func `on a dump it is broken for a device without a context entry`() throws {
    #expect(
      try Dump.vtd().check(devices: ["00:03.0", "00:05.0", "01:00.0"]).deviceHasTable().texts == [
        "00:05.0: has no table: the device has no domain: context entry not present",
        "01:00.0: has no table: the bus has no context table: root entry not present",
      ])
  }

  @Test func `on a dump it is unknown where nobody says which devices are needed`() throws {
    #expect(
      try Dump.vtd().check(devices: []).deviceHasTable().texts == [
        "nobody says which devices the kdump kernel needs; these have a table: 00:03.0, 00:04.0"
      ])
    let empty = try Dump.vtdWithoutContexts().check(devices: []).deviceHasTable()
    #expect(empty.outcome == .unknown)
    #expect(
      empty.texts == [
        "nobody says which devices the kdump kernel needs, and none is known to have a table"
      ])
  }

  @Test func `on a dump it is unknown where the context table is missing, unless one has none`()
    throws
  {
    let verdict = try Dump.vtd().check(lacking: [0x2000]).deviceHasTable()
    #expect(verdict.outcome == .unknown)
    #expect(verdict.texts[0] == "bus 00: unknown, the context table at 0x2000 is not in this dump")
    #expect(
      try Dump.vtd().check(devices: ["00:03.0", "01:00.0"], lacking: [0x2000]).deviceHasTable()
        .outcome == .broken)
  }

  @Test func `on a dump it is unknown of a device behind a unit that only firmware lists`() throws {
    var dump = try Dump.vtd()
    // 01:00.0 is behind a unit at 0xfed91000, everything else behind the one whose registers are known.
    let firmware = VTd.DMAR(
      header: ACPI.TableHeader(revision: 1, oemID: "T", oemTableID: "T", creatorID: "T"),
      platform: VTd.DMAR.Platform(hostAddressWidth: 39),
      structures: [
        .hardwareUnit(
          .init(
            base: PhysicalAddress(0xfed9_1000),
            scopes: [.init(.endpoint, Requester("01:00.0")!)])),
        .hardwareUnit(.init(base: PhysicalAddress(0xfed9_0000), includesAllPCI: true)),
      ])
    dump.machine.units = firmware.completing(dump.machine.units)
    let unknown = "01:00.0: unknown, the registers of the unit are not known"
    let check = try dump.check(devices: ["00:03.0", "01:00.0"])
    #expect(check.deviceHasTable().texts == [unknown])
    #expect(check.identity().texts == [unknown])
    #expect(check.identity().outcome == .unknown)
    #expect(try dump.check(devices: ["00:03.0"]).deviceHasTable().outcome == .holds)
    #expect(
      try dump.check(devices: ["00:05.0"]).deviceHasTable().texts == [
        "00:05.0: has no table: the device has no domain: context entry not present"
      ])
  }

  @Test func `it does not apply where no unit blocks a device`() throws {
    #expect(try Dump.nommu().check(devices: []).deviceHasTable().outcome == .notApplicable)
    #expect(try Dump.gart().check(devices: []).deviceHasTable().outcome == .notApplicable)
    #expect(try Dump.calgary().check(devices: []).deviceHasTable().outcome == .notApplicable)
    #expect(check(try crash(.nommu)).deviceHasTable().outcome == .notApplicable)
    #expect(check(try crash(.calgary)).deviceHasTable().outcome == .notApplicable)
  }

  /// A device first used by the kdump kernel.
  static let spare = Device(
    name: "dump target", requester: Requester(bus: 4, device: 0, function: 0),
    isUsedByPrimary: false)

  @Test func `in a live crash it holds for a device that no driver of the primary used`() throws {
    let primary = try crash(.vtd, devices: Device.usual + [Self.spare])
    #expect(check(primary).deviceHasTable().outcome == .holds)
    #expect(check(primary).identity().outcome == .holds)
  }

  @Test func `in a live crash it is broken when domains are made only by mapping`() throws {
    let primary = try crash(.vtd, applyingRule: false, devices: Device.usual + [Self.spare])
    #expect(
      check(primary).deviceHasTable().texts == [
        "04:00.0: dump target has no table: the bus has no context table: root entry not present"
      ])
  }

  @Test func `in a live crash it is broken when a driver is unbound after the set-up`() throws {
    let primary = try crash(.vtd)
    primary.unbind(disk)
    let verdict = check(primary).deviceHasTable()
    #expect(verdict.outcome == .broken)
    #expect(verdict.findings.map(\.device) == [PCI.Function(disk.requester)])
    // Its tables were given back, and nothing points at them any more.
    #expect(!primary.freedTables.isEmpty)
    #expect(check(primary).tablesSound().outcome == .holds)
    // The set-up can be made again.
    try primary.applyRule()
    #expect(check(primary).identity().outcome == .holds)
  }

  @Test func `in a live crash it is unknown of a kdump kernel that needs no device`() throws {
    #expect(check(try crash(.vtd, devices: idleDevices)).deviceHasTable().outcome == .unknown)
  }
}

/// R12. On a dump it is always unknown: what the kdump kernel did is not in it. In a live crash it is
/// never unknown, and it always applies: any device may be left at work.
@Suite struct DeviceHarmlessTests {
  @Test func `on a dump it is unknown`() throws {
    let verdict = try Dump.vtd().check().deviceHarmless()
    #expect(verdict.outcome == .unknown)
    #expect(verdict.texts == ["what the kdump kernel did is not known"])
  }

  @Test
  func
    `in a live crash it is broken by a device that was not reset and whose number was given out`()
    throws
  {
    let primary = try crash(.vtd)
    let leftover = try #require(primary.mapped.first { $0.device == disk })
    func verdict(reset: Set<Requester>) -> RuleVerdict {
      check(primary) {
        $0.kdumpNumbers = [.init(requester: disk.requester, iova: leftover.iovas)]
        $0.devicesResetByKdump = reset
      }.deviceHarmless()
    }
    #expect(verdict(reset: []).outcome == .broken)
    #expect(verdict(reset: [disk.requester]).outcome == .holds)
    #expect(check(primary).deviceHarmless().outcome == .holds)
  }
}
