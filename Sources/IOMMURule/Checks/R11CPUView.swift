import IOMMUFormats
import IOMMUTranslation

extension RuleCheck {
  /// R11: no unit translates the CPU's own accesses to RAM.
  public func cpuView() -> RuleVerdict {
    let apertures = machine.units.compactMap(\.model.cpuAperture)
    guard !apertures.isEmpty else { return RuleVerdict(.cpuView, .notApplicable) }
    // What a dump holds is RAM, but it need not be all of it.
    let ram = machine.ram.isEmpty ? memory.backedRanges : machine.ram
    var verdict = RuleVerdict(.cpuView)
    for aperture in apertures {
      if let range = ram.first(where: { $0.overlaps(aperture.addresses) }) {
        verdict.add(RuleFinding("\(aperture.text) and lies over RAM \(range.text)"))
      } else if machine.ram.isEmpty {
        verdict.add(
          RuleFinding(kind: .unknown, "\(aperture.text); whether RAM lies under it is not known"))
      }
    }
    return verdict
  }
}
