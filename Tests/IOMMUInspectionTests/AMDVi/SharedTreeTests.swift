import IOMMUFormats
import IOMMUTestSupport
import IOMMUTranslation
import Testing

@testable import IOMMUInspection

/// Thousands of devices with a few trees: what they share is looked at once.
@Suite struct SharedTreeTests {
  /// So many devices, by turns with one of three trees that share all but their roots. Each maps 2 pages.
  private static func memory(devices: UInt64, page: UInt64 = 0x48_0000) throws -> FlatMemory {
    let memory = try FlatMemory(byteCount: 8 << 20)
    func store(_ word: UInt64, _ address: UInt64) {
      memory.store(word, at: PhysicalAddress(address))
    }
    for number in 0..<devices {
      let entry = 0x20_0000 + 32 * number
      store(0x6000_0000_0040_0603 + (number % 3) << 12, entry)
      store(number % 3, entry + 8)
    }
    for root in 0..<3 as Range<UInt64> { store(0x6000_0000_0040_3401, 0x40_0000 + root << 12) }
    store(0x6000_0000_0040_4201, 0x40_3000)
    store(0x6000_0000_0000_0001 | page, 0x40_4000)
    store(0x6000_0000_0000_0001 | page, 0x40_4010)
    return memory
  }

  private static let machine = Machine(
    name: "",
    units: [
      .amdvi(
        AMDVi.Unit(
          base: PhysicalAddress(0xfed8_0000),
          deviceTable: AMDVi.DeviceTableBase(rawValue: 0x20_001f),
          control: AMDVi.Control(rawValue: 1)))
    ])

  /// What is read of page tables for so many devices.
  private static func reads(devices: UInt64) throws -> [String: Int] {
    let memory = CountingMemory(try memory(devices: devices), from: 0x40_0000)
    let other = try Self.memory(devices: devices, page: 0x49_0000)
    let machine = Self.machine
    var text = ""
    return [
      "maps": memory.reads {
        MapsReport(all: machine, in: memory).writeText(of: memory, to: &text)
      },
      "tsv": memory.reads { MapsReport(all: machine, in: memory).writeTSV(of: memory, to: &text) },
      "summary": memory.reads {
        _ = MapsSummary(MapsReport(all: machine, in: memory), in: memory)
      },
      "who": memory.reads {
        _ = ReachReport(PhysicalAddress(0x48_0000), machine: machine, in: memory)
      },
      "diff": memory.reads {
        _ = MapsDifference(before: machine, in: memory, after: machine, in: other)
      },
      "report": memory.reads {
        DumpReport(title: "", machine: machine, in: memory).write(to: &text)
      },
    ]
  }

  @Test func `page tables are read as often for 4096 devices as for three`() throws {
    let few = try Self.reads(devices: 3)
    #expect(few.values.allSatisfy { $0 >= 9 })
    #expect(try Self.reads(devices: 4096) == few)
  }

