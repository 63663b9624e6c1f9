import IOMMUFormats
import IOMMUTranslation

extension RuleCheck {
  /// R4: what devices still do lies outside the crash kernel, in number and in memory.
  ///
  /// Where nobody kept a list of what they do, every mapping counts, and nobody knows what devices do
  /// that pass untranslated.
  public func leftoverDisjoint() -> RuleVerdict {
    var verdict = RuleVerdict(.leftoverDisjoint)
    guard let leftovers = evidence.leftovers.list else {
      for shared in survey.distinct {
        guard let runs = survey[shared.table.table]?.strays, !runs.isEmpty else { continue }
        guard verdict.hasRoom(for: .broken) else { break }
        for run in runs {
          judge(run, of: shared, into: &verdict)
        }
      }
      verdict.addGaps(of: survey)
      for passer in passers {
        verdict.add(
          RuleFinding(
            kind: .unknown, device: passer.device, owner: passer.owner, others: passer.others,
            "\(passer.text) passes untranslated: nothing tells where it goes on"))
      }
      return verdict
    }
    for leftover in leftovers {
      if overlapsCrashKernel(leftover.iova) {
        verdict.add(
          RuleFinding(
            device: PCI.Function(leftover.requester), iova: leftover.iova.lowerBound,
            "leftover DMA at \(leftover.iova.text) has numbers of the crash kernel"))
      }
      if overlapsCrashKernel(leftover.target) {
        verdict.add(
          RuleFinding(
            device: PCI.Function(leftover.requester), iova: leftover.iova.lowerBound,
            "leftover DMA ends at \(leftover.target.text), in the crash kernel"))
      }
    }
    return verdict
  }

  /// Holds against the rule what of a run has to do with the crash kernel.
  private func judge(
    _ run: MappingRun, of shared: TableSurvey.SharedTable, into verdict: inout RuleVerdict
  ) {
    let (owner, others) = (shared.table.owner, shared.others)
    for range in crashKernel(in: run.iova.mapBounds(to: PhysicalAddress.self)) {
      let numbers = range.mapBounds(to: IOVA.self)
      verdict.add(
        RuleFinding(
          owner: owner, others: others, iova: numbers.lowerBound,
          "leftover DMA at \(numbers.text) has numbers of the crash kernel"))
    }
    for range in crashKernel(in: run.physicalRange) {
      verdict.add(
        RuleFinding(
          owner: owner, others: others, iova: run.numbers(of: range).lowerBound,
          "leftover DMA ends at \(range.text), in the crash kernel"))
    }
  }
}
