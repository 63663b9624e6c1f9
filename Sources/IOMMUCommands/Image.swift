import ArgumentParser
import IOMMUFormats
import IOMMUImages

/// Dumps themselves, whatever tables are in them.
package struct Image: ParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "image",
    abstract: "Say what a dump is, or write it in another format.",
    discussion: "Example: iommu image info Examples/vtd-crash/image.elf",
    subcommands: [ImageInfo.self, ImageConvert.self])

  package init() {}
}

/// The files of one dump.
package struct DumpArguments: ParsableArguments {
  @Argument(
    help: ArgumentHelp(
      "The dump, or a directory with it; the files of a split one in any order.",
      valueName: "file"), completion: .file())
  package var files: [String]

  /// The files that are read.
  var paths: [String] {
    // What is wrong with them is told when they are opened.
    (try? DumpPaths.files(of: files)) ?? files
  }

  package init() {}

  package func validate() throws {
    if files.isEmpty { throw ValidationError("name a dump") }
  }

  /// Opens the dump; what is doubtful goes to standard error.
  ///
  /// - Throws: ``InputError`` also when what `body` looked at could not be read.
  func read<Result>(_ body: (MemoryImage) throws -> Result) throws -> Result {
    try readingDump(paths, body)
  }
}

/// Says what a dump is and what it holds.
package struct ImageInfo: ParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "info",
    abstract: "Say what a dump is and what it holds.",
    discussion: """
      Reads headers, bitmaps and page descriptors, and no page: excluded pages are memory that the \
      dump leaves out, zero pages count as zeros and are not stored.

      Example: iommu image info vmcore --format json
      """)

  @OptionGroup package var dump: DumpArguments

  @Flag(help: "All ranges of memory and all lines of VMCOREINFO.")
  package var all = false

  @Option(help: "How to print it: text or json.")
  package var format = ReportFormat.text

  package init() {}

  package func run() throws {
    var screen = StandardOutput()
    try report(to: &screen)
  }

  package func report(to out: inout some TextOutputStream) throws {
    try dump.read { image in
      let report = ImageInfoReport(image.summary(), isComplete: all)
      switch format {
      case .text: report.writeText(to: &out)
      case .json: try writeJSON(report, to: &out)
      }
    }
  }
}

extension ImageConverter.Target: ExpressibleByArgument {}

/// Writes a dump in another format.
package struct ImageConvert: ParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "convert",
    abstract: "Write a dump in another format.",
    discussion: """
      raw        bytes from physical address 0, zeros as holes of the file; memory that the dump \
      does not hold is zero
      elf        an ELF core, a segment for each run of memory
      kdump      kdump-compressed, pages packed with zlib
      flattened  the same as a flattened stream

      The file appears whole or not at all.

      Example: iommu image convert vmcore --to elf --output vmcore.elf
      """)

  @OptionGroup package var dump: DumpArguments

  @Option(help: "The format: raw, elf, kdump or flattened.")
  package var to: ImageConverter.Target

  @Option(
    name: [.customShort("o"), .long],
    help: ArgumentHelp("The file to write.", valueName: "file"), completion: .file())
  package var output: String

  @Option(help: "How to print what was done: text or json.")
  package var format = ReportFormat.text

  package init() {}

  package func run() throws {
    var screen = StandardOutput()
    try report(to: &screen)
  }

  package func report(to out: inout some TextOutputStream) throws {
    try readingInput { try OutputFile.refuse([output], over: dump.paths) }
    let result = try dump.read { image in
      let bar = ProgressBar("convert")
      defer { bar.finish() }
      return try ImageConverter.write(image, to: output, as: to) { bar.update($0, of: $1) }
    }
    for warning in result.warnings { warn("\(output): \(warning)") }
    let json = ImageConvertJSON(
      file: output, format: to.rawValue, bytes: hexadecimal(result.byteCount),
      fileBytes: result.fileByteCount, warnings: result.warnings)
    switch format {
    case .text:
      print(
        "\(output)  \(to.rawValue), \(sizeText(result.byteCount)) read, a file of "
          + "\(grouped(result.fileByteCount)) bytes",
        to: &out)
    case .json: try writeJSON(json, to: &out)
    }
  }
}

/// What `iommu image convert` did.
private struct ImageConvertJSON: Encodable {
  var file: String
  var format: String
  var bytes: String
  var fileBytes: UInt64
  var warnings: [String]

  enum CodingKeys: String, CodingKey {
    case file, format, bytes, warnings
    case fileBytes = "file_bytes"
  }
}
