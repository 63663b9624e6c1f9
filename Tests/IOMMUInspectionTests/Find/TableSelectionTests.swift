import IOMMUFormats
import IOMMUInspection
import IOMMUTranslation
import Testing

@Suite struct TableSelectionTests {
  /// Root tables at 0x10000 (00:03.0 and 00:04.0), 0x20000 (80:02.0 and 80:03.0), and a copy of the
  /// first at 0x30000 with context tables of its own, as a capture kernel makes it.
  private func twoUnits(withCopy: Bool) throws -> FlatMemory {
    let memory = try FlatMemory(byteCount: 1 << 20)
    func unit(root: UInt64, contexts: UInt64, trees: UInt64, bus: UInt64, devices: [UInt64]) {
      memory.store(contexts | 1, at: PhysicalAddress(root + bus * 16))
      for (index, device) in devices.enumerated() {
        let tree = trees + UInt64(index) * 0x3000
        memory.store(tree | 1, at: PhysicalAddress(contexts + device * 128))
        memory.store(UInt64(index + 1) << 8 | 1, at: PhysicalAddress(contexts + device * 128 + 8))
        memory.store(tree + 0x1003, at: PhysicalAddress(tree))
        memory.store(tree + 0x2003, at: PhysicalAddress(tree + 0x1000))
        memory.store((bus << 12) + 0x4_0003, at: PhysicalAddress(tree + 0x2000 + 8))
      }
    }
    unit(root: 0x1_0000, contexts: 0x1_1000, trees: 0x1_2000, bus: 0, devices: [3, 4])
    unit(root: 0x2_0000, contexts: 0x2_1000, trees: 0x2_2000, bus: 0x80, devices: [2, 3])
    if withCopy {
      unit(root: 0x3_0000, contexts: 0x3_1000, trees: 0x1_2000, bus: 0, devices: [3, 4])
    }
    return memory
  }

