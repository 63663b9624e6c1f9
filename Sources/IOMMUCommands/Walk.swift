import ArgumentParser
import IOMMUFormats
import IOMMUInspection
import IOMMUTranslation

/// Follows one request through the tables.
package struct Walk: ParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "walk",
    abstract: "Follow one DMA request through the tables, entry by entry.",
    discussion: """
      Every table read is told: where the entry lies, its raw value, its fields and what they mean, \
      down to the page or to the fault with the manual's number. Says so where a table's page is \
      not in the dump.

      The tables are those that --root or --machine name; without either, those that 'iommu find' \
      finds.

      Exits 0 when the request reaches memory, 1 when it does not.

      Example: iommu walk Examples/vtd-crash/image.elf 00:03.0 0xffefd000 --write \
      --machine Examples/vtd-crash/machine.json
      """)

  @OptionGroup package var image: ImageOptions

  @Argument(
    help: "The device: 00:1f.2, 0001:00:1f.2 with its PCI segment, 00:1f:2 or 0xfa.",
    transform: { try IOMMUCommands.device($0) })
  package var device: PCI.Function

  @Argument(
    help: "The I/O address that the device puts on the bus, in hexadecimal.",
    transform: { try ioAddress($0) })
  package var iova: IOVA

  @Flag(help: "The device writes; without this it reads.")
  package var write = false

  @Option(
    help:
      "The PASID that the request carries: VT-d's scalable mode, AMD-Vi's guest tables. Default: none.",
    transform: { try Notation.pasid($0) })
  package var pasid: PASID?

  @Option(help: "How to print the walk: text or json.")
  package var format = ReportFormat.text

  @OptionGroup package var screen: ScreenOptions

  package init() {}

  package func run() throws {
    var (out, ink) = screen.open()
    try report(to: &out, ink: ink).exit()
  }

  package func report(to out: inout some TextOutputStream, ink: Ink = .none) throws -> Answer {
    try image.read { memory, machine, kernel in
      let walk = try ToldWalk(
        device, pasid: pasid, iova, access: write ? .write : .read, machine: machine, in: memory,
        names: kernel.names)
      switch format {
      case .text: walk.write(to: &out, ink: ink)
      case .json: try writeJSON(walk, to: &out)
      }
      return walk.isUnknown ? .unknown : Answer(walk.reachesMemory)
    }
  }
}
