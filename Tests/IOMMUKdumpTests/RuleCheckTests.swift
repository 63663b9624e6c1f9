import IOMMUFormats
import IOMMUTranslation
import Testing

@testable import IOMMUKdump

/// A machine of 256 MiB with 16 MiB of crash kernel at 32 MiB: small, so that every page is
/// looked at.
func smallConfiguration(
  _ mode: TranslationMode, devices: [Device] = Device.usual,
  crashKernel: [Range<PhysicalAddress>] = [
    PhysicalAddress(0x200_0000)..<PhysicalAddress(0x300_0000)
  ],
  ramByteCount: UInt64 = 256 << 20
) throws -> MachineConfiguration {
  let ram = try MemoryMap.ram(byteCount: ramByteCount)
  return MachineConfiguration(
    mode: mode, map: try MemoryMap(ram: ram, crashKernel: crashKernel), devices: devices)
}

private let disk = Device.usual[0]

private func evidence(_ primary: PrimaryKernel) -> RuleEvidence {
  RuleEvidence(
    machine: primary.machine, devices: primary.configuration.devices,
    allocatorEvents: primary.events,
    leftovers: primary.mapped.map {
      .init(requester: $0.device.requester, iova: $0.iovas, target: $0.target)
    },
    freedTables: primary.freedTables, registerWritesByKdump: [], kdumpNumbers: [],
    devicesResetByKdump: [])
}

private func check(
  _ primary: PrimaryKernel, _ change: (inout RuleEvidence) -> Void = { _ in }
) -> RuleCheck<FlatMemory> {
  var evidence = evidence(primary)
  change(&evidence)
  return RuleCheck(evidence: evidence, memory: primary.memory)
}

/// A kernel that has done what the Rule demands and then started its drivers.
private func ready(_ configuration: MachineConfiguration) throws -> PrimaryKernel {
  let primary = try PrimaryKernel(configuration)
  try primary.applyRule()
  CrashSimulation().startDrivers(primary)
  return primary
}

/// Where the walk of one device's IOVA ends.
private func lastEntry(_ primary: PrimaryKernel, _ iova: UInt64) -> PhysicalAddress {
  struct Last: WalkObserver {
    var address = PhysicalAddress(0)
    mutating func read<Entry: TableEntry>(
      _: Entry, at address: PhysicalAddress, in _: TablePlace, index _: UInt64,
      as _: @autoclosure () -> Entry.Variant
    ) {
      self.address = address
    }
  }
  var last = Last()
  let handle = primary.machine.resolve(disk.requester, in: primary.memory)
  _ = handle.translate(
    IOVA(iova), byteCount: 1, access: .read, in: primary.memory, observer: &last)
  return last.address
}

@Suite struct RuleCheckTests {
  static let translated: [TranslationMode] = [.calgary, .vtd]

  // R1

  @Test(arguments: TranslationMode.allCases)
  func `R1 holds when the primary has done its part`(mode: TranslationMode) throws {
    #expect(check(try ready(smallConfiguration(mode))).identity().outcome == .holds)
  }

  @Test(arguments: translated)
  func `R1 is broken when the primary has done nothing`(mode: TranslationMode) throws {
    let verdict = check(try PrimaryKernel(smallConfiguration(mode))).identity()
    #expect(verdict.outcome == .broken)
    #expect(verdict.findings.count == 3)
    #expect(verdict.findings[0].text.hasPrefix("4096 of 4096 pages are not mapped to themselves"))
  }

  @Test func `R1 finds the one page that is missing`() throws {
    let primary = try ready(smallConfiguration(.calgary))
    primary.memory.store(0 as UInt64, at: lastEntry(primary, 0x2ff_f000))
    let verdict = check(primary).identity()
    #expect(verdict.outcome == .broken)
    #expect(verdict.findings.map(\.iova) == [IOVA(0x2ff_f000)])
    #expect(verdict.findings[0].text.hasPrefix("1 of 4096 pages"))
  }

  @Test func `R1 finds a page without write permission`() throws {
    let primary = try ready(smallConfiguration(.calgary))
    // 0x2000000, read only, big-endian.
    primary.memory.store(bigEndian: 0x200_0001 as UInt64, at: lastEntry(primary, 0x200_0000))
    let verdict = check(primary).identity()
    #expect(verdict.outcome == .broken)
    #expect(verdict.findings[0].text.hasSuffix("write faults: TCE without write permission"))
  }

