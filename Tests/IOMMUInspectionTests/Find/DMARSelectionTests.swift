import IOMMUFormats
import IOMMUTestSupport
import IOMMUTranslation
import Testing

@testable import IOMMUInspection

/// Tables found in memory, with a DMAR table beside them.
@Suite struct DMARSelectionTests {
  /// A unit at 0xfed90000 for 80:02.0 and 80:03.0, one at 0xfed91000 for all else; hosts of 39 bits.
  static let dmar = hexdump(
    """
    444d415260000000 0100455841 4d504c5654445441424c45 01000000 54455354 01000000
    2605 00000000000000000000
    0000200000000000 0000d9fe00000000 0108000000800200 0108000000800300
    0000100001000000 0010d9fe00000000
    """)

  /// Root tables at 0x10000 (00:03.0) and 0x20000 (80:02.0), the DMAR table at 0x70000, and registers
  /// where `registers` has them.
  private func memory(
    roots: [UInt64] = [0x1_0000, 0x2_0000], registers: [UInt64: UInt64] = [:],
    dmar: [UInt64: [UInt8]] = [0x7_0000: Self.dmar]
  ) throws -> FlatMemory {
    let memory = try FlatMemory(ram: [
      addresses(0..<0x10_0000), addresses(0xfed9_0000..<0xfed9_2000),
    ])
    for (root, bus, device) in [(0x1_0000, 0, 3), (0x2_0000, 0x80, 2)] as [(UInt64, UInt64, UInt64)]
    where roots.contains(root) {
      for (place, word) in [
        (root + bus * 16, root + 0x1001), (root + 0x1000 + device * 128, root + 0x2001),
        (root + 0x1008 + device * 128, 0x101), (root + 0x2000, root + 0x3003),
        (root + 0x3000, root + 0x4003), (root + 0x4008, root + 0x5_0003),
      ] {
        memory.store(word, at: PhysicalAddress(place))
      }
    }
    for (place, word) in registers { memory.store(word, at: PhysicalAddress(place)) }
    for (place, bytes) in dmar {
      var bytes = bytes
      bytes[9] = 0
      bytes[9] = 0 &- bytes.reduce(0, &+)
      bytes.withUnsafeBytes { _ = memory.write($0, at: PhysicalAddress(place)) }
    }
    return memory
  }

  private func walk(_ text: String, _ units: [TranslationUnit], _ memory: FlatMemory) -> ToldWalk {
    ToldWalk(
      Requester(text)!, IOVA(0x1000), access: .read, machine: Machine(name: "", units: units),
      in: memory)
  }

  private static let taken =
    "taking the DMAR table at 0x70000: 2 units, at 0xfed90000 and 0xfed91000"

  @Test func `a machine of one unit has it where firmware says`() throws {
    var one = Array(Self.dmar[..<80])
    one[4] = 80
    let memory = try memory(roots: [0x2_0000], dmar: [0x7_0000: one])
    let selection = TableSearch(in: memory).selection(in: memory)
    let unit = try #require(selection.units.first?.as(VTd.Unit.self))
    #expect(selection.units.count == 1)
    #expect(unit.base == PhysicalAddress(0xfed9_0000))
    #expect(unit.limits.hostAddressWidth == 39)
    #expect(unit.segment == 0)
    #expect(selection.remarks == ["taking the DMAR table at 0x70000: 1 unit, at 0xfed90000"])
    #expect(walk("80:02.0", selection.units, memory).reachesMemory)
  }

