import IOMMUFormats

/// What a file of a dump lacks, because its writer's disk was full or because a copy ended early.
public struct Incompleteness: Sendable, Hashable {
  /// The file's path as it was given.
  public var path: String
  /// The writer has noted that its disk was full.
  public var isMarked: Bool
  /// Bytes in the file.
  public var endOfFile: UInt64
  /// Bytes of memory that the file should store and does not, as far as is known.
  public var missingByteCount: UInt64
  /// Bytes of memory that it should store, as far as is known.
  public var claimedByteCount: UInt64
  /// Bytes in a page, of a format that stores pages.
  public var pageByteCount: UInt64?
  /// The lowest physical address whose bytes are missing.
  public var firstMissing: PhysicalAddress?
  /// From this address on not even a list says what should be there: it is cut off itself.
  public var unknownFrom: PhysicalAddress?
  /// Program headers that are missing; each may have stood for any memory.
  public var missingHeaderCount: UInt64 = 0

  /// Why: `its disk was full`, or `cut off at byte 0x3000`.
  package var reason: String {
    isMarked ? "its disk was full" : "cut off at byte \(hexadecimal(endOfFile))"
  }

  /// What is missing, in a sentence without its end.
  package var extent: String {
    var parts: [String] = []
    if missingByteCount > 0 {
      let (missing, claimed, unit) =
        pageByteCount.map { (missingByteCount / $0, claimedByteCount / $0, "pages") }
        ?? (missingByteCount, claimedByteCount, "bytes")
      let start = firstMissing.map { ", from physical address \($0) on" } ?? ""
      parts.append("\(missing) of \(claimed) \(unit) of memory are missing\(start)")
    }
    if missingHeaderCount > 0 {
      parts.append(
        Self.missingHeaders(missingHeaderCount) + ", and what else was memory is not known")
    }
    if let unknownFrom {
      parts.append("what there should be from \(unknownFrom) on is not known")
    }
    return parts.isEmpty ? "what is missing is not known" : parts.joined(separator: "; ")
  }

  /// `3 program headers are missing`.
  static func missingHeaders(_ count: UInt64) -> String {
    "\(count) program \(count == 1 ? "header is" : "headers are") missing"
  }
}

extension Incompleteness: CustomStringConvertible {
  /// File, reason and extent in one line.
  public var description: String { "\(path): incomplete, \(reason): \(extent)" }
}
