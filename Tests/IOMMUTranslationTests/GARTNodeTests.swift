import IOMMUFormats
import IOMMUTranslation
import Testing

/// Order 1 at 0xd0000000: the aperture of the worked example, its table at 0x100000.
@Suite struct GARTNodeTests {
  static func node(
    control: UInt32 = 0x03, base: UInt32 = 0x68, table: UInt64 = 0x10_0000,
    hasErratum156: Bool = false
  ) -> GART.Node {
    GART.Node(
      device: Requester(rawValue: 0x00c3), control: GART.ApertureControl(rawValue: control),
      base: GART.ApertureBase(rawValue: base),
      tableBase: GART.TableBase(rawValue: UInt32(table >> 12) << 4),
      hasErratum156: hasErratum156)
  }

  static func machine(_ nodes: GART.Node...) -> Machine {
    Machine(name: "K8", units: nodes.map { .gart($0) })
  }

  static func memory() throws -> FlatMemory { try FlatMemory(byteCount: 2 << 20) }

  func translate(
    _ machine: Machine, _ address: UInt64, _ access: Access = .read, byteCount: UInt64 = 1,
    in memory: FlatMemory
  ) -> Translation {
    machine.translate(
      device, IOVA(address), byteCount: byteCount, access: access, in: memory)
  }

  @Test func `a read of 0xd2003abc takes entry 0x2003`() throws {
    let memory = try Self.memory()
    memory.store(hex: "13 60 45 23", at: 0x10_0000 + 0x800c)
    #expect(translate(Self.machine(Self.node()), 0xd200_3abc, in: memory) == .to(0x1_2345_6abc))
  }

