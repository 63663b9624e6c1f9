import ArgumentParser
import Glibc
import IOMMUFormats
import IOMMUImages
import IOMMUInspection
import IOMMUTranslation

/// Explains the faults in a log.
package struct Explain: ParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "explain",
    abstract: "Explain the DMA faults of a log, by themselves or against the tables of a dump.",
    discussion: """
      Reads a log from a file or from standard input and picks the faults of \(unitNames) out of it, \
      as kernels, hypervisors and emulators write them; what mail programs do to lines makes no \
      difference. For each: what the device tried, what the unit says, what such faults come from, and \
      what the kernel printed of the tables. With a dump: what the tables say now, which entry stops \
      the request, what the driver should have written, and where the number is mapped. The log may be \
      the dump's own: it is taken where standard input has nothing, or with --dmesg.

      Lines that tell of a fault and are not understood are named. Exits 0 when there are none of them \
      and, with a dump, the tables as they are explain every fault; 1 otherwise: when the tables allow a \
      request now, or give another reason; 2 when the dump lacks what decides, or when some table was \
      not followed to its end.

      Example: echo 'DMAR: [DMA Write NO_PASID] Request device [00:03.0] fault addr 0xffe00000 \
      [fault reason 0x05] PTE Write access is not set' | iommu explain \
      Examples/vtd-crash/image.elf --machine Examples/vtd-crash/machine.json
      """)

  private static var unitNames: String {
    let names = LogReaders.unitNames
    return names.dropLast().joined(separator: ", ") + " and " + names.last!
  }

  @Argument(
    help: ArgumentHelp(
      "The log, and the dump whose tables explain it, in either order; both may be left out. Without a "
        + "log, or with -, standard input is read; where it has nothing, the log that is in the dump.",
      valueName: "file"), completion: .file())
  package var files: [String] = []

  @Option(
    name: .customLong("part"),
    help: ArgumentHelp(
      "Another file of a dump that 'makedumpfile --split' made. May be repeated.",
      valueName: "file"), completion: .file())
  package var parts: [String] = []

  @Flag(help: "Take the log that is in the dump.")
  package var dmesg = false

  @OptionGroup package var kernel: KernelOptions

  @OptionGroup package var source: TableSource

  @OptionGroup package var knowledge: FaultKnowledge

  @Option(help: "How to print the explanations: text or json.")
  package var format = ReportFormat.text

  @Flag(help: "Print the forms of faults that are read, and end.")
  package var forms = false

  @OptionGroup package var screen: ScreenOptions

  package init() {}

  package func validate() throws {
    if forms, !files.isEmpty {
      throw ValidationError(
        "--forms lists what is read, of no log and no dump: leave the files out")
    }
  }

  package func run() throws {
    if forms {
      var (out, _) = screen.open()
      try Self.printForms(format, to: &out)
      return
    }
    let named = try ExplainedFiles(files).inOrder
    var log = named.log
    let image = named.image
    if image == nil, source.machine != nil || !source.roots.isEmpty || !parts.isEmpty {
      throw ValidationError("--machine, --root and --part are about a dump, and none is named")
    }
    if dmesg {
      guard image != nil else { throw ValidationError("--dmesg: name the dump whose log it is") }
      if case .file(let path) = log {
        throw ValidationError("--dmesg and '\(path)': which of the two logs?")
      }
    }
    if log == .standardInput, !dmesg, let other = knowledge.ofStandardInput.first {
      throw ValidationError(
        "standard input is the log, and '\(other)' would read it too: name a file for one of them")
    }
    var reader = FaultLogReader()
    if let image, dmesg || log == .standardInput && isatty(STDIN_FILENO) == 1 {
      log = .dump(image)
    } else {
      try readingInput { try reader.read(log: log) }
      if let image, log == .standardInput, reader.lineCount == 0 { log = .dump(image) }
    }
    if case .dump(let image) = log { try read(dump: image, into: &reader) }
    if reader.suppressedCount > 0 {
      warn(
        "\(log.name): the kernel left out \(reader.suppressedCount) messages; there may have been "
          + "more faults than these")
    }
    var (out, ink) = screen.open()
    try report(reader, of: log.name, to: &out, ink: ink).exit()
  }

  /// Reads the logs of a dump's kernels, the older one's first.
  private func read(dump path: String, into reader: inout FaultLogReader) throws {
    var dump = ImageFiles(image: path)
    dump.parts = parts
    var read = FaultLogReader()
    try dump.read { memory in
      let logs = try KernelLogs(kernel.kernels(in: memory, path: path))
      logs.problems.forEach { warn("\(path): \($0)") }
      for line in logs.logs.flatMap({ $0.lines() }) { read.read(utf8: Array(line.utf8)) }
    }
    read.finish()
    reader = read
  }

  /// Prints an example of each form that is read.
  package static func printForms(
    _ format: ReportFormat, to out: inout some TextOutputStream
  ) throws {
    guard format == .text else {
      let forms = LogReaders.examples.map {
        LogFormJSON(unit: $0.unit, writer: $0.example.writer, text: $0.example.text)
      }
      return try writeJSON(forms, to: &out)
    }
    var heading = ""
    for (unit, example) in LogReaders.examples {
      if heading != "\(unit), \(example.writer)" {
        if !heading.isEmpty { out.write("\n") }
        heading = "\(unit), \(example.writer)"
        out.write("\(heading)\n")
      }
      out.write("\(example.text)\n")
    }
  }

  /// Prints what a log that was read comes to.
  ///
  /// - Parameter name: What the log is called; as the command line has it where nothing is said.
  package func report(
    _ reader: FaultLogReader, of name: String? = nil, to out: inout some TextOutputStream,
    ink: Ink = .none
  ) throws -> Answer {
    let (log, image) = try ExplainedFiles(files).inOrder
    let context = try readingInput { try knowledge.context(for: reader.faults) }
    let report = FaultReport(reader, of: name ?? log.name, format: format, context: context)
    guard let image else { return try report.report(to: &out, ink: ink) }
    var dump = ImageFiles(image: image)
    dump.parts = parts
    return try dump.read { memory in
      let kernel = KernelKnowledge(of: memory, path: image)
      return try report.report(
        against: source.machine(of: memory, path: image, kernel), in: memory, names: kernel.names,
        to: &out, ink: ink)
    }
  }
}

