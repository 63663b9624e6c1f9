import FoundationEssentials
import IOMMUFormats
import IOMMUInspection
import IOMMUTranslation
import Testing

@Suite struct RunDifferenceTests {
  func run(
    _ iova: Range<UInt64>, _ physical: UInt64, _ permissions: Permissions = .readWrite
  ) -> MappingRun {
    MappingRun(
      iova: IOVA(iova.lowerBound)..<IOVA(iova.upperBound), physical: PhysicalAddress(physical),
      permissions: permissions)
  }

  func texts(_ before: [MappingRun], _ after: [MappingRun]) -> [String] {
    RunDifference.between(before, after).map(\.text)
  }

  @Test func `equal runs do not differ, however they are cut`() {
    #expect(
      texts(
        [run(0x1000..<0x4000, 0x8000)],
        [
          run(0x1000..<0x2000, 0x8000), run(0x2000..<0x4000, 0x9000),
        ]) == [])
  }

  @Test func `each kind of change is a maximal range`() {
    let before = [
      run(0x0..<0x3000, 0x10000), run(0x5000..<0x6000, 0x20000),
      run(0x8000..<0xa000, 0x30000), run(0xb000..<0xc000, 0x40000, .read),
    ]
    let after = [
      run(0x1000..<0x3000, 0x11000), run(0x5000..<0x6000, 0x21000),
      run(0x8000..<0xa000, 0x30000, .read), run(0xb000..<0xc000, 0x40000, .read),
      run(0xd000..<0xf000, 0x50000),
    ]
    #expect(
      texts(before, after) == [
        "unmapped     0x0..<0x1000  4 KiB  was -> 0x10000 rw",
        "re-aimed     0x5000..<0x6000  4 KiB  0x20000 rw -> 0x21000 rw",
        "permissions  0x8000..<0xa000  8 KiB  0x30000 rw -> 0x30000 r-",
        "mapped       0xd000..<0xf000  8 KiB  -> 0x50000 rw",
      ])
  }

  @Test func `nothing against something is all of it`() {
    #expect(
      texts([], [run(0..<0x1000, 0)]) == ["mapped       0x0..<0x1000  4 KiB  -> 0x0 rw"])
    #expect(texts([], []) == [])
  }

  /// A byte-wise comparison has to say the same as the sweep.
  @Test(arguments: [1, 2, 3, 4] as [UInt64])
  func `random tables differ page for page as the ranges say`(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    func table() -> [UInt64: RunDifference.Target] {
      var pages: [UInt64: RunDifference.Target] = [:]
      for page in 0..<64 as Range<UInt64> where Bool.random(using: &generator) {
        let shift = UInt64.random(in: 0..<3, using: &generator)
        pages[page] = RunDifference.Target(
          physical: PhysicalAddress((page + shift) * 4096),
          permissions: Bool.random(using: &generator) ? .readWrite : .read)
      }
      return pages
    }
    func runs(_ pages: [UInt64: RunDifference.Target]) -> [MappingRun] {
      pages.sorted { $0.key < $1.key }.map {
        run(
          $0.key * 4096..<($0.key + 1) * 4096, $0.value.physical.rawValue,
          $0.value.access.permissions)
      }
    }
    let (before, after) = (table(), table())
    var differing: Set<UInt64> = []
    for difference in RunDifference.between(runs(before), runs(after)) {
      for page in difference.iova.lowerBound.pageNumber..<difference.iova.upperBound.pageNumber {
        #expect(differing.insert(page).inserted)
      }
    }
    let expected = (0..<64 as Range<UInt64>).filter { before[$0] != after[$0] }
    #expect(differing == Set(expected), "seed \(seed)")
  }
}

@Suite struct MapsDifferenceTests {
  @Test func `a machine does not differ from itself`() throws {
    let small = try SmallMachine()
    let difference = MapsDifference(
      before: small.machine, in: small.memory, after: small.machine, in: small.memory)
    #expect(difference.isEmpty)
    var screen = ""
    difference.write(to: &screen)
    #expect(screen == "0 devices different, 5 the same: no range changed\n")
  }

