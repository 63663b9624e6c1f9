import Foundation

/// The tool as it was built beside these tests, run as a process of its own.
public struct Command {
  public var output = ""
  public var errors = ""
  /// The exit status; `nil` where a signal ended it.
  public var status: Int32?

  /// Where the tool lies: beside the bundle of tests; `nil` when it was not built.
  public static let path: String? = {
    let directories = CommandLine.arguments.map { URL(fileURLWithPath: $0) }
      .filter { $0.path.contains(".xctest") }
      .map { $0.deletingLastPathComponent() }
    let places =
      directories + [Bundle.main.bundleURL, Bundle.main.bundleURL.deletingLastPathComponent()]
    return places.map { $0.appendingPathComponent("iommu").path }
      .first { FileManager.default.isExecutableFile(atPath: $0) }
  }()

  /// Runs the tool and waits for its end.
  ///
  /// - Parameters:
  ///   - input: What it reads from standard input.
  ///   - shell: A line of shell before the tool's start, such as `ulimit -f 16`.
  ///   - redirections: Where its input or output goes instead, such as `>/dev/full`.
  public static func run(
    _ arguments: [String], input: String = "", shell: String = ":", redirections: String = ""
  ) throws -> Command {
    let process = try started(
      arguments, input: input, shell: shell, redirections: redirections)
    process.process.waitUntilExit()
    return process.finish()
  }

  /// A process under way.
  public struct Started {
    public let process: Process
    fileprivate let scratch: TemporaryDirectory

    /// What the process has said, after its end.
    public func finish() -> Command {
      Command(
        output: String(decoding: scratch.contents("output"), as: UTF8.self),
        errors: String(decoding: scratch.contents("errors"), as: UTF8.self),
        status: process.terminationReason == .exit ? process.terminationStatus : nil)
    }
  }

  /// Starts the tool.
  public static func started(
    _ arguments: [String], input: String = "", shell: String = ":", redirections: String = ""
  ) throws -> Started {
    let scratch = TemporaryDirectory()
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments =
      [
        "-c",
        "\(shell); exec \"$0\" \"$@\" <\"\(scratch.path("input"))\" "
          + ">\"\(scratch.path("output"))\" 2>\"\(scratch.path("errors"))\" \(redirections)",
        path ?? "iommu",
      ] + arguments
    _ = scratch.file("input", Array(input.utf8))
    // Threads that run tests hold signals back, and so would the process.
    var (nothing, before) = (sigset_t(), sigset_t())
    sigemptyset(&nothing)
    pthread_sigmask(SIG_SETMASK, &nothing, &before)
    defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
    try process.run()
    return Started(process: process, scratch: scratch)
  }
}
