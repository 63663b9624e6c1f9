import ArgumentParser
import Foundation
import IOMMUTestSupport
import Testing

@testable import IOMMUCommands

/// What shells offer behind TAB: their own scripts, driven by the shells themselves.
@Suite struct CompletionTests {
  /// A line with its last word unfinished, and words that are offered.
  static let offers: [(line: String, words: [String])] = [
    ("iommu wa", ["walk"]),
    ("iommu image co", ["convert"]),
    ("iommu walk Exam", ["Examples"]),
    ("iommu find Examples/vtd", ["Examples/vtd-cases", "Examples/vtd-crash"]),
    (
      "iommu walk x 00:03.0 1000 --machine Examples/vtd-crash/ma",
      ["Examples/vtd-crash/machine.json"]
    ),
    ("iommu maps x --part Exam", ["Examples"]),
    ("iommu report x --output Exam", ["Examples"]),
    ("iommu diff x Exam", ["Examples"]),
    ("iommu diff x x --machine-after Exam", ["Examples"]),
    ("iommu explain Examples/logs/dm", ["Examples/logs/dmar.bin", "Examples/logs/dmesg.txt"]),
    ("iommu explain --iomem Examples/logs/io", ["Examples/logs/iomem.txt"]),
    ("iommu image info Exam", ["Examples"]),
    ("iommu conform gart Examples/g", ["Examples/gart", "Examples/gart-trace"]),
    ("iommu corpus --kind amdvi-n", ["amdvi-nested"]),
    ("iommu corpus --check x Exam", ["Examples"]),
    ("iommu replay Examples/dma-trace/q", ["Examples/dma-trace/qemu.log"]),
    ("iommu decode ss-p", ["ss-pte"]),
    ("iommu decode dma", ["dmar"]),
    ("iommu decode dmar Examples/logs/dmar", ["Examples/logs/dmar.bin"]),
    ("iommu play --mode g", ["gart"]),
    ("iommu maps x --format summary-", ["summary-json"]),
    ("iommu image convert x --to fl", ["flattened"]),
    ("iommu build --output Exam", ["Examples"]),
    ("iommu verify x --crash", ["--crash-kernel"]),
  ]

  static func hasShell(_ name: String) -> Bool {
    ["/bin", "/usr/bin", "/usr/local/bin"].contains {
      FileManager.default.isExecutableFile(atPath: "\($0)/\(name)")
    }
  }

  /// What a shell prints for a script, in the repository's directory.
  private func run(_ shell: String, _ script: String) throws -> [String] {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [shell] + (shell == "bash" ? ["--norc", "-c"] : ["-c"]) + [script]
    process.currentDirectoryURL = URL(fileURLWithPath: Repository.path)
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = FileHandle.nullDevice
    try process.run()
    let bytes = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
  }

  @Test(.enabled(if: hasShell("bash")), arguments: offers)
  func `bash offers files, kinds and values`(line: String, words: [String]) throws {
    let directory = TemporaryDirectory()
    let script = directory.file("iommu.bash", Tool.completionScript(for: .bash))
    let parts = line.split(separator: " ").map(String.init)
    let quoted = parts.map { "'\($0)'" }.joined(separator: " ")
    let offered = try run(
      "bash",
      """
      source '\(script)'
      COMP_LINE='\(line)'; COMP_POINT=${#COMP_LINE}
      COMP_WORDS=(\(quoted)); COMP_CWORD=\(parts.count - 1)
      _iommu iommu '\(parts[parts.count - 1])' '\(parts[parts.count - 2])'
      printf '%s\\n' "${COMPREPLY[@]}"
      """)
    for word in words { #expect(offered.contains(word), "\(line): \(offered)") }
    #expect(offered.count <= words.count + 4, "\(line): \(offered)")
  }

  @Test(.enabled(if: hasShell("fish")), arguments: offers)
  func `fish offers files, kinds and values`(line: String, words: [String]) throws {
    let directory = TemporaryDirectory()
    let script = directory.file("iommu.fish", Tool.completionScript(for: .fish))
    let offered = try run("fish", "source '\(script)'; complete -C '\(line)'")
      .map { String($0.split(separator: "\t").first ?? "") }
      // A directory is offered with its slash.
      .map { $0.hasSuffix("/") ? String($0.dropLast()) : $0 }
    for word in words { #expect(offered.contains(word), "\(line): \(offered)") }
  }

  @Test func `zsh is told which arguments are files`() {
    let script = Tool.completionScript(for: .zsh)
    for part in [
      "':image:_files'", "--machine[", ":machine:_files'", "--part[", "':before:_files'",
      "':after:_files'", "'*:directories:_files -/'", "local -ar _kind=('tce' ",
    ] {
      #expect(script.contains(part), "\(part)")
    }
  }
}
