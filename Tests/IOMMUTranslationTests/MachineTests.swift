import IOMMUFormats
import IOMMUTranslation
import Testing

@Suite struct MachineTests {
  /// Two VT-d units; the second's root table lies at 0x180000 and knows 00:05.0 alone.
  static func twoUnits() throws -> (Machine, FlatMemory) {
    let memory = try FlatMemory(byteCount: 4 << 20)
    storeContext(table: 0x11_0000, widthCode: 1, in: memory)
    var first = TableBuilder(in: memory, root: 0x11_0000, levels: 3)
    first.set(0x20_0003, for: 0, level: 1)
    memory.store(0x18_1001, at: 0x18_0000)
    memory.store(0x19_0001, at: 0x18_1280)
    memory.store(0x501, at: 0x18_1288)
    var second = TableBuilder(in: memory, root: 0x19_0000, levels: 3)
    second.set(0x30_0003, for: 0, level: 1)
    let units =
      vtdMachine(.unit()).units + vtdMachine(.unit(), rootTableAddress: 0x18_0000).units
    return (Machine(name: "two units", units: units), memory)
  }

  @Test func `the unit that knows the device translates`() throws {
    let (machine, memory) = try Self.twoUnits()
    func translate(_ text: String) -> Translation {
      machine.translate(Requester(text)!, IOVA(0), access: .read, in: memory)
    }
    #expect(translate("00:04.0") == .to(0x20_0000))
    #expect(translate("00:05.0") == .to(0x30_0000))
    #expect(translate("00:06.0") == .fault(.vtd(.contextEntryNotPresent, isRecorded: true)))
    #expect(translate("01:00.0") == .fault(.vtd(.rootEntryNotPresent, isRecorded: true)))
  }

