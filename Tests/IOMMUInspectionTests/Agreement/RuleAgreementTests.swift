import IOMMUFormats
import IOMMUInspection
import IOMMURule
import IOMMUTestSupport
import IOMMUTranslation
import Testing

/// What the Rule is judged by is what maps list and walks find, over the same random machines.
@Suite struct RuleAgreementTests {
  @Test(arguments: RandomMachine.Kind.allCases, seeds)
  func `verdicts agree with mappings and walks`(kind: RandomMachine.Kind, seed: UInt64) throws {
    var seen: [RuleID: Set<RuleVerdict.Outcome>] = [:]
    // Machines that look all the same would agree too easily: one has to be exposed.
    for index in 0..<64 as Range<UInt64>
    where index < 8 || seen[.exposure]?.contains(.broken) != true {
      let random = try RandomMachine(kind, seed: seed &+ index)
      var generator = SeededGenerator(seed: seed &+ index)
      for _ in 0..<4 {
        guard var judged = Judged(random, using: &generator) else { continue }
        judged.check()
        for verdict in judged.verdicts { seen[verdict.rule, default: []].insert(verdict.outcome) }
      }
    }
    #expect(seen[.exposure]?.contains(.broken) == true, "\(kind), seed \(seed): \(seen)")
  }
}

/// A machine with a crash kernel where some mapping leads, or at its number.
private struct Judged {
  let machine: Machine
  let memory: LackingMemory
  let tables: [TableMaps]
  let gaps: [TableGap]
  let verdicts: [RuleVerdict]
  let crashKernel: Range<PhysicalAddress>

  init?(_ random: RandomMachine, using generator: inout SeededGenerator) {
    memory = random.memory
    let report = MapsReport(all: random.machine, in: memory)
    var tables: [TableMaps] = []
    report.forEachTable(in: memory) { tables.append($0) }
    guard let run = tables.flatMap(\.runs).randomElement(using: &generator) else { return nil }
    let first =
      generator.oneIn(3) ? run.iova.lowerBound.rawValue : run.physical.rawValue
    guard first >> 52 == 0, first > 0x4000 else { return nil }
    let start = (first &- generator.next() % 4 << 12) & ~0xfff
    crashKernel = PhysicalAddress(start)..<PhysicalAddress(start + 0x8000)
    var machine = random.machine
    machine.crashKernel = [crashKernel]
    guard let evidence = RuleEvidence(dump: machine) else { return nil }
    self.machine = machine
    self.tables = tables
    gaps = report.gaps + tables.flatMap(\.gaps)
    verdicts = RuleCheck(evidence: evidence, memory: memory).all()
  }

  private subscript(_ rule: RuleID) -> RuleVerdict { verdicts[rule.rawValue - 1] }
  private var name: Comment { "\(machine.name), crash kernel \(crashKernel.text)" }

  mutating func check() {
    checkMappings(.noOtherNumber) { $0.iova.lowerBound.rawValue != $0.physical.rawValue }
    checkMappings(.exposure) { $0.permissions.contains(.write) }
    checkIdentity()
  }

  /// Every mapping into the crash kernel that counts is a finding, and every finding is one.
  private func checkMappings(_ rule: RuleID, _ counts: (MappingRun) -> Bool) {
    var expected: Set<Number> = []
    for maps in tables {
      for run in maps.runs where counts(run) && run.physicalRange.overlaps(crashKernel) {
        let start = max(run.physical, crashKernel.lowerBound)
        expected.insert(
          Number(
            owner: maps.table.owner,
            iova: run.iova.lowerBound.rawValue + (start.rawValue - run.physical.rawValue)))
      }
    }
    let verdict = self[rule]
    let found = verdict.findings.flatMap { finding -> [Number] in
      guard finding.kind == .broken, let owner = finding.owner, let iova = finding.iova else {
        return []
      }
      return ([owner] + finding.others).map { Number(owner: $0, iova: iova.rawValue) }
    }
    #expect(Set(found) == expected, "\(rule) of \(name)")
    let passes =
      rule == .exposure
      && (machine.passages(in: memory).contains { $0.overlaps(numbers) }
        || tables.contains(where: passes))
    let outcome: RuleVerdict.Outcome =
      !expected.isEmpty || passes ? .broken : gaps.isEmpty ? .holds : .unknown
    #expect(verdict.outcome == outcome, "\(rule) of \(name)")
  }

  /// A pass-through device that reaches the crash kernel.
  private func passes(_ maps: TableMaps) -> Bool {
    guard maps.isPassThrough, let requester = maps.table.owner.device?.requester else {
      return false
    }
    return stride(from: numbers.lowerBound, to: numbers.upperBound, by: 4096).contains { iova in
      ToldWalk(
        requester, pasid: maps.table.pasid, IOVA(iova), access: .write, machine: machine, in: memory
      ).reachesMemory
    }
  }

  private struct Number: Hashable {
    var owner: TableOwner
    var iova: UInt64
  }

  private var numbers: Range<UInt64> {
    crashKernel.lowerBound.rawValue..<crashKernel.upperBound.rawValue
  }

  /// R1 is what a walk to every page says.
  private func checkIdentity() {
    var outcome: RuleVerdict.Outcome =
      MapsReport(all: machine, in: memory).gaps.isEmpty ? .holds : .unknown
    let requesters = Set(
      tables.map { $0.table.owner.device?.requester ?? Requester(rawValue: 0x1234) })
    for requester in requesters {
      for iova in stride(from: numbers.lowerBound, to: numbers.upperBound, by: 4096) {
        for access in Access.allCases {
          let walk = ToldWalk(requester, IOVA(iova), access: access, machine: machine, in: memory)
          if case .memory(PhysicalAddress(iova), 4096...) = walk.end { continue }
          if walk.isUnknown {
            if outcome == .holds { outcome = .unknown }
          } else {
            outcome = .broken
          }
        }
      }
    }
    #expect(self[.identity].outcome == outcome, "R1 of \(name)")
  }
}
