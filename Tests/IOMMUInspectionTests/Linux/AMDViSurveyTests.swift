import IOMMUFormats
import IOMMUTranslation
import Testing

@testable import IOMMUInspection
@testable import IOMMULinux

/// Devices 00:03.0 and 00:04.0 of an AMD-Vi unit, as the kernel and as the tables have them.
@Suite struct AMDViSurveyTests {
  private static let unit: UInt64 = 0xffff_8880_0000_1000
  private static let domain: UInt64 = 0xffff_8880_0000_2000

  /// V, TV, IR and IW, and what else is said.
  private static func entry(levels: UInt64, root: UInt64) -> UInt64 {
    0x6000_0000_0000_0003 | levels << 9 | root
  }

  // A device table of 8 KiB at 0x8000: all stop but 00:03.0, which has 0xa000 → 0xb000 → 0xc000 and id 3,
  // and 00:04.0, which passes.
  private static func memory(_ more: [UInt64: UInt64] = [:]) throws -> FlatMemory {
    let memory = try FlatMemory(byteCount: 1 << 20)
    var words: [UInt64: UInt64] = [:]
    for number in 0..<256 as Range<UInt64> { words[0x8000 + 32 * number] = 3 }
    words[0x8000 + 32 * 0x18] = entry(levels: 3, root: 0xa000)
    words[0x8008 + 32 * 0x18] = 3
    words[0x8000 + 32 * 0x20] = 0x6000_0000_0000_0003
    words[0x8008 + 32 * 0x20] = 2
    words[0xa000] = 0x6000_0000_0000_b401
    words[0xb000] = 0x6000_0000_0000_c201
    words[0xc000 + 0x80 * 8] = 0x6000_0000_0008_0001
    words.merge(more) { $1 }
    for (address, word) in words { memory.store(word, at: PhysicalAddress(address)) }
    return memory
  }

  private static func function(_ rawValue: UInt16) -> PCI.Function {
    PCI.Function(Requester(rawValue: rawValue))
  }

  private static func device(
    _ requester: UInt16, group: Int, _ attachment: KernelDevice.Attachment = .domain(domain)
  ) -> KernelDevice {
    var device = KernelDevice(
      name: function(requester).longText, address: UInt64(requester), function: function(requester))
    device.requester = device.function
    device.group = group
    device.unit = unit
    device.attachment = attachment
    return device
  }

  private static func state(
    root: UInt64 = 0xa000, levels: Int = 3, id: UInt32 = 3,
    ranges: [ClosedRange<UInt64>] = [0x80...0x80],
    devices: [KernelDevice] = [device(0x18, group: 1)]
  ) -> IOMMUState {
    var unit = KernelUnit(kind: .amdvi, address: Self.unit, name: "ivhd0")
    unit.registerBase = PhysicalAddress(0xfed8_0000)
    unit.table = PhysicalAddress(0x8000)
    unit.tableByteCount = 0x2000
    unit.extendedCapability = 0x29d3
    unit.segment = 0
    var domain = KernelDomain(address: Self.domain)
    domain.type = 3
    domain.ids = [.init(unit: Self.unit, id: id)]
    domain.root = PhysicalAddress(root)
    domain.levels = levels
    domain.isFirstStage = false
    domain.iova = IOVAAllocator(granule: 4096, ranges: ranges)
    var state = IOMMUState()
    state.units = [unit]
    state.devices = devices
    state.domains = [domain]
    return state
  }

  private static func survey(
    _ state: IOMMUState, _ memory: some PhysicalMemory, role: LinuxKernels.Role = .old,
    after old: IOMMUState? = nil
  ) -> KernelSurvey {
    KernelSurvey(state, role: role, resources: nil, after: old, in: memory)
  }

  /// Of one device: the other is one that the kernel has let pass.
  private static func findings(_ state: IOMMUState, _ memory: FlatMemory) -> [String] {
    var state = state
    state.devices.append(device(0x20, group: 2, .none))
    return survey(state, memory).findings.map { "\($0.kind.rawValue): \($0.device): \($0.text)" }
  }

