import ArgumentParser
import Testing

@testable import IOMMUCommands

/// A line that begins with a command's name is read by that command alone, and says the same.
@Suite struct CommandLineTests {
  private static let image = Examples.path("vtd-crash", "image.elf")

  static let lines = [
    "", "play --all", "--levels 4", "decode tce 0", "decode", "decode tce 0 --format json",
    "decode --format=json -- tce 0", "find \(image) --all", "image convert \(image) --to elf -o x",
    "image convert", "image", "walk \(image) 00:02.0 1000 --root vtd:6a04000", "walk",
    "walk --help",
    "image --help", "help image", "image help", "image help convert", "--help", "help", "--version",
    "decode --version", "decode -h", "decode tce 0 --levels 3", "vmcore", "dmesg", "find",
    "--generate-completion-script bash", "decode --generate-completion-script zsh",
    "decode --help-hidden", "decode --experimental-dump-help",
  ]

  /// What a line says, in full.
  private func outcome(_ parse: () throws -> any ParsableCommand) -> String {
    do {
      let command = try parse()
      return "\(type(of: command)): \(command)"
    } catch {
      return "\(Tool.exitCode(for: error)): \(Tool.fullMessage(for: error))"
    }
  }

  @Test(arguments: lines)
  func `a line says what it says to the parser of all commands`(line: String) {
    let words = line.split(separator: " ").map(String.init)
    #expect(outcome { try Tool.parsed(words) } == outcome { try Tool.parseAsRoot(words) })
  }
}
