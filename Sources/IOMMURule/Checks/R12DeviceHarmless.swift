import IOMMUFormats
import IOMMUTranslation

extension RuleCheck {
  /// R12: a device that still works when its driver takes it has no number in common with what the
  /// kdump kernel has handed out.
  ///
  /// Not a task of the Rule, but what its reservation achieves.
  public func deviceHarmless() -> RuleVerdict {
    guard let leftovers = evidence.leftovers.list, let numbers = evidence.kdumpNumbers,
      let reset = evidence.devicesResetByKdump
    else {
      return RuleVerdict(
        .deviceHarmless, RuleFinding(kind: .unknown, "what the kdump kernel did is not known"))
    }
    var verdict = RuleVerdict(.deviceHarmless)
    for leftover in leftovers where !reset.contains(leftover.requester) {
      let clash = numbers.first {
        $0.requester == leftover.requester && $0.iova.overlaps(leftover.iova)
      }
      guard let clash else { continue }
      verdict.add(
        RuleFinding(
          device: PCI.Function(leftover.requester), iova: leftover.iova.lowerBound,
          "not reset, and its leftover DMA at \(leftover.iova.text) meets the kdump kernel's "
            + "buffer at \(clash.iova.text)"))
    }
    return verdict
  }
}
