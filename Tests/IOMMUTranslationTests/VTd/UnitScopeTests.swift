import IOMMUFormats
import IOMMUTestSupport
import IOMMUTranslation
import Testing

@Suite struct UnitScopeTests {
  static let a = PhysicalAddress(0xfed9_0000)
  static let b = PhysicalAddress(0xfed9_1000)

  static func table(_ units: [VTd.DMAR.HardwareUnit], hostAddressWidth: Int = 39) -> VTd.DMAR {
    VTd.DMAR(
      header: ACPI.TableHeader(revision: 1, oemID: "T", oemTableID: "T", creatorID: "T"),
      platform: VTd.DMAR.Platform(hostAddressWidth: hostAddressWidth),
      structures: units.map { .hardwareUnit($0) })
  }

  /// A scope by its bytes.
  static func scope(
    _ type: VTd.DMAR.ScopeType, bus: UInt8 = 0, _ path: (UInt8, UInt8)...
  ) -> VTd.DMAR.DeviceScope {
    VTd.DMAR.DeviceScope(
      type, startBus: bus, path: path.map { VTd.DMAR.PathStep(device: $0.0, function: $0.1) })
  }

  func answers(
    _ requester: String, in table: VTd.DMAR
  ) -> [VTd.UnitScope.Answer] {
    [Self.a, Self.b].map {
      VTd.UnitScope(table, bases: [$0]).answer(for: Requester(requester)!)
    }
  }

  /// One unit for graphics at 00:02.0, one for everything else; as an example of the manual's 8.3.1.
  static let graphics = hexdump(
    """
    444d415268000000 0100455841 4d504c5654445441424c45 01000000 54455354 01000000
    2605 00000000000000000000
    0000180000000000 0000d9fe00000000 0108000000000200
    0000200001000000 0010d9fe00000000 0308000002f01f07 0408000000001f00
    """)

  @Test(
    arguments: [
      ("00:02.0", [.inside, .outside]), ("00:02.1", [.undecided, .undecided]),
      ("00:1f.2", [.outside, .inside]), ("03:00.0", [.outside, .inside]),
      // The source-id of an I/O APIC is nobody's DMA.
      ("f0:1f.7", [.outside, .inside]),
    ] as [(String, [VTd.UnitScope.Answer])])
  func `an exact entry decides, and the unit of all PCI devices has the rest`(
    requester: String, expected: [VTd.UnitScope.Answer]
  ) throws {
    let table = try VTd.DMAR(parsing: Self.graphics, ignoringChecksum: true)
    #expect(answers(requester, in: table) == expected)
    #expect(VTd.UnitScope(table, bases: [Self.a]).hostAddressWidth == 39)
    #expect(VTd.UnitScope(table, bases: [Self.a]).segment == 0)
  }

  @Test(
    arguments: [
      // The bridge itself; another device on its bus; a bus that may be below it.
      ("00:1c.0", [.inside, .outside]), ("00:1d.0", [.outside, .inside]),
      ("05:00.0", [.undecided, .undecided]),
    ] as [(String, [VTd.UnitScope.Answer])])
  func `which buses are below a bridge is said by no table`(
    requester: String, expected: [VTd.UnitScope.Answer]
  ) {
    let table = Self.table([
      .init(base: Self.a, scopes: [Self.scope(.subHierarchy, (0x1c, 0))]),
      .init(base: Self.b, includesAllPCI: true),
    ])
    #expect(answers(requester, in: table) == expected)
  }

  @Test(
    arguments: [
      ("01:00.0", [.undecided, .undecided]), ("07:00.0", [.undecided, .undecided]),
      // It may be a virtual function.
      ("01:00.3", [.undecided, .undecided]),
      // Another device than the one listed, and the listed numbers on the bridge's own bus.
      ("01:01.0", [.outside, .inside]), ("00:00.0", [.outside, .inside]),
    ] as [(String, [VTd.UnitScope.Answer])])
  func `of a device behind a bridge the bus is not known`(
    requester: String, expected: [VTd.UnitScope.Answer]
  ) {
    let table = Self.table([
      .init(base: Self.a, scopes: [Self.scope(.endpoint, (0x1c, 4), (0, 0))]),
      .init(base: Self.b, includesAllPCI: true),
    ])
    #expect(answers(requester, in: table) == expected)
  }

  @Test func `without a unit of all PCI devices some devices are listed nowhere`() {
    let table = Self.table([
      .init(
        base: Self.a, scopes: [Self.scope(.endpoint, (2, 0)), Self.scope(.subHierarchy, (1, 0))]),
      .init(base: Self.b, scopes: [Self.scope(.namespaceDevice, (0x15, 0))]),
    ])
    #expect(answers("00:02.0", in: table) == [.inside, .outside])
    #expect(answers("00:15.0", in: table) == [.outside, .inside])
    #expect(answers("00:04.0", in: table) == [.unlisted, .unlisted])
    #expect(answers("02:00.0", in: table) == [.undecided, .outside])
  }

