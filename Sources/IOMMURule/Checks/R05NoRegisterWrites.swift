import IOMMUFormats
import IOMMUTranslation

extension RuleCheck {
  /// R5: the kdump kernel leaves every register of every IOMMU alone.
  public func noRegisterWrites() -> RuleVerdict {
    guard !machine.units.isEmpty else { return RuleVerdict(.noRegisterWrites, .notApplicable) }
    guard let writes = evidence.registerWritesByKdump else {
      return RuleVerdict(
        .noRegisterWrites, RuleFinding(kind: .unknown, "what the kdump kernel wrote is not known"))
    }
    var verdict = RuleVerdict(.noRegisterWrites)
    for write in writes {
      verdict.add(
        RuleFinding(
          "\(write.unit): register \(hexadecimal(write.offset)) was written with "
            + hexadecimal(write.value)))
    }
    return verdict
  }
}
