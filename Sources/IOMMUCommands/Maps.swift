import ArgumentParser
import IOMMUFormats
import IOMMUImages
import IOMMUInspection
import IOMMUTranslation

/// Lists every mapping of an image.
package struct Maps: ParsableCommand {
  package enum Format: String, ExpressibleByArgument, CaseIterable {
    case text, tsv, debugfs
    case debugfs6_12 = "debugfs-6.12"
    case summary, json
    case summaryJSON = "summary-json"
  }

  package static let configuration = CommandConfiguration(
    commandName: "maps",
    abstract: "List every mapping as runs: IOVA, size, physical address, access.",
    discussion: """
      A table is a bus (Calgary), the GART, or a requester (VT-d, AMD-Vi). Runs are as long as IOVA and \
      physical address go on together with the same access.

      --format debugfs is the layout of the kernel's own domain_translation_struct up to Linux 6.1, \
      --format debugfs-6.12 that of later ones, whose files of all devices and PASIDs follow each \
      other, so that a dump can be compared with a living machine; --format summary is a line per \
      table with the page sizes used.

      A table that several devices share is printed once, and names its first device for the others; \
      tsv, debugfs and debugfs-6.12 repeat it, up to a million lines or 64 MiB in all, and name the \
      first device from there on, in lines that begin with #.

      --interrupts lists the interrupt remapping tables instead: which requester may send what, and \
      where it is delivered (text, tsv or json). Of AMD-Vi each device's table is listed, once for all \
      that share it.

      What the dump lacks is told as unknown. Exits 2 when that is a root or device table, so that \
      nothing can be said of the devices behind it, and when a table leads to itself or a limit was \
      met, so that some table was not followed to its end.

      Example: iommu maps Examples/vtd-crash/image.elf --machine Examples/vtd-crash/machine.json \
      --format summary
      """)

  @OptionGroup package var image: ImageOptions

  @Option(help: "Only this table: bus:02, gart, or a requester such as 00:03.0.")
  package var table: String?

  @Option(
    help: ArgumentHelp(
      "How to print the mappings: text, tsv, debugfs, debugfs-6.12, summary, json or summary-json.")
  )
  package var format = Format.text

  @Flag(help: "List what becomes of interrupts rather than of memory requests.")
  package var interrupts = false

  @OptionGroup package var screen: ScreenOptions

  package init() {}

  package func validate() throws {
    guard interrupts else { return }
    guard table == nil else {
      throw ValidationError("--interrupts lists units' tables: --table names none of them")
    }
    guard [.text, .tsv, .json].contains(format) else {
      throw ValidationError(
        "interrupts have no \(format.rawValue) format: choose one of text, tsv, json")
    }
  }

  package func run() throws {
    var (out, ink) = screen.open()
    try report(to: &out, ink: ink).exit()
  }

  @discardableResult
  package func report(to out: inout some TextOutputStream, ink: Ink = .none) throws -> Answer {
    try image.read { memory, machine, kernel in
      guard !interrupts else {
        return try reportInterrupts(of: machine, in: memory, kernel.names, to: &out, ink)
      }
      let report = try MapsReport(machine, in: memory, table: table, names: kernel.names)
      let blindness: Blindness
      switch format {
      case .text: blindness = report.writeText(of: memory, to: &out, ink: ink)
      case .tsv: blindness = report.writeTSV(of: memory, to: &out)
      case .debugfs, .debugfs6_12:
        let layout = DomainTranslationStruct(
          report, layout: format == .debugfs ? .linux6_1 : .linux6_12)
        guard !layout.isEmpty else {
          // A table that the dump lacks is none that the machine has not.
          let unknown = Blindness(report.gaps).byWeight.prefix(8).map(\.text)
          throw InputError(
            lines: (unknown.isEmpty
              ? ["no VT-d page table to show in the kernel's layout"] : unknown)
              .map { "\(image.files.image): \($0); --format text has what is known" })
        }
        blindness = layout.write(of: memory, to: &out)
        for gap in blindness.byWeight.prefix(8) { warn(gap.text) }
      case .summary, .summaryJSON:
        let summary = MapsSummary(report, in: memory)
        if format == .summary {
          summary.write(to: &out, ink: ink)
        } else {
          try writeJSON(summary, to: &out)
        }
        blindness = summary.blindness
      case .json:
        let document = report.encodable(in: memory)
        try writeJSON(document, to: &out)
        blindness = document.blindness
      }
      return blindness.hidesUnit || blindness.isCut ? .unknown : .yes
    }
  }

  private func reportInterrupts(
    of machine: Machine, in memory: some PhysicalMemory, _ names: DeviceNames,
    to out: inout some TextOutputStream, _ ink: Ink
  ) throws -> Answer {
    let report = InterruptReport(machine, in: memory, names: names)
    switch format {
    case .tsv: report.writeTSV(to: &out)
    case .json: try writeJSON(report, to: &out)
    default: report.writeText(to: &out, ink: ink)
    }
    return report.isUnknown ? .unknown : .yes
  }
}
