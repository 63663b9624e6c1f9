import Foundation
import IOMMUTestSupport
import Testing

/// A page of documentation, as its fenced blocks.
struct Document: CustomTestStringConvertible {
  /// A fenced block.
  struct Block {
    /// What stands behind the first fence.
    var language: String
    /// A tutorial's file, where one stands behind the language.
    var file: String?
    var lines: [String]
    /// Of the first fence, from 1 on.
    var lineNumber: Int

    var text: String { lines.map { $0 + "\n" }.joined() }

    /// Commands of a console, each with what is shown below it.
    var commands: [(line: String, output: [String])] {
      lines.reduce(into: []) { commands, line in
        if line.hasPrefix("$ ") {
          commands.append((String(line.dropFirst(2)), []))
        } else if !commands.isEmpty {
          commands[commands.count - 1].output.append(line)
        }
      }
    }

    /// Swift that a snippet has; a manifest is none.
    var isCode: Bool { language == "swift" && file != "Package.swift" }

    var isConsole: Bool { language.isEmpty && lines.first?.hasPrefix("$ ") == true }
  }

  /// From the repository's top.
  let path: String
  let lines: [String]
  let blocks: [Block]

  init(_ path: String) {
    self.path = path
    lines = Repository.text(path).split(separator: "\n", omittingEmptySubsequences: false).map(
      String.init)
    var blocks: [Block] = []
    var open: Block?
    for (index, line) in lines.enumerated() {
      if line.hasPrefix("```") {
        if let block = open {
          blocks.append(block)
          open = nil
        } else {
          let words = line.dropFirst(3).split(separator: " ").map(String.init)
          open = Block(
            language: words.first ?? "", file: words.dropFirst().first, lines: [],
            lineNumber: index + 1)
        }
      } else {
        open?.lines.append(line)
      }
    }
    self.blocks = blocks
  }

  var testDescription: String { path }

  /// Every page that readers see.
  static let all: [Document] = {
    let docs = FileManager.default.subpaths(atPath: Repository.path + "/docs") ?? []
    return
      (["README.md", "CONTRIBUTING.md", "Examples/README.md", "findings/README.md"]
      + docs.filter { $0.hasSuffix(".md") }.map { "docs/" + $0 }.sorted()).map(Document.init)
  }()
}
