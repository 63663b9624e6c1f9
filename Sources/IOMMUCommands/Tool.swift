import ArgumentParser
import Glibc
import IOMMUFormats
import IOMMUImages
import IOMMURule

/// The `iommu` command.
public struct Tool: ParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: ProgramName.current,
    abstract: "IOMMU tables to the bit: play crashes, read dumps, translate, decode.",
    discussion: """
      Without a subcommand, plays the Kdump IO Rule of September 2008 in its five cases and on AMD-Vi.

      Exit status: 0 when all is well, 1 when something that was checked does not hold, \
      2 for input that cannot be read, 64 for a wrong command line.
      """,
    version: "\(Release.version)",
    subcommands: [
      Play.self, Crash.self, Build.self, Find.self, Walk.self, Maps.self, Who.self, Diff.self,
      Verify.self,
      Explain.self, Report.self, Translate.self, Hexdump.self, Decode.self, Image.self,
      Vmcore.self, Dmesg.self,
      Conform.self, Corpus.self, Replay.self, Bench.self,
    ],
    defaultSubcommand: Play.self)

  public init() {}

  /// Runs the command line and exits.
  public static func run() -> Never {
    // A file that grows too large is an error to its writer, and nothing else.
    signal(SIGXFSZ, SIG_IGN)
    occupyStandardDescriptors()
    Leftovers.watchSignals()
    do {
      // The runtime reads them from there; without it there is not even the program's name.
      guard !CommandLine.arguments.isEmpty else {
        throw InputError(
          "no arguments can be read: /proc is not mounted; 'mount -t proc proc /proc' does it")
      }
      ProgramName.take(from: CommandLine.arguments[0])
      let arguments = Array(CommandLine.arguments.dropFirst())
      try refuseSigns(in: arguments)
      try refuseUnknownCommands(in: arguments)
      var command = try parsed(arguments)
      try command.run()
      StandardOutput.finish()
    } catch let error as InputError {
      StandardOutput.finish()
      complain(error.text)
      Glibc.exit(2)
    } catch {
      let code = exitCode(for: error)
      let text = ProgramName.inCommandLines(of: wrappingUsage(fullMessage(for: error)))
      if code == .success {
        var out = StandardOutput()
        if !text.isEmpty { out.write(text + "\n") }
      }
      StandardOutput.finish()
      if code != .success, !text.isEmpty { say(text) }
      Glibc.exit(code.rawValue)
    }
    Glibc.exit(0)
  }
}

extension Tool {
  /// The command that a command line names, with what it says.
  ///
  /// The parser makes all of a tree of commands before it looks at the first word, and what the default one
  /// takes: a third of the start. A line that begins with a name is read by that command alone; where that
  /// is not the end of it, as for errors and for help, by all as ever.
  static func parsed(_ arguments: [String]) throws -> any ParsableCommand {
    if let name = arguments.first,
      let named = configuration.subcommands.first(where: { $0._commandName == name }),
      let command = try? named.parseAsRoot(Array(arguments.dropFirst())),
      isOwn(type(of: command), in: named)
    {
      return command
    }
    return try parseAsRoot(arguments)
  }

  /// The parser adds commands of its own, whose answers tell what is above them.
  private static func isOwn(
    _ command: any ParsableCommand.Type, in parent: any ParsableCommand.Type
  ) -> Bool {
    command == parent || parent.configuration.subcommands.contains { isOwn(command, in: $0) }
  }
}

/// Puts something where standard input, output or errors are closed, so that no dump is opened in their
/// place: reading from it, or writing to it, fails as it did before.
private func occupyStandardDescriptors() {
  for (descriptor, mode) in [
    (STDIN_FILENO, O_WRONLY), (STDOUT_FILENO, O_RDONLY), (STDERR_FILENO, O_RDONLY),
  ] where fcntl(descriptor, F_GETFD) < 0 && errno == EBADF {
    // The lowest that is free is this one: those below are taken by now.
    _ = open("/dev/null", mode)
  }
}

/// Input that cannot be used: a line that names it and the way out, or several. Exit status 2.
package struct InputError: Error, Equatable {
  package var text: String
  package init(_ text: String) { self.text = text }
  package init(_ error: some Error) { self.init("\(error)") }
  /// Several reasons, each a line of its own; the same one is told once.
  package init(lines: [String]) {
    var told: [String] = []
    for line in lines.flatMap({ $0.split(separator: "\n") }).map(String.init)
    where !told.contains(line) { told.append(line) }
    self.init(told.joined(separator: "\n"))
  }
}

/// What a command answers, as its exit status says it.
package enum Answer: Int32 {
  case yes = 0
  case no = 1
  /// What would tell is not in the dump.
  case unknown = 2

  package init(_ isYes: Bool) { self = isYes ? .yes : .no }

  package init(_ conclusion: RuleConclusion) {
    self =
      switch conclusion {
      case .holds: .yes
      case .broken: .no
      case .unknown: .unknown
      }
  }

  /// Ends the command with the exit status; `yes` lets it end by itself.
  func exit() throws {
    if self != .yes { throw ExitCode(rawValue) }
  }
}

/// Turns the typed errors of the libraries into one line for the user.
func readingInput<Result>(_ body: () throws -> Result) throws -> Result {
  do {
    return try body()
  } catch let error as InputError {
    throw error
  } catch let error as ExitCode {
    throw error
  } catch let error as ValidationError {
    throw error
  } catch {
    throw InputError(error)
  }
}

