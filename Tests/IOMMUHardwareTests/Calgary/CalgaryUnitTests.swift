import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import Testing

/// One chip with buses 0, 1 and 2 to 3, a 64 KiB table for the third PHB at 0x100000.
struct SmallMachine {
  let unit: CalgaryUnit
  let memory: FlatMemory
  static let table: UInt64 = 0x10_0000
  static let device = Requester(bus: 3, device: 4, function: 1)
  static let phb = 2

  init(
    _ model: Calgary.Chip.Model = .calgary, table: UInt64 = Self.table, sizeCode: UInt64 = 0,
    options: CalgaryOptions = CalgaryOptions()
  ) throws {
    memory = try FlatMemory(byteCount: 4 << 20)
    unit = CalgaryUnit(model: model, base: PhysicalAddress(0xfe00_0000), options: options)
    unit.setUpBuses([0...0, 1...1, 2...3, nil])
    write(.tableAddress, table | sizeCode)
    write(.configuration, 0x2110_0000)
  }

  /// As a driver stores to a register: bytes swapped.
  func write(_ kind: Calgary.RegisterKind, _ value: UInt64) {
    let register = Calgary.Register(kind, kind == .chipConfiguration ? 0 : Self.phb)
    unit.write(
      value.byteSwapped >> UInt64(64 - 8 * register.byteCount), at: register.offset,
      byteCount: register.byteCount)
  }

  func read(_ kind: Calgary.RegisterKind) -> UInt64 {
    let register = Calgary.Register(kind, kind == .chipConfiguration ? 0 : Self.phb)
    return unit.read(at: register.offset, byteCount: register.byteCount).byteSwapped
      >> UInt64(64 - 8 * register.byteCount)
  }

  func store(_ entry: UInt64, page: UInt64) {
    memory.store(bigEndian: entry, at: PhysicalAddress(Self.table + 8 * page))
  }

  func translate(
    _ iova: UInt64, _ access: Access = .read, by requester: Requester = Self.device
  ) -> Translation? {
    unit.translate(DMARequest(access, by: requester, at: IOVA(iova)), in: memory)
  }

  func mapped(_ address: UInt64) -> Translation { .mapped(PhysicalAddress(address), byteCount: 1) }
}

@Suite struct CalgaryUnitTests {
  @Test func `no bridge without devices takes buses of one that has the last number`() {
    let unit = CalgaryUnit(model: .calgary, base: PhysicalAddress(0xfe00_0000))
    unit.setUpBuses([0...255])
    let buses: [UInt8] = [0, 1, 2, 3, 255]
    for bus in buses { #expect(unit.bridge(above: bus) == 0) }
    unit.setUpBuses([0...0, 1...254])
    #expect(unit.bridge(above: 255) == 2)
    #expect(unit.bridge(above: 0) == 0)
  }

  @Test func `a write is seen as x86 stores it, big-endian in the chip`() throws {
    let machine = try SmallMachine()
    // writeq of 0x070000cf00000000 puts the bytes 00 00 00 00 cf 00 00 07 on the bus.
    machine.unit.write(0x0700_00cf_0000_0000, at: 0x588, byteCount: 8)
    #expect(machine.unit.value(of: .tableAddress, 1) == 0xcf00_0007)
    #expect(machine.unit.read(at: 0x588, byteCount: 8) == 0x0700_00cf_0000_0000)
    #expect(machine.unit.read(at: 0x58c, byteCount: 4) == 0x0700_00cf)
  }

  @Test func `T10: bits that are not software's stay as they are`() throws {
    let machine = try SmallMachine()
    let register = Calgary.Register(.tableAddress, 2)
    machine.unit.set(register, to: 0xabcd_0000_0000_7ff0)
    machine.write(.tableAddress, 0xabcd_0000_0780_7ff7)
    #expect(machine.read(.tableAddress) == 0xabcd_0000_0780_7ff7)
    machine.write(.tableAddress, 0)
    #expect(machine.read(.tableAddress) == 0xabcd_0000_0000_7ff0)
  }

  @Test func `a table translates without the valid bit, and the bit is stored`() throws {
    let machine = try SmallMachine()
    machine.store(0x4_5003, page: 0x20)
    #expect(machine.translate(0x2_0123) == machine.mapped(0x4_5123))
    machine.write(.tableAddress, SmallMachine.table | 8)
    #expect(machine.read(.tableAddress) == SmallMachine.table | 8)
    #expect(machine.translate(0x2_0123) == machine.mapped(0x4_5123))
  }

  @Test func `half a TAR is written in place`() throws {
    let machine = try SmallMachine()
    machine.write(.tableAddress, 0)
    machine.unit.write(0x0000_1000, at: 0x594, byteCount: 4)
    #expect(machine.unit.value(of: .tableAddress, 2) == 0x10_0000)
    machine.unit.write(0x0100_0000, at: 0x590, byteCount: 4)
    #expect(machine.unit.value(of: .tableAddress, 2) == 0x0000_0001_0010_0000)
  }

  @Test func `an access of another width reads ones and changes nothing`() throws {
    let machine = try SmallMachine()
    #expect(machine.unit.read(at: 0x590, byteCount: 2) == 0xffff)
    #expect(machine.unit.read(at: 0x592, byteCount: 4) == 0xffff_ffff)
    #expect(machine.unit.read(at: 0x594, byteCount: 8) == .max)
    #expect(machine.unit.read(at: 0xffffc, byteCount: 8) == .max)
    #expect(machine.unit.read(at: .max, byteCount: 4) == 0xffff_ffff)
    machine.unit.write(.max, at: 0x592, byteCount: 4)
    machine.unit.write(.max, at: .max - 1, byteCount: 8)
    machine.unit.write(.max, at: 0x590, byteCount: 0)
    machine.unit.write(.max, at: 0x590, byteCount: -1)
    #expect(machine.read(.tableAddress) == SmallMachine.table)
    var options = CalgaryOptions()
    options.accessSizes = .anyBytes
    let loose = try SmallMachine(options: options)
    #expect(loose.unit.read(at: 0x595, byteCount: 1) == 0x10)
    loose.unit.write(0x20, at: 0x595, byteCount: 1)
    #expect(loose.read(.tableAddress) == 0x20_0000)
  }

  @Test func `what no register is known for reads as zero`() throws {
    let machine = try SmallMachine()
    #expect(machine.unit.read(at: 0x500, byteCount: 8) == 0)
    machine.unit.write(.max, at: 0x500, byteCount: 8)
    #expect(machine.unit.read(at: 0x500, byteCount: 8) == 0)
    var options = CalgaryOptions()
    options.baseRegister = .readable
    #expect(
      try SmallMachine(options: options).unit.read(at: 0x500, byteCount: 8) == 0x0000_00fe_0000_0000
    )
  }

