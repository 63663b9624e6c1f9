import IOMMUFormats
import IOMMUTranslation

/// One thing that a check found: what breaks the rule, or what would tell and is not known.
public struct RuleFinding: Sendable, Equatable {
  public enum Kind: String, Sendable, Codable { case broken, unknown }

  public var kind: Kind
  /// The device; `nil` where no single one is meant.
  public var device: PCI.Function?
  /// Whose table it is about; `nil` where it is about none.
  public var owner: TableOwner?
  /// Of whom the same holds, word for word: those that share the table with ``device`` or ``owner``.
  public var others: [TableOwner]
  public var iova: IOVA?
  /// What a request there would do, where that matters.
  public var access: Access?
  /// A table, or the entry in it.
  public var entryAddress: PhysicalAddress?
  public var text: String

  public init(
    kind: Kind = .broken, device: PCI.Function? = nil, owner: TableOwner? = nil,
    others: [TableOwner] = [], iova: IOVA? = nil, access: Access? = nil,
    entryAddress: PhysicalAddress? = nil, _ text: String
  ) {
    self.kind = kind
    self.device = device
    self.owner = owner
    self.others = others
    self.iova = iova
    self.access = access
    self.entryAddress = entryAddress
    self.text = text
  }

  /// Part of a table that would tell and is not known.
  ///
  /// - Parameter others: Who shares the table with the gap's owner.
  init(gap: TableGap, others: [TableOwner] = []) {
    if case .addresses(let owner, let range) = gap.scope {
      self.init(
        kind: .unknown, owner: owner, others: others, iova: range.lowerBound,
        "\(range.text): unknown, \(gap.causeText)")
    } else {
      self.init(kind: .unknown, gap.text)
    }
  }

  /// Names that a subject has at most.
  private static let nameLimit = 4

  /// The device, or the table where no single device is meant, with those that share it:
  /// `00:03.0 and 00:04.0`, `00:00.0 and 65535 more`; `nil` where the finding is about the machine.
  public var subjectText: String? { subjectText { "\($0)" } }

  /// The same with names of the caller's.
  public func subjectText(_ name: (TableOwner) -> String) -> String? {
    guard let first = device.map({ name(.requester($0)) }) ?? owner.map(name) else { return nil }
    guard others.count < Self.nameLimit else { return "\(first) and \(others.count) more" }
    guard let last = others.last else { return first }
    return ([first] + others.dropLast().map(name)).joined(separator: ", ") + " and \(name(last))"
  }
}

/// One check with its findings.
public struct RuleVerdict: Sendable, Equatable {
  public enum Outcome: String, Sendable, Codable {
    case holds
    case broken
    /// What is known of the machine does not tell.
    case unknown
    /// Nothing on this machine can break it.
    case notApplicable = "not applicable"
  }

  /// More findings of a kind than this are not kept: a damaged dump may have millions.
  public static let findingLimit = 1 << 10

  public let rule: RuleID
  public private(set) var outcome: Outcome
  /// What breaks the rule, in the order of devices and tables, entries that stop requests after what
  /// lets them pass; then what is not known.
  public var findings: [RuleFinding] { broken + stopping + unknown }
  /// There are more findings than were kept.
  public private(set) var isTruncated = false
  /// What was looked at besides tables and registers, in words.
  public var grounds: [String] = []

  private var broken: [RuleFinding] = []
  /// What breaks the rule and translates nothing, which uses up no room of what does.
  private var stopping: [RuleFinding] = []
  private var unknown: [RuleFinding] = []
  /// Gaps that have been told: several devices may rest on one.
  private var gaps: Set<TableGap> = []

  /// A rule that nothing is held against yet.
  init(_ rule: RuleID, _ outcome: Outcome = .holds) {
    self.rule = rule
    self.outcome = outcome
  }

  /// A rule that one thing is held against.
  init(_ rule: RuleID, _ finding: RuleFinding) {
    self.init(rule)
    add(finding)
  }

  /// Holds something against the rule: what breaks it weighs more than what is not known.
  mutating func add(_ finding: RuleFinding) {
    guard hasRoom(for: finding.kind) else { return }
    switch finding.kind {
    case .broken:
      outcome = .broken
      broken.append(finding)
    case .unknown:
      if outcome != .broken { outcome = .unknown }
      unknown.append(finding)
    }
  }

  /// Whether another finding of a kind is kept; whoever asks has one.
  mutating func hasRoom(for kind: RuleFinding.Kind) -> Bool {
    let count = kind == .broken ? broken.count : unknown.count
    if count >= Self.findingLimit { isTruncated = true }
    return count < Self.findingLimit
  }

  /// Holds an entry against the rule that stops every request.
  mutating func add(stopping finding: RuleFinding) {
    outcome = .broken
    if stopping.count < Self.findingLimit { stopping.append(finding) } else { isTruncated = true }
  }

  /// There are more findings, which nobody kept.
  mutating func truncate() { isTruncated = true }

  /// - Parameter others: Who shares the gaps' table.
  mutating func add(_ gaps: [TableGap], others: [TableOwner] = []) {
    for gap in gaps where !self.gaps.contains(gap) {
      guard hasRoom(for: .unknown) else { return }
      self.gaps.insert(gap)
      add(RuleFinding(gap: gap, others: others))
    }
  }

  /// Holds against the rule all that is not known of any table.
  mutating func addGaps(of survey: TableSurvey) {
    add(survey.gaps)
    for shared in survey.distinct {
      guard let gaps = survey[shared.table.table]?.gaps, !gaps.isEmpty else { continue }
      guard hasRoom(for: .unknown) else { return }
      add(survey.gaps(of: shared.table), others: shared.others)
    }
  }
}
