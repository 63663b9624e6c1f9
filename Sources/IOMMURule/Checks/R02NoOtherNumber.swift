import IOMMUFormats
import IOMMUTranslation

extension RuleCheck {
  /// R2: no number but a page's own maps into the crash kernel, in any table of the machine.
  public func noOtherNumber() -> RuleVerdict {
    // Where nothing translates a number is its address.
    guard machine.translates else { return RuleVerdict(.noOtherNumber, .notApplicable) }
    var verdict = RuleVerdict(.noOtherNumber)
    for shared in survey.distinct {
      guard let runs = survey[shared.table.table]?.strays, !runs.isEmpty else { continue }
      guard verdict.hasRoom(for: .broken) else { break }
      for run in runs {
        for range in crashKernel(in: run.physicalRange) {
          let numbers = run.numbers(of: range)
          verdict.add(
            RuleFinding(
              owner: shared.table.owner, others: shared.others, iova: numbers.lowerBound,
              access: run.permissions.contains(.write) ? .write : .read,
              "\(numbers.text) maps to \(range.lowerBound), in the crash kernel"))
        }
      }
    }
    verdict.addGaps(of: survey)
    if !knowsDevices, verdict.outcome == .holds { verdict.add(nobodyFinding) }
    return verdict
  }
}
