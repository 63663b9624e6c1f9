import ArgumentParser
import Glibc
import IOMMUFormats
import IOMMUInspection

/// Explains the faults in a kernel's log.
package struct Explain: ParsableCommand {
  package static let configuration = CommandConfiguration(
    abstract: "Explain the DMA faults of a kernel log against the tables of a dump.",
    discussion: """
      Reads a log from standard input and picks the fault lines of VT-d (every kernel since 2.6), \
      AMD-Vi and Calgary out of it. For each: what the device tried, what the tables say now, which \
      entry stops it, what the driver should have written, and where the number is mapped.

      Exits 0 when every fault is explained by the tables as they are, 1 when some are not: when the \
      tables allow the request now, when they give another reason, or when the dump lacks a page.

      Example: echo 'DMAR: [DMA Write NO_PASID] Request device [00:03.0] fault addr 0xffe00000 \
      [fault reason 0x05] PTE Write access is not set' | iommu explain \
      Examples/vtd-crash/image.elf --machine Examples/vtd-crash/machine.json
      """)

  @OptionGroup package var image: ImageOptions

  @Option(help: "How to print the explanations: text or json.")
  package var format = ReportFormat.text

  @OptionGroup package var screen: ScreenOptions

  package init() {}

  package func run() throws {
    var reader = FaultLogReader()
    try readingInput {
      try forEachLine(of: STDIN_FILENO, name: "standard input") { line, _ in
        reader.read(String(decoding: line, as: UTF8.self))
      }
    }
    var (out, ink) = screen.open()
    try report(reader.faults, to: &out, ink: ink).exit()
  }

  package func report(
    _ faults: [LoggedFault], to out: inout some TextOutputStream, ink: Ink = .none
  ) throws -> Answer {
    try image.read { memory, machine in
      guard !faults.isEmpty else {
        throw InputError(
          "standard input: no fault line of VT-d, AMD-Vi or Calgary in this log; "
            + "give it the output of dmesg")
      }
      let explainer = FaultExplainer(machine, in: memory)
      let explanations = faults.map { explainer.explain($0) }
      switch format {
      case .text:
        for (index, explanation) in explanations.enumerated() {
          if index > 0 { out.write("\n") }
          explanation.write(to: &out, ink: ink)
        }
      case .json: try writeJSON(explanations, to: &out)
      }
      let isUnknown = explanations.contains { $0.walk?.end == .unitUnseen }
      if isUnknown || explainer.gaps.contains(where: { $0.scope == .unit }) { return .unknown }
      return Answer(explanations.allSatisfy(\.isBorneOut))
    }
  }
}
