import ArgumentParser
import IOMMUFormats
import IOMMUImages
import IOMMUInspection
import IOMMURule
import IOMMUTranslation

/// Judges a dump by the Rule.
package struct Verify: ParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "verify",
    abstract: "Check a dump against the Kdump IO Rule, R1 to R13, as far as a dump can show.",
    discussion: """
      A finding is a line with the device, the IOVA and the entry that breaks the rule. What a dump \
      cannot show (what allocators handed out and when, what the kdump kernel wrote) is 'unknown', and \
      so is what rests on a table that is not in the dump. Where the dump's kernel can be read, its \
      structures decide more: what its allocators of numbers hold (R3), which devices there are (R6, \
      R8), what pages are used for (R9), and what its drivers have switched on (R10). Every mapping in force counts as DMA that \
      may still be going on. A rule that nothing on the machine can break is 'not applicable'.

      Which devices the kdump kernel needs is nowhere in a dump: without --device every table in force \
      is judged. R6 and R8 hold where they hold of every device that the dump's kernel lists, and \
      remain unknown where there is no such list, or where it has one of which they do not.

      R13 is broken by the Rule itself and does not count.

      Without --crash-kernel the machine file says where the crash kernel is, or the dump does: the \
      one that a capture kernel wrote lacks that kernel's own memory.

      Exits 0 when the Rule holds: no rule is broken, and R1, R2 and R8 are known to hold or not \
      applicable. Exits 1 when a rule is broken, and 2 when none is, but one of the three is unknown.

      Example: iommu verify Examples/vtd-crash/image.elf --crash-kernel 160M@336M \
      --machine Examples/vtd-crash/machine.json
      """)

  @OptionGroup package var image: ImageOptions

  @OptionGroup package var crash: CrashKernelOptions

  @OptionGroup package var needed: NeededDeviceOptions

  @Option(help: "How to print the verdicts: text or json.")
  package var format = ReportFormat.text

  @OptionGroup package var screen: ScreenOptions

  package init() {}

  package func run() throws {
    var (out, ink) = screen.open()
    try report(to: &out, ink: ink).exit()
  }

  package func report(to out: inout some TextOutputStream, ink: Ink = .none) throws -> Answer {
    try image.read { memory, machine, kernel in
      let machine = try crash.placing(machine, in: memory, kernel)
      let devices = try needed.devices(on: machine)
      guard
        let evidence = RuleEvidence(
          dump: machine, devices: devices, in: memory, kernel: kernel,
          isUnitsSource: image.source.asksKernel)
      else {
        throw CrashKernelOptions.unknown(in: memory)
      }
      let rule = RuleReport(evidence, in: memory, names: kernel.names)
      switch format {
      case .text: rule.write(to: &out, ink: ink)
      case .json: try writeJSON(rule, to: &out)
      }
      return Answer(rule.conclusion)
    }
  }
}

/// What the kdump kernel needs of a dump's machine.
package struct NeededDeviceOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "A device that the kdump kernel needs. May be repeated. Default: nobody knows, and every one "
        + "with a table is judged.",
      valueName: "device"),
    transform: { try IOMMUCommands.device($0) })
  package var device: [PCI.Function] = []

  package init() {}

  /// The devices that the options name.
  ///
  /// - Throws: ``UnservedSegment`` for one of a segment that no unit is known to serve.
  func devices(on machine: Machine) throws -> [PCI.Function] {
    for device in device { _ = try machine.serving(device) }
    return device
  }
}
