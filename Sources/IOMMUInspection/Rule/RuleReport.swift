import IOMMUFormats
import IOMMURule
import IOMMUTranslation

/// The Rule's verdicts, each finding with the entry that it is about.
public struct RuleReport: Sendable {
  /// A verdict whose findings know their entries.
  public struct Verdict: Sendable {
    public var rule: RuleID
    public var outcome: RuleVerdict.Outcome
    public var findings: [Finding]
    /// What was looked at besides tables and registers, in words.
    public var grounds: [String]
    /// There are more findings than were kept.
    public var isTruncated: Bool
  }

  /// One line of a report.
  public struct Finding: Sendable {
    public var kind: RuleFinding.Kind
    /// The device, or the table where no single device is meant; `nil` where it is the machine.
    public var subject: String?
    /// The driver of the device; `nil` where it is not known.
    public var driver: String?
    /// The same with those that share the table: `00:00.0 and 65535 more`.
    public var subjects: String?
    /// Those that share the table, of whom the same holds.
    public var others: [TableOwner]
    public var iova: IOVA?
    /// `SS-PTE [0x1ff] at 0x7568ff8, raw 0x0000000007663003`.
    public var entry: String?
    public var text: String
    /// ``subject`` with the device's driver.
    var title: String? { subject.map { DeviceNames.text($0, driver) } }
    /// What a walk to the finding's number starts from; `nil` where it is about no number, or where no
    /// device is known.
    var request: (device: PCI.Function, pasid: PASID?, iova: IOVA, access: Access)?

    /// The walk that shows it.
    public func walk(
      on machine: Machine, in memory: some PhysicalMemory, names: DeviceNames = .none
    ) -> ToldWalk? {
      request.flatMap {
        try? ToldWalk(
          $0.device, pasid: $0.pasid, $0.iova, access: $0.access, machine: machine, in: memory,
          names: names)
      }
    }
  }

  public let verdicts: [Verdict]
  public let conclusion: RuleConclusion
  /// Where work was cut, in words: tables that lead to themselves, limits, findings that are not kept.
  public let incomplete: [String]
  /// Somebody said which devices the kdump kernel needs.
  private let knowsNeeds: Bool

  /// Judges by the evidence and looks every finding up.
  public init(
    _ evidence: RuleEvidence, in memory: some PhysicalMemory, names: DeviceNames = .none
  ) {
    let machine = evidence.machine
    let check = RuleCheck(evidence: evidence, memory: memory)
    let verdicts = check.all()
    conclusion = RuleConclusion(verdicts)
    incomplete =
      Blindness(check.gaps).incomplete
      + verdicts.filter(\.isTruncated).map {
        "\($0.rule): only the first \(RuleVerdict.findingLimit) findings of a kind are kept"
      }
    knowsNeeds = evidence.devices != nil
    // Of tables in scalable mode the requests that carry no PASID have a name with one too.
    let pasids = Dictionary(
      check.tables.map { ($0.owner, $0.pasid) }, uniquingKeysWith: { $1 })
    self.verdicts = verdicts.map { verdict in
      Verdict(
        rule: verdict.rule, outcome: verdict.outcome,
        findings: verdict.findings.map {
          Finding($0, pasids: pasids, machine: machine, in: memory, names)
        }, grounds: verdict.grounds, isTruncated: verdict.isTruncated)
    }
  }

  /// `the Rule holds`, and where that is not known, what is missing.
  public var conclusionText: String {
    switch conclusion {
    case .holds: return "the Rule holds"
    case .broken: return "the Rule does not hold"
    case .unknown(let rules):
      let isAsking = !knowsNeeds && rules.contains(.deviceHasTable)
      let wayOut = isAsking ? "; --device names one that the kdump kernel needs" : ""
      return "not known whether the Rule holds: \(Self.list(rules, "is", "are")) unknown\(wayOut)"
    }
  }

  /// What the conclusion leaves open: `as far as a dump can show: R3 and R5 are unknown`; `nil` where
  /// it leaves nothing open.
  public var reservation: String? {
    let unknown = verdicts.filter { $0.outcome == .unknown }.map(\.rule)
    guard conclusion == .holds, !unknown.isEmpty else { return nil }
    return "as far as a dump can show (\(Self.list(unknown, "is", "are")) unknown):"
  }

  /// `R1 is`, `R1, R2 and R8 are`.
  private static func list(_ rules: [RuleID], _ one: String, _ many: String) -> String {
    let names = rules.map { "\($0)" }
    guard names.count > 1 else { return names.joined() + " " + one }
    return names.dropLast().joined(separator: ", ") + " and \(names[names.count - 1]) " + many
  }

  /// Findings listed for one rule; more are counted.
  private static let lineLimit = 32

  /// Writes a line per rule and one per finding, and the conclusion in the last.
  public func write(to out: inout some TextOutputStream, ink: Ink = .none) {
    for verdict in verdicts {
      let outcome =
        switch verdict.outcome {
        case .holds: ink.good("holds")
        case .broken where verdict.rule.isBrokenByDesign: ink.warning("broken by design")
        case .broken: ink.bad("broken")
        case .unknown: ink.warning("unknown")
        case .notApplicable: ink.faint("not applicable")
        }
      out.write("\(verdict.rule)  \(outcome): \(verdict.rule.statement)\n")
      for finding in verdict.findings.prefix(Self.lineLimit) {
        out.write("  \(finding.line(ink))\n")
      }
      for text in verdict.grounds { out.write("  \(ink.faint(text))\n") }
      let left = verdict.findings.count - Self.lineLimit
      if left > 0 {
        out.write("  \(ink.faint("\(left) more\(verdict.isTruncated ? " at least" : "")"))\n")
      }
    }
    for text in incomplete { out.write(ink.warning(text) + "\n") }
    if let reservation { out.write(reservation + "\n") }
    let conclusion =
      switch conclusion {
      case .holds: ink.good(conclusionText)
      case .broken: ink.bad(conclusionText)
      case .unknown: ink.warning(conclusionText)
      }
    out.write(conclusion + "\n")
  }
}

