import Foundation
import IOMMUTestSupport

/// Puts what commands print into a page.
enum Recorder {
  static var isOn: Bool { ProcessInfo.processInfo.environment["IOMMU_RECORD"] != nil }

  /// Runs the commands of a page and writes it with what they print; blocks with `…` stay as they are.
  static func record(_ page: Document) throws {
    let console = try Console()
    var written: [String] = []
    var next = 0
    for block in page.blocks {
      written += page.lines[next..<block.lineNumber]
      next = block.lineNumber + block.lines.count
      let isLeft = { (line: String) in
        line.hasPrefix("swift ") || DocumentationTests.isRunElsewhere.contains(line)
      }
      guard block.isConsole else {
        written += block.lines
        continue
      }
      for (line, shown) in block.commands {
        let output = isLeft(line) ? shown : console.run(line)
        written.append("$ " + line)
        written += shown.contains("…") ? shown : output
      }
    }
    written += page.lines[next...]
    let text = written.joined(separator: "\n")
    try text.write(
      toFile: "\(Repository.path)/\(page.path)", atomically: true, encoding: .utf8)
  }
}