  // R2

  @Test(arguments: TranslationMode.allCases)
  func `R2 holds when the primary has done its part`(mode: TranslationMode) throws {
    #expect(check(try ready(smallConfiguration(mode))).noOtherNumber().outcome == .holds)
  }

  @Test func `R2 finds a stray entry that maps into the crash kernel`() throws {
    let primary = try ready(smallConfiguration(.calgary))
    let stray = primary.mapped.first { $0.device == disk }!
    primary.memory.store(
      bigEndian: 0x2ab_c003 as UInt64, at: lastEntry(primary, stray.iova.rawValue))
    let verdict = check(primary).noOtherNumber()
    #expect(verdict.outcome == .broken)
    #expect(verdict.findings.count == 1)
    #expect(verdict.findings[0].table == "bus:01")
    #expect(verdict.findings[0].iova == IOVA(stray.iova.alignedDown(to: 4096).rawValue))
  }

  // R3

  @Test(arguments: translated)
  func `R3 holds when the numbers were reserved before drivers started`(mode: TranslationMode)
    throws
  {
    #expect(check(try ready(smallConfiguration(mode))).reservedFirst().outcome == .holds)
  }

  @Test func `R3 is broken when a number of the crash kernel was handed out`() throws {
    let primary = try PrimaryKernel(smallConfiguration(.calgary))
    // Next fit climbs: 48 MiB of mappings reach the crash kernel's numbers at 32 MiB.
    for _ in 0..<48 {
      _ = try primary.mapNewBuffer(byteCount: 1 << 20, for: disk, direction: .fromDevice)
    }
    let verdict = check(primary).reservedFirst()
    #expect(verdict.outcome == .broken)
    #expect(verdict.findings.contains { $0.requester == disk.requester && $0.iova != nil })
  }

  @Test func `R3 is unknown when nobody kept the allocator's history`() throws {
    let primary = try ready(smallConfiguration(.calgary))
    #expect(check(primary) { $0.allocatorEvents = nil }.reservedFirst().outcome == .unknown)
  }

  // R4

  @Test(arguments: TranslationMode.allCases)
  func `R4 holds for the DMA of ordinary drivers`(mode: TranslationMode) throws {
    #expect(check(try ready(smallConfiguration(mode))).leftoverDisjoint().outcome == .holds)
  }

  @Test func `R4 is broken by leftover DMA with a number or a byte of the crash kernel`() throws {
    let primary = try ready(smallConfiguration(.vtd))
    let inside = PhysicalAddress(0x200_0000)..<PhysicalAddress(0x200_1000)
    let outside = PhysicalAddress(0x800_0000)..<PhysicalAddress(0x800_1000)
    for (iova, target) in [(0x200_0000, outside), (0xffff_0000, inside)] {
      let range = IOVA(UInt64(iova))..<IOVA(UInt64(iova) + 0x1000)
      let verdict = check(primary) {
        $0.leftovers = [.init(requester: disk.requester, iova: range, target: target)]
      }.leftoverDisjoint()
      #expect(verdict.outcome == .broken)
      #expect(verdict.findings.count == 1)
    }
  }

  // R5

