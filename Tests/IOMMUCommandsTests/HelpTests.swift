import ArgumentParser
import Glibc
import IOMMUImages
import IOMMUTestSupport
import Testing

@testable import IOMMUCommands

@Suite struct HelpTests {
  /// All but `conform`, whose examples need recordings that are not kept here.
  static let names = Tool.configuration.subcommands.map { $0._commandName }
    .filter { $0 != "conform" }

  static func help(_ name: String, columns: Int) -> String {
    let command = Tool.configuration.subcommands.first { $0._commandName == name }!
    return Tool.wrappingUsage(Tool.helpMessage(for: command, columns: columns))
  }

  /// The `iommu` that was built with these tests: it lies beside them.
  static let toolDirectory: String = {
    let arguments = CommandLine.arguments
    var path = arguments.first ?? ""
    if let index = arguments.firstIndex(of: "--test-bundle-path"), index + 1 < arguments.count {
      path = arguments[index + 1]
    }
    let directory = path.split(separator: "/", omittingEmptySubsequences: false).dropLast()
    let candidate = directory.joined(separator: "/")
    return access(candidate + "/iommu", X_OK) == 0 ? candidate : Repository.path + "/.build/debug"
  }()

  /// Runs a line in a shell, in a directory of its own with the examples in it.
  static func run(_ line: String) -> (status: Int32, output: String) {
    let directory = TemporaryDirectory()
    symlink(Repository.path + "/Examples", directory.path + "/Examples")
    let script = "cd \(directory.path) && PATH=\(toolDirectory):$PATH && \(line)"
    guard let pipe = popen("exec 2>&1; " + script, "r") else { return (-1, "no shell") }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = fread(&chunk, 1, chunk.count, pipe)
      guard count > 0 else { break }
      bytes += chunk[..<count]
    }
    let status = pclose(pipe)
    _ = system("rm -rf \(directory.path)/*")
    return (status >> 8 & 0xff, String(decoding: bytes, as: UTF8.self))
  }

  @Test(arguments: names)
  func `the example at the end of every help runs`(name: String) throws {
    let text = Self.help(name, columns: 10_000)
    let line = try #require(text.split(separator: "\n").first { $0.contains("Example: ") })
    var example = String(line.trimmingPrefix { $0 == " " }.dropFirst("Example: ".count))
    // Measures as little as can be: the example's own minute is one of a release build.
    if name == "bench" { example += " --rounds 1 --span 1G --threads 1" }
    let (status, output) = Self.run(example)
    // 1 is an answer: a fault, a difference, a rule that does not hold.
    #expect(status == 0 || status == 1, "\(example): \(output.suffix(500))")
    #expect(!output.contains("iommu: error"))
  }

  /// Set IOMMU_RECORD=1 to write the screens anew, and look at what changed.
  @Test(arguments: names)
  func `the help screens are those that people have seen`(name: String) throws {
    let text = Self.help(name, columns: 80)
    let path = "\(Repository.path)/Tests/Goldens/help/\(name).txt"
    if getenv("IOMMU_RECORD") != nil {
      let file = try OutputFile(path: path)
      try file.write(Array((text + "\n").utf8))
      try file.commit()
    }
    let golden = try Examples.text(path)
    #expect(text + "\n" == golden, "IOMMU_RECORD=1 writes \(path) anew")
  }

  /// A word may be longer, as the examples' lines are, which are pasted into a shell.
  @Test func `every help fits on a screen of 80 columns`() {
    func check(_ command: any ParsableCommand.Type) {
      let text = Tool.wrappingUsage(Tool.helpMessage(for: command, columns: 80))
      for line in text.split(separator: "\n") {
        #expect(line.count <= 80 || !line.dropFirst(4).contains(" "), "\(command): \(line)")
      }
      for subcommand in command.configuration.subcommands { check(subcommand) }
    }
    check(Tool.self)
  }

  @Test(arguments: ["bash", "zsh", "fish"])
  func `every shell gets completions that know the commands`(shell: String) throws {
    let script = Tool.completionScript(for: CompletionShell(rawValue: shell)!)
    for name in Self.names { #expect(script.contains(name)) }
  }
}