  @Test(arguments: seeds)
  func `no access of any width anywhere stops the program`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    for model in [Calgary.Chip.Model.calgary, .calioc2] {
      var options = CalgaryOptions()
      options.accessSizes = seed % 2 == 0 ? .anyBytes : .alignedWords
      options.cache = .init(setCount: 4, wayCount: 2)
      let machine = try SmallMachine(model, options: options)
      for _ in 0..<800 {
        let register = Calgary.Register.all.randomElement(using: &generator)!
        let offset =
          Bool.random(using: &generator)
          ? register.offset &+ UInt64.random(in: 0...3, using: &generator)
          : UInt64.random(in: 0...0x10_0010, using: &generator)
        let width = Int.random(in: 0...9, using: &generator)
        machine.unit.write(generator.next(), at: offset, byteCount: width)
        _ = machine.unit.read(at: offset, byteCount: width)
        _ = machine.translate(generator.next() >> UInt64.random(in: 0...63, using: &generator))
      }
      #expect(machine.unit.chip.hostBridges.count == 4, "seed \(seed)")
    }
  }

  @Test func `T17: the first error is latched with its agent, and 0 clears it`() throws {
    let machine = try SmallMachine()
    #expect(machine.translate(0x2_0000) == .fault(.calgary(.emptyEntry)))
    #expect(machine.read(.channelStatus) == 0x1004_0000)
    #expect(machine.read(.plssr) == 0x0400_0000)
    let other = Requester(bus: 2, device: 1, function: 0)
    _ = machine.translate(0, .write, by: other)
    #expect(machine.read(.channelStatus) == 0x1004_0000)
    machine.write(.channelStatus, 0)
    #expect(machine.read(.channelStatus) == 0)
    _ = machine.translate(0, .write, by: other)
    // The record that was published: CSR 0x10010000, agent 1.
    #expect(machine.read(.channelStatus) == 0x1001_0000)
    #expect(machine.unit.read(at: 0xa110, byteCount: 4) == 0x0000_0110)
  }

  @Test func `T18: an agent without an error bit is no error`() {
    #expect(!Calgary.ChannelStatusRegister(rawValue: 0x001f_0000).hasError)
    #expect(Calgary.ChannelStatusRegister(rawValue: 0x1001_0000).errors == 0x1000_0000)
    #expect(Calgary.ChannelStatusRegister(rawValue: 0x1001_0000).agent == 1)
  }

  @Test func `shut slots let nothing through, and clearing the bits opens them`() throws {
    let machine = try SmallMachine()
    machine.store(0x4_5003, page: 0x20)
    machine.write(.configuration, 0x3d10_0000)
    #expect(machine.translate(0x2_0000) == .fault(.calgary(.slotsDisabled)))
    #expect(machine.read(.channelStatus) == 0)
    machine.write(.configuration, 0x2110_0000)
    #expect(machine.translate(0x2_0000) == machine.mapped(0x4_5000))
  }

  @Test func `the windows follow their registers`() throws {
    let machine = try SmallMachine()
    for page in [0xe8 as UInt64, 0x140, 0x120] { machine.store(0x4_5003, page: page) }
    #expect(machine.translate(0xe_8000) == .fault(.calgary(.untranslatedHole)))
    #expect(machine.translate(0x14_0000) == machine.mapped(0x4_5000))
    machine.write(.memory1Low, 0x14_0000)
    machine.write(.memory1Last, 0x14_ffff)
    #expect(machine.translate(0x14_0000) == .fault(.calgary(.untranslatedHole)))
    machine.write(.memory2Low, 0x12_0000)
    machine.write(.memory2LastLow, 0x12_0fff)
    #expect(machine.translate(0x12_0000) == machine.mapped(0x4_5000))
    machine.write(.configuration, 0x2150_0000)
    #expect(machine.translate(0x12_0000) == .fault(.calgary(.untranslatedHole)))
    #expect(machine.translate(0x12_1000) == .fault(.calgary(.emptyEntry)))
  }

  @Test func `an interrupt is a message and never translated`() throws {
    let machine = try SmallMachine(sizeCode: 7)
    #expect(machine.translate(0xfee0_0000, .write) == .interruptMessage)
    #expect(machine.translate(0xfeef_ffff, .read) == .fault(.calgary(.untranslatedHole)))
  }

  @Test func `the split queue is idle and the arbitration on after power-on`() throws {
    let machine = try SmallMachine()
    // T24: readq & 0xff is 0xff.
    #expect(machine.unit.read(at: 0x6870, byteCount: 8) & 0xff == 0xff)
    #expect(machine.unit.read(at: 0xa200, byteCount: 4) == 0xffff_ffff)
  }

  @Test func `T21: the split completion timeouts of CCR`() throws {
    typealias Register = Calgary.ChipConfigurationRegister
    let expected: [UInt64] = [
      0x0000_e000_0000_0000, 0x0000_0e00_0000_0000, 0x0000_00e0_0000_0000, 0x0000_0000_e000_0000,
    ]
    for phb in 0..<4 {
      let register = Register(rawValue: 0).settingSplitCompletionTimeout(0xe, phb: phb)
      #expect(register.rawValue == expected[phb])
      #expect(register.splitCompletionTimeout(phb) == 0xe)
    }
    // T22
    let ones = Register(rawValue: .max)
    #expect(ones.settingSplitCompletionTimeout(0xe, phb: 1).rawValue == 0xffff_feff_ffff_ffff)
    #expect(ones.settingSplitCompletionTimeout(0, phb: 3).rawValue == 0xffff_ffff_0fff_ffff)
    let machine = try SmallMachine()
    machine.write(.chipConfiguration, 0x4e40_4000_0000)
    #expect(machine.read(.chipConfiguration) == 0x4e40_4000_0000)
  }

  @Test func `T25: the two registers of the CalIOC2`() {
    #expect(
      Calgary.SaviorRegister(rawValue: 0).applyingQuirk.bytes == hexdump("00 80 00 00"))
    var control = Calgary.PageMigrationRegister(rawValue: 0)
    control.softStops = true
    #expect(control.bytes == hexdump("80 00 00 00"))
  }

  @Test func `a read of the control register stops a CalIOC2's PHB until 0 is written`() throws {
    let machine = try SmallMachine(.calioc2)
    #expect(machine.read(.pageMigrationControl) == 0)
    machine.write(.pageMigrationControl, 0x8000_0000)
    #expect(machine.read(.pageMigrationDebug) == 0)
    #expect(machine.read(.pageMigrationControl) == 0xa000_0000)
    #expect(machine.read(.pageMigrationDebug) == 0x2000_0000)
    machine.write(.pageMigrationControl, 0)
    #expect(machine.read(.pageMigrationControl) == 0)
    #expect(machine.read(.pageMigrationDebug) == 0)
    // A Calgary has no such register.
    #expect(try SmallMachine(.calgary).read(.pageMigrationControl) == 0)
  }

  @Test func `a device on no bus of the chip is not translated`() throws {
    let machine = try SmallMachine()
    let other = Requester(bus: 9, device: 0, function: 0)
    #expect(machine.translate(0x1_2345, .write, by: other) == nil)
    // U21: the fourth PHB has a bus of its own, and not bus 0.
    #expect(machine.unit.bridge(above: 0) == 0)
    #expect(machine.unit.bridge(above: 4) == 3)
  }

  @Test func `T19, T20: a chip's buses`() throws {
    let machine = try SmallMachine()
    machine.unit.set(.init(.stuff, 2), to: 0x0002_0300)
    #expect(machine.unit.read(at: 0x6020, byteCount: 4) == 0x0003_0200)
    #expect(machine.unit.bridge(above: 3) == 2)
    machine.unit.set(.init(.stuff, 2), to: 0x000a_0000)
    #expect(machine.unit.bridge(above: 10) == 2)
    #expect(machine.unit.bridge(above: 3) == nil)
    machine.unit.set(.init(.stuff, 2), to: 0)
    #expect(machine.unit.bridge(above: 0) == 2, "the last that claims a bus")
  }
}

