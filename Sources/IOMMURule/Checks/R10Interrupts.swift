import IOMMUFormats
import IOMMUTranslation

extension RuleCheck {
  /// R10: where interrupt remapping is on, the compatibility-format messages of a kdump kernel that
  /// knows nothing of it still pass.
  public func interrupts() -> RuleVerdict {
    var verdict = RuleVerdict(.interrupts, .notApplicable)
    for unit in machine.units {
      switch unit.model.interrupts(in: memory) {
      case .notRemapped: break
      case .passesCompatibilityFormat:
        if verdict.outcome == .notApplicable { verdict = RuleVerdict(.interrupts) }
      case .unknown(let text): verdict.add(RuleFinding(kind: .unknown, text))
      case .blocks(let text): verdict.add(RuleFinding(text))
      }
    }
    if verdict.outcome != .notApplicable, let source = evidence.registerSource {
      verdict.grounds.append("looked at: \(source)")
    }
    return verdict
  }
}
