import IOMMUFormats
import IOMMUHardware
import IOMMUTestSupport
import IOMMUTranslation
import Testing

@testable import IOMMUKdump

/// A machine with one chip: a disk on bus 1, a NIC behind a bridge on bus 3 of the third PHB.
private struct Machine {
  let platform: CalgaryMachine
  let memory: FlatMemory
  static let base = PhysicalAddress(0xfe00_0000)
  static let disk = Requester(bus: 1, device: 1, function: 0)
  static let nic = Requester(bus: 3, device: 4, function: 0)

  init(
    _ model: Calgary.Chip.Model = .calgary, options: CalgaryOptions = CalgaryOptions()
  ) throws {
    memory = try FlatMemory(byteCount: 1 << 30)
    var firmware = CalgaryFirmware(
      model: model, chassis: [[.init(base: Self.base, buses: [0...0, 1...1, 2...3, 4...4])]],
      options: options)
    let disks = try #require(firmware.topology.bus(numbered: 1))
    firmware.topology.addEndpoint(device: 1, on: disks, portType: nil)
    let root = try #require(firmware.topology.bus(numbered: 2))
    let below = firmware.topology.addBridge(nil, device: 1, on: root)
    firmware.topology.addEndpoint(device: 4, on: below, portType: nil)
    var top: UInt64 = 0x4000_0000
    platform = CalgaryMachine(firmware, memory: memory) { byteCount, _ in
      top = (top - byteCount) & ~(byteCount - 1)
      return PhysicalAddress(top)
    }
  }

  var unit: CalgaryUnit { platform.units[0] }

  func driver(
    _ version: LinuxCalgaryDriver.Version = .linux4_4, isKdump: Bool = false,
    saved: UInt64 = 0, size: Calgary.TableSize? = nil, disabled: Set<UInt8> = [],
    emptySlots: Bool = false
  ) throws -> LinuxCalgaryDriver {
    let driver = LinuxCalgaryDriver(
      .init(
        version: version, isKdump: isKdump, endOfRAM: 1 << 30, savedEndOfRAM: saved,
        tableSize: size, disabledBuses: disabled, translatesEmptySlots: emptySlots),
      platform: platform)
    try driver.start()
    return driver
  }

  func translate(_ device: Requester, _ iova: IOVA, _ access: Access = .write) -> Translation? {
    unit.translate(DMARequest(access, by: device, at: iova), in: memory)
  }
}

@Suite struct LinuxCalgaryDriverTests {
  @Test func `buses with devices are found and translated, others left alone`() throws {
    let machine = try Machine()
    let driver = try machine.driver(size: .kib512)
    #expect(driver.buses.map(\.number) == [1, 2])
    #expect(machine.unit.value(of: .tableAddress, 1) == 0x3ff8_0003)
    #expect(machine.unit.value(of: .tableAddress, 2) == 0x3ff0_0003)
    #expect(machine.unit.value(of: .tableAddress, 0) == 0)
    #expect(machine.unit.value(of: .configuration, 1) == 0x2110_0000)
    #expect(machine.unit.value(of: .configuration, 0) == 0)
    // Bus 1 of a Calgary gets two seconds for split completions.
    #expect(machine.unit.value(of: .chipConfiguration) == 0x0000_0e00_0000_0000)
    #expect(driver.busIndex(of: Machine.nic) == 1)
    #expect(driver.busIndex(of: Requester(bus: 4, device: 1, function: 0)) == nil)
  }

