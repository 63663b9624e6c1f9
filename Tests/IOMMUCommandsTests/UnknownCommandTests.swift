import ArgumentParser
import Glibc
import IOMMUTestSupport
import Testing

@testable import IOMMUCommands

/// Words that stand where a command has to.
@Suite struct UnknownCommandTests {
  @Test(arguments: [
    ("fnd dump", "'fnd' is no command of 'iommu'; did you mean 'find'?"),
    ("help fnd", "'fnd' is no command of 'iommu'; did you mean 'find'?"),
    ("wlak IMAGE 00:03.0 1000", "'wlak' is no command of 'iommu'; did you mean 'walk'?"),
    ("map IMAGE", "did you mean 'maps'?"),
    ("Verify IMAGE", "did you mean 'verify'?"),
    ("trans", "did you mean 'translate'?"),
    ("image inf x", "'inf' is no command of 'iommu image'; did you mean 'info'?"),
    ("conform vdt", "'vdt' is no command of 'iommu conform'; did you mean 'vtd'?"),
    ("image x", "'x' is no command of 'iommu image'; there are info, convert"),
    ("vtop 1000", "'vtop' is no command of 'iommu'; there are play, crash, build, find, walk,"),
    ("IMAGE 00:03.0", "but a file: a command comes first, such as 'iommu find /"),
  ])
  func `a command that there is not is refused with one that there is`(
    line: String, text: String
  ) throws {
    let words = line.split(separator: " ")
      .map { $0 == "IMAGE" ? Examples.path("vtd-crash", "image.elf") : String($0) }
    let error = #expect(throws: ValidationError.self) {
      try Tool.refuseUnknownCommands(in: words)
    }
    #expect(try #require(error).message.contains(text), "\(error?.message ?? "")")
  }

  @Test(arguments: [
    "", "--help", "--mode vtd", "find x", "help", "help find", "help find x", "image",
    "image --help",
    "image info x", "help image info", "conform vtd", "--version", "-h",
  ])
  func `what is a command line passes`(line: String) throws {
    try Tool.refuseUnknownCommands(in: line.split(separator: " ").map(String.init))
  }

  @Test(.enabled(if: Command.path != nil))
  func `the tool itself refuses with status 64`() throws {
    let command = try Command.run(["fnd", "dump"])
    #expect(command.status == 64)
    #expect(
      command.errors.hasPrefix("Error: 'fnd' is no command of 'iommu'; did you mean 'find'?\n"))
    #expect(command.output.isEmpty)
  }

  // MARK: Where text goes

  @Test(
    .enabled(if: Command.path != nil),
    arguments: [["--help"], ["help", "find"], ["--version"], []])
  func `a full disk is no success`(arguments: [String]) throws {
    let command = try Command.run(arguments, redirections: ">/dev/full")
    #expect(command.status == 2)
    #expect(command.errors == "iommu: standard output: No space left on device\n")
  }

  @Test(.enabled(if: Command.path != nil))
  func `a dump is never taken for standard input, output or errors`() throws {
    let image = Examples.path("vtd-crash", "image.elf")
    let source = ["--machine", Examples.path("vtd-crash", "machine.json")]
    let closed = try Command.run(
      ["translate", image] + source, redirections: "<&-")
    #expect(closed.status == 2)
    #expect(closed.errors == "iommu: standard input: Bad file descriptor\n")
    let mute = try Command.run(["find", image], redirections: ">&-")
    #expect(mute.status == 2)
    #expect(mute.errors == "iommu: standard output: Bad file descriptor\n")
    // Warnings that nobody hears change nothing.
    let deaf = try Command.run(["maps", image, "--format", "summary"], redirections: "2>&-")
    #expect(deaf.status == 0)
  }

  @Test(.enabled(if: Command.path != nil))
  func `a terminal is told what is waited for, in lines that fit`() throws {
    let terminal = open("/dev/ptmx", O_RDWR | O_NOCTTY)
    try #require(terminal >= 0)
    defer { close(terminal) }
    // TIOCSPTLCK and TIOCGPTN, which Glibc's module lacks: unlocks the other end, and says its number.
    var (isLocked, number) = (Int32(0), UInt32(0))
    try #require(ioctl(terminal, 0x4004_5431, &isLocked) == 0)
    try #require(ioctl(terminal, 0x8004_5430, &number) == 0)
    let name = "/dev/pts/\(number)"
    // A terminal is one as long as somebody has it open.
    let other = open(name, O_RDWR | O_NOCTTY)
    defer { close(other) }
    var size = winsize(ws_row: 24, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0)
    #expect(ioctl(terminal, UInt(TIOCSWINSZ), &size) == 0)
    // What is typed is the end of all input.
    #expect(write(terminal, "\u{4}", 1) == 1)
    let command = try Command.run(
      ["translate", Examples.path("vtd-crash", "image.elf")], redirections: "<\(name) 2>\(name)")
    #expect(command.status == 0)
    // The kernel passes on what was written a piece at a time, and not at once.
    var said = ""
    var wait = pollfd(fd: terminal, events: Int16(POLLIN), revents: 0)
    while !said.hasSuffix("ends it\r\n"), poll(&wait, 1, 5_000) == 1 {
      var bytes = [UInt8](repeating: 0, count: 4096)
      let count = read(terminal, &bytes, bytes.count)
      guard count > 0 else { break }
      said += String(decoding: bytes.prefix(count), as: UTF8.self)
    }
    #expect(
      said.contains(
        "iommu: warning: no machine file: taking the VT-d root table\r\n  at 0x6a04000, score 100\r\n"
      ),
      "\(said)")
    #expect(
      said.contains(
        "iommu: reading requests, such as '00:1f.2 fffff000 r', from\r\n  the terminal;"),
      "\(said)")
  }

  @Test func `long lines break at blanks on a terminal`() {
    #expect(wrapped("iommu: one two three", to: 12) == ["iommu: one", "  two three"])
    #expect(
      wrapped("  See 'iommu --help' for more", to: 20) == ["  See 'iommu --help'", "    for more"])
    #expect(wrapped("", to: 80) == [""])
    #expect(wrapped("a/path/that/has/no/blank x", to: 10) == ["a/path/that/has/no/blank", "  x"])
  }
}
