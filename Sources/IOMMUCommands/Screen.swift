import ArgumentParser
import Glibc
import IOMMUInspection

/// When to use colours.
package enum ColorChoice: String, ExpressibleByArgument, CaseIterable { case auto, always, never }

/// What commands that print to a screen have in common.
package struct ScreenOptions: ParsableArguments {
  @Option(help: "Colours: auto (on a terminal, unless NO_COLOR is set), always or never.")
  package var color = ColorChoice.auto

  @Flag(inversion: .prefixedNo, help: "Show long output a page at a time, on a terminal.")
  package var pager = true

  package init() {}

  /// The colours for standard output.
  package var ink: Ink {
    switch color {
    case .always: Ink(isOn: true)
    case .never: .none
    case .auto: Ink(isOn: StandardOutput.isTerminal && environment("NO_COLOR") == nil)
    }
  }

  /// Standard output, through a pager when that is wanted and of use.
  ///
  /// Asks for the colours first: they depend on the terminal, which a pager hides.
  package func open() -> (out: StandardOutput, ink: Ink) {
    let ink = ink
    StandardOutput.showsColors = ink.isOn
    if pager { Pager.start() }
    return (StandardOutput(), ink)
  }
}

/// A variable of the environment; `nil` when it is not set or empty.
func environment(_ name: String) -> String? {
  guard let value = getenv(name), value.pointee != 0 else { return nil }
  return String(cString: value)
}

extension StandardOutput {
  /// Somebody watches.
  package static var isTerminal: Bool { isatty(STDOUT_FILENO) == 1 }
}

/// The pager that standard output goes through.
enum Pager {
  /// Commands run on the main thread only.
  nonisolated(unsafe) private static var process: pid_t = 0

  /// Starts a pager, unless standard output is no terminal or the user wants none.
  ///
  /// IOMMU_PAGER comes before PAGER; `cat` or an empty one means none. Without either it is `less`,
  /// which ends by itself when all fits on the screen.
  static func start() {
    guard StandardOutput.isTerminal, process == 0, let command = command() else { return }
    var ends: [Int32] = [0, 0]
    guard pipe(&ends) == 0 else { return }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, ends[0], STDIN_FILENO)
    posix_spawn_file_actions_addclose(&actions, ends[0])
    posix_spawn_file_actions_addclose(&actions, ends[1])
    // F: no pager for a screenful; R: colours pass; X: the text stays.
    setenv("LESS", "FRX", 0)
    let words: [String] = ["/bin/sh", "-c", command]
    let arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
    defer { for argument in arguments { free(argument) } }
    var child: pid_t = 0
    let failed = posix_spawn(&child, "/bin/sh", &actions, nil, arguments, environ) != 0
    close(ends[0])
    guard !failed else {
      close(ends[1])
      return
    }
    process = child
    // A user who has seen enough closes the pager: writes fail then, and nobody is killed for it.
    signal(SIGPIPE, SIG_IGN)
    dup2(ends[1], STDOUT_FILENO)
    close(ends[1])
  }

  /// Waits until the user has closed the pager.
  static func finish() {
    guard process != 0 else { return }
    close(STDOUT_FILENO)
    var status: Int32 = 0
    while waitpid(process, &status, 0) < 0, errno == EINTR {}
    process = 0
  }

  /// Nobody reads any more: no error, but nothing to do either.
  static var isClosed: Bool { process != 0 && errno == EPIPE }

  private static func command() -> String? {
    guard let chosen = getenv("IOMMU_PAGER") ?? getenv("PAGER") else { return "less" }
    let text = String(cString: chosen)
    return text.isEmpty || text == "cat" ? nil : text
  }
}