  @Test func `the first mapping of the example is three entries`() throws {
    let memory = try Self.memory()
    memory.store(hex: "13 60 45 23 13 70 45 23 13 80 45 23", at: 0x10_0000 + 0x8080)
    let machine = Self.machine(Self.node())
    #expect(
      translate(machine, 0xd202_0abc, .write, byteCount: 0x1800, in: memory)
        == .to(0x1_2345_6abc, 0x544))
    #expect(
      translate(machine, 0xd202_1000, .write, byteCount: 0x12bc, in: memory)
        == .to(0x1_2345_7000, 0x1000))
    #expect(
      translate(machine, 0xd202_2000, .write, byteCount: 0x2bc, in: memory)
        == .to(0x1_2345_8000, 0x2bc))
    #expect(
      translate(machine, 0xd202_3000, .write, in: memory) == .fault(.gart(.invalidEntry)))
  }

  @Test func `after unmapping the scratch page answers`() throws {
    let memory = try Self.memory()
    memory.store(hex: "03 c0 ab 07", at: 0x10_0000 + 0x8080)
    #expect(translate(Self.machine(Self.node()), 0xd202_0abc, in: memory) == .to(0x7ab_cabc))
  }

  @Test func `the error address names no page`() throws {
    let memory = try Self.memory()
    for access in Access.allCases {
      #expect(
        translate(Self.machine(Self.node()), 0xd200_0000, access, in: memory)
          == .fault(.gart(.invalidEntry)))
    }
  }

  @Test func `the window has edges and everything outside passes`() throws {
    let memory = try Self.memory()
    memory.store(hex: "03 50 34 12", at: 0x10_0000)
    memory.store(hex: "03 c0 ab 07", at: 0x10_fffc)
    memory.store(hex: "03 00 00 00", at: 0x11_0000)
    let machine = Self.machine(Self.node())
    #expect(translate(machine, 0xcfff_ffff, in: memory) == .to(0xcfff_ffff))
    #expect(translate(machine, 0xd000_0000, in: memory) == .to(0x1234_5000))
    #expect(translate(machine, 0xd3ff_ffff, in: memory) == .to(0x7ab_cfff))
    #expect(translate(machine, 0xd400_0000, in: memory) == .to(0xd400_0000))
    #expect(translate(machine, 0, .write, in: memory) == .to(0))
    #expect(translate(machine, .max, .write, in: memory) == .to(.max))
    #expect(translate(machine, 0x1_d000_0000, in: memory) == .to(0x1_d000_0000))
  }

  @Test func `a request that runs into the window is cut at its start`() throws {
    let memory = try Self.memory()
    let machine = Self.machine(Self.node())
    #expect(
      translate(machine, 0xcfff_fff0, byteCount: 0x20, in: memory) == .to(0xcfff_fff0, 0x10))
    #expect(translate(machine, 0, byteCount: .max, in: memory) == .to(0, 0xd000_0000))
    #expect(
      translate(machine, 0xd400_0000, byteCount: 0x10000, in: memory) == .to(0xd400_0000, 0x10000))
    memory.store(hex: "03 c0 ab 07", at: 0x10_fffc)
    #expect(
      translate(machine, 0xd3ff_fff0, byteCount: 0x20, in: memory) == .to(0x7ab_cff0, 0x10))
  }

  @Test func `P9: an entry need not be coherent`() throws {
    let memory = try Self.memory()
    memory.store(hex: "01 50 34 12", at: 0x10_0000)
    #expect(translate(Self.machine(Self.node()), 0xd000_0010, in: memory) == .to(0x1234_5010))
  }

  @Test func `P10: erratum 156 reads through an invalid entry and writes nothing`() throws {
    let memory = try Self.memory()
    memory.store(hex: "02 50 34 12", at: 0x10_0000)
    let sound = Self.machine(Self.node())
    #expect(translate(sound, 0xd000_0010, in: memory) == .fault(.gart(.invalidEntry)))
    let flawed = Self.machine(Self.node(hasErratum156: true))
    #expect(
      translate(flawed, 0xd000_0ff0, byteCount: 0x20, in: memory) == .to(0x1234_5ff0, 0x10))
    #expect(translate(flawed, 0xd000_0010, .write, in: memory) == .fault(.gart(.invalidEntry)))
    // An entry of zeros names page 0.
    #expect(translate(flawed, 0xd000_1010, in: memory) == .to(0x10))
  }

  @Test func `devices kept out see the aperture as plain addresses`() throws {
    let memory = try Self.memory()
    memory.store(hex: "03 50 34 12", at: 0x10_0000)
    for control: UInt32 in [0x23, 0x02, 0x00, 0x0f] {
      let machine = Self.machine(Self.node(control: control))
      #expect(translate(machine, 0xd000_0010, in: memory) == .to(0xd000_0010))
    }
    for control: UInt32 in [0x03, 0x13, 0x43] {
      let machine = Self.machine(Self.node(control: control))
      #expect(translate(machine, 0xd000_0010, in: memory) == .to(0x1234_5010))
    }
  }

  @Test func `a table where no memory answers stops the request`() throws {
    let memory = try Self.memory()
    let machine = Self.machine(Self.node(table: 0x1f_f000))
    #expect(translate(machine, 0xd03f_ffff, in: memory) == .fault(.gart(.invalidEntry)))
    #expect(translate(machine, 0xd040_0000, in: memory) == .fault(.gart(.tableUnreadable)))
    let flawed = Self.machine(Self.node(table: 0x1f_f000, hasErratum156: true))
    #expect(translate(flawed, 0xd040_0000, in: memory) == .fault(.gart(.tableUnreadable)))
  }

  @Test func `the first node that translates answers`() throws {
    let memory = try Self.memory()
    memory.store(hex: "03 50 34 12", at: 0x10_0000)
    memory.store(hex: "03 c0 ab 07", at: 0x18_0000)
    let off = Self.node(control: 0x02)
    let first = Self.node()
    let second = Self.node(table: 0x18_0000)
    #expect(translate(Self.machine(off, second, first), 0xd000_0000, in: memory) == .to(0x7ab_c000))
    #expect(translate(Self.machine(first, second), 0xd000_0000, in: memory) == .to(0x1234_5000))
  }

  @Test func `the aperture is known even where devices are kept out`() {
    #expect(Self.node(control: 0x23).aperture == IOVA(0xd000_0000)..<IOVA(0xd400_0000))
    #expect(Self.node(control: 0x0f).aperture == nil)
    #expect(Self.node(control: 0x23).window == nil)
    #expect(
      Self.node(control: 0x0d, base: 0x7fff).aperture
        == IOVA(0xff_fe00_0000)..<IOVA(0x100_7e00_0000))
  }

  /// The reference: from the entry's table of bits.
  static func reference(_ address: UInt64, table: UInt64, in memory: FlatMemory) -> UInt64? {
    guard (0xd000_0000..<0xd400_0000).contains(address) else { return address }
    let place = table + (address - 0xd000_0000) / 4096 * 4
    guard let bytes = memory.bytes(at: PhysicalAddress(place), count: 4) else { return nil }
    let entry = bytes.reversed().reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
    guard entry & 1 != 0 else { return nil }
    return (entry & 0xff0) << 28 | entry & 0xffff_f000 | address & 0xfff
  }

  @Test(arguments: seeds)
  func `random tables translate as five lines say`(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let memory = try Self.memory()
    // Half of the table is past the end of RAM.
    let table: UInt64 = 0x1f_8000
    for index: UInt64 in 0..<0x2000 {
      memory.store(
        UInt32(truncatingIfNeeded: generator.next()), at: PhysicalAddress(table + index * 4))
    }
    let machine = Self.machine(Self.node(table: table))
    for _ in 0..<4000 {
      let address = 0xcff0_0000 + generator.next() % 0x420_0000
      let access = generator.oneIn(2) ? Access.read : .write
      let answer = translate(machine, address, access, in: memory)
      if let expected = Self.reference(address, table: table, in: memory) {
        #expect(answer == .to(expected), "\(IOVA(address))")
      } else {
        guard case .fault(let fault) = answer, fault.gartReason != nil else {
          Issue.record("\(IOVA(address)) is translated: \(answer)")
          continue
        }
      }
    }
  }
}
