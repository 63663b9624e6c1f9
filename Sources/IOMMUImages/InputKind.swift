import Glibc
import IOMMUFormats

/// What a path leads to, by a look at its first bytes.
package enum InputKind: Equatable {
  /// A text.
  case text
  /// A file with the mark of a container of memory.
  case dump
  /// A file of other bytes, or none that can be looked at.
  case bytes
  /// A pipe or another thing that is read once, from its start to its end.
  case stream

  /// Bytes that are looked at.
  static let headByteCount = 4096

  package init(path: String) {
    guard let status = fileStatus(at: path) else {
      self = .bytes
      return
    }
    switch status.st_mode & S_IFMT {
    case S_IFIFO, S_IFSOCK: self = .stream
    case S_IFREG: self = Self.kind(ofFile: path)
    default: self = .bytes
    }
  }

  private static func kind(ofFile path: String) -> InputKind {
    guard let file = try? InputFile(path: path) else { return .bytes }
    var head: [UInt8] = []
    // A file that cannot be read is told of by whoever reads it whole.
    guard (try? file.append(atMost: headByteCount, at: 0, to: &head)) != nil else {
      return .bytes
    }
    let marks = DumpPaths.marks + [FlattenedStream.magic]
    if marks.contains(where: { head.starts(with: $0) }) { return .dump }
    return isText(head) ? .text : .bytes
  }

  /// Whether the beginning of a file is letters. Terminals' colours and a bad byte here and there are
  /// no reason to call a log none.
  static func isText(_ head: [UInt8]) -> Bool {
    let controls = head.count { $0 < 0x20 && !(9...13 ~= $0) && $0 != 0x1b || $0 == 0x7f }
    return controls * 50 <= head.count
  }
}
