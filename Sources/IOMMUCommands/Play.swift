import ArgumentParser
import IOMMUFormats
import IOMMUImages
import IOMMUKdump
import IOMMUTranslation

/// Plays crashes with and without the Rule.
package struct Play: ParsableCommand {
  package static let configuration = CommandConfiguration(
    abstract: "Play the Kdump IO Rule: the same crash with and without it, in all five cases.",
    discussion: """
      A machine with a disk, a NIC and a 32-bit controller runs a primary kernel, which sets up \
      what the Rule demands. Then it crashes: DMA of the devices goes on, and a kdump kernel that \
      knows of no IOMMU does its own I/O inside the crash kernel range. What each access did is \
      judged by the bytes.

      Example: iommu play --mode calgary --crash-kernel 64M@32M --output out

      Exits 0 when the Rule holds in every case played, 1 when it does not.
      """)

  @OptionGroup package var machine: MachineOptions

  @Option(help: "Play one case only: nommu, swiotlb, gart, calgary or vtd.")
  package var mode: TranslationMode?

  @Option(help: "How to print the result: text or json.")
  package var format = ReportFormat.text

  @Option(
    help: ArgumentHelp(
      "Write each machine's memory after its crash, as an ELF core with its machine file, here.",
      valueName: "dir"))
  package var output: String?

  package init() {}

  package func run() throws {
    var screen = StandardOutput()
    guard try report(to: &screen) else { throw ExitCode(1) }
  }

  package func report(to out: inout some TextOutputStream) throws -> Bool {
    let modes = mode.map { [$0] } ?? TranslationMode.allCases
    let results = try readingInput {
      // All cases first: a machine that cannot be set up in one of them writes nothing.
      try modes.map { mode in
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
    if let output {
      try readingInput {
        let directory = try OutputDirectory(output)
        for result in results {
          guard let primary = result.primary else { continue }
          try directory.write(primary, name: result.configuration.mode.rawValue)
        }
      }
    }
    let report = PlayReport(results: results)
    switch format {
    case .text: report.writeText(to: &out)
    case .json: try writeJSON(report.json, to: &out)
    }
    return results.allSatisfy(\.with.ruleHolds)
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
