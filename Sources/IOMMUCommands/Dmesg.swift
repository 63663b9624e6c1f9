import ArgumentParser
import IOMMUFormats
import IOMMUImages
import IOMMULinux

/// A point of a kernel's life, in seconds since it began.
package struct KernelTime: Hashable {
  package var nanoseconds: UInt64

  /// Reads `12`, `12.5`, or what stands between the brackets of a log's line.
  package init(_ text: String) throws {
    let halves = text.utf8.drop { $0 == UInt8(ascii: " ") }
      .split(separator: UInt8(ascii: "."), maxSplits: 1, omittingEmptySubsequences: false)
    let fraction = halves.count > 1 ? Array(halves[1]) : [UInt8(ascii: "0")]
    guard let seconds = halves.first.flatMap({ Notation.decimal(utf8: $0) }), seconds < 1 << 33,
      1...9 ~= fraction.count,
      let part = Notation.decimal(
        utf8: fraction + [UInt8](repeating: UInt8(ascii: "0"), count: 9 - fraction.count))
    else {
      throw ValidationError(
        "'\(text.visible)' is no time; give seconds since the kernel began: 12, 12.345678")
    }
    nanoseconds = seconds * 1_000_000_000 + part
  }
}

/// Prints the log of the kernel in a dump.
package struct Dmesg: ParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "dmesg",
    abstract: "Print the kernel's log out of a dump.",
    discussion: """
      Needs nothing but the dump: VMCOREINFO, in its notes or anywhere in memory, leads to the log. \
      Knows the buffers of every Linux: the ring of 5.10 and later, records since 3.5, characters \
      before. Of a dump with two kernels both logs are printed, the older first, each behind a line \
      with # that says whose it is.

      Exits 0; 2 when a message, or the log of one of two kernels, cannot be read.

      Example: iommu dmesg Examples/vmcore/vmcore.kdump --since 4
      """)

  @OptionGroup package var dump: DumpArguments

  @OptionGroup package var kernel: KernelOptions

  @Flag(
    help: "Lines with their number of facility and level in front, as the kernel keeps them: <6>.")
  package var raw = false

  @Flag(
    name: [.customShort("x"), .long], help: "Lines with the names of facility and level in front.")
  package var decode = false

  @Option(
    help: ArgumentHelp(
      "Only what was printed then or later, in seconds since the kernel began: 12, 12.345678.",
      valueName: "seconds"),
    transform: { try KernelTime($0) })
  package var since: KernelTime?

  @Option(help: "How to print the log: text or json.")
  package var format = ReportFormat.text

  @OptionGroup package var screen: ScreenOptions

  package init() {}

  package func validate() throws {
    guard !raw || !decode else { throw ValidationError("--raw and --decode exclude each other") }
  }

  package func run() throws {
    var (out, _) = screen.open()
    try report(to: &out).exit()
  }

  package func report(to out: inout some TextOutputStream) throws -> Answer {
    try dump.read { memory in
      let logs = try KernelLogs(kernel.kernels(in: memory, path: dump.files[0]), since: since)
      switch format {
      case .text: logs.write(raw ? .raw : decode ? .decoded : .plain, to: &out)
      case .json: try writeJSON(logs.logs, to: &out)
      }
      logs.problems.forEach { warn("\(dump.files[0]): \($0)") }
      return logs.problems.isEmpty ? .yes : .unknown
    }
  }
}

/// The logs of a dump's kernels.
struct KernelLogs {
  private(set) var logs: [KernelLogReport] = []
  /// What could not be read.
  private(set) var problems: [String] = []

  /// - Throws: ``InputError`` when no log can be read.
  init(_ kernels: [(role: LinuxKernels.Role, kernel: LinuxKernel)], since: KernelTime? = nil) throws
  {
    for (role, kernel) in kernels {
      let name = kernels.count > 1 ? "the \(role.rawValue) kernel's log" : "the log"
      do {
        let log = try kernel.log()
        problems += log.problems.map { "\(name): \($0)" }
        logs.append(KernelLogReport(log, of: kernel, role, since: since))
      } catch {
        problems.append("\(name) cannot be read: \(error)")
      }
    }
    if logs.isEmpty { throw InputError(lines: problems) }
  }

  func write(_ style: KernelLogStyle, to out: inout some TextOutputStream) {
    for log in logs {
      if logs.count > 1 {
        out.write("# \(log.kernel) kernel, \(log.release ?? "of unknown release")\n")
      }
      for line in log.lines(style) { out.write(line + "\n") }
    }
  }
}

/// The log of one kernel.
struct KernelLogReport: Encodable {
  var kernel: String
  var release: String?
  var buffer: String
  /// Messages that are there without their text.
  var lost: Int
  var unknown: [String]
  private var records: [PrintkRecord]
  private var messages: [Message]

  private struct Message: Encodable {
    var sequence: UInt64?
    var seconds: Double?
    var facility: String
    var level: String?
    var text: String
    var caller: String?
    var subsystem: String?
    var device: String?
  }

  enum CodingKeys: String, CodingKey {
    case kernel, release, buffer, lost, unknown, messages
  }

  init(_ log: PrintkLog, of kernel: LinuxKernel, _ role: LinuxKernels.Role, since: KernelTime?) {
    self.kernel = role.rawValue
    release = kernel.info.release
    buffer = log.kind.rawValue
    lost = log.lostCount
    unknown = log.problems
    records = log.records.filter { record in
      guard let since else { return true }
      return (record.nanoseconds ?? 0) >= since.nanoseconds
    }
    messages = records.map { record in
      Message(
        sequence: record.sequence,
        // To the microsecond, as everybody prints it.
        seconds: record.nanoseconds.map { Double($0 / 1000) / 1_000_000 },
        facility: record.facilityName,
        level: record.level.map { PrintkRecord.levelNames[Int($0 & 7)] }, text: record.text,
        caller: record.caller.map { $0 >> 31 == 0 ? "T\($0)" : "C\($0 & 0x7fff_ffff)" },
        subsystem: record.subsystem, device: record.device)
    }
  }

  func lines(_ style: KernelLogStyle = .plain) -> [String] { records.flatMap { $0.lines(style) } }
}