/// A form of faults that is read.
private struct LogFormJSON: Encodable {
  var unit: String
  var writer: String
  var text: String
}

/// Which of the files that were named is the log, and which the dump.
package struct ExplainedFiles {
  /// Where a log is read from.
  package enum Log: Equatable {
    case standardInput
    case file(String)
    /// The kernel's own log in a dump.
    case dump(String)

    var name: String {
      switch self {
      case .standardInput: "standard input"
      case .file(let path): path
      case .dump(let path): "the log in \(path)"
      }
    }
  }

  private let paths: [String]

  package init(_ paths: [String]) { self.paths = paths }

  /// The log and the dump, if one was named.
  ///
  /// A file of text is a log; so is whatever is no file at all, as a pipe. Of two files of bytes the one
  /// with the mark of a dump is the dump.
  package var inOrder: (log: Log, image: String?) {
    get throws {
      switch paths.count {
      case 0: return (.standardInput, nil)
      case 1: return isLog(paths[0]) ? (log(paths[0]), nil) : (.standardInput, paths[0])
      case 2: break
      default:
        throw ValidationError("one log and one dump at most; \(paths.count) files were named")
      }
      let first = isLog(paths[0])
      let second = isLog(paths[1])
      if first != second { return first ? (log(paths[0]), paths[1]) : (log(paths[1]), paths[0]) }
      if first {
        throw ValidationError(
          "'\(paths[0])' and '\(paths[1])' are both texts: a log, and no dump; give one log")
      }
      let marks = paths.map { InputKind(path: $0) == .dump }
      guard marks[0] != marks[1] else {
        throw ValidationError(
          "neither '\(paths[0])' nor '\(paths[1])' is a text; the log is the output of dmesg")
      }
      return marks[0] ? (log(paths[1]), paths[0]) : (log(paths[0]), paths[1])
    }
  }

  private func isLog(_ path: String) -> Bool {
    path == "-" || [.text, .stream].contains(InputKind(path: path))
  }

  private func log(_ path: String) -> Log { path == "-" ? .standardInput : .file(path) }
}

