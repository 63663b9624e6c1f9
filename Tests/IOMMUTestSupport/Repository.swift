import Glibc

/// The checkout that the tests were built from.
public enum Repository {
  /// Three components above this file.
  public static let path: String = {
    var parts = #filePath.split(separator: "/", omittingEmptySubsequences: false)
    parts.removeLast(3)
    return parts.joined(separator: "/")
  }()

  /// A file's bytes, not read with the code under test; none when it cannot be opened.
  public static func bytes(_ file: String) -> [UInt8] { bytes(ofFile: "\(path)/\(file)") ?? [] }

  public static func text(_ file: String) -> String { String(decoding: bytes(file), as: UTF8.self) }

  /// The bytes of a file that is named by its path; `nil` when it cannot be opened.
  public static func bytes(ofFile path: String) -> [UInt8]? {
    guard let stream = fopen(path, "r") else { return nil }
    defer { fclose(stream) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65_536)
    while case let count = fread(&chunk, 1, chunk.count, stream), count > 0 {
      bytes += chunk[..<count]
    }
    return bytes
  }
}
