import IOMMUFormats

/// Why tables are not what a test expects: what is thrown by what requires it.
///
/// Swift Testing and XCTest both print it when a test throws it.
public struct TableMismatch: Error, Sendable, Equatable, CustomStringConvertible {
  /// What differs first, in one line.
  public let summary: String
  /// The entry at which it begins to differ; `nil` where no entry does, as with a device that has no
  /// table.
  public let entry: EntryMismatch?
  /// How many more there are of what the summary names.
  public let otherCount: Int

  public var description: String {
    var lines = [summary]
    if let entry { lines.append("\(entry)") }
    if otherCount > 0 { lines.append("and \(otherCount) more") }
    return lines.joined(separator: "\n")
  }
}
