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

      Without --crash-kernel the machine file says where the crash kernel is, or the dump does: the \
      one that a capture kernel wrote lacks that kernel's own memory.

      Exits 0 when every rule that can be judged holds, 1 when one is broken.

      Example: iommu verify Examples/vtd-crash/image.elf --crash-kernel 160M@336M \
      --machine Examples/vtd-crash/machine.json
      """)

  @OptionGroup package var image: ImageOptions

  @OptionGroup package var crash: CrashKernelOptions

  @Option(
    help: ArgumentHelp(
      "A device that the kdump kernel needs. May be repeated. Default: every one with a table.",
      valueName: "device"),
    transform: { try IOMMUCommands.device($0) })
  package var device: [PCI.Function] = []

  @Option(help: "How to print the verdicts: text or json.")
  package var format = ReportFormat.text

  @OptionGroup package var screen: ScreenOptions

  package init() {}

  package func run() throws {
    var (out, ink) = screen.open()
    try report(to: &out, ink: ink).exit()
  }

  package func report(to out: inout some TextOutputStream, ink: Ink = .none) throws -> Answer {
    try image.read { memory, machine in
      let machine = try crash.placing(machine, in: memory)
      guard !machine.crashKernel.isEmpty else { throw CrashKernelOptions.unknown(in: memory) }
      let devices = try device.map { function in
        _ = try machine.serving(function)
        return function.requester
      }
      let verification = try Verification(machine, in: memory, devices: devices)
      switch format {
      case .text: verification.write(to: &out, ink: ink)
      case .json: try writeJSON(verification.verdicts.map { VerdictJSON($0) }, to: &out)
      }
      return Answer(verification.holds)
    }
  }
}