  @Test func `options on the command line choose buses`() throws {
    #expect(try Machine().driver(size: .kib64, disabled: [1]).buses.map(\.number) == [2])
    #expect(
      try Machine().driver(size: .kib64, emptySlots: true).buses.map(\.number) == [0, 1, 2, 4])
    // A CalIOC2 is always taken to have devices.
    let ioc = try Machine(.calioc2)
    #expect(try ioc.driver(size: .kib64).buses.map(\.number) == [0, 1, 2, 4])
    #expect(ioc.unit.value(of: .saviorL2, 0) == 0x0080_0000)
    #expect(ioc.unit.value(of: .chipConfiguration) == 0)
  }

  // T27, and the rules of 2014.
  @Test func `the size of the table by version and memory`() {
    typealias Configuration = LinuxCalgaryDriver.Configuration
    func code(
      _ version: LinuxCalgaryDriver.Version, _ end: UInt64, saved: UInt64? = nil,
      size: Calgary.TableSize? = nil
    ) -> UInt8 {
      Configuration(
        version: version, isKdump: saved != nil, endOfRAM: end, savedEndOfRAM: saved ?? 0,
        tableSize: size
      ).chosenTableSize.rawValue
    }
    let ends: [UInt64] = [0x4000_0000, 0x8000_0000, 0x8000_1000, 0x8000_2000, 0x1_9800_0000]
    #expect(ends.map { code(.linux2_6_27, $0) } == [5, 6, 6, 7, 7])
    #expect(ends.map { code(.linux3_6, $0) } == [5, 6, 6, 7, 7])
    #expect(ends.map { code(.linux4_4, $0) } == [7, 7, 7, 7, 7])
    #expect(code(.linux4_4, 0xa00_0000, saved: 0x4000_0000) == 5)
    #expect(code(.linux4_4, 0xa00_0000, saved: 0) == 7)
    #expect(code(.linux3_6, 0xa00_0000, saved: 0x8000_0000) == 6)
    #expect(code(.linux3_6, 0xa00_0000, saved: 0) == 7)
    // Before 2.6.27 a kdump kernel is a kernel like any other.
    #expect(code(.linux2_6_26, 0xa00_0000, saved: 0x8000_0000) == 3)
    #expect(code(.linux4_4, 1 << 40, size: .kib128) == 1)
  }

  @Test func `releases are told apart`() {
    typealias Version = LinuxCalgaryDriver.Version
    #expect(Version(release: "4.4.60") == .linux4_4)
    #expect(Version(release: "3.6.0") == .linux3_6)
    #expect(Version(release: "2.6.32.5") == .linux2_6_27)
    #expect(Version(release: "2.6.18") == nil)
    #expect(Version(release: "6.1") == .linux5_4)
  }

  // T28, T29 with the windows of real registers.
  @Test func `the first numbers that a fresh table gives out`() throws {
    func first(
      _ model: Calgary.Chip.Model, _ version: LinuxCalgaryDriver.Version, _ pages: [UInt64]
    ) throws -> [UInt64?] {
      let driver = try Machine(model).driver(version, size: .mib8)
      return pages.map {
        driver.map(
          PhysicalAddress(0x80_0000), byteCount: $0 * 4096, permissions: .readWrite, on: 0
        )?.rawValue
      }
    }
    #expect(try first(.calgary, .linux4_4, [1, 96, 129]) == [0x2_0000, 0x2_1000, 0x10_0000])
    #expect(try first(.calioc2, .linux4_4, [1]) == [0x10_0000])
    #expect(try first(.calioc2, .linux2_6_23, [1]) == [0x20_0000])
    #expect(try first(.calgary, .linux5_4, [1]) == [0])
  }

  // T01 to T04, T06, T31, as stored by the driver.
  @Test func `entries are stored as the real driver stores them`() throws {
    let machine = try Machine()
    let driver = try machine.driver(size: .kib64)
    func bytes(_ page: Int, _ count: Int = 8) -> [UInt8]? {
      machine.memory.bytes(at: driver.entryAddress(page, on: 0), count: count)
    }
    let iova = driver.map(
      PhysicalAddress(0x1234_5ff8), byteCount: 16, permissions: .read, on: 0)
    #expect(iova == IOVA(0x2_0ff8))
    #expect(bytes(0x20, 16) == hexdump("00 00 00 00 12 34 50 01 00 00 00 00 12 34 60 01"))
    #expect(
      machine.translate(Machine.disk, IOVA(0x2_1004), .read)
        == .mapped(PhysicalAddress(0x1234_6004), byteCount: 1))
    #expect(machine.translate(Machine.disk, IOVA(0x2_1004)) == .fault(.calgary(.writeNotPermitted)))
    driver.unmap(IOVA(0x2_0ff8), byteCount: 16, on: 0)
    #expect(bytes(0x20, 16) == [UInt8](repeating: 0, count: 16))
    // Freeing does not move the next search back.
    #expect(
      driver.map(PhysicalAddress(0x1234_5000), byteCount: 4096, permissions: .readWrite, on: 0)
        == IOVA(0x2_2000))
    #expect(bytes(0x22) == hexdump("00 00 00 00 12 34 50 03"))
    #expect(
      driver.map(PhysicalAddress(0x1234_5001), byteCount: 4096, permissions: .readWrite, on: 0)
        == IOVA(0x2_3001))
    // "Failed" is nothing to take back, nor is what lies outside the table.
    driver.unmap(IOVA(0), byteCount: 4096, on: 0)
    driver.unmap(IOVA(0x200_0000), byteCount: 4096, on: 0)
    driver.unmap(IOVA(0x2_0000), byteCount: .max, on: 0)
    #expect(bytes(0x23) == hexdump("00 00 00 00 12 34 50 03"))
  }

  @Test func `a full table is flushed once for each attempt`() throws {
    var options = CalgaryOptions()
    options.cache = .unlimited
    for model in [Calgary.Chip.Model.calgary, .calioc2] {
      let machine = try Machine(model, options: options)
      let driver = try machine.driver(size: .kib64)
      let index = try #require(driver.busIndex(of: Machine.disk))
      let first = try #require(
        driver.map(PhysicalAddress(0x80_0000), byteCount: 4096, permissions: .readWrite, on: index))
      #expect(
        machine.translate(Machine.disk, first) == .mapped(PhysicalAddress(0x80_0000), byteCount: 1))
      driver.unmap(first, byteCount: 4096, on: index)
      // The cache still answers: no flush on unmap.
      #expect(
        machine.translate(Machine.disk, first) == .mapped(PhysicalAddress(0x80_0000), byteCount: 1))
      #expect(
        driver.map(PhysicalAddress(0), byteCount: 8192 * 4096, permissions: .read, on: index) == nil
      )
      #expect(
        driver.map(PhysicalAddress(0), byteCount: 8191 * 4096, permissions: .read, on: index) == nil
      )
      #expect(driver.buses[index].bitmap.wrapCount == 1)
      #expect(machine.translate(Machine.disk, first) == .fault(.calgary(.emptyEntry)))
      #expect(machine.unit.value(of: .arbitration, 1) == 0xffff_ffff)
      #expect(machine.unit.value(of: .pageMigrationControl, 1) == 0)
    }
  }

  @Test func `a CalIOC2 that does not stop is given up without an invalidation`() throws {
    var options = CalgaryOptions()
    options.cache = .unlimited
    let machine = try Machine(.calioc2, options: options)
    let driver = try machine.driver(size: .kib64)
    let first = try #require(
      driver.map(PhysicalAddress(0x80_0000), byteCount: 4096, permissions: .readWrite, on: 1))
    _ = machine.translate(Machine.disk, first)
    driver.unmap(first, byteCount: 4096, on: 1)
    machine.unit.set(.init(.pageMigrationDebug, 1), to: 0x4000_0000)
    machine.unit.set(.init(.splitQueue, 1), to: 0)
    #expect(!driver.flush(1))
    #expect(
      machine.translate(Machine.disk, first) == .mapped(PhysicalAddress(0x80_0000), byteCount: 1))
    machine.unit.set(.init(.pageMigrationDebug, 1), to: 0)
    #expect(driver.flush(1), "a queue that stays busy is waited for, and then not")
    #expect(machine.translate(Machine.disk, first) == .fault(.calgary(.emptyEntry)))
  }

  @Test func `T16: the watchdog shuts the slots of a bus with an error, once`() throws {
    for (model, dumped) in [(Calgary.Chip.Model.calgary, 2), (.calioc2, 12)] {
      let machine = try Machine(model)
      let driver = try machine.driver(size: .kib64)
      let index = try #require(driver.busIndex(of: Machine.disk))
      #expect(driver.tick().isEmpty)
      _ = machine.translate(Machine.disk, IOVA(0x3_0000))
      let findings = driver.tick()
      #expect(findings.map(\.bus) == [1])
      #expect(findings.first?.channelStatus.agent == 1)
      #expect(findings.first?.dump.count == dumped)
      #expect(findings.first?.dump.prefix(2) == [0x1001_0000, 0x0400_0000])
      #expect(machine.unit.value(of: .channelStatus, 1) == 0)
      #expect(machine.unit.value(of: .configuration, 1) == 0x3d10_0000)
      let iova = try #require(
        driver.map(PhysicalAddress(0x80_0000), byteCount: 8, permissions: .readWrite, on: index))
      #expect(machine.translate(Machine.disk, iova) == .fault(.calgary(.slotsDisabled)))
      #expect(driver.tick().isEmpty)
    }
  }

  @Test func `windows of bridges are kept out of use, one page more since 3.6`() throws {
    let window: Range<UInt64> = 0x10_0000..<0x10_2000
    #expect(LinuxCalgaryDriver.Version.linux2_6_27.pageCount(ofBridgeWindow: window) == 2)
    #expect(LinuxCalgaryDriver.Version.linux4_4.pageCount(ofBridgeWindow: window) == 3)
    let machine = try Machine(.calioc2)
    machine.platform.windows[1] = [window, 0..<0x1000]
    let driver = try machine.driver(size: .kib64)
    #expect(
      driver.map(PhysicalAddress(0x80_0000), byteCount: 8, permissions: .read, on: 1)
        == IOVA(0x10_3000))
  }

  // The eight PHBs of an x366, as its boot log has them.
  @Test func `T33: before the EBDA was asked, chips were worked out from bus numbers`() throws {
    func base(_ bus: UInt8) -> UInt64 {
      LinuxCalgaryDriver.registerBaseByFormula(bus: bus).rawValue
    }
    #expect([0, 6, 15].map(base) == [0xfda0_0000, 0xfdb0_0000, 0xfd20_0000])
    #expect(
      [1, 2, 4, 8, 0xa, 0xc].map(base).map { $0 >> 20 } == [
        0xfda, 0xfda, 0xfda, 0xfdb, 0xfdb, 0xfdb,
      ])
    let memory = try FlatMemory(byteCount: 16 << 20)
    var firmware = CalgaryFirmware(
      model: .calgary,
      chassis: [
        [
          .init(base: PhysicalAddress(0xfda0_0000), buses: [0...0, 1...1, 2...3, 4...5]),
          .init(base: PhysicalAddress(0xfdb0_0000), buses: [6...7, 8...9, 10...11, 12...12]),
        ]
      ])
    let bus = try #require(firmware.topology.bus(numbered: 8))
    firmware.topology.addEndpoint(device: 1, on: bus, portType: nil)
    let platform = CalgaryMachine(firmware, memory: memory) { _, _ in PhysicalAddress(0x10_0000) }
    let driver = LinuxCalgaryDriver(
      .init(version: .linux2_6_19, endOfRAM: 16 << 20, tableSize: .kib64), platform: platform)
    try driver.start()
    #expect(driver.buses.map(\.base) == [PhysicalAddress(0xfdb0_0000)])
    #expect(driver.buses.map(\.phb) == [1])
    #expect(firmware.units[1].value(of: .tableAddress, 1) == 0x10_0000)
    // A machine whose chips lie elsewhere is not found: the registers read as ones.
    let other = try Machine()
    let lost = try other.driver(.linux2_6_19, size: .kib64)
    #expect(lost.busIndex(of: Machine.disk) == 0)
    #expect(other.unit.value(of: .tableAddress, 1) == 0)
  }

  @Test func `without a Rio table the driver says so`() throws {
    let machine = try Machine()
    machine.memory.store(0 as UInt32, at: PhysicalAddress(0x9_f190))
    let error = #expect(throws: SetUpError.self) { try machine.driver() }
    #expect("\(error!)".contains("the EBDA has no Rio table"))
  }
}

