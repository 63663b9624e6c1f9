import ArgumentParser
import IOMMUFormats
import IOMMUImages
import IOMMUInspection
import IOMMUTranslation

/// Compares two dumps.
package struct Diff: ParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "diff",
    abstract: "Compare the mappings of two dumps, device by device, as ranges.",
    discussion: """
      What is mapped, unmapped, re-aimed to other memory, or has other permissions in the second \
      dump. The two may be in different formats, and of different kernels.

      Without a machine file or a root, the tables are those that 'iommu find' finds in each.

      Exits 0 when the mappings are the same, 1 when they differ, 2 when nothing is seen to differ and \
      a dump lacks a part of some table, or a table was not followed to its end.

      Example: iommu diff Examples/vtd-crash/image.elf Examples/vtd-crash/image.elf \
      --machine Examples/vtd-crash/machine.json
      """)

  @Argument(help: "The earlier dump.", completion: .file())
  package var before: String

  @Argument(help: "The later dump.", completion: .file())
  package var after: String

  @OptionGroup package var source: TableSource

  @Option(
    help: "The later dump's machine file. Default: the same as --machine.", completion: .file())
  package var machineAfter: String?

  @Option(
    name: .customLong("root-after"),
    help: ArgumentHelp(
      "A table in force in the later dump, as --root has it. May be repeated.", valueName: "table"),
    transform: { try namedTable($0) })
  package var rootsAfter: [NamedTable] = []

  @Option(help: "How to print the differences: text or json.")
  package var format = ReportFormat.text

  @OptionGroup package var screen: ScreenOptions

  package init() {}

  package func run() throws {
    var (out, ink) = screen.open()
    try report(to: &out, ink: ink).exit()
  }

  package func report(to out: inout some TextOutputStream, ink: Ink = .none) throws -> Answer {
    let earlier = ImageFiles(image: before)
    let later = ImageFiles(image: after)
    var laterSource = source
    laterSource.machine = machineAfter ?? source.machine
    // A root is an address in one dump: the other may have it elsewhere.
    laterSource.roots =
      !rootsAfter.isEmpty ? rootsAfter : machineAfter == nil ? source.roots : []
    return try earlier.read { oldMemory in
      try later.read { newMemory in
        let oldKernel = KernelKnowledge(of: oldMemory, path: before)
        let newKernel = KernelKnowledge(of: newMemory, path: after)
        let difference = MapsDifference(
          before: try source.machine(of: oldMemory, path: before, oldKernel), in: oldMemory,
          names: oldKernel.names,
          after: try laterSource.machine(of: newMemory, path: after, newKernel), in: newMemory,
          names: newKernel.names)
        switch format {
        case .text: difference.write(to: &out, ink: ink)
        case .json: try writeJSON(difference, to: &out)
        }
        return difference.isEmpty && !difference.blindness.isEmpty
          ? .unknown : Answer(difference.isEmpty)
      }
    }
  }
}
