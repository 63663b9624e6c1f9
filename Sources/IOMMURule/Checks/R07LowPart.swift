import IOMMUFormats
import IOMMUTranslation

extension RuleCheck {
  /// R7: with a crash kernel above 4 GiB there is a range below it, mapped as well.
  public func lowPart() -> RuleVerdict {
    let limit = PhysicalAddress(1 << 32)
    guard crashKernel.contains(where: { $0.upperBound > limit }) else {
      return RuleVerdict(.lowPart, .notApplicable)
    }
    let low = crashKernel.filter { $0.upperBound <= limit }
    guard !low.isEmpty else {
      return RuleVerdict(
        .lowPart, RuleFinding("the crash kernel is above 4 GiB and has no part below it"))
    }
    var verdict = RuleVerdict(.lowPart)
    judgeIdentity(of: low, into: &verdict) { _, range, why in "low part \(range.text): \(why)" }
    return verdict
  }
}
