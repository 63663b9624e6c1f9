import ArgumentParser
import IOMMUImages
import IOMMUInspection

/// Lists every mapping of an image.
package struct Maps: ParsableCommand {
  package enum Format: String, ExpressibleByArgument, CaseIterable {
    case text, tsv, debugfs, summary, json
    case summaryJSON = "summary-json"
  }

  package static let configuration = CommandConfiguration(
    abstract: "List every mapping as runs: IOVA, size, physical address, access.",
    discussion: """
      A table is a bus (Calgary), the GART, or a requester (VT-d). Runs are as long as IOVA and \
      physical address go on together with the same access.

      --format debugfs is the layout of the kernel's own domain_translation_struct, so that a dump \
      can be compared with a living machine; --format summary is a line per table with the page \
      sizes used.

      Example: iommu maps Examples/vtd-crash/image.elf --machine Examples/vtd-crash/machine.json \
      --format summary
      """)

  @OptionGroup package var image: ImageOptions

  @Option(help: "Only this table: bus:02, gart, or a requester such as 00:03.0.")
  package var table: String?

  @Option(help: "How to print the mappings: text, tsv, debugfs, summary, json or summary-json.")
  package var format = Format.text

  @OptionGroup package var screen: ScreenOptions

  package init() {}

  package func run() throws {
    var (out, ink) = screen.open()
    try report(to: &out, ink: ink)
  }

  package func report(to out: inout some TextOutputStream, ink: Ink = .none) throws {
    try image.read { memory, machine in
      let report = try MapsReport(machine, in: memory, table: table)
      switch format {
      case .text: try report.writeText(of: memory, to: &out)
      case .tsv: try report.writeTSV(of: memory, to: &out)
      case .debugfs:
        let layout = DomainTranslationStruct(report)
        guard !layout.isEmpty else {
          throw InputError(
            "\(image.files.image): no VT-d page table to show in the kernel's layout; use --format text"
          )
        }
        try layout.write(of: memory, to: &out)
      case .summary: try MapsSummary(report, in: memory).write(to: &out, ink: ink)
      case .summaryJSON: try writeJSON(try MapsSummary(report, in: memory), to: &out)
      case .json: try writeJSON(try report.encodable(in: memory), to: &out)
      }
    }
  }
}