  @Test
  func `R5 holds for a kdump kernel that writes no register and names the write of one that does`()
    throws
  {
    let primary = try ready(smallConfiguration(.vtd))
    #expect(check(primary).noRegisterWrites().outcome == .holds)
    let verdict = check(primary) {
      $0.registerWritesByKdump = [.init(unit: "unit at 0xfed90000", offset: 0x18, value: 0)]
    }.noRegisterWrites()
    #expect(verdict.outcome == .broken)
    #expect(verdict.findings[0].text == "unit at 0xfed90000: register 0x18 was written with 0x0")
    #expect(
      check(primary) { $0.registerWritesByKdump = nil }.noRegisterWrites().outcome == .unknown)
  }

  // R6 and R7: crash kernels above 4 GiB, K16.

  static let high = PhysicalAddress(0x1_0800_0000)..<PhysicalAddress(0x1_0900_0000)
  static let low = PhysicalAddress(0x2f00_0000)..<PhysicalAddress(0x2f80_0000)

  @Test func `R6 is broken by a 32-bit device and a crash kernel above 4 GiB`() throws {
    #expect(check(try ready(smallConfiguration(.vtd))).fitsMasks().outcome == .holds)
    let primary = try ready(
      smallConfiguration(.vtd, crashKernel: [Self.high], ramByteCount: 4 << 30))
    let verdict = check(primary).fitsMasks()
    #expect(verdict.outcome == .broken)
    #expect(verdict.findings.map(\.requester) == [Requester(bus: 0, device: 3, function: 0)])
  }

  @Test func `R7 needs a low part below 4 GiB, mapped as well`() throws {
    #expect(check(try ready(smallConfiguration(.vtd))).lowPart().outcome == .notApplicable)
    let without = try ready(
      smallConfiguration(.vtd, crashKernel: [Self.high], ramByteCount: 4 << 30))
    #expect(check(without).lowPart().outcome == .broken)
    let with = try ready(
      smallConfiguration(.vtd, crashKernel: [Self.high, Self.low], ramByteCount: 4 << 30))
    #expect(check(with).lowPart().outcome == .holds)
    // The low part reserved, but not mapped for the devices.
    let unmapped = try PrimaryKernel(
      smallConfiguration(.vtd, crashKernel: [Self.high, Self.low], ramByteCount: 4 << 30))
    #expect(check(unmapped).lowPart().outcome == .broken)
  }

  // R8, K13: a device first used by the kdump kernel.

  static let spare = Device(
    name: "dump target", requester: Requester(bus: 4, device: 0, function: 0),
    isUsedByPrimary: false)

  @Test func `R8 holds for a device that no driver of the primary used`() throws {
    let primary = try ready(smallConfiguration(.vtd, devices: Device.usual + [Self.spare]))
    #expect(check(primary).deviceHasTable().outcome == .holds)
    #expect(check(primary).identity().outcome == .holds)
  }

  @Test func `R8 is broken when domains are made only by mapping`() throws {
    let primary = try PrimaryKernel(smallConfiguration(.vtd, devices: Device.usual + [Self.spare]))
    CrashSimulation().startDrivers(primary)
    let verdict = check(primary).deviceHasTable()
    #expect(verdict.outcome == .broken)
    #expect(verdict.findings.map(\.requester) == [Self.spare.requester])
  }

  @Test func `R8 is broken when a driver is unbound after the set-up`() throws {
    let primary = try ready(smallConfiguration(.vtd))
    primary.unbind(disk)
    let verdict = check(primary).deviceHasTable()
    #expect(verdict.outcome == .broken)
    #expect(verdict.findings.map(\.requester) == [disk.requester])
    // Its tables were given back, and nothing points at them any more.
    #expect(!primary.freedTables.isEmpty)
    #expect(check(primary).tablesSound().outcome == .holds)
    // The set-up can be made again.
    try primary.applyRule()
    #expect(check(primary).identity().outcome == .holds)
  }

  // R9

  @Test(arguments: [TranslationMode.gart] + translated)
  func `R9 holds for tables that are outside the crash kernel and sound`(mode: TranslationMode)
    throws
  {
    #expect(check(try ready(smallConfiguration(mode))).tablesSound().outcome == .holds)
  }

  @Test func `R9 finds a table in the crash kernel`() throws {
    let primary = try ready(smallConfiguration(.vtd))
    let iova = primary.mapped.first { $0.device == disk }!.iova.rawValue
    let leafTable = lastEntry(primary, iova).alignedDown(to: 4096)
    let verdict = check(primary) {
      $0.machine.crashKernel = [leafTable..<PhysicalAddress(leafTable.rawValue + 4096)]
    }.tablesSound()
    #expect(verdict.outcome == .broken)
    #expect(verdict.findings.contains { $0.entryAddress == leafTable })
  }

  @Test func `R9 finds a table that was given back and an entry that was damaged`() throws {
    let primary = try ready(smallConfiguration(.vtd))
    let iova = primary.mapped.first { $0.device == disk }!.iova.rawValue
    let entry = lastEntry(primary, iova)
    let table = entry.alignedDown(to: 4096)
    let freed = check(primary) {
      $0.freedTables = [table..<PhysicalAddress(table.rawValue + 4096)]
    }.tablesSound()
    #expect(freed.outcome == .broken)
    #expect(freed.findings[0].text == "table at \(table) has been given back and is still used")
    // Bit 62 is reserved in this unit.
    primary.memory.store(primary.memory.quadword(at: entry)! | 1 << 62, at: entry)
    let damaged = check(primary).tablesSound()
    #expect(damaged.outcome == .broken)
    #expect(damaged.findings.map(\.entryAddress) == [entry])
  }

  @Test func `R9 looks at PASID directories and tables too`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    for (address, word) in [
      (0x10_0000, 0x10_1001), (0x10_1400, 0x12_0001), (0x12_0000, 0x12_1001), (0x12_1000, 0x101),
      (0x12_1008, 5),
    ] as [(UInt64, UInt64)] {
      memory.store(word, at: PhysicalAddress(address))
    }
    func verdict(_ crashKernel: Range<UInt64>) -> RuleVerdict {
      let machine = Machine(
        name: "scalable",
        units: [
          .vtd(
            VTd.Unit(
              base: PhysicalAddress(0xfed9_0000),
              rootTableAddress: VTd.RootTableAddress(rawValue: 0x10_0400),
              status: VTd.GlobalStatus(rawValue: 0xc000_0000), limits: .permissive))
        ], crashKernel: [crashKernel.mapped])
      return RuleCheck(evidence: RuleEvidence(machine: machine, devices: []), memory: memory)
        .tablesSound()
    }
    #expect(verdict(0x20_0000..<0x30_0000).outcome == .holds)
    #expect(
      verdict(0x12_0000..<0x12_1000).findings.map(\.text)
        == ["table at 0x120000 lies in the crash kernel"])
    #expect(
      verdict(0x12_1000..<0x12_2000).findings.map(\.text)
        == ["table at 0x121000 lies in the crash kernel"])
    #expect(verdict(0x10_1000..<0x10_2000).outcome == .broken)
  }

  // R10

  @Test func `R10 is broken when interrupt remapping blocks the compatibility format`() throws {
    let primary = try ready(smallConfiguration(.vtd))
    #expect(check(primary).interrupts().outcome == .notApplicable)
    // GSTS: TES, RTPS, IRES; then CFIS as well.
    for (status, outcome) in [
      (0xc200_0000 as UInt32, RuleVerdict.Outcome.broken), (0xc280_0000, .holds),
    ] {
      let verdict = check(primary) { evidence in
        guard var unit = evidence.machine.units[0].as(VTd.Unit.self) else { return }
        unit.status = VTd.GlobalStatus(rawValue: status)
        evidence.machine.units = [.vtd(unit)]
      }.interrupts()
      #expect(verdict.outcome == outcome)
    }
  }

  // R11

  @Test func `R11 is broken when the CPU reads RAM through an aperture`() throws {
    let primary = try ready(smallConfiguration(.gart))
    #expect(check(primary).cpuView().outcome == .holds)
    // 64 MiB over RAM at 0x8000000; 0x90 = 0x03 translates for the CPU, 0x13 does not.
    for (control, outcome) in [
      (0x03 as UInt32, RuleVerdict.Outcome.broken), (0x13, .notApplicable),
    ] {
      let verdict = check(primary) { evidence in
        guard var node = evidence.machine.units[0].as(GART.Node.self) else { return }
        node.base = GART.ApertureBase(rawValue: 0x4)
        node.control = GART.ApertureControl(rawValue: control)
        evidence.machine.units = [.gart(node)]
      }.cpuView()
      #expect(verdict.outcome == outcome)
    }
  }

  // R12

  @Test func `R12 is broken by a device that was not reset and whose number was given out again`()
    throws
  {
    let primary = try ready(smallConfiguration(.vtd))
    let leftover = primary.mapped.first { $0.device == disk }!
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

  // R13

  @Test func `R13 is broken by the Rule itself and holds without it`() throws {
    let with = check(try ready(smallConfiguration(.calgary))).exposure()
    #expect(with.outcome == .broken)
    #expect(with.findings.count == 3)
    #expect(with.rule.isBrokenByDesign)
    #expect(check(try PrimaryKernel(smallConfiguration(.calgary))).exposure().outcome == .holds)
  }
}

extension Range where Bound == UInt64 {
  fileprivate var mapped: Range<PhysicalAddress> {
    PhysicalAddress(lowerBound)..<PhysicalAddress(upperBound)
  }
}
