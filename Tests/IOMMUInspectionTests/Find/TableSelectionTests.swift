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

  @Test func `of two root tables with the same devices one is used, and the other is told`() throws
  {
    let memory = try twoUnits(withCopy: true)
    let selection = TableSearch(in: memory).selection(in: memory)
    #expect(selection.taken.count == 2)
    #expect(selection.passedOver.count == 1)
    #expect(selection.passedOver[0].reason.contains("as another kernel's has"))
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
    let used = search.selection(in: memory, TableHints(apertureBase: 0x400_0000))
    let machine = Machine(name: "gart", units: used.units)
    #expect(
      machine.translate(Requester("00:03.0")!, IOVA(0x400_2123), access: .read, in: memory)
        == .mapped(PhysicalAddress(0x4_2123), byteCount: 1))
  }
}