extension FaultLogReader {
  /// Reads a whole log.
  ///
  /// - Throws: ``InputError`` when it cannot be opened or read.
  mutating func read(log: ExplainedFiles.Log) throws {
    var descriptor = STDIN_FILENO
    if case .file(let path) = log {
      descriptor = open(path, O_RDONLY | O_CLOEXEC)
      guard descriptor >= 0 else {
        throw InputError("\(path): cannot be opened: \(String(cString: strerror(errno)))")
      }
    } else {
      tellWaiting(for: "a log")
    }
    defer { if descriptor != STDIN_FILENO { close(descriptor) } }
    try forEachLine(of: descriptor, name: log.name, cuttingLongLines: true) { line, number in
      read(utf8: line, startsLine: number > lineCount)
    }
    finish()
  }
}

/// Prints the faults of a log, each explained, and the lines that are not understood.
package struct FaultReport {
  private let reader: FaultLogReader
  private let name: String
  private let format: ReportFormat
  private let context: FaultContext

  /// - Parameters:
  ///   - reader: What was read; it has come to the end of the log.
  ///   - name: What the log is called in messages.
  ///   - context: What else is known of the machine.
  package init(
    _ reader: FaultLogReader, of name: String, format: ReportFormat,
    context: FaultContext = FaultContext()
  ) {
    self.reader = reader
    self.name = name
    self.format = format
    self.context = context
  }

  /// By themselves.
  package func report(to out: inout some TextOutputStream, ink: Ink = .none) throws -> Answer {
    try refuseEmpty()
    try write(reader.faults.map { FaultExplanation($0) }, to: &out, ink: ink)
    return Answer(isUnderstood)
  }

  /// Against the tables of a dump.
  package func report(
    against machine: Machine, in memory: some PhysicalMemory, names: DeviceNames = .none,
    to out: inout some TextOutputStream, ink: Ink = .none
  ) throws -> Answer {
    try refuseEmpty()
    let explainer = FaultExplainer(machine, in: memory, names: names)
    let explanations = reader.faults.map { explainer.explain($0) }
    let blindness = explainer.blindness
    try write(explanations, incomplete: blindness.incomplete, to: &out, ink: ink)
    let isUnknown = explanations.contains { $0.walk?.end == .unitUnseen }
    let hidesUnit = explainer.gaps.contains { $0.scope == .unit }
    if isUnknown || hidesUnit || blindness.isCut { return .unknown }
    return Answer(isUnderstood && explanations.allSatisfy(\.isBorneOut))
  }

  /// Every line that tells of a fault was understood.
  private var isUnderstood: Bool { reader.unread.isEmpty && reader.omittedCount == 0 }

  private func refuseEmpty() throws {
    guard reader.faults.isEmpty, reader.unread.isEmpty else { return }
    throw InputError(
      "\(name): no fault line of \(LogReaders.unitNames.joined(separator: ", ")) in this log; "
        + "give it the output of dmesg")
  }

  private func write(
    _ explanations: [FaultExplanation], incomplete: [String] = [],
    to out: inout some TextOutputStream, ink: Ink
  ) throws {
    var incomplete = incomplete
    if reader.omittedCount > 0 {
      incomplete.append(
        "\(name): \(reader.omittedCount) more faults and lines; \(FaultLogReader.limit) of each are "
          + "explained")
    }
    var items = explanations.map { explanation in
      var explanation = explanation
      context.complete(&explanation)
      return (line: explanation.fault.line, item: Item.explained(explanation))
    }
    items += reader.unread.map { ($0.line, .unread($0)) }
    // Both are in order; where a line has both, what was understood comes first.
    items.sort { $0.line < $1.line }
    switch format {
    case .text:
      var told: [String: Int] = [:]
      for (index, item) in items.enumerated() {
        if index > 0 { out.write("\n") }
        switch item.item {
        case .explained(let explanation): explanation.write(to: &out, ink: ink, told: &told)
        case .unread(let line):
          out.write("line \(line.line): \(ink.warning("not understood"))\n")
          out.write("  \(line.unit): \(line.reason)\n")
        }
      }
    case .json:
      try writeJSON(IncompleteList(items.map(\.item), incomplete: incomplete), to: &out)
    }
    incomplete.forEach(warn)
  }

  private enum Item: Encodable {
    case explained(FaultExplanation)
    case unread(UnreadLine)

    func encode(to encoder: any Encoder) throws {
      switch self {
      case .explained(let explanation): try explanation.encode(to: encoder)
      case .unread(let line): try line.encode(to: encoder)
      }
    }
  }
}