  @Test func `a copied root table with other mappings for one device is told apart`() throws {
    let small = try SmallMachine()
    let other = try SmallMachine()
    // 00:03.1 gets a table of its own, 03:00.0 loses its context entry.
    other.memory.store(0x3a001 as UInt64, at: PhysicalAddress(0x31190))
    other.memory.store(0x3b003 as UInt64, at: PhysicalAddress(0x3a000))
    other.memory.store(0x40_0081 as UInt64, at: PhysicalAddress(0x3b008))
    other.memory.store(0 as UInt64, at: PhysicalAddress(0x32000))
    let difference = MapsDifference(
      before: small.machine, in: small.memory, after: other.machine, in: other.memory)
    #expect(!difference.isEmpty)
    var screen = ""
    difference.write(to: &screen)
    #expect(
      screen == """
        00:03.1  second-stage table 0x33000, 3 levels -> second-stage table 0x3a000, 3 levels
          unmapped     0x10000..<0x12000  8 KiB  was -> 0x50000 rw
          unmapped     0x12000..<0x13000  4 KiB  was -> 0x52000 -w
          permissions  0x200000..<0x400000  2 MiB  0x400000 rw -> 0x400000 r-
        03:00.0  gone: second-stage table 0x36000, 4 levels
        2 devices different, 3 the same: 2 ranges unmapped, 12 KiB; 1 range permissions, 2 MiB

        """)
  }

  /// The small machine with its VT-d unit off, and nothing else changed.
  private static func off(_ small: SmallMachine) -> Machine {
    var machine = small.machine
    machine.units = machine.units.map { unit in
      guard var vtd = unit.as(VTd.Unit.self) else { return unit }
      vtd.status = VTd.GlobalStatus(rawValue: 0)
      return .vtd(vtd)
    }
    return machine
  }

  @Test func `devices that pass from now on have gained all of memory, and lost nothing`() throws {
    let small = try SmallMachine()
    let off = Self.off(small)
    var screen = ""
    MapsDifference(before: small.machine, in: small.memory, after: off, in: small.memory)
      .write(to: &screen)
    #expect(
      screen == """
        00:03.0  second-stage table 0x33000, 3 levels -> not translated
        00:03.1  second-stage table 0x33000, 3 levels -> not translated
        03:00.0  second-stage table 0x36000, 4 levels -> not translated
        devices of the unit at 0xfed90000  new: not translated
        1 table moved, with the same mappings
        3 devices different, 2 the same: no range changed

        """)
    screen = ""
    MapsDifference(before: off, in: small.memory, after: small.machine, in: small.memory)
      .write(to: &screen)
    #expect(screen.contains("03:00.0  not translated -> second-stage table 0x36000, 4 levels\n"))
    #expect(screen.contains("devices of the unit at 0xfed90000  gone: not translated\n"))
    // A unit that was off, and is.
    #expect(
      MapsDifference(before: off, in: small.memory, after: off, in: small.memory).isEmpty)
  }

  @Test func `a table that becomes a pass-through unmaps nothing`() throws {
    let small = try SmallMachine()
    let other = try SmallMachine()
    // Intel VT-d 9.3: TT = 2.
    other.memory.store(0x9 as UInt64, at: PhysicalAddress(0x31180))
    other.memory.store(0x601 as UInt64, at: PhysicalAddress(0x31188))
    let difference = MapsDifference(
      before: small.machine, in: small.memory, after: other.machine, in: other.memory)
    let row = try #require(difference.rows.first { $0.name == "00:03.0" })
    #expect(row.isDifferent && row.differences.isEmpty)
    #expect(
      row.table
        == .replaced(
          before: "second-stage table 0x33000, 3 levels",
          after: "pass-through"))
  }
}
