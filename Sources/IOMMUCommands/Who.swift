import ArgumentParser
import IOMMUFormats
import IOMMUInspection

/// Reads the tables backwards.
package struct Who: ParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "who",
    abstract: "Say which devices can reach physical memory, and by which IOVA.",
    discussion: """
      Looks through every table in force, and at devices that no table stands in the way of. Says \
      too when the memory is part of a table itself.

      Exits 0 when some device gets there, 1 when none does, 2 when none is seen to and the dump \
      lacks a part of some table, and 2 whatever is seen when a limit was met or a table leads to \
      itself: the list is not whole then.

      Example: iommu who Examples/vtd-crash/image.elf 7663000 \
      --machine Examples/vtd-crash/machine.json
      Example: iommu who Examples/vtd-crash/image.elf 15000000-1effffff --write \
      --machine Examples/vtd-crash/machine.json
      """)

  @OptionGroup package var image: ImageOptions

  @Argument(
    help: """
      The physical address in hexadecimal, or a range of them: the line of /proc/iomem \
      (15000000-1effffff) or START+BYTES.
      """,
    transform: { try physicalPlace($0) })
  package var physical: Range<PhysicalAddress>

  @Flag(help: "Only devices that can write there.")
  package var write = false

  @Option(help: "How to print the ways there: text or json.")
  package var format = ReportFormat.text

  @OptionGroup package var screen: ScreenOptions

  package init() {}

  package func run() throws {
    var (out, ink) = screen.open()
    try report(to: &out, ink: ink).exit()
  }

  package func report(to out: inout some TextOutputStream, ink: Ink = .none) throws -> Answer {
    try image.read { memory, machine, kernel in
      let reach = ReachReport(
        physical, writing: write, machine: machine, in: memory, names: kernel.names)
      switch format {
      case .text: reach.write(to: &out, ink: ink)
      case .json: try writeJSON(reach, to: &out)
      }
      let isUnknown =
        reach.ways.isEmpty ? !reach.blindness.isEmpty : reach.blindness.isCut
      return isUnknown ? .unknown : Answer(!reach.ways.isEmpty)
    }
  }
}