  @Test func `where all agree there is no finding`() throws {
    let survey = Self.survey(
      Self.state(devices: [
        Self.device(0x18, group: 1), Self.device(0x20, group: 2, .none),
        Self.device(0x28, group: 3, .none),
      ]), try Self.memory())
    #expect(survey.findings.isEmpty && survey.unknown.isEmpty)
    #expect(
      survey.devices.map(\.seen) == [
        .table(PhysicalAddress(0xa000), domainID: 3), .passes, .none,
      ])
    #expect(survey.devices.map(\.pageCount) == [1, nil, nil])
    #expect(survey.devices.map(\.levels) == [3, nil, nil])
    #expect(survey.devices[0].counts == .init(live: 1, cached: 0, waiting: 0, reserved: 0))
  }

  @Test func `another table, depth or id, none, or all of memory`() throws {
    let memory = try Self.memory()
    #expect(
      Self.findings(Self.state(root: 0xd000), memory) == [
        "other table: 00:03.0: the kernel has attached the table at 0xd000, and the unit has that at 0xa000"
      ])
    #expect(
      Self.findings(Self.state(levels: 4), memory) == [
        "other levels: 00:03.0: the kernel's table at 0xa000 has 4 levels, and the unit walks 3"
      ])
    #expect(
      Self.findings(Self.state(id: 4), memory) == [
        "other domain id: 00:03.0: the kernel says domain 4, and the unit has 3"
      ])
    #expect(
      Self.findings(Self.state(), try Self.memory([0x8000 + 32 * 0x18: 3])) == [
        "other table: 00:03.0: the kernel has attached the table at 0xa000, and the unit has no entry for it"
      ])
    // Without V, and with V and TV and no table, the address is its own.
    for low in [0, 0x6000_0000_0000_0003] as [UInt64] {
      #expect(
        Self.findings(Self.state(), try Self.memory([0x8000 + 32 * 0x18: low])) == [
          "other table: 00:03.0: the kernel has attached the table at 0xa000, and the unit lets it pass"
        ])
    }
  }

  @Test func `pages and numbers that do not fit`() throws {
    // A page of 8 KiB, by next level 7: two of 4 KiB.
    let large = try Self.memory([
      0xc000 + 0x90 * 8: 0x6000_0000_0009_0e01, 0xc000 + 0x91 * 8: 0x6000_0000_0009_0e01,
    ])
    let survey = Self.survey(Self.state(ranges: [0x80...0x80, 0x90...0x91]), large)
    #expect(survey.devices[0].pageCount == 3)
    #expect(survey.devices[0].counts?.live == 2)
    #expect(
      Self.findings(Self.state(), large) == [
        "mapped, not allocated: 00:03.0: 0x90000..<0x92000 is mapped, and not allocated in whole"
      ])
    #expect(
      Self.findings(Self.state(ranges: [0x80...0x80, 0xc0...0xc0]), try Self.memory()) == [
        "allocated, not mapped: 00:03.0: 0xc0000..<0xc1000 is allocated, and nothing is mapped there"
      ])
    // What HyperTransport has for itself is memory of nobody's.
    #expect(
      Self.findings(Self.state(ranges: [0x80...0x80, 0xfd0_0000...0xfff_ffff]), try Self.memory())
        == [])
  }

  @Test func `a requester that is nobody, and one that is an alias`() throws {
    let memory = try Self.memory([
      0x8000 + 32 * 0x19: Self.entry(levels: 3, root: 0xa000), 0x8008 + 32 * 0x19: 3,
    ])
    #expect(
      Self.findings(Self.state(), memory) == [
        "no such device: 00:03.1: the unit has a table for a requester that is no device of the kernel's"
      ])
    var device = Self.device(0x18, group: 1)
    device.aliases = [Self.function(0x19)]
    #expect(Self.findings(Self.state(devices: [device]), memory) == [])
  }

  /// GV and GIoV with a GCR3 table at 0xd000, whose first entry leads to 0xe000.
  @Test func `tables of version 2 have an id of the device's own`() throws {
    let memory = try Self.memory([
      0x8000 + 32 * 0x18: 0x60c0_0000_0000_0003 | (0xd000 >> 12 & 7) << 58,
      0x8008 + 32 * 0x18: 9 | (0xd000 >> 15) << 16,
      0xd000: 0xe001, 0xe000: 0xf007, 0xf000: 0x1_0007, 0x1_0000: 0x1_1007,
      0x1_1000 + 0x80 * 8: 0x8_0007,
    ])
    var device = Self.device(0x18, group: 1)
    device.ownDomainID = 9
    var state = Self.state(root: 0xe000, levels: 4, devices: [device])
    state.domains[0].isFirstStage = true
    // EFR with GTSup and GIoSup.
    state.units[0].extendedCapability = 0x1_0000_0000_29d3
    let survey = Self.survey(state, memory)
    #expect(survey.devices[0].seen == .table(PhysicalAddress(0xe000), domainID: 9))
    #expect(survey.devices[0].levels == 4 && survey.devices[0].pageCount == 1)
    #expect(Self.findings(state, memory) == [])
    state.devices[0].ownDomainID = 8
    #expect(
      Self.findings(state, memory) == [
        "other domain id: 00:03.0: the kernel says domain 8, and the unit has 9"
      ])
  }

  @Test func `what a capture kernel has done with each device`() throws {
    let left = Self.survey(
      Self.state(root: 0xd000, devices: [Self.device(0x18, group: 1, .none)]), try Self.memory(),
      role: .capture, after: Self.state())
    #expect(left.devices[0].handOver == .left)
    #expect(
      left.findings.first?.text
        == "its entry leads to the old kernel's table at 0xa000, domain 3; no driver has attached it"
    )
    let replaced = Self.survey(Self.state(), try Self.memory(), role: .capture)
    #expect(replaced.devices[0].handOver == .replaced)
    let blocked = Self.survey(
      Self.state(devices: [Self.device(0x28, group: 1, .none)]), try Self.memory(), role: .capture)
    #expect(blocked.devices[0].handOver == .blocked)
  }

  @Test func `entries that the dump lacks leave their devices unknown`() throws {
    let lacking = LackingMemory(try Self.memory(), without: [0x9000])
    let devices = [Self.device(0x18, group: 1), Self.device(0x90, group: 2, .none)]
    let survey = Self.survey(Self.state(devices: devices), lacking)
    #expect(survey.devices.map(\.seen) == [.table(PhysicalAddress(0xa000), domainID: 3), .unknown])
    #expect(!survey.unknown.isEmpty)
  }

  /// What a damaged driver's structure says of a table is no table, and no trap.
  @Test func `a device table that cannot be`() throws {
    let memory = try Self.memory()
    func unknown(_ change: (inout KernelUnit) -> Void) -> String {
      var state = Self.state()
      change(&state.units[0])
      let made = KernelMachine(state, in: memory)
      #expect(made.machine.units.isEmpty)
      return made.unknown.joined()
    }
    let name = "ivhd0 at 0xfed80000: "
    #expect(unknown { $0.table = nil } == name + "where its device table is, is not known")
    #expect(
      unknown { $0.tableByteCount = nil }
        == name + "its device table at 0x8000: how long it is, is not known")
    for byteCount in [0, 1, 4095, 0x2001, 1 << 22, .max] as [UInt64] {
      #expect(
        unknown { $0.tableByteCount = byteCount }.hasPrefix(
          name + "its device table at 0x8000: "), "\(byteCount)")
    }
    for table in [1, 0x8001, 1 << 52, 1 << 63, .max] as [UInt64] {
      #expect(
        unknown { $0.table = PhysicalAddress(table) }.contains("no page of the dump begins there"),
        "\(table)")
    }
    #expect(
      unknown { $0.registerBase = PhysicalAddress(1) }.contains("registers lie at a multiple of"))
  }

  @Test func `a unit has what its driver says of it`() throws {
    var state = Self.state()
    state.units[0].segment = 2
    let unit = try #require(
      KernelMachine(state, in: try Self.memory()).machine.units.first?.as(AMDVi.Unit.self))
    #expect(unit.base == PhysicalAddress(0xfed8_0000) && unit.segment == 2)
    #expect(unit.deviceTable.rawValue == 0x8001 && unit.features?.rawValue == 0x29d3)
    #expect(unit.control == nil && unit.translates)
    // The first units have no register of features: any depth is legal.
    state.units[0].extendedCapability = 0
    let first = try #require(
      KernelMachine(state, in: try Self.memory()).machine.units.first?.as(AMDVi.Unit.self))
    #expect(first.features == nil)
  }

  /// Units of one segment have one device table.
  @Test func `two units with one table are no quarrel`() throws {
    var state = Self.state()
    var other = state.units[0]
    other.name = "ivhd1"
    other.address = Self.unit + 0x1000
    other.registerBase = PhysicalAddress(0xfec0_0000)
    state.units.append(other)
    state.devices[0].unit = other.address
    state.domains[0].ids.append(.init(unit: other.address, id: 3))
    state.devices.append(Self.device(0x20, group: 2, .none))
    let survey = Self.survey(state, try Self.memory())
    #expect(survey.findings.isEmpty && survey.unknown.isEmpty)
    #expect(survey.devices[0].seen == .table(PhysicalAddress(0xa000), domainID: 3))
    #expect(survey.devices[0].pageCount == 1)
  }
}
