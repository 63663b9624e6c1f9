import IOMMUTestSupport
import Synchronization

/// The code of a page as it is compiled here: what stands in a source of this folder between
/// `// docs/page.md 1` and `// end`, line by line, with `tell` in place of `print`.
struct Snippet: Sendable {
  /// What prints.
  typealias Tell = (Any) -> Void

  let page: String
  /// The source, in this folder.
  let source: String
  /// The page's blocks of Swift, but for manifests.
  let count: Int
  /// Runs all of them in their order; the second argument is called when one is done.
  private let run: @Sendable (Tell, () -> Void) throws -> Void

  static let all: [Snippet] = [
    readme, builders, testing, vtdUnit, amdviUnit, gart, benchmark, unitTest, vmm,
  ]

  /// Blocks that have nothing in common.
  init(page: String, source: String, blocks: [@Sendable (Tell) throws -> Void]) {
    self.init(page: page, source: source, count: blocks.count) { tell, next in
      for block in blocks {
        try block(tell)
        next()
      }
    }
  }

  /// Blocks that go on with what those before them have declared.
  init(
    page: String, source: String, count: Int,
    run: @escaping @Sendable (Tell, () -> Void) throws -> Void
  ) {
    self.page = page
    self.source = source
    self.count = count
    self.run = run
  }

  /// What each block prints, by lines; run once.
  func outputs() throws -> [[String]] {
    if let known = Self.known.withLock({ $0[page] }) { return known }
    var told: [[String]] = [[]]
    try run({ told[told.count - 1] += lines("\($0)") }, { told.append([]) })
    let outputs = told
    Self.known.withLock { $0[page] = outputs }
    return outputs
  }

  private static let known = Mutex<[String: [[String]]]>([:])

  /// The lines of a block as they are compiled; `nil` when there are no marks for it.
  func compiled(block index: Int) -> [String]? {
    let all = lines(Repository.text("Tests/DocumentationTests/Snippets/\(source).swift"))
      .map(trimmed)
    guard let first = all.firstIndex(of: "// \(page) \(index + 1)") else { return nil }
    return Array(all[(first + 1)...].prefix { $0 != "// end" }.filter { !$0.isEmpty })
  }

  /// The lines of a page's block as they have to be compiled.
  static func expected(_ block: Document.Block) -> [String] {
    block.lines.map { trimmed($0).replacing("print(", with: "tell(") }
      .filter { !$0.isEmpty && !$0.hasPrefix("import ") && !$0.hasPrefix("@testable import ") }
  }

  /// What the block itself says that it prints: comments below a `print`, or at its end.
  static func shownOutput(_ block: Document.Block) -> [String] {
    var shown: [String] = []
    var isOutput = false
    let lastCode = block.lines.lastIndex { !$0.isEmpty && !trimmed($0).hasPrefix("//") } ?? 0
    for (index, line) in block.lines.enumerated() {
      let line = trimmed(line)
      if line.hasPrefix("// ") && (isOutput || index > lastCode) {
        shown.append(String(line.dropFirst(3)))
      } else {
        isOutput = line.hasPrefix("print(")
      }
    }
    return shown
  }
}

private func trimmed(_ line: String) -> String {
  let start = line.prefix { $0 == " " }
  return String(line.dropFirst(start.count))
}