  @Test func `a unit that is off leaves its devices to the next`() throws {
    var (machine, memory) = try Self.twoUnits()
    machine.units[0] = vtdMachine(.unit(), isOn: false).units[0]
    #expect(
      machine.translate(Requester("00:05.0")!, IOVA(0), access: .read, in: memory)
        == .to(0x30_0000))
  }

  @Test func `a device that no unit knows may be behind the one that is off`() throws {
    var (machine, memory) = try Self.twoUnits()
    machine.units[1] = vtdMachine(.unit(), isOn: false).units[0]
    let unknown = machine.owners(of: Requester("00:06.0")!, in: memory)
    #expect(unknown.owner == 0 && unknown.others == [1])
    let known = machine.owners(of: Requester("00:04.0")!, in: memory)
    #expect(known.owner == 0 && known.others == [])
  }

  @Test func `tables are listed of the unit that a walk goes through`() throws {
    var (machine, memory) = try Self.twoUnits()
    // 00:04.0 is in the second unit's tables too, with another table.
    memory.store(0x19_0001, at: 0x18_1200)
    memory.store(0x501, at: 0x18_1208)
    func listed() -> [String] {
      machine.tables(in: memory).tables.map { "\($0.name) \($0.root!)" }
    }
    #expect(listed() == ["00:04.0 0x110000", "00:05.0 0x190000"])
    #expect(
      machine.tables(in: memory).gaps.map(\.text) == [
        "00:04.0: unknown, another unit, whose root table lies at 0x180000, has tables for it too"
      ])
    // The first unit is off: then the second one's.
    machine.units[0] = vtdMachine(.unit(), isOn: false).units[0]
    #expect(listed() == ["00:04.0 0x190000", "00:05.0 0x190000"])
  }

  @Test
  func `of chips that have the same bus the later one's table is listed, and the other is told`()
    throws
  {
    let memory = try FlatMemory(byteCount: 4 << 20)
    func chip(_ table: UInt64) -> Calgary.Chip {
      Calgary.Chip(
        model: .calgary, base: PhysicalAddress(0xfe00_0000),
        hostBridges: [
          Calgary.Chip.HostBridge(
            buses: 2...3,
            tableAddress: Calgary.TableAddressRegister(rawValue: 0).setting(
              table: PhysicalAddress(table), size: .kib64),
            configuration: Calgary.ConfigurationRegister(rawValue: 0).enablingTranslation)
        ])
    }
    let machine = Machine(
      name: "", units: [.calgary(chip(0x10_0000)), .calgary(chip(0x20_0000))])
    let tables = machine.tables(in: memory)
    #expect(tables.tables.map(\.root) == [PhysicalAddress(0x20_0000)])
    #expect(tables.gaps.map(\.cause) == [.severalUnits])
    #expect(tables.gaps.map(\.address) == [PhysicalAddress(0x10_0000)])
    let owners = machine.owners(of: Requester("02:01.0")!, in: memory)
    #expect(owners.owner == 1 && owners.others == [0])
    // The same table in both is no trouble.
    let same = Machine(name: "", units: [.calgary(chip(0x10_0000)), .calgary(chip(0x10_0000))])
    #expect(same.tables(in: memory).gaps == [])
    #expect(same.tables(in: memory).tables.count == 1)
  }

  @Test func `nodes of a GART that differ are told`() throws {
    let memory = try FlatMemory(byteCount: 4 << 20)
    func node(_ table: UInt32) -> TranslationUnit {
      .gart(
        GART.Node(
          device: Requester("00:18.3")!, control: GART.ApertureControl(rawValue: 1),
          base: GART.ApertureBase(rawValue: 2), tableBase: GART.TableBase(rawValue: table)))
    }
    let machine = Machine(name: "", units: [node(0x1000), node(0x2000), node(0x1000)])
    let tables = machine.tables(in: memory)
    #expect(tables.tables.map(\.root) == [PhysicalAddress(0x10_0000)])
    #expect(tables.gaps.map(\.cause) == [.severalUnits])
    #expect(tables.gaps.map(\.address) == [PhysicalAddress(0x20_0000)])
  }

  /// The same device number on two segments: 00:04.0 and 0001:00:04.0.
  static func twoSegments(_ first: UInt16?, _ second: UInt16?) throws -> (Machine, FlatMemory) {
    var (machine, memory) = try Self.twoUnits()
    memory.store(0x19_0001, at: 0x18_1200)
    memory.store(0x501, at: 0x18_1208)
    machine.units = zip(machine.units(of: VTd.Unit.self), [first, second]).map { unit, segment in
      var unit = unit
      unit.segment = segment
      return .vtd(unit)
    }
    return (machine, memory)
  }

  @Test(arguments: [nil, 0] as [UInt16?])
  func `a unit translates for the devices of its own segment`(first: UInt16?) throws {
    let (machine, memory) = try Self.twoSegments(first, 1)
    let requester = Requester("00:04.0")!
    func translate(_ segment: UInt32) throws -> Translation {
      try machine.serving(PCI.Function(segment: segment, requester))
        .translate(requester, IOVA(0), access: .read, in: memory)
    }
    #expect(try translate(0) == .to(0x20_0000))
    #expect(try translate(1) == .to(0x30_0000))
    for segment in [2, 0x1_0000, .max] as [UInt32] {
      let device = PCI.Function(segment: segment, requester)
      #expect(throws: UnservedSegment(device)) { try translate(segment) }
    }
    // A device that the unit of its own segment does not know is not looked up in the other.
    #expect(
      machine.translate(Requester("00:05.0")!, IOVA(0), access: .read, in: memory)
        == .fault(.vtd(.contextEntryNotPresent, isRecorded: true)))
  }

  @Test func `segment 0 is none of a machine whose units have others`() throws {
    let (machine, _) = try Self.twoSegments(1, 2)
    let device = PCI.Function(Requester("00:04.0")!)
    #expect(throws: UnservedSegment(device)) { try machine.serving(device) }
  }

  @Test func `a machine without units passes every segment`() throws {
    let memory = try FlatMemory(byteCount: 4096)
    let requester = Requester("00:04.0")!
    let machine = try Machine(name: "none", units: [])
      .serving(PCI.Function(segment: 0x1_0000, requester))
    #expect(machine.translate(requester, IOVA(0x123), access: .write, in: memory) == .to(0x123))
  }

  @Test func `tables and what hides them belong to a segment`() throws {
    let (machine, memory) = try Self.twoSegments(nil, 1)
    #expect(
      machine.tables(in: memory).tables.map(\.name) == [
        "00:04.0", "0001:00:04.0", "0001:00:05.0",
      ])
    let other = PCI.Function(segment: 1, Requester("00:04.0")!)
    let own = PCI.Function(Requester("00:04.0")!)
    var gap = TableGap(
      .absent, .requesters(0x0000...0x00ff), in: .upper(VTd.contextTable),
      at: PhysicalAddress(0x10_1000))
    #expect(gap.concerns(own) && !gap.concerns(other))
    gap.segment = 1
    #expect(!gap.concerns(own) && gap.concerns(other))
  }

  @Test func `faults have numbers where the manual has them and words everywhere`() {
    let faults: [Fault] = [
      .beyondDeviceMask, .vtd(.readNotPermitted, isRecorded: true), .gart(.invalidEntry),
      .calgary(.emptyEntry),
    ]
    #expect(faults.map(\.number) == [nil, 6, nil, nil])
    #expect(faults.map(\.isRecorded) == [false, true, true, true])
    for fault in faults { #expect(!fault.meaning.isEmpty) }
    #expect(Access.read.description == "read" && Access.write.description == "write")
  }
}
