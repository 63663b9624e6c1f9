import ArgumentParser
import IOMMUFormats
import IOMMUImages
import IOMMUKdump
import IOMMUTranslation

/// Plays crashes with and without the Rule.
package struct Play: ParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "play",
    abstract: "Play the Kdump IO Rule: the same crash with and without it, in all six cases.",
    discussion: """
      A machine with a disk, a NIC and a 32-bit controller runs a primary kernel, which sets up \
      what the Rule demands. Then it crashes: DMA of the devices goes on, and a kdump kernel that \
      knows of no IOMMU does its own I/O inside the crash kernel range. What each access did is \
      judged by the bytes.

      A case whose hardware cannot do what is asked of it is left out, and told why.

      Exits 0 when the Rule holds in every case, 1 when it does not in one that was played, 2 when \
      one was left out and it holds in all others.

      Example: iommu play --mode calgary --crash-kernel 64M@32M --output out
      """)

  @OptionGroup package var machine: MachineOptions

  @Option(help: "Play one case only: nommu, swiotlb, gart, calgary, vtd or amdvi.")
  package var mode: TranslationMode?

  @Option(help: "How to print the result: text or json.")
  package var format = ReportFormat.text

  @Option(
    help: ArgumentHelp(
      "Write each machine's memory after its crash, as an ELF core with its machine file, here.",
      valueName: "dir"), completion: .directory)
  package var output: String?

  package init() {}

  package func validate() throws { try machine.refuseForeignOptions(mode) }

  package func run() throws {
    var screen = StandardOutput()
    try report(to: &screen).exit()
  }

  package func report(to out: inout some TextOutputStream) throws -> Answer {
    let modes = mode.map { [$0] } ?? TranslationMode.allCases
    var report = PlayReport()
    for mode in modes {
      do throws(SetUpError) {
        report.results.append(try play(mode))
      } catch {
        report.leftOut.append((mode, "\(error)"))
      }
    }
    guard !report.results.isEmpty else {
      let reasons = report.leftOut.map(\.reason)
      // What no machine can be is told once, and of none in particular.
      let isOne = Set(reasons).count == 1
      throw InputError(
        lines: report.leftOut.map { isOne ? $0.reason : "\($0.mode.title): \($0.reason)" })
    }
    if let output {
      try readingInput {
        let directory = try OutputDirectory(output)
        for result in report.results {
          guard let primary = result.primary else { continue }
          try directory.write(primary, name: result.configuration.mode.rawValue)
        }
      }
    }
    switch format {
    case .text: report.writeText(to: &out)
    case .json: try writeJSON(report.json, to: &out)
    }
    guard report.results.allSatisfy(\.with.ruleHolds) else { return .no }
    return report.leftOut.isEmpty ? .yes : .unknown
  }

  private func play(_ mode: TranslationMode) throws(SetUpError) -> PlayResult {
    let configuration = try machine.configuration(mode)
    var (with, primary): (CrashReport, PrimaryKernel?) =
      try CrashSimulation().play(configuration, applyingRule: true)
    // Nobody writes its memory: its addresses are the next machine's.
    if output == nil { primary = nil }
    let (without, _) = try CrashSimulation().play(configuration, applyingRule: false)
    return PlayResult(
      configuration: configuration, with: with, without: without, primary: primary)
  }
}

/// One case, played with and without the Rule.
package struct PlayResult {
  var configuration: MachineConfiguration
  var with: CrashReport
  var without: CrashReport
  /// The kernel of the crash with the Rule, where its memory is to be written.
  var primary: PrimaryKernel?
}
