import ArgumentParser
import IOMMUFormats
import IOMMUImages
import IOMMUInspection
import IOMMURule
import IOMMUTranslation

/// Makes a page to look at.
package struct Report: ParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "report",
    abstract: "Write a report as one HTML file: maps, devices, verdicts, findings and walks.",
    discussion: """
      The file needs no network and no script. With the crash kernel's memory, from --crash-kernel, \
      from the machine file or from the dump, it has the verdicts of the Rule.

      Exits 0 when the report is written, whatever it says, and 2 when a root or device table is not \
      in the dump, so that nothing can be said of the devices behind it, or when a table was not \
      followed to its end.

      Example: iommu report Examples/vtd-crash/image.elf -o report.html \
      --machine Examples/vtd-crash/machine.json --crash-kernel 160M@336M
      """)

  @OptionGroup package var image: ImageOptions

  @Option(
    name: .shortAndLong, help: ArgumentHelp("Where to write it.", valueName: "file"),
    completion: .file())
  package var output: String

  @OptionGroup package var crash: CrashKernelOptions

  @OptionGroup package var needed: NeededDeviceOptions

  @Option(help: "The report's title. Default: the image's name.")
  package var title: String?

  @Option(
    help: "What to print when the file is written: text is nothing, json what the report says.")
  package var format = ReportFormat.text

  package init() {}

  package func run() throws {
    var screen = StandardOutput()
    try report(to: &screen).exit()
  }

  package func report(to out: inout some TextOutputStream) throws -> Answer {
    try readingInput { try OutputFile.refuse([output], over: image.inputPaths) }
    // A report of a dump with pages that cannot be read is none: the file appears after the last look.
    let (page, file, told) = try image.files.read { memory -> (String, OutputFile, DumpReport) in
      let kernel = KernelKnowledge(of: memory, path: image.files.image)
      let (found, notices) = try image.source.told(of: memory, path: image.files.image, kernel)
      notices.forEach(warn)
      let machine = try crash.placing(found, in: memory, kernel)
      let file = try OutputFile(path: output, from: image.inputPaths)
      var page = ""
      let report = try report(memory, machine, memory.warnings + notices, kernel)
      report.write(to: &page)
      return (page, file, report)
    }
    try readingInput {
      try file.write(Array(page.utf8))
      try file.commit()
    }
    if format == .json {
      try writeJSON(
        WrittenReport(file: output, fileBytes: page.utf8.count, report: told), to: &out)
    }
    return told.blindness.hidesUnit || told.blindness.isCut ? .unknown : .yes
  }

  private func report(
    _ memory: MemoryImage, _ machine: Machine, _ notices: [String], _ kernel: KernelKnowledge?
  ) throws -> DumpReport {
    let rule = RuleEvidence(
      dump: machine, devices: try needed.devices(on: machine), in: memory, kernel: kernel,
      isUnitsSource: image.source.asksKernel
    ).map { RuleReport($0, in: memory, names: kernel.names) }
    let name = image.files.image.split(separator: "/").last.map(String.init) ?? image.files.image
    return DumpReport(
      title: title ?? name, machine: machine, in: memory, rule: rule,
      sources: ["\(memory.format): " + image.files.paths.joined(separator: ", ")]
        + (image.source.machine.map { ["machine file: \($0)"] } ?? [])
        + ["written by iommu \(Tool.configuration.version)"],
      notices: notices, names: kernel.names)
  }
}

/// What `iommu report` wrote, and what it says.
private struct WrittenReport: StreamedEncodable {
  var file: String
  var fileBytes: Int
  var report: DumpReport

  enum CodingKeys: String, CodingKey {
    case file
    case fileBytes = "file_bytes"
    case report
  }
}