@Suite struct CalgaryCacheTests {
  static var cached: CalgaryOptions {
    var options = CalgaryOptions()
    options.cache = .init(setCount: 2, wayCount: 2)
    return options
  }

  @Test func `a freed entry answers until TAR is written`() throws {
    let machine = try SmallMachine(options: Self.cached)
    machine.store(0x4_5003, page: 0x20)
    #expect(machine.translate(0x2_0000) == machine.mapped(0x4_5000))
    machine.store(0, page: 0x20)
    #expect(machine.translate(0x2_0000) == machine.mapped(0x4_5000))
    machine.write(.configuration, 0x2110_0000)
    #expect(machine.translate(0x2_0000) == machine.mapped(0x4_5000))
    machine.write(.tableAddress, SmallMachine.table)
    #expect(machine.translate(0x2_0000) == .fault(.calgary(.emptyEntry)))
  }

  @Test func `the oldest entry of a set goes first, and empty entries are not kept`() throws {
    let machine = try SmallMachine(options: Self.cached)
    _ = machine.translate(0x2_0000)
    for page in [0x20 as UInt64, 0x22, 0x24] {
      machine.store(page << 12 | 3, page: page)
      #expect(machine.translate(page << 12) == machine.mapped(page << 12))
      machine.store(0, page: page)
    }
    #expect(machine.translate(0x2_0000) == .fault(.calgary(.emptyEntry)))
    #expect(machine.translate(0x2_2000) == machine.mapped(0x2_2000))
    #expect(machine.translate(0x2_4000) == machine.mapped(0x2_4000))
  }

