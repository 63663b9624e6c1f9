import Foundation
import Glibc
import IOMMUTestSupport

/// A directory with the examples in it, in which the commands of one page run one after the other.
final class Console {
  let path = TemporaryDirectory().path

  init() throws {
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    try FileManager.default.createSymbolicLink(
      atPath: path + "/Examples", withDestinationPath: Repository.path + "/Examples")
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// The lines that a command prints, errors among them.
  func run(_ line: String) -> [String] {
    let tool = Command.path.map { $0.split(separator: "/").dropLast().joined(separator: "/") }
    let script = "exec 2>&1 </dev/null; cd \(path) && PATH=/\(tool ?? ""):$PATH\n\(line)"
    // Threads that run tests hold signals back, and so would the shell, which then waits forever for what it
    // has started.
    var (nothing, before) = (sigset_t(), sigset_t())
    sigemptyset(&nothing)
    pthread_sigmask(SIG_SETMASK, &nothing, &before)
    let stream = popen(script, "r")
    pthread_sigmask(SIG_SETMASK, &before, nil)
    guard let pipe = stream else { return ["no shell"] }
    defer { pclose(pipe) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65_536)
    while case let count = fread(&chunk, 1, chunk.count, pipe), count > 0 {
      bytes += chunk[..<count]
    }
    return lines(String(decoding: bytes, as: UTF8.self))
  }

  /// Whether a text is one that `sh` understands; runs nothing.
  func isShell(_ text: String) -> Bool {
    let file = "\(path)/script"
    return (try? text.write(toFile: file, atomically: true, encoding: .utf8)) != nil
      && run("sh -n script").isEmpty
  }
}

/// A text's lines, without an empty one after the last newline.
func lines(_ text: String) -> [String] {
  var lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
  if lines.last == "" { lines.removeLast() }
  return lines
}

/// Whether output is what a page shows; a line `…` stands for any number of lines, `…` in a line for any
/// text.
func matches(_ output: ArraySlice<String>, _ shown: ArraySlice<String>) -> Bool {
  guard let gap = shown.firstIndex(of: "…") else {
    return output.count == shown.count && zip(output, shown).allSatisfy(isLine)
  }
  let (head, tail) = (shown[..<gap], shown[(gap + 1)...])
  guard output.count >= head.count, zip(output, head).allSatisfy(isLine) else { return false }
  let rest = output.dropFirst(head.count)
  return (0...rest.count).contains { matches(rest.dropFirst($0), tail) }
}

private func isLine(_ line: String, _ shown: String) -> Bool {
  let parts = shown.split(separator: "…", omittingEmptySubsequences: false)
  guard parts.count > 1 else { return line == shown }
  guard line.hasPrefix(parts[0]) else { return false }
  var rest = line.dropFirst(parts[0].count)
  for part in parts.dropFirst().dropLast() where !part.isEmpty {
    guard let found = rest.firstRange(of: part) else { return false }
    rest = rest[found.upperBound...]
  }
  return rest.hasSuffix(parts.last!)
}