  @Test func `which of two root tables is whose is said by nothing, and that is told`() throws {
    let memory = try memory()
    let selection = TableSearch(in: memory).selection(in: memory)
    #expect(
      selection.remarks == [
        Self.taken,
        "nothing says which root table is which unit's; --root vtd:ADDRESS@BASE, once for each, does",
      ])
    let walk = walk("00:03.0", selection.units, memory)
    #expect(walk.end == .memory(PhysicalAddress(0x6_0000), byteCount: 4096))
    #expect(walk.otherUnits == ["an Intel VT-d unit: root table 0x20000, legacy mode"])
  }

  @Test func `segments that nobody can tell, and more root tables than units, are told`() throws {
    // The second unit's segment, in its DRHD from byte 80 on.
    var segments = Self.dmar
    segments[86] = 1
    let two = try memory(dmar: [0x7_0000: segments])
    #expect(
      TableSearch(in: two).selection(in: two).remarks.last
        == "nothing says which root table is which unit's, nor of which PCI segment: its devices have "
        + "none here; --root vtd:ADDRESS@BASE, once for each, does")
    var one = Array(Self.dmar[..<80])
    one[4] = 80
    let single = try memory(dmar: [0x7_0000: one])
    #expect(
      TableSearch(in: single).selection(in: single).remarks.last
        == "there are 2 root tables for 1 unit: not all of them are in force")
  }

  @Test func `registers that the dump holds say which root table is whose`() throws {
    let memory = try memory(registers: [0xfed9_0020: 0x2_0000, 0xfed9_1020: 0x1_0000])
    let selection = TableSearch(in: memory).selection(in: memory)
    #expect(selection.remarks == [Self.taken])
    #expect(
      selection.units.map(\.name) == [
        "Intel VT-d unit at 0xfed91000", "Intel VT-d unit at 0xfed90000",
      ])
    for text in ["00:03.0", "80:02.0"] {
      let walk = walk(text, selection.units, memory)
      #expect(walk.reachesMemory && walk.otherUnits.isEmpty)
    }
    // 80:03.0 is behind the unit at 0xfed90000 and has no context there; 80:04.0 is behind the other.
    #expect(
      walk("80:03.0", selection.units, memory).end
        == .fault(.vtd(.contextEntryNotPresent, isRecorded: true)))
    #expect(
      walk("80:04.0", selection.units, memory).end
        == .fault(.vtd(.rootEntryNotPresent, isRecorded: true)))
  }

  @Test func `the place of registers that somebody names decides too`() throws {
    let memory = try memory()
    // The wrong way round: who says so is believed.
    let units = try ["vtd:10000@fed90000", "vtd:20000@fed91000"].map {
      try NamedTable($0).unit(in: memory, TableHints())
    }
    let completed = TableSearch(in: memory).completing(units, in: memory)
    #expect(completed.remarks == [Self.taken])
    #expect(
      walk("80:02.0", completed.units, memory).end
        == .fault(.vtd(.rootEntryNotPresent, isRecorded: true)))
    // What the firmware says holds for tables named later too.
    let named = Machine(name: "", units: completed.units).with([units[0]])
    #expect(walk("00:03.0", named.units, memory).end == .unitUnseen)
  }

  @Test func `a unit whose tables are not found makes its devices unknown`() throws {
    let memory = try memory(roots: [0x1_0000])
    let selection = TableSearch(in: memory).selection(in: memory)
    let known = walk("00:03.0", selection.units, memory)
    #expect(known.reachesMemory)
    #expect(
      known.otherUnits == [
        "Intel VT-d unit at 0xfed90000 or 0xfed91000, whose registers are not known"
      ])
    let unknown = walk("80:02.0", selection.units, memory)
    #expect(unknown.isUnknown && !unknown.reachesMemory)
    #expect(
      unknown.endText
        == "ends unknown: the registers of the unit above the device are not known")
    #expect(unknown.route == "a unit of which nobody knows what it does")
    let machine = Machine(name: "", units: selection.units)
    let report = MapsReport(all: machine, in: memory)
    #expect(
      report.gaps.map(\.text) == [
        "devices of the unit at 0xfed90000 or 0xfed91000: unknown, the registers of the unit are not "
          + "known"
      ])
    #expect(Blindness(report.gaps).hidesUnit)
    let reach = ReachReport(PhysicalAddress(0x9_0000), machine: machine, in: memory)
    #expect(reach.ways.isEmpty && !reach.blindness.isEmpty)
  }

  @Test func `a DMAR table that cannot be read is told, and changes nothing`() throws {
    var broken = Self.dmar
    // The second structure claims 17 bytes, and 16 are left.
    broken[82] = 17
    let memory = try memory(dmar: [0x7_0000: broken])
    let selection = TableSearch(in: memory).selection(in: memory)
    #expect(
      selection.remarks == [
        "not taking the DMAR table at 0x70000: at byte 0x50: DRHD with a length of 17 bytes, and the "
          + "table has 16 left; the firmware or the copy is broken"
      ])
    #expect(selection.units.allSatisfy { $0.as(VTd.Unit.self)?.scope == nil })
  }

  @Test func `of two DMAR tables that differ none is taken, of two that are the same one`() throws {
    var other = Self.dmar
    other[36] = 0x2e
    let differing = try memory(dmar: [0x7_0000: Self.dmar, 0x7_1000: other])
    #expect(
      TableSearch(in: differing).selection(in: differing).remarks == [
        "not taking the DMAR tables at 0x70000 and 0x71000: they differ"
      ])
    let same = try memory(dmar: [0x7_0000: Self.dmar, 0x7_1000: Self.dmar])
    #expect(TableSearch(in: same).selection(in: same).remarks.first == Self.taken)
  }
}