@Suite struct CalgaryTakeOverTests {
  @Test func `a kdump kernel keeps the tables it finds and uses free entries`() throws {
    let machine = try Machine()
    let primary = try machine.driver(size: .kib512)
    let old = try #require(
      primary.map(PhysicalAddress(0x80_0000), byteCount: 4096, permissions: .readWrite, on: 0))
    machine.unit.kexec()
    let kdump = try machine.driver(isKdump: true, size: .kib512)
    #expect(kdump.buses.map(\.table) == primary.buses.map(\.table))
    #expect(machine.unit.value(of: .tableAddress, 1) == 0x3ff8_0003)
    let new = try #require(
      kdump.map(PhysicalAddress(0x200_0000), byteCount: 4096, permissions: .readWrite, on: 0))
    #expect(new == IOVA(0x2_1000), "the first free entry")
    #expect(
      machine.translate(Machine.disk, old) == .mapped(PhysicalAddress(0x80_0000), byteCount: 1))
    #expect(
      machine.translate(Machine.disk, new) == .mapped(PhysicalAddress(0x200_0000), byteCount: 1))
  }

  /// The bytes of a recorded life: 1 GiB, the first kernel's 8 MiB tables, and a second kernel that
  /// computed 2 MiB from the end of RAM.
  @Test func `T13: another size code leaves a stray bit, and the entries lie two bytes off`() throws
  {
    let machine = try Machine()
    let primary = try machine.driver()
    let base = primary.buses[0].table
    let kdump = try machine.driver(isKdump: true, saved: 0x4000_0000)
    #expect(kdump.buses[0].size == .mib2)
    #expect(kdump.buses[0].table == PhysicalAddress(base.rawValue + 2))
    // TAR ends as it was: base | 2 | 5.
    #expect(machine.unit.value(of: .tableAddress, 1) == base.rawValue | 7)
    let iova = try #require(
      kdump.map(PhysicalAddress(0x3ea_c000), byteCount: 0x3000, permissions: .readWrite, on: 0))
    #expect(iova == IOVA(0x2_0000))
    #expect(
      machine.memory.bytes(at: PhysicalAddress(base.rawValue + 8 * 0x20), count: 32)
        == hexdump(
          """
          00 00 00 00 00 00 03 ea c0 03 00 00 00 00 03 ea
          d0 03 00 00 00 00 03 ea e0 03 00 00 00 00 00 00
          """))
    // The first says "write, page 0".
    #expect(machine.translate(Machine.disk, iova) == .mapped(PhysicalAddress(0), byteCount: 1))
    #expect(machine.translate(Machine.disk, iova, .read) == .fault(.calgary(.readNotPermitted)))
  }

  @Test func `T12 to T14: where a kdump kernel looks`() {
    func table(_ tar: UInt64, _ size: Calgary.TableSize) -> UInt64 {
      Calgary.TableAddressRegister(rawValue: tar).tableAsKdumpKernelReadsIt(ownSize: size).rawValue
    }
    #expect(table(0xabcd_0000_0780_7ff7, .mib8) == 0x780_0000)
    #expect(table(0x80_0007, .mib4) == 0x80_0001)
    #expect(table(0x80_000f, .mib8) == 0x80_0008)
    #expect(table(0x1_8000_0007, .mib8) == 0x8000_0000)
    #expect(table(0, .mib8) == 0)
  }

  @Test func `T14: a PHB that was never translated gives memory from 0 as its table`() throws {
    let machine = try Machine()
    machine.memory.store(bigEndian: 0x1234_5003 as UInt64, at: PhysicalAddress(0x100 + 8 * 0x40))
    let kdump = try machine.driver(isKdump: true, size: .kib64)
    #expect(kdump.buses[0].table == PhysicalAddress(0))
    #expect(kdump.buses[0].bitmap.isTaken(0x40 + 0x20))
    #expect(machine.unit.value(of: .configuration, 1) == 0x2110_0000)
  }

  @Test func `a bus that the watchdog had shut stays shut`() throws {
    let machine = try Machine()
    let primary = try machine.driver(size: .kib64)
    _ = machine.translate(Machine.disk, IOVA(0x3_0000))
    _ = primary.tick()
    let kdump = try machine.driver(isKdump: true, size: .kib64)
    let iova = try #require(
      kdump.map(PhysicalAddress(0x200_0000), byteCount: 8, permissions: .readWrite, on: 0))
    #expect(machine.translate(Machine.disk, iova) == .fault(.calgary(.slotsDisabled)))
  }

  @Test func `before 2.6.27 a kdump kernel makes new tables, and leftover DMA faults`() throws {
    let machine = try Machine()
    let primary = try machine.driver(.linux2_6_26, size: .kib64)
    let old = try #require(
      primary.map(PhysicalAddress(0x80_0000), byteCount: 4096, permissions: .readWrite, on: 0))
    let kdump = try machine.driver(.linux2_6_26, isKdump: true, size: .kib64)
    #expect(kdump.buses[0].table != primary.buses[0].table)
    #expect(machine.translate(Machine.disk, old) == .fault(.calgary(.emptyEntry)))
  }

  // T32, in every table, whether or not a driver has used it.
  @Test func `the Rule maps the crash kernel to itself in every PHB's table`() throws {
    let ram = try MemoryMap.ram(byteCount: 1 << 30)
    let crash = PhysicalAddress(0x100_0000)..<PhysicalAddress(0x900_0000)
    let primary = try PrimaryKernel(
      MachineConfiguration(
        mode: .calgary, map: try MemoryMap(ram: ram, crashKernel: [crash]),
        calgary: CalgaryConfiguration(tableSize: .kib512)))
    let report = try primary.applyRule()
    #expect(report.tables.map { "\($0.table)" } == ["bus:00", "bus:01", "bus:02"])
    for table in report.tables { #expect(table.writtenEntryCount == 32_768) }
    guard let chip = primary.machine.units[0].as(Calgary.Chip.self) else {
      Issue.record("no Calgary")
      return
    }
    for bridge in chip.hostBridges.compactMap({ $0 }) where bridge.configuration.translates {
      let base = bridge.tableAddress.table.rawValue
      #expect(
        primary.memory.bytes(at: PhysicalAddress(base + 0x8000), count: 8)
          == hexdump("00 00 00 00 01 00 00 03"))
      #expect(
        primary.memory.bytes(at: PhysicalAddress(base + 0x4_7ff8), count: 8)
          == hexdump("00 00 00 00 08 ff f0 03"))
    }
    #expect(try primary.applyRule().writtenEntryCount == 0)
  }
}
