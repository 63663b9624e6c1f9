import IOMMUFormats
import IOMMUInspection
import IOMMUKdump
import IOMMUTranslation

/// The Rule's verdicts on a dump, each finding with the entry that it is about.
package struct Verification {
  /// A verdict whose findings know their entries.
  struct Verdict {
    var rule: RuleID
    var outcome: RuleVerdict.Outcome
    var findings: [Finding]
  }

  /// One line of a report.
  struct Finding {
    /// The device, or the table where no single device is meant.
    var device: String
    /// A device that the table is for; `nil` where none is meant.
    var requester: Requester?
    var iova: IOVA?
    /// `SS-PTE [0x1ff] at 0x7568ff8, raw 0x0000000007663003`.
    var entry: String?
    var text: String
  }

  let verdicts: [Verdict]

  /// No rule that a dump can show is broken; R13, which the Rule breaks itself, does not count.
  package var holds: Bool {
    verdicts.allSatisfy { $0.outcome != .broken || $0.rule.isBrokenByDesign }
  }

  /// Judges a dump.
  ///
  /// - Parameter devices: Those that the kdump kernel needs; all that have a table when empty.
  /// - Throws: `MapsError`.
  /// - Precondition: the machine has a crash kernel.
  package init(_ machine: Machine, in memory: some PhysicalMemory, devices: [Requester]) throws {
    precondition(!machine.crashKernel.isEmpty, "the Rule is about a crash kernel")
    let needed = devices.isEmpty ? Self.requesters(of: machine, in: memory) : devices
    let evidence = RuleEvidence(
      machine: machine,
      devices: needed.map { Device(name: "\($0)", requester: $0) },
      leftovers: Self.leftovers(machine, in: memory))
    let check = RuleCheck(evidence: evidence, memory: memory)
    verdicts = check.all().map { verdict in
      Verdict(
        rule: verdict.rule, outcome: verdict.outcome,
        findings: verdict.findings.map { Self.finding($0, machine: machine, in: memory) })
    }
  }

  /// Every device that a table is for: of a bus, its first.
  private static func requesters(
    of machine: Machine, in memory: some PhysicalMemory
  ) -> [Requester] {
    Set(machine.tables(in: memory).tables.compactMap(\.owner.requester)).sorted()
  }

  /// A requester that the table of this name translates for.
  private static func requester(of table: String) -> Requester? {
    if table.hasPrefix("bus:"), let bus = UInt8(table.dropFirst(4), radix: 16) {
      return Requester(bus: bus, device: 0, function: 0)
    }
    return Requester(table.prefix { $0 != "/" })
  }

  /// What devices may still do: all that is mapped, but for the crash kernel's own identity map.
  private static func leftovers(
    _ machine: Machine, in memory: some PhysicalMemory
  ) -> [RuleEvidence.Leftover] {
    var leftovers: [RuleEvidence.Leftover] = []
    MapsReport(all: machine, in: memory).forEachTable(in: memory) { maps in
      guard let requester = maps.table.owner.requester else { return }
      for run in maps.runs {
        for piece in pieces(of: run, without: machine.crashKernel) {
          leftovers.append(
            RuleEvidence.Leftover(
              requester: requester, iova: piece.iova, target: piece.physicalRange))
        }
      }
    }
    return leftovers
  }

  private static func pieces(
    of run: MappingRun, without crashKernel: [Range<PhysicalAddress>]
  ) -> [MappingRun] {
    guard run.iova.lowerBound.rawValue == run.physical.rawValue else { return [run] }
    var pieces: [MappingRun] = []
    var start = run.physical
    let end = run.physicalRange.upperBound
    func add(upTo limit: PhysicalAddress) {
      guard start < limit else { return }
      pieces.append(
        MappingRun(
          iova: (start..<limit).mapBounds(to: IOVA.self), physical: start,
          access: run.access))
    }
    for range in crashKernel where range.overlaps(run.physicalRange) {
      add(upTo: min(range.lowerBound, end))
      start = max(start, range.upperBound)
    }
    add(upTo: end)
    return pieces
  }

  /// The finding with the entry that a walk to its number ends at.
  private static func finding(
    _ finding: RuleFinding, machine: Machine, in memory: some PhysicalMemory
  ) -> Finding {
    let requester = finding.requester ?? finding.table.flatMap { Self.requester(of: $0) }
    var entry = finding.entryAddress.map { "entry at \($0)" }
    if entry == nil, let requester, let iova = finding.iova {
      let walk = ToldWalk(requester, iova, access: .write, machine: machine, in: memory)
      entry = walk.steps.last.map { step in
        let raw = step.entry.wordTexts.reversed().joined(separator: " ")
        return "\(step.titleText) at \(step.address), raw \(raw)"
      }
    }
    let device = finding.requester.map { "\($0)" } ?? finding.table ?? "machine"
    return Finding(
      device: device, requester: requester, iova: finding.iova, entry: entry, text: finding.text)
  }

  /// The walk to a finding's number; `nil` where it is about no number.
  static func walk(
    to finding: Finding, machine: Machine, in memory: some PhysicalMemory
  ) -> ToldWalk? {
    guard let requester = finding.requester, let iova = finding.iova else { return nil }
    return ToldWalk(requester, iova, access: .write, machine: machine, in: memory)
  }

  /// Writes a line per rule and one per finding.
  package func write(to out: inout some TextOutputStream, ink: Ink = .none) {
    for verdict in verdicts {
      let outcome =
        switch verdict.outcome {
        case .holds: ink.good("holds")
        case .broken where verdict.rule.isBrokenByDesign: ink.warning("broken by design")
        case .broken: ink.bad("broken")
        case .unknown, .notApplicable: ink.faint(verdict.outcome.rawValue)
        }
      out.write("\(verdict.rule)  \(outcome): \(verdict.rule.statement)\n")
      for finding in verdict.findings {
        let parts =
          [finding.iova.map { "IOVA \($0)" }, finding.entry].compactMap { $0 }
          .joined(separator: ", ")
        let place = parts.isEmpty ? "" : " " + parts
        out.write("  \(ink.strong(finding.device))\(place): \(finding.text)\n")
      }
    }
    out.write(holds ? ink.good("the Rule holds\n") : ink.bad("the Rule does not hold\n"))
  }
}

/// A verdict as JSON has it.
struct VerdictJSON: Encodable {
  struct Finding: Encodable {
    var device: String
    var iova: String?
    var entry: String?
    var text: String
  }

  var rule: String
  var statement: String
  var outcome: RuleVerdict.Outcome
  var findings: [Finding]

  init(_ verdict: Verification.Verdict) {
    rule = "\(verdict.rule)"
    statement = verdict.rule.statement
    outcome = verdict.outcome
    findings = verdict.findings.map {
      Finding(
        device: $0.device, iova: $0.iova.map { "\($0)" }, entry: $0.entry, text: $0.text)
    }
  }
}
