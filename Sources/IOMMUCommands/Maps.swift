import ArgumentParser
import IOMMUImages
import IOMMUInspection

/// Lists every mapping of an image.
package struct Maps: ParsableCommand {
  package enum Format: String, ExpressibleByArgument, CaseIterable { case text, tsv, json }

  package static let configuration = CommandConfiguration(
    abstract: "List every mapping as runs: IOVA, size, physical address, access.",
    discussion: """
      A table is a bus (Calgary), the GART, or a requester (VT-d). Runs are as long as IOVA and \
      physical address go on together with the same access.

      Example: iommu maps vmcore --machine machine.json --table 00:03.0 --format tsv
      """)

  @OptionGroup package var image: ImageOptions

  @Option(help: "Only this table: bus:02, gart, or a requester such as 00:03.0.")
  package var table: String?

  @Option(help: "How to print the mappings: text, tsv or json.")
  package var format = Format.text

  package init() {}

  package func run() throws {
    var screen = StandardOutput()
    try report(to: &screen)
  }

  package func report(to out: inout some TextOutputStream) throws {
    try image.read { memory, machine in
      let report = try MapsReport(machine, in: memory, table: table)
      switch format {
      case .text: try report.writeText(of: memory, to: &out)
      case .tsv: try report.writeTSV(of: memory, to: &out)
      case .json: try writeJSON(try report.encodable(in: memory), to: &out)
      }
    }
  }
}