/// Standard output, buffered; ends the program when the disk is full.
package struct StandardOutput: TextOutputStream {
  /// Commands run on the main thread only.
  nonisolated(unsafe) private static var buffer: [UInt8] = []

  package init() {}

  /// Colours pass where they were asked for; they are all that an escape may begin.
  nonisolated(unsafe) package static var showsColors = false

  package mutating func write(_ text: String) {
    var text = text
    let isPlain = text.withUTF8 { bytes in
      let isPlain = bytes.allSatisfy {
        $0 >= 0x20 && $0 < 0x7f || $0 == UInt8(ascii: "\n") || $0 == UInt8(ascii: "\t")
      }
      guard isPlain else { return false }
      Self.write(UnsafeRawBufferPointer(bytes))
      return true
    }
    guard !isPlain else { return }
    text = Self.showsColors ? Self.colored(text) : text.visible { $0 == "\n" || $0 == "\t" }
    text.withUTF8 { Self.write(UnsafeRawBufferPointer($0)) }
  }

  /// The text with nothing behind an escape but colours.
  private static func colored(_ text: String) -> String {
    let parts = text.split(separator: "\u{1b}", omittingEmptySubsequences: false)
    return parts.enumerated().reduce(into: "") { result, part in
      if part.offset > 0 {
        result += part.element.prefixMatch(of: /\[[0-9]+m/) == nil ? "\\u{1B}" : "\u{1b}"
      }
      result += part.element.visible { $0 == "\n" || $0 == "\t" }
    }
  }

  package static func write(_ bytes: UnsafeRawBufferPointer) {
    buffer.append(contentsOf: bytes)
    if buffer.count >= 1 << 16 { flush() }
  }

  /// Writes what is left and waits for the pager, if there is one.
  package static func finish() {
    flush()
    Pager.finish()
  }

  package static func flush() {
    var done = 0
    while done < buffer.count {
      let count = buffer.withUnsafeBytes {
        Glibc.write(STDOUT_FILENO, $0.baseAddress! + done, $0.count - done)
      }
      if count > 0 {
        done += count
      } else if Pager.isClosed {
        break
      } else if errno != EINTR {
        complain("standard output: \(String(cString: strerror(errno)))")
        _exit(2)
      }
    }
    buffer.removeAll(keepingCapacity: true)
  }
}

/// Says something doubtful on standard error.
package func warn(_ text: String) { complain("warning: \(text)") }

/// A line on standard error, or several.
func complain(_ text: String) {
  say(ProgramName.inCommandLines(of: text), prefix: "\(ProgramName.current): ")
}

/// Says on a terminal what a command waits for there.
func tellWaiting(for what: String) {
  guard isatty(STDIN_FILENO) == 1 else { return }
  complain("reading \(what) from the terminal; Ctrl-D ends it")
}

/// Lines on standard error, broken at blanks where a terminal would break them anywhere.
private func say(_ text: String, prefix: String = "") {
  let width = terminalWidth(of: STDERR_FILENO)
  for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
    let shown = prefix + line.visible
    for part in width.map({ wrapped(shown, to: $0) }) ?? [shown] {
      let bytes = Array("\(part)\n".utf8)
      _ = bytes.withUnsafeBytes { Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }
  }
}

/// The columns of a terminal; `nil` for what is none.
private func terminalWidth(of descriptor: Int32) -> Int? {
  guard isatty(descriptor) == 1 else { return nil }
  var size = winsize()
  guard ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return 80 }
  return max(40, Int(size.ws_col))
}

extension Tool {
  /// A message of the parser with its usage line in lines of 80 columns: options stay whole.
  static func wrappingUsage(_ text: String) -> String {
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    return lines.flatMap { line -> [String] in
      let isUsage = line.hasPrefix("USAGE: ") || line.hasPrefix("Usage: ")
      return isUsage && line.count > 80 ? usageLines(line) : [String(line)]
    }.joined(separator: "\n")
  }

  private static func usageLines(_ line: Substring) -> [String] {
    var units: [String] = []
    var depth = 0
    for word in line.split(separator: " ") {
      // What stands in brackets is one option with its value.
      if depth > 0 {
        units[units.count - 1] += " \(word)"
      } else {
        units.append(String(word))
      }
      depth += word.count { $0 == "[" } - word.count { $0 == "]" }
    }
    var lines: [String] = []
    var current = ""
    for unit in units {
      if !current.isEmpty, current.count + 1 + unit.count > 80 {
        lines.append(current)
        current = "        "
      }
      current += (current.isEmpty || current.last == " " ? "" : " ") + unit
    }
    return lines + [current]
  }
}

/// A line in lines of so many columns, broken at blanks, those behind the first further in.
func wrapped(_ line: String, to width: Int) -> [String] {
  let margin = String(line.prefix { $0 == " " })
  let lines = String(line.dropFirst(margin.count))
    .lines(of: width - margin.count, later: width - margin.count - 2)
  return lines.enumerated().map { margin + ($0.offset == 0 ? "" : "  ") + $0.element }
}

/// How a command prints its result.
package enum ReportFormat: String, ExpressibleByArgument, CaseIterable {
  case text, json
}
