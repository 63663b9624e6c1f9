import Glibc
import IOMMUFormats
import IOMMUInspection

extension TranslatingTables {
  /// All tables as a hexdump, with every entry that is not zero in words below its bytes: what a test
  /// keeps beside itself, and a reader of the test can check against the manual.
  ///
  /// - Complexity: O(bytes of all tables in force).
  public func annotatedHexdump() -> String {
    var text = ""
    for range in tableRanges { annotator.writeHexdump(range, of: memory, to: &text) }
    return text
  }
}

/// Requires that tables are those of a text that ``TranslatingTables/annotatedHexdump()`` gave once.
///
/// - Parameters:
///   - actual: What a test looks at.
///   - golden: The text.
/// - Throws: `TableMismatch` that names the first line that differs.
public func requireSameHexdump(
  _ actual: some TranslatingTables, _ golden: String
) throws(TableMismatch) {
  func lines(_ text: String) -> [Substring] {
    var lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    while lines.last?.isEmpty == true { lines.removeLast() }
    return lines
  }
  let (mine, theirs) = (lines(actual.annotatedHexdump()), lines(golden))
  let count = max(mine.count, theirs.count)
  func line(_ index: Int, of lines: [Substring]) -> Substring? {
    index < lines.count ? lines[index] : nil
  }
  let different = (0..<count).filter { line($0, of: mine) != line($0, of: theirs) }
  guard let first = different.first else { return }
  let (one, other) = (line(first, of: mine), line(first, of: theirs))
  throw TableMismatch(
    summary:
      "line \(first + 1) of the tables' hexdump is \(one.map { "'\($0)'" } ?? "missing"), "
      + "expected \(other.map { "'\($0)'" } ?? "none")",
    entry: nil, otherCount: different.count - 1)
}
