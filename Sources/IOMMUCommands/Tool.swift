import ArgumentParser
import Glibc
import IOMMUFormats
import IOMMUImages
import IOMMURule

/// The `iommu` command.
public struct Tool: ParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "iommu",
    abstract: "IOMMU tables to the bit: play crashes, read dumps, translate, decode.",
    discussion: """
      Without a subcommand, plays the Kdump IO Rule of September 2008 in its five cases.

      Exit status: 0 when all is well, 1 when something that was checked does not hold, \
      2 for input that cannot be read, 64 for a wrong command line.
      """,
    version: "0.1.0",
    subcommands: [
      Play.self, Build.self, Find.self, Walk.self, Maps.self, Who.self, Diff.self, Verify.self,
      Explain.self, Report.self, Translate.self, Hexdump.self, Decode.self, Image.self,
      Conform.self, Replay.self, Bench.self,
    ],
    defaultSubcommand: Play.self)

  public init() {}

  /// Runs the command line and exits.
  public static func run() -> Never {
    // A file that grows too large is an error to its writer, and nothing else.
    signal(SIGXFSZ, SIG_IGN)
    Leftovers.watchSignals()
    do {
      try refuseSigns(in: Array(CommandLine.arguments.dropFirst()))
      var command = try parseAsRoot()
      try command.run()
      StandardOutput.finish()
    } catch let error as InputError {
      StandardOutput.finish()
      complain(error.text)
      Glibc.exit(2)
    } catch {
      let code = exitCode(for: error)
      let text = fullMessage(for: error)
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
func complain(_ text: String) { say(text, prefix: "iommu: ") }

/// Lines on standard error.
private func say(_ text: String, prefix: String = "") {
  for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
    let line = Array("\(prefix)\(line.visible)\n".utf8)
    _ = line.withUnsafeBytes { Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
  }
}

/// How a command prints its result.
package enum ReportFormat: String, ExpressibleByArgument, CaseIterable {
  case text, json
}