  @Test func `root tables of several units are used together`() throws {
    let memory = try twoUnits(withCopy: false)
    let selection = TableSearch(in: memory).selection(in: memory)
    #expect(
      selection.taken.map(\.address) == [PhysicalAddress(0x1_0000), PhysicalAddress(0x2_0000)])
    #expect(selection.passedOver.isEmpty)
    let machine = Machine(name: "two", units: selection.units)
    let reach = ReachReport(PhysicalAddress(0xc_0000), machine: machine, in: memory)
    #expect(reach.ways.map(\.table) == ["80:02.0", "80:03.0"])
    let walk = ToldWalk(
      Requester("80:02.0")!, IOVA(0x1000), access: .write, machine: machine, in: memory)
    #expect(walk.reachesMemory)
    #expect(walk.otherUnits.isEmpty)
  }

  @Test func `of two kernels' root tables with the same devices one is used`() throws {
    let memory = try twoUnits(withCopy: true)
    let crashKernel = [PhysicalAddress(0x3_0000)..<PhysicalAddress(0x3_2000)]
    let search = TableSearch(in: memory, crashKernel: crashKernel)
    let selection = search.selection(in: memory)
    #expect(
      selection.taken.map(\.address) == [PhysicalAddress(0x3_0000), PhysicalAddress(0x2_0000)])
    #expect(selection.passedOver.map(\.candidate.address) == [PhysicalAddress(0x1_0000)])
    #expect(selection.passedOver[0].reason.contains("as another kernel's has"))
  }

  @Test func `of root tables with the same devices all are used where nothing says whose they are`()
    throws
  {
    let memory = try twoUnits(withCopy: true)
    // 00:03.0 of the copy with the tables of 00:04.0.
    memory.store(0x1_5001 as UInt64, at: PhysicalAddress(0x3_1180))
    let selection = TableSearch(in: memory).selection(in: memory)
    #expect(
      selection.taken.map(\.address)
        == [PhysicalAddress(0x1_0000), PhysicalAddress(0x2_0000), PhysicalAddress(0x3_0000)])
    #expect(selection.passedOver.isEmpty)
    #expect(
      selection.remarks == [
        "the VT-d root table at 0x30000 has devices of 0x10000 too: it may be another unit's, or one "
          + "that is no longer in force"
      ])
    let machine = Machine(name: "", units: selection.units)
    let inForce = machine.tables(in: memory)
    #expect(inForce.gaps.map(\.scope) == [.requesters(0x18...0x18)])
    #expect(inForce.others.map(\.root) == [PhysicalAddress(0x1_5000)])
    // Entries of both tables are put into words.
    let annotator = Annotator(machine, in: memory)
    #expect(
      annotator.entries(at: PhysicalAddress(0x3_1180), in: memory).map(\.title)
        == ["context entry 00:03.0"])
    #expect(annotator.entries(at: PhysicalAddress(0x1_4008), in: memory).count == 1)
    #expect(annotator.entries(at: PhysicalAddress(0x1_7008), in: memory).count == 1)
  }

  @Test func `root tables with the same devices are those of two segments where registers say so`()
    throws
  {
    let memory = try twoUnits(withCopy: true)
    memory.store(0x1_5001 as UInt64, at: PhysicalAddress(0x3_1180))
    // Intel VT-d 8.1: 48 bytes of header; a DRHD for all of segment 0 and one for all of segment 1,
    // with registers at 0xe0000 and 0xf0000.
    var dmar: [UInt8] = Array("DMAR".utf8) + [80, 0, 0, 0, 1, 0] + Array("TESTERtestdmar".utf8)
    dmar += [UInt8](repeating: 0, count: 36 - dmar.count)
    dmar += [38, 1] + [UInt8](repeating: 0, count: 10)
    dmar += [0, 0, 16, 0, 1, 0, 0, 0, 0, 0, 0x0e, 0, 0, 0, 0, 0]
    dmar += [0, 0, 16, 0, 1, 0, 1, 0, 0, 0, 0x0f, 0, 0, 0, 0, 0]
    dmar[9] = 0 &- dmar.reduce(0) { $0 &+ $1 }
    dmar.withUnsafeBytes { _ = memory.write($0, at: PhysicalAddress(0x8_0000)) }
    // Intel VT-d 11.4.5: the root table address register is at offset 20h.
    memory.store(0x1_0000 as UInt64, at: PhysicalAddress(0xe_0020))
    memory.store(0x3_0000 as UInt64, at: PhysicalAddress(0xf_0020))
    let selection = TableSearch(in: memory).selection(in: memory)
    #expect(selection.passedOver.isEmpty)
    let machine = Machine(name: "", units: selection.units)
    #expect(machine.tables(in: memory).gaps.filter { $0.cause == .severalUnits }.isEmpty)
    #expect(
      machine.tables(in: memory).tables.map(\.name) == [
        "00:03.0", "00:04.0", "0001:00:03.0", "0001:00:04.0",
      ])
  }

  @Test func `a device that two units know is said to be one of either`() throws {
    let memory = try twoUnits(withCopy: true)
    func unit(_ root: UInt64) -> TranslationUnit {
      .vtd(
        VTd.Unit(
          base: PhysicalAddress(0xfed9_0000 + root),
          rootTableAddress: VTd.RootTableAddress(rawValue: root),
          status: VTd.GlobalStatus(rawValue: 0x8000_0000), limits: .permissive))
    }
    let machine = Machine(name: "two", units: [unit(0x1_0000), unit(0x3_0000)])
    func otherUnits() -> [String] {
      ToldWalk(Requester("00:03.0")!, IOVA(0x1000), access: .read, machine: machine, in: memory)
        .otherUnits
    }
    // The copy's tables are the same, and it makes no difference which unit it is.
    #expect(otherUnits().isEmpty)
    #expect(machine.tables(in: memory).gaps.isEmpty)
    // 00:03.0 with the tables of 00:04.0.
    memory.store(0x1_5001 as UInt64, at: PhysicalAddress(0x3_1180))
    #expect(
      otherUnits() == ["Intel VT-d unit at 0xfedc0000: root table 0x30000, legacy mode"])
    #expect(
      machine.tables(in: memory).gaps.map(\.text) == [
        "00:03.0: unknown, another unit, whose root table lies at 0x30000, has tables for it too"
      ])
  }

  @Test func `a search that gave up leaves open what devices have that it has not found`() throws {
    let memory = try twoUnits(withCopy: false)
    // "DMAR", and a length of 65280: more of them than are added up.
    for address in stride(from: 0x6_0000 as UInt64, to: 0x7_0000, by: 8) {
      memory.store(0x0000_ff00_5241_4d44 as UInt64, at: PhysicalAddress(address))
    }
    let search = TableSearch(in: memory)
    #expect(search.isExhausted)
    let machine = Machine(name: "", units: search.selection(in: memory).units)
    let tables = machine.tables(in: memory)
    #expect(tables.tables.map(\.name) == ["00:03.0", "00:04.0", "80:02.0", "80:03.0"])
    #expect(
      tables.gaps.map(\.text) == [
        "all devices: unknown, more places look like tables than are looked at, and not all of them were"
      ])
    let reach = ReachReport(PhysicalAddress(0xf_0000), machine: machine, in: memory)
    #expect(reach.ways.isEmpty && reach.blindness.hidesUnit)
    func walk(_ device: String) -> ToldWalk {
      ToldWalk(
        Requester(device)!, IOVA(0x1000), access: .write, machine: machine, in: memory)
    }
    #expect(walk("00:03.0").reachesMemory)
    #expect(walk("00:05.0").end == .unitUnseen)
  }

  @Test func `a GATT serves when somebody knows where its aperture is`() throws {
    // 32 MiB of aperture: 32 KiB of table, every entry valid and most of them the scratch page.
    let memory = try FlatMemory(byteCount: 1 << 20)
    for index in 0..<8192 as Range<UInt64> {
      let entry: UInt32 = index < 16 ? UInt32(index) << 12 | 0x4_0003 : 0x8_0003
      memory.store(entry, at: PhysicalAddress(0x1_0000 + index * 4))
    }
    let search = TableSearch(in: memory)
    let unused = search.selection(in: memory)
    #expect(unused.taken.isEmpty)
    #expect(unused.passedOver.map(\.candidate.address) == [PhysicalAddress(0x1_0000)])
    let used = search.selection(in: memory, TableHints(aperture: ApertureHint(base: 0x400_0000)))
    // Its table is that of 32 MiB.
    for (size, taken) in [(32 << 20, 1), (64 << 20, 0)] as [(UInt64, Int)] {
      let hint = ApertureHint(base: 0x400_0000, byteCount: size)
      #expect(search.selection(in: memory, TableHints(aperture: hint)).taken.count == taken)
    }
    let machine = Machine(name: "gart", units: used.units)
    #expect(
      machine.translate(Requester("00:03.0")!, IOVA(0x400_2123), access: .read, in: memory)
        == .mapped(PhysicalAddress(0x4_2123), byteCount: 1))
  }
}