  @Test func `another PHB's flush leaves the cache alone`() throws {
    let machine = try SmallMachine(options: Self.cached)
    machine.store(0x4_5003, page: 0x20)
    _ = machine.translate(0x2_0000)
    machine.store(0, page: 0x20)
    machine.unit.write(0, at: 0x588, byteCount: 8)
    #expect(machine.translate(0x2_0000) == machine.mapped(0x4_5000))
  }

  @Test func `U8: a flush without a stop may do nothing`() throws {
    var options = Self.cached
    options.invalidation = .onlyWhileQuiesced
    let machine = try SmallMachine(options: options)
    machine.store(0x4_5003, page: 0x20)
    _ = machine.translate(0x2_0000)
    machine.store(0, page: 0x20)
    machine.write(.tableAddress, SmallMachine.table)
    #expect(machine.translate(0x2_0000) == machine.mapped(0x4_5000))
    machine.write(.arbitration, 0)
    machine.write(.tableAddress, SmallMachine.table)
    #expect(machine.translate(0x2_0000) == .fault(.calgary(.emptyEntry)))
  }

  @Test func `U23: what a kexec leaves`() throws {
    for (kexec, isKept) in [
      (CalgaryOptions.Kexec.keepsEverything, true), (.dropsCaches, false), (.resets, false),
    ] {
      var options = Self.cached
      options.kexec = kexec
      let machine = try SmallMachine(options: options)
      machine.store(0x4_5003, page: 0x20)
      _ = machine.translate(0x2_0000)
      machine.store(0, page: 0x20)
      machine.unit.kexec()
      #expect((machine.translate(0x2_0000) == machine.mapped(0x4_5000)) == isKept)
      #expect((machine.read(.tableAddress) == SmallMachine.table) == (kexec != .resets))
    }
  }
}