  @Test func `a unit that may be at several places has what one of them has, perhaps`() throws {
    let c = PhysicalAddress(0xfed9_2000)
    let table = Self.table([
      .init(base: Self.a, scopes: [Self.scope(.endpoint, (2, 0))]),
      .init(base: c, scopes: [Self.scope(.endpoint, (3, 0))]),
      .init(base: Self.b, includesAllPCI: true),
    ])
    let either = VTd.UnitScope(table, bases: [Self.a, Self.b], isUncertain: true)
    #expect(either.answer(for: Requester("00:02.0")!) == .undecided)
    #expect(either.answer(for: Requester("00:1f.2")!) == .undecided)
    #expect(either.answer(for: Requester("00:03.0")!) == .outside)
    let both = VTd.UnitScope(table, bases: [Self.a, Self.b])
    #expect(both.answer(for: Requester("00:02.0")!) == .inside)
    #expect(both.answer(for: Requester("00:1f.2")!) == .inside)
    #expect(both.answer(for: Requester("00:03.0")!) == .outside)
  }

  @Test func `segments are kept apart`() {
    let table = Self.table([
      .init(base: Self.a, segment: 1, scopes: [Self.scope(.endpoint, (2, 0))]),
      .init(base: Self.b, includesAllPCI: true),
    ])
    #expect(VTd.UnitScope(table, bases: [Self.a]).segment == 1)
    #expect(answers("00:02.0", in: table) == [.inside, .inside])
    #expect(VTd.UnitScope(table, bases: [Self.a, Self.b]).segment == nil)
  }

  @Test func `a width that no host has is none`() {
    let table = Self.table([.init(base: Self.a)], hostAddressWidth: 64)
    #expect(VTd.UnitScope(table, bases: [Self.a]).hostAddressWidth == nil)
  }

  // MARK: Units of a machine

  /// Two units that both have a table for 00:02.0, at 0x10000 and 0x20000, which map address 0 to
  /// 0x80000 and 0x90000.
  func memory() throws -> FlatMemory {
    let memory = try FlatMemory(byteCount: 1 << 20)
    for root in [0x1_0000, 0x2_0000] as [UInt64] {
      for (offset, word) in [
        (0, root + 0x1001), (0x1100, root + 0x2001), (0x1108, 0x101), (0x2000, root + 0x3003),
        (0x3000, root + 0x4003), (0x4000, (root >> 16) << 16 + 0x7_0003),
      ] as [(UInt64, UInt64)] {
        memory.store(word, at: PhysicalAddress(root + offset))
      }
    }
    return memory
  }

  func unit(_ base: PhysicalAddress, root: UInt64, segment: UInt16? = nil) -> TranslationUnit {
    .vtd(
      VTd.Unit(
        base: base, rootTableAddress: VTd.RootTableAddress(rawValue: root), status: nil,
        limits: .permissive, segment: segment))
  }

  func machine(_ units: [TranslationUnit], _ table: VTd.DMAR) -> Machine {
    Machine(name: "", units: table.completing(units))
  }