extension RuleReport.Finding {
  fileprivate init(
    _ finding: RuleFinding, pasids: [TableOwner: PASID?], machine: Machine,
    in memory: some PhysicalMemory, _ names: DeviceNames
  ) {
    kind = finding.kind
    subject = (finding.device.map { "\($0)" } ?? finding.owner.map { "\($0)" })
    driver = finding.device.map { names[$0] } ?? finding.owner.flatMap { names[$0] }
    subjects = finding.subjectText { names.text($0) }
    others = finding.others
    iova = finding.iova
    text = finding.text
    entry = finding.entryAddress.map { "entry at \($0)" }
    guard let iova = finding.iova,
      let device = finding.device ?? finding.owner?.device
    else { return }
    let request = (
      device: device, pasid: finding.owner.flatMap { pasids[$0] ?? nil }, iova: iova,
      access: finding.access ?? .write
    )
    self.request = request
    guard entry == nil else { return }
    entry = walk(on: machine, in: memory)?.steps.last.map { step in
      return "\(step.titleText) at \(step.address), raw \(step.entry.rawText)"
    }
  }

  /// `00:03.0 IOVA 0x15000000, SS-PTE …: 1024 of 1024 pages are not mapped to themselves`.
  func line(_ ink: Ink) -> String {
    let place = [iova.map { "IOVA \($0)" }, entry].compactMap { $0 }.joined(separator: ", ")
    let head = [subjects.map { ink.strong($0) }, place.isEmpty ? nil : place].compactMap { $0 }
    return head.isEmpty ? text : head.joined(separator: " ") + ": " + text
  }
}

extension RuleReport: Encodable {
  private struct FindingJSON: Encodable {
    var kind: RuleFinding.Kind
    var device: String?
    var driver: String?
    /// How many share the table with the device.
    var others: Int?
    /// Which of the lists below has their names.
    var shared: Int?
    var iova: String?
    var entry: String?
    var text: String

    init(_ finding: Finding, _ lists: inout SharedLists) {
      kind = finding.kind
      device = finding.subject
      driver = finding.driver
      if !finding.others.isEmpty {
        others = finding.others.count
        shared = lists.index(of: finding)
      }
      iova = finding.iova.map { "\($0)" }
      entry = finding.entry
      text = finding.text
    }
  }

  private struct VerdictJSON: Encodable {
    var rule: String
    var statement: String
    var outcome: RuleVerdict.Outcome
    var byDesign: Bool
    var findings: [FindingJSON]
    var grounds: [String]?
    var truncated: Bool

    enum CodingKeys: String, CodingKey {
      case rule, statement, outcome, findings, grounds, truncated
      case byDesign = "by_design"
    }

    init(_ verdict: Verdict, _ lists: inout SharedLists) {
      rule = "\(verdict.rule)"
      statement = verdict.rule.statement
      outcome = verdict.outcome
      byDesign = verdict.rule.isBrokenByDesign
      findings = verdict.findings.map { FindingJSON($0, &lists) }
      grounds = verdict.grounds.isEmpty ? nil : verdict.grounds
      truncated = verdict.isTruncated
    }
  }

  /// Who shares a table with its first device: once for all findings, of which thousands may be about
  /// a table of 65,536 devices.
  private struct SharedJSON: Encodable {
    var sharedWith: String?
    var tables: [TableOwner]

    enum CodingKeys: String, CodingKey {
      case tables
      case sharedWith = "shared_with"
    }

    func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encodeIfPresent(sharedWith, forKey: .sharedWith)
      try container.encode(tables.map { "\($0)" }, forKey: .tables)
    }
  }

  /// The lists that findings refer to, each once.
  private struct SharedLists {
    /// What most lists differ in; to look at all of a list for each finding would take too long.
    private struct Key: Hashable {
      var subject: String?
      var count: Int
    }

    private(set) var lists: [SharedJSON] = []
    private var indices: [Key: [Int]] = [:]

    mutating func index(of finding: Finding) -> Int {
      let key = Key(subject: finding.subject, count: finding.others.count)
      // Findings of one table have one array, which is equal to itself without a look.
      let known = indices[key, default: []].first { lists[$0].tables == finding.others }
      if let known { return known }
      indices[key, default: []].append(lists.count)
      lists.append(SharedJSON(sharedWith: finding.subject, tables: finding.others))
      return lists.count - 1
    }
  }

  enum CodingKeys: String, CodingKey { case conclusion, text, rules, shared, incomplete }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    let word =
      switch conclusion {
      case .holds: "holds"
      case .broken: "broken"
      case .unknown: "unknown"
      }
    try container.encode(word, forKey: .conclusion)
    try container.encode(conclusionText, forKey: .text)
    var lists = SharedLists()
    try container.encode(verdicts.map { VerdictJSON($0, &lists) }, forKey: .rules)
    try container.encode(lists.lists, forKey: .shared)
    try container.encode(incomplete, forKey: .incomplete)
  }
}
