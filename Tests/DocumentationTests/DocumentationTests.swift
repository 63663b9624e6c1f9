import Foundation
import IOMMUImages
import IOMMUTestSupport
import Testing

/// Everything that the documentation shows is run, and prints what is shown.
///
/// What a fenced block is, its language says:
///
/// - none, and `$ ` in front of its first line: commands with all that they print. They run in the order of
///   the page, in one directory, with `Examples` in it. A line `…` stands for any number of lines.
/// - `swift`: code, compiled in `Snippets`. It prints what comments below a `print` or at its end show, or the
///   block that follows it: one without a language, or of a command `swift run`. The name of a file may stand
///   behind it: what is in `Package.swift` and so on, `.ci/tutorials` builds, and runs what begins with
///   `swift`.
/// - `sh`: commands without what they print. They are looked at, not run.
/// - `json`: what is read.
/// - `text`: nothing that runs.
@Suite struct DocumentationTests {
  @Test(arguments: Document.all)
  func `every command prints what is shown`(page: Document) throws {
    let console = try Console()
    let outputs = try Snippet.all.first { $0.page == page.path }?.outputs() ?? []
    var code: [String] = []
    var swiftCount = 0
    for block in page.blocks {
      let place = "\(page.path):\(block.lineNumber)"
      if block.isCode {
        code = swiftCount < outputs.count ? outputs[swiftCount] : []
        swiftCount += 1
        continue
      }
      if block.language.isEmpty, !block.isConsole {
        #expect(block.lines == code, "\(place): what the code above it prints")
        continue
      }
      guard block.isConsole else { continue }
      for (line, shown) in block.commands {
        let output =
          if line.hasPrefix("swift run ") {
            Array(outputs.joined())
          } else if line.hasPrefix("swift ") || Self.isRunElsewhere.contains(line) {
            shown
          } else {
            console.run(line)
          }
        let isShown = matches(output[...], shown[...])
        #expect(isShown, "\(place): '\(line)' prints\n\(output.joined(separator: "\n"))")
      }
    }
  }

  /// Commands whose output is compared by tests of their own, because there are times in it.
  static let isRunElsewhere: Set = ["make run"]

  @Test(arguments: Document.all)
  func `all code is compiled, and prints what is shown`(page: Document) throws {
    let blocks = page.blocks.indices.filter { page.blocks[$0].isCode }
    guard !blocks.isEmpty else { return }
    let snippet = try #require(
      Snippet.all.first { $0.page == page.path }, "\(page.path): code that nothing compiles")
    #expect(snippet.count == blocks.count)
    let outputs = try snippet.outputs()
    for (index, place) in blocks.enumerated() where index < snippet.count {
      let block = page.blocks[place]
      #expect(
        snippet.compiled(block: index) == Snippet.expected(block),
        "\(page.path):\(block.lineNumber)")
      let next = page.blocks.dropFirst(place + 1).first
      let isShownBelow =
        next.map { $0.language.isEmpty && (!$0.isConsole || $0.lines[0].hasPrefix("$ swift ")) }
        ?? false
      let shown = Snippet.shownOutput(block)
      // A file of declarations prints nothing.
      let isSilent = block.file.map { !$0.hasSuffix("/main.swift") } ?? false
      #expect(
        isSilent || isShownBelow || !shown.isEmpty,
        "\(page.path):\(block.lineNumber) shows no output")
      if !shown.isEmpty {
        let output = outputs[index]
        #expect(output == shown, "\(output.joined(separator: "\n"))")
      }
    }
  }

  @Test(arguments: Document.all)
  func `every block is of a kind that is looked at`(page: Document) throws {
    for block in page.blocks {
      let place = "\(page.path):\(block.lineNumber)"
      switch block.language {
      case "", "text": break
      case "swift":
        // A library of this package, by its name.
        for match in block.text.matches(of: #/\.product\(name: "(\w+)", package: "swift-iommu"\)/#)
        {
          let manifest = Repository.text("Package.swift")
          #expect(manifest.contains(".library(name: \"\(match.1)\""), "\(place): \(match.1)")
        }
      // Compiled or run by .ci/library, .ci/python and .ci/rust.
      case "c", "python", "rust": #expect(page.path == "docs/\(block.language).md", "\(place)")
      case "sh":
        #expect(try Console().isShell(block.text), "\(place)")
        Self.expectTargets(in: block.lines, place)
      case "json":
        let directory = TemporaryDirectory()
        let path = directory.file("machine.json", block.text)
        try withExtendedLifetime(directory) { _ = try MachineFile(path: path) }
      default: Issue.record("\(place): a block of '\(block.language)', which nothing runs")
      }
      #expect(!block.lines.isEmpty, "\(place)")
    }
    #expect(page.lines.allSatisfy { !$0.contains("```") || $0.hasPrefix("```") })
    // Commands that are indented rather than fenced.
    Self.expectTargets(in: page.lines.filter { $0.hasPrefix("    make ") }, page.path)
  }

  /// What `make` is asked for is in the Makefile.
  private static func expectTargets(in commands: [String], _ place: String) {
    let makefile = lines(Repository.text("Makefile"))
    for line in commands {
      let words = line.split(separator: " ")
      guard words.count > 1, words[0] == "make" else { continue }
      #expect(makefile.contains { $0.hasPrefix("\(words[1]):") }, "\(place): \(line)")
    }
  }

  @Test(arguments: Document.all)
  func `every link leads to a file`(page: Document) throws {
    let folder = page.path.split(separator: "/").dropLast().joined(separator: "/")
    let code = page.blocks.map(\.text).joined()
    let prose = page.lines.filter { !code.contains($0 + "\n") }
    for match in prose.joined(separator: "\n").matches(of: #/\]\(([^)# ]+)[^)]*\)/#) {
      let target = String(match.1)
      guard !target.contains("://") else { continue }
      let path = "\(Repository.path)/\(folder.isEmpty ? "" : folder + "/")\(target)"
      #expect(FileManager.default.fileExists(atPath: path), "\(page.path): \(target)")
    }
  }

  @Test func `the pages that are looked at are all there are`() {
    #expect(Document.all.count >= 45)
    for snippet in Snippet.all {
      #expect(Document.all.contains { $0.path == snippet.page }, "\(snippet.page)")
    }
  }

  /// The test itself: a page that is wrong is found.
  @Test func `output that differs from what is shown is no match`() {
    #expect(matches(["a", "b", "c"], ["a", "…", "c"]))
    #expect(matches(["a", "b", "c"], ["a", "b", "c"]))
    #expect(matches(["a", "b"], ["a", "…"]))
    #expect(!matches(["a", "b", "c"], ["a", "…", "d"]))
    #expect(!matches(["a", "b"], ["a"]))
    #expect(!matches(["a"], ["a", "b"]))
  }
}