  @Test func `what differs of a tree is told of its first device, and counted for all`() throws {
    let before = try Self.memory(devices: 300)
    let after = try Self.memory(devices: 300, page: 0x49_0000)
    let difference = MapsDifference(
      before: Self.machine, in: before, after: Self.machine, in: after)
    try #require(difference.rows.count == 300)
    #expect(
      difference.rows.filter { $0.sameAs == nil }.map(\.name) == ["00:00.0", "00:00.1", "00:00.2"])
    #expect(difference.rows[299].sameAs == "00:00.2" && difference.rows[299].isDifferent)
    var text = ""
    difference.write(to: &text)
    let lines = text.split(separator: "\n")
    // Three devices with two ranges each, a line for each of the others, and one that sums up.
    try #require(lines.count == 3 * 3 + 297 + 1)
    #expect(lines[9] == "00:00.3  same table: the same as 00:00.0")
    #expect(lines.last == "300 devices different, 0 the same: 600 ranges re-aimed, 2400 KiB")
  }

  @Test func `of very many trees a report lists the first, and counts the rest`() throws {
    // 1,100 devices with a root each, which all lead to one table with 300 pages.
    let memory = try FlatMemory(byteCount: 16 << 20)
    func store(_ word: UInt64, _ address: UInt64) {
      memory.store(word, at: PhysicalAddress(address))
    }
    for number in 0..<1100 as Range<UInt64> {
      let root = 0x40_0000 + number << 12
      store(0x6000_0000_0000_0403 | root, 0x20_0000 + 32 * number)
      store(number, 0x20_0008 + 32 * number)
      store(0x6000_0000_0090_0201, root)
    }
    for page in 0..<300 as Range<UInt64> {
      store(0x6000_0000_00a0_0001 + page << 13, 0x90_0000 + 8 * page)
    }
    var text = ""
    DumpReport(title: "", machine: Self.machine, in: memory).write(to: &text)
    #expect(text.contains(#"<details id="maps-1024"><summary class="mono">03:1f.7 "#))
    #expect(!text.contains(#"id="maps-1025""#) && !text.contains(##"href="#maps-1025""##))
    #expect(text.contains(#"<p class="note">76 more tables: <code>iommu maps</code></p>"#))
    #expect(text.contains(#"<p class="note">844 more tables are not drawn.</p>"#))
    // Of each 200, and how many more there are.
    #expect(text.contains("100 more: <code>iommu maps --table 00:00.0</code></p>"))
  }

  @Test func `of a tree that is not all there every gap is told once`() throws {
    let memory = LackingMemory(try Self.memory(devices: 300), without: [0x40_4000])
    let report = MapsReport(all: Self.machine, in: memory)
    var text = ""
    #expect(report.writeText(of: memory, to: &text).gaps.count == 3)
    #expect(MapsSummary(report, in: memory).blindness.gaps.count == 3)
    let reach = ReachReport(PhysicalAddress(0x48_0000), machine: Self.machine, in: memory)
    #expect(reach.blindness.gaps.count == 3)
    // A line of each device, as there is one for its runs.
    text = ""
    report.writeTSV(of: memory, to: &text)
    let unknown = text.split(separator: "\n").filter { $0.hasPrefix("#unknown") }
    try #require(unknown.count == 300)
    #expect(
      unknown[0]
        == "#unknown\t00:00.0 IOVA 0x0..<0x200000\tthe table of level 1 at 0x404000 is not in this dump"
    )
    #expect(unknown[299] == "#unknown\t01:05.3\tthe same as of 00:00.2")
  }

  @Test func `a device that passes from now on is counted once`() throws {
    let before = try Self.memory(devices: 128)
    func summary(_ entry: UInt64, _ devices: [UInt64]) throws -> [Substring] {
      let after = try Self.memory(devices: 128)
      for device in devices { after.store(entry, at: PhysicalAddress(0x20_0000 + 32 * device)) }
      let machine = Machine(
        name: "", units: [.amdvi(Self.unit(deviceTable: 0x20_0000))])
      var text = ""
      MapsDifference(before: machine, in: before, after: machine, in: after).write(to: &text)
      return text.split(separator: "\n")
    }
    // V clear, and mode 0.
    #expect(
      try summary(0, [5]) == [
        "00:00.5  host page table 0x402000, 3 levels -> not translated",
        "1 device different, 127 the same: no range changed",
      ])
    #expect(
      try summary(0x6000_0000_0000_0003, [5]) == [
        "00:00.5  host page table 0x402000, 3 levels -> pass-through",
        "1 device different, 127 the same: no range changed",
      ])
  }

  @Test func `devices without a table that pass from now on are told by their numbers`() throws {
    func memory(passing: Range<UInt64>) throws -> FlatMemory {
      let memory = try FlatMemory(byteCount: 8 << 20)
      for number in 0..<128 as Range<UInt64> where !passing.contains(number) {
        memory.store(3 as UInt64, at: PhysicalAddress(0x20_0000 + 32 * number))
      }
      return memory
    }
    let machine = Machine(name: "", units: [.amdvi(Self.unit(deviceTable: 0x20_0000))])
    var text = ""
    MapsDifference(
      before: machine, in: try memory(passing: 8..<16), after: machine,
      in: try memory(passing: 12..<24)
    ).write(to: &text)
    #expect(
      text == """
        00:01.0 to 00:01.3  gone: not translated
        00:02.0 to 00:02.7  new: not translated
        12 devices different, 0 the same: no range changed

        """, "\(text)")
  }

  private static func unit(deviceTable: UInt64, at base: UInt64 = 0xfed8_0000) -> AMDVi.Unit {
    AMDVi.Unit(
      base: PhysicalAddress(base), deviceTable: AMDVi.DeviceTableBase(rawValue: deviceTable),
      control: AMDVi.Control(rawValue: 1))
  }

  @Test func `of two units of which one is off nobody knows whose a device is`() throws {
    let memory = try Self.memory(devices: 128)
    var off = Self.unit(deviceTable: 0x20_0000, at: 0xfed9_0000)
    off.control = AMDVi.Control(rawValue: 0)
    for units in [
      [Self.unit(deviceTable: 0x20_0000), off], [off, Self.unit(deviceTable: 0x20_0000)],
    ] {
      let machine = Machine(name: "", units: units.map { .amdvi($0) })
      let walk = ToldWalk(
        Requester(rawValue: 5), IOVA(0), access: .read, machine: machine, in: memory)
      #expect(walk.isUnknown)
      #expect(walk.otherUnits == ["AMD-Vi unit at 0xfed90000, off"])
      // What `translate` compares.
      let handles = machine.handles(of: Requester(rawValue: 5), in: memory)
      #expect(
        handles.map { $0.translate(IOVA(0), byteCount: 1, access: .read, in: memory) } == [
          .mapped(PhysicalAddress(0x48_0000), byteCount: 1),
          .mapped(PhysicalAddress(0), byteCount: 1),
        ])
      let report = MapsReport(all: machine, in: memory)
      #expect(report.gaps.count == 128)
      #expect(
        report.gaps[5].text
          == "00:00.5: unknown, it may be behind the unit at 0xfed90000, which is off and lets all "
          + "requests pass")
      let reach = ReachReport(PhysicalAddress(0x48_0000), machine: machine, in: memory)
      #expect(reach.blindness.gaps.count == 128)
      #expect(reach.ways.contains { $0.table == "devices of the unit at 0xfed90000" })
    }
    // Two units that are on, with one table, as Linux has it: both say the same.
    let both = Machine(
      name: "",
      units: [
        .amdvi(Self.unit(deviceTable: 0x20_0000)),
        .amdvi(Self.unit(deviceTable: 0x20_0000, at: 0xfed9_0000)),
      ])
    #expect(
      !ToldWalk(Requester(rawValue: 5), IOVA(0), access: .read, machine: both, in: memory).isUnknown
    )
  }

  @Test func `more segments than the unit has are told, and not believed`() throws {
    let memory = try Self.memory(devices: 128)
    func machine(_ code: UInt64, offered: UInt64?) -> Machine {
      var unit = Self.unit(deviceTable: 0x20_0000)
      unit.control = AMDVi.Control(rawValue: 1 | code << 34)
      unit.features = offered.map { AMDVi.ExtendedFeatures(rawValue: $0 << 38) }
      return Machine(name: "", units: [.amdvi(unit)])
    }
    let one = machine(1, offered: 0)
    #expect(
      one.doubts(in: memory) == [
        "DevTblSegEn of AMD-Vi unit at 0xfed80000 is 1, and EFR offers 0 (DevTblSegSup): no unit takes "
          + "that; the device table at 0x200000 is taken to be all"
      ])
    #expect(one.tables(in: memory).tables.count == 128 && one.tables(in: memory).gaps.isEmpty)
    #expect(
      machine(4, offered: nil).doubts(in: memory).first?.contains("is 4, and the most is 3") == true
    )
    #expect(machine(4, offered: nil).tables(in: memory).gaps.isEmpty)
    // As many as there are: those of which nobody knows the place are unknown.
    let two = machine(1, offered: 1)
    #expect(two.doubts(in: memory).isEmpty)
    #expect(two.tables(in: memory).gaps.map(\.subjectText) == ["80:00.0 to ff:1f.7"])
  }

  @Test func `an alias is as well known as the entry of the number that it sends`() throws {
    // 02:00.1 speaks as 00:00.5, and 00:00.6 as 02:00.0. The table's fifth page is missing.
    let memory = LackingMemory(try Self.memory(devices: 1024), without: [0x20_4000])
    var unit = Self.unit(deviceTable: 0x20_0007, at: 0xfd30_0000)
    let table = try AMDVi.IVRS(
      parsing: hexdump(
        """
        4956525358000000023d414d44202020416d645461626c6501000000414d4420010000004130200000000000000000\
        001000280002004000000030fd00000000000000000000000042010200000500004206000000000200
        """), ignoringChecksum: true)
    unit.scope = AMDVi.UnitScope(table, base: unit.base)
    let machine = Machine(name: "", units: [.amdvi(unit)])
    let tables = machine.tables(in: memory)
    #expect(
      tables.gaps.map(\.text) == [
        "00:00.6: unknown, the device table at 0x204000 is not in this dump",
        "02:00.0: unknown, the device table at 0x204000 is not in this dump",
        "02:00.2 to 02:0f.7: unknown, the device table at 0x204040 is not in this dump",
      ])
    let names = tables.tables.map(\.name)
    #expect(names.contains("02:00.1") && !names.contains("00:00.6") && names.count == 1024 - 128)
    // A walk says the same of each.
    for (device, isUnknown) in [(0x201, false), (6, true), (0x200, true), (5, false)] {
      let walk = ToldWalk(
        Requester(rawValue: UInt16(device)), IOVA(0), access: .read, machine: machine, in: memory)
      #expect(walk.isUnknown == isUnknown, "\(walk.source)")
    }
    // Without the whole table one gap says all, aliases or not.
    let pages = (0..<8).map { 0x20_0000 + $0 << 12 } as [UInt64]
    let nothing = LackingMemory(memory.base, without: Set(pages))
    #expect(
      machine.tables(in: nothing).gaps.map(\.text) == [
        "all devices: unknown, the device table at 0x200000 is not in this dump"
      ])
  }
}
