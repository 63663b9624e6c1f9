import IOMMUFormats
import IOMMUInspection
import IOMMUTestSupport
import IOMMUTranslation
import Testing

/// Whatever goes over a machine's tables says the same of them: over random machines of every kind,
/// with broken entries and pages that the memory does not hold.
@Suite struct AgreementTests {
  /// Machines of each kind and seed, and as many more as it takes until enough of them map something.
  private static let machinesPerSeed: UInt64 = 12
  private static let machineLimit: UInt64 = 48

  @Test(arguments: RandomMachine.Kind.allCases, seeds)
  func `all views of a machine's tables agree`(kind: RandomMachine.Kind, seed: UInt64) throws {
    var leafCount = 0
    var gapCount = 0
    for index in 0..<Self.machineLimit
    where index < Self.machinesPerSeed || leafCount <= 30 || gapCount == 0 {
      let seed = seed &+ index
      let random = try RandomMachine(kind, seed: seed)
      var check = Check(random, seed: seed)
      check.run()
      leafCount += check.leafCount
      gapCount += check.gapCount
    }
    // Machines that mapped nothing would agree on everything.
    #expect(leafCount > 30, "\(kind), seed \(seed)")
    #expect(gapCount > 0, "\(kind), seed \(seed)")
  }
}

private struct Check {
  let machine: Machine
  let memory: LackingMemory
  let annotator: Annotator
  let name: Comment
  var generator: SeededGenerator
  var leafCount = 0
  var gapCount = 0

  init(_ random: RandomMachine, seed: UInt64) {
    machine = random.machine
    memory = random.memory
    annotator = Annotator(machine, in: memory)
    name = "\(machine.name)"
    generator = SeededGenerator(seed: seed)
  }

  mutating func run() {
    let report = MapsReport(all: machine, in: memory)
    gapCount = report.gaps.count
    var tables: [TableMaps] = []
    report.forEachTable(in: memory) { tables.append($0) }
    for maps in tables {
      for (index, run) in maps.runs.shuffled(using: &generator).prefix(20).enumerated() {
        check(run, of: maps.table, backwards: index < 2)
      }
      for gap in maps.gaps { check(gap, of: maps.table) }
      gapCount += maps.gaps.count
      checkElsewhere(maps)
    }
    checkDifference(report, tables)
  }

  private func walk(_ table: DMATable, _ iova: IOVA, _ access: Access) -> ToldWalk {
    let requester = table.owner.device?.requester ?? Requester(rawValue: 0x1234)
    return ToldWalk(
      requester, pasid: table.pasid, iova, access: access, machine: machine, in: memory)
  }

  private func translation(_ table: DMATable, _ iova: IOVA, _ access: Access) -> Translation {
    let requester = table.owner.device?.requester ?? Requester(rawValue: 0x1234)
    return machine.resolve(requester, pasid: table.pasid, in: memory)
      .translate(iova, byteCount: 1, access: access, in: memory)
  }

