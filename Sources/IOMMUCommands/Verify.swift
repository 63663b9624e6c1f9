import ArgumentParser
import IOMMUFormats
import IOMMUImages
import IOMMUInspection
import IOMMUKdump
import IOMMUTranslation

/// Judges a dump by the Rule.
package struct Verify: ParsableCommand {
  package static let configuration = CommandConfiguration(
    abstract: "Check a dump against the Kdump IO Rule, R1 to R13, as far as a dump can show.",
    discussion: """
      A finding is a line with the device, the IOVA and the entry that breaks the rule. What a dump \
      cannot show (what allocators handed out and when, what the kdump kernel wrote) is answered \
      with 'unknown'. Every mapping in force counts as DMA that may still be going on.

      R13 is broken by the Rule itself and does not count.

      Exits 0 when every rule that can be judged holds, 1 when one is broken.

      Example: iommu verify Examples/vtd-crash/image.elf --crash-kernel 160M@336M \
      --machine Examples/vtd-crash/machine.json
      """)

  @OptionGroup package var image: ImageOptions

  @Option(
    help: ArgumentHelp(
      "The crash kernel's memory: SIZE@OFFSET, START-LAST, START+BYTES or START..<END. May be "
        + "repeated. Default: what the machine file says.",
      valueName: "range"))
  package var crashKernel: [CrashRangeArgument] = []

  @Option(
    help: ArgumentHelp(
      "A device that the kdump kernel needs. May be repeated. Default: every one with a table.",
      valueName: "device"))
  package var device: [RequesterArgument] = []

  @Option(help: "How to print the verdicts: text or json.")
  package var format = ReportFormat.text

  @OptionGroup package var screen: ScreenOptions

  package init() {}

  package func run() throws {
    var (out, ink) = screen.open()
    guard try report(to: &out, ink: ink) else { throw ExitCode(1) }
  }

  package func report(to out: inout some TextOutputStream, ink: Ink = .none) throws -> Bool {
    try image.read { memory, machine in
      let verification = try Verification(
        machine, in: memory, crashKernel: crashKernel.map(\.range),
        devices: device.map(\.requester))
      switch format {
      case .text: verification.write(to: &out, ink: ink)
      case .json: try writeJSON(verification.verdicts.map { VerdictJSON($0) }, to: &out)
      }
      return verification.holds
    }
  }
}

/// `SIZE@OFFSET`, as `crashkernel=` takes it, or a range of addresses.
package struct CrashRangeArgument: ExpressibleByArgument, Equatable {
  package var range: Range<PhysicalAddress>

  package init?(argument: String) {
    if let range = AddressRangeArgument(argument: argument)?.range {
      self.range = range
    } else if let crash = CrashKernelArgument(argument: argument), let offset = crash.offset,
      let range = Range(start: PhysicalAddress(offset.rawValue), byteCount: crash.size.rawValue)
    {
      self.range = range
    } else {
      return nil
    }
    guard !range.isEmpty, range.lowerBound.isAligned(to: 4096),
      range.upperBound.isAligned(to: 4096)
    else { return nil }
  }
}
