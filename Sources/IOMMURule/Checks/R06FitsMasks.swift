import IOMMUFormats
import IOMMUTranslation

extension RuleCheck {
  /// R6: every device that the kdump kernel needs has the address lines for all of the crash kernel.
  public func fitsMasks() -> RuleVerdict {
    guard let needed = neededDevices else {
      return RuleVerdict(
        .fitsMasks,
        RuleFinding(kind: .unknown, "no device's DMA mask is known"))
    }
    var verdict = RuleVerdict(.fitsMasks)
    for device in needed {
      guard let mask = device.dmaMask else {
        verdict.add(
          RuleFinding(kind: .unknown, device: device.function, "its DMA mask is not known"))
        continue
      }
      for range in crashKernel where range.upperBound.rawValue - 1 > mask {
        verdict.add(
          RuleFinding(
            device: device.function,
            "\(range.text) is beyond the device's mask \(hexadecimal(mask))"))
      }
    }
    return verdict
  }
}