  /// Every mapping that is listed is one for walks, translations, who, and the annotated leaf.
  ///
  /// - Parameter backwards: Look through all tables for who reaches the page, which takes long.
  private mutating func check(_ run: MappingRun, of table: DMATable, backwards: Bool) {
    let pages = max(1, run.iova.byteCount / 4096)
    for page in Set([0, pages - 1, generator.next() % pages]) {
      leafCount += 1
      let iova = IOVA(run.iova.lowerBound.rawValue + page * 4096)
      let physical = PhysicalAddress(run.physical.rawValue + page * 4096)
      for access in Access.allCases {
        let walk = walk(table, iova, access)
        let translation = translation(table, iova, access)
        guard run.permissions.contains(access.permission), !run.access.needsSupervisor else {
          #expect(!walk.reachesMemory, "\(name): \(table.name) \(iova) \(access)")
          continue
        }
        guard case .memory(physical, _) = walk.end else {
          Issue.record(
            "\(name): \(table.name) \(iova) \(access) maps to \(physical): \(walk.endText)")
          continue
        }
        #expect(
          translation == .mapped(physical, byteCount: 1), "\(name): \(table.name) \(iova)")
        checkComplaints(walk)
        checkLeaf(walk, physical)
      }
      guard backwards, page == 0 else { continue }
      let ways = ReachReport(physical, machine: machine, in: memory).ways
      #expect(
        ways.contains {
          $0.table == table.name && $0.iova?.lowerBound == iova && $0.access == run.access
        },
        "\(name): who \(physical) has not \(table.name) \(iova)")
    }
  }

  /// An entry that a walk passes has nothing wrong; one that stops it for a reserved bit has.
  private func checkComplaints(_ walk: ToldWalk) {
    for (index, step) in walk.steps.enumerated() {
      let isLast = index == walk.steps.count - 1
      if !isLast || walk.reachesMemory {
        #expect(
          step.entry.violations.isEmpty, "\(name): \(walk.source) \(walk.iova) \(step.titleText)")
      } else if case .fault(let fault) = walk.end, fault.meaning.contains("reserved bit") {
        #expect(
          !step.entry.violations.isEmpty, "\(name): \(walk.source) \(walk.iova) \(step.titleText)")
      }
    }
  }

  /// The annotated hexdump says of the leaf what the walk found in it.
  private func checkLeaf(_ walk: ToldWalk, _ physical: PhysicalAddress) {
    guard let leaf = walk.steps.last else { return }
    let notes = annotator.entries(at: leaf.address, in: memory)
    #expect(
      notes.contains { note in
        note.entry.words == leaf.entry.words && note.entry.name == leaf.entry.name
          && note.entry.violations == leaf.entry.violations && note.statement.hasPrefix("-> ")
      }, "\(name): \(leaf.address) of \(walk.source) \(walk.iova): \(notes.map(\.text))")
  }

  /// Of what is not known, a walk knows nothing either.
  private func check(_ gap: TableGap, of table: DMATable) {
    guard gap.cause == .absent, case .addresses(_, let range) = gap.scope else { return }
    for iova in [range.lowerBound, IOVA(range.upperBound.rawValue &- 4096)] {
      // Requests to the interrupt range never get to a table.
      guard !VTd.isInterruptAddress(iova.rawValue) || machine.units[0].as(VTd.Unit.self) == nil
      else { continue }
      if let calgary = machine.units[0].as(Calgary.Chip.self),
        let table = calgary.hostBridges[1]?.table, table.holes.contains(iova.rawValue)
      {
        continue
      }
      let walk = walk(table, iova, .read)
      #expect(walk.isUnknown, "\(name): \(table.name) \(iova): \(walk.endText)")
    }
  }

  /// What no run lists and no gap hides, no walk reaches.
  private mutating func checkElsewhere(_ maps: TableMaps) {
    guard let space = maps.table.table?.space else { return }
    for _ in 0..<24 {
      var address = generator.next() % space.byteCount
      // Near what is mapped, more often than not.
      if let run = maps.runs.randomElement(using: &generator), generator.oneIn(2) {
        address =
          (run.iova.lowerBound.rawValue &- space.base &+ generator.next() % 0x8_0000 &- 0x4_0000)
          % space.byteCount
      }
      let iova = space.iova(address & ~0xfff)
      guard !maps.runs.contains(where: { $0.iova.contains(iova) }),
        !maps.gaps.contains(where: { gap in
          guard case .addresses(_, let range) = gap.scope else { return true }
          return range.contains(iova)
        })
      else { continue }
      for access in Access.allCases {
        let walk = walk(maps.table, iova, access)
        checkComplaints(walk)
        #expect(
          !walk.reachesMemory && !walk.isUnknown,
          "\(name): \(maps.table.name) \(iova) is not listed: \(walk.endText)")
      }
    }
  }

  /// A machine does not differ from itself, and knows as little as it knew.
  private func checkDifference(_ report: MapsReport, _ tables: [TableMaps]) {
    let difference = MapsDifference(before: machine, in: memory, after: machine, in: memory)
    #expect(difference.isEmpty, "\(name)")
    #expect(
      difference.blindness.isEmpty == (report.gaps.isEmpty && tables.allSatisfy(\.gaps.isEmpty)),
      "\(name)")
  }
}
