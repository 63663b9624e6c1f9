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
  public var iova: IOVA?
  /// What a request there would do, where that matters.
  public var access: Access?
  /// A table, or the entry in it.
  public var entryAddress: PhysicalAddress?
  public var text: String

  public init(
    kind: Kind = .broken, device: PCI.Function? = nil, owner: TableOwner? = nil,
    iova: IOVA? = nil, access: Access? = nil, entryAddress: PhysicalAddress? = nil, _ text: String
  ) {
    self.kind = kind
    self.device = device
    self.owner = owner
    self.iova = iova
    self.access = access
    self.entryAddress = entryAddress
    self.text = text
  }

  /// Part of a table that would tell and is not known.
  init(gap: TableGap) {
    if case .addresses(let owner, let range) = gap.scope {
      self.init(
        kind: .unknown, owner: owner, iova: range.lowerBound,
        "\(range.text): unknown, \(gap.causeText)")
    } else {
      self.init(kind: .unknown, gap.text)
    }
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
  /// What breaks the rule, in the order of devices and tables, then what is not known.
  public var findings: [RuleFinding] { broken + unknown }
  /// There are more findings than were kept.
  public private(set) var isTruncated = false

  private var broken: [RuleFinding] = []
  private var unknown: [RuleFinding] = []

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

  mutating func add(_ gaps: [TableGap]) {
    for gap in gaps { add(RuleFinding(gap: gap)) }
  }

  /// Holds against the rule all that is not known of any table.
  mutating func addGaps(of survey: TableSurvey) {
    add(survey.gaps)
    for table in survey.tables {
      guard survey[table.table]?.gaps.isEmpty == false else { continue }
      guard hasRoom(for: .unknown) else { return }
      add(survey.gaps(of: table))
    }
  }
}
