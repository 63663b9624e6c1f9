import IOMMUFormats
import IOMMUTranslation

extension RuleCheck {
  /// R6: every device that the kdump kernel needs has the address lines for all of the crash kernel.
  public func fitsMasks() -> RuleVerdict {
    guard let needed = neededDevices else { return fitsEveryMask }
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

  /// The verdict where nobody says which devices are needed: what fits all of them fits those.
  private var fitsEveryMask: RuleVerdict {
    func unknown(_ text: String) -> RuleVerdict {
      RuleVerdict(.fitsMasks, RuleFinding(kind: .unknown, text))
    }
    guard let present = evidence.presentDevices, !present.isEmpty else {
      return unknown("no device's DMA mask is known")
    }
    let last = crashKernel.map { $0.upperBound.rawValue - 1 }.max() ?? 0
    let short = present.filter { $0.dmaMask.map { $0 < last } ?? true }
    guard let first = short.first else { return holdsForAll(.fitsMasks) }
    let others =
      switch short.count {
      case 1: ""
      case 2: ", nor is one more device"
      case let count: ", nor are \(count - 1) more devices"
      }
    return unknown(
      "nobody says which devices the kdump kernel needs, and \(first.name) is not known to reach all of "
        + "the crash kernel" + others)
  }
}