  @Test func `the table decides between units that both have tables for a device`() throws {
    let memory = try memory()
    let table = try VTd.DMAR(parsing: Self.graphics, ignoringChecksum: true)
    let units = [unit(Self.b, root: 0x1_0000), unit(Self.a, root: 0x2_0000)]
    let graphics = Requester("00:02.0")!
    func read(_ machine: Machine) -> Translation {
      machine.translate(graphics, IOVA(0), access: .read, in: memory)
    }
    let guessing = Machine(name: "", units: units)
    #expect(read(guessing) == .mapped(PhysicalAddress(0x8_0000), byteCount: 1))
    #expect(guessing.owners(of: graphics, in: memory).owner == 0)
    #expect(guessing.owners(of: graphics, in: memory).others == [1])
    #expect(guessing.handles(of: graphics, in: memory).count == 2)
    #expect(
      guessing.tables(in: memory).gaps.map(\.text) == [
        "00:02.0: unknown, another unit, whose root table lies at 0x20000, has tables for it too"
      ])
    let knowing = machine(units, table)
    #expect(read(knowing) == .mapped(PhysicalAddress(0x9_0000), byteCount: 1))
    #expect(knowing.owners(of: graphics, in: memory).owner == 1)
    #expect(knowing.owners(of: graphics, in: memory).others.isEmpty)
    #expect(knowing.handles(of: graphics, in: memory).count == 1)
    let tables = knowing.tables(in: memory)
    #expect(tables.tables.map(\.root) == [PhysicalAddress(0x2_2000)])
    #expect(tables.gaps.isEmpty)
  }

  @Test func `a unit gets segment and width from the table, where they are not known`() throws {
    let table = Self.table([.init(base: Self.a, segment: 3)], hostAddressWidth: 46)
    func completed(_ segment: UInt16?, keepsWidth: Bool) -> VTd.Unit? {
      table.completing([unit(Self.a, root: 0, segment: segment)]) { _ in keepsWidth }[0]
        .as(VTd.Unit.self)
    }
    #expect(completed(nil, keepsWidth: false)?.segment == 3)
    #expect(completed(1, keepsWidth: false)?.segment == 1)
    #expect(completed(nil, keepsWidth: false)?.limits.hostAddressWidth == 46)
    #expect(completed(nil, keepsWidth: true)?.limits.hostAddressWidth == 52)
  }

  @Test func `of a unit that only the table knows nothing is said but that it is there`() throws {
    let memory = try memory()
    let table = try VTd.DMAR(parsing: Self.graphics, ignoringChecksum: true)
    let machine = machine([unit(Self.a, root: 0x1_0000)], table)
    #expect(machine.units.count == 2)
    func route(_ text: String) -> DeviceHandle.Route {
      machine.resolve(Requester(text)!, in: memory).route
    }
    #expect(route("00:1f.2") == .blocked(.unitUnseen))
    #expect(Fault.unitUnseen.isUnanswered)
    #expect(
      machine.translate(Requester("00:02.0")!, IOVA(0), access: .read, in: memory)
        == .mapped(PhysicalAddress(0x8_0000), byteCount: 1))
    // It may be a function of graphics, and the unit there has no tables for it.
    #expect(route("00:02.1") == .blocked(.unitUnseen))
    let tables = machine.tables(in: memory)
    #expect(tables.tables.map(\.name) == ["00:02.0"])
    #expect(
      tables.gaps.map(\.text) == [
        "devices of the unit at 0xfed91000: unknown, the registers of the unit are not known"
      ])
    let other = self.machine([unit(Self.b, root: 0x1_0000)], table)
    #expect(
      other.tables(in: memory).gaps.map(\.text) == [
        "00:02.0: unknown, the registers of the unit are not known"
      ])
    #expect(other.tables(in: memory).tables.isEmpty)
  }

  @Test func `a unit without a place is the one that is left, or any of those that are`() throws {
    let table = try VTd.DMAR(parsing: Self.graphics, ignoringChecksum: true)
    let nowhere = PhysicalAddress(0)
    func bases(_ units: [TranslationUnit]) -> [[PhysicalAddress]?] {
      table.completing(units).map {
        ($0.as(VTd.Unit.self)?.scope ?? $0.as(VTd.UnseenUnit.self)?.scope)?.bases
      }
    }
    let placed = unit(Self.b, root: 0x2000)
    let unplaced = unit(nowhere, root: 0x1000)
    #expect(bases([placed, unplaced]) == [[Self.b], [Self.a]])
    #expect(bases([unplaced, unplaced]) == [[Self.a, Self.b], [Self.a, Self.b]])
    // One more than was found, and nobody knows which.
    #expect(bases([unplaced]) == [[Self.a, Self.b], [Self.a, Self.b]])
    #expect(bases([unit(PhysicalAddress(0xfee0_0000), root: 0)]) == [nil, [Self.a, Self.b]])
  }

  @Test func `where there are more root tables than units, none is taken for the one unit's`()
    throws
  {
    let memory = try memory()
    let table = Self.table([.init(base: Self.a, includesAllPCI: true)])
    for bases in [[0, 0], [0xfed9_0000, 0xfed9_0000]] as [[UInt64]] {
      let machine = machine(
        [
          unit(PhysicalAddress(bases[0]), root: 0x1_0000),
          unit(PhysicalAddress(bases[1]), root: 0x5_0000),
        ],
        table)
      #expect(machine.units.count == 2)
      // The second root table is empty, and would block the device.
      let device = Requester("00:02.0")!
      #expect(
        machine.translate(device, IOVA(0), access: .read, in: memory)
          == .mapped(PhysicalAddress(0x8_0000), byteCount: 1))
      #expect(machine.owners(of: device, in: memory).listed == [1])
    }
  }

  @Test func `a table of nothing but units and bridges answers for every device at once`() {
    // 64 KiB of DMAR: 2,700 units, each with a bridge.
    let table = Self.table(
      (0..<2700).map { index in
        .init(
          base: PhysicalAddress(0x1_0000_0000 + UInt64(index) << 12),
          scopes: [Self.scope(.subHierarchy, bus: UInt8(index % 256), (UInt8(index % 32), 0))])
      })
    #expect(table.bytes.count == 64_848)
    let machine = machine([unit(PhysicalAddress(0x1_0000_0000), root: 0)], table)
    #expect(machine.units.count == 2)
    let scopes = machine.units.map {
      $0.as(VTd.Unit.self)?.scope ?? $0.as(VTd.UnseenUnit.self)?.scope
    }
    var counts: [VTd.UnitScope.Answer: Int] = [:]
    for number in UInt16.min...UInt16.max {
      for case let scope? in scopes {
        counts[scope.answer(for: Requester(rawValue: number)), default: 0] += 1
      }
    }
    // 256 bridges: the first unit has one of them and may have what is below it on 255 buses; the others
    // have 255 and may have all else.
    #expect(counts == [.inside: 256, .outside: 256 + 255, .undecided: 130_305])
  }
}
