/// What thirteen verdicts come to.
public enum RuleConclusion: Sendable, Equatable {
  /// No rule is broken, and R1, R2 and R8 are known to hold. Others may be unknown: no dump shows
  /// what a kernel did.
  case holds
  /// These are broken; R13, which the Rule breaks itself, does not count.
  case broken([RuleID])
  /// None is broken, and of R1, R2 and R8 these are unknown.
  case unknown([RuleID])

  public init(_ verdicts: [RuleVerdict]) {
    let broken = verdicts.filter { $0.outcome == .broken && !$0.rule.isBrokenByDesign }
    let unknown = verdicts.filter { $0.outcome == .unknown && $0.rule.isEssential }
    self =
      !broken.isEmpty
      ? .broken(broken.map(\.rule)) : unknown.isEmpty ? .holds : .unknown(unknown.map(\.rule))
  }
}
