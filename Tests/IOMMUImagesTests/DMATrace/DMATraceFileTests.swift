import Glibc
import IOMMUImages
import Testing

@Suite struct DMATraceFileTests {
  /// Calls `body` with the path of a file with this text.
  static func withFile(_ text: String, _ body: (String) throws -> Void) throws {
    let directory = TemporaryDirectory()
    try body(directory.file("trace", text))
  }

  static func lines(
    _ path: String, _ shard: DMATraceFile.Shard, warmUp: Int = 0
  ) throws -> (warm: [String], own: [String]) {
    var result: (warm: [String], own: [String]) = ([], [])
    try DMATraceFile(path: path).forEachLine(of: shard, warmUpByteCount: warmUp) {
      bytes, _, isWarmUp in
      let text = String(decoding: bytes, as: UTF8.self)
      if isWarmUp { result.warm.append(text) } else { result.own.append(text) }
    }
    return result
  }

  @Test(arguments: ["\n", ""])
  func `shards have every line once, in order, however they are cut`(end: String) throws {
    let all = (0..<200).map { String(repeating: "x", count: $0 * 7 % 31) + "\($0)" }
    try Self.withFile(all.joined(separator: "\n") + end) { path in
      for count in [1, 2, 3, 7, 64, 1000] {
        let lines = try (1...count).flatMap { index in
          try Self.lines(path, DMATraceFile.Shard(index: index, count: count)).own
        }
        #expect(lines == all, "\(count) shards")
      }
    }
  }

  @Test func `a warm-up is the lines before the shard`() throws {
    let all = (100..<200).map { "line \($0)" }
    try Self.withFile(all.joined(separator: "\n") + "\n") { path in
      // Nine bytes a line: the second half begins with line 150, 27 bytes are three lines.
      let half = try Self.lines(path, DMATraceFile.Shard(index: 2, count: 2), warmUp: 27)
      #expect(half.warm == ["line 147", "line 148", "line 149"])
      #expect(half.own == Array(all[50...]))
      let most = try Self.lines(path, DMATraceFile.Shard(index: 2, count: 2), warmUp: 1 << 30)
      #expect(most.warm == Array(all[..<50]))
    }
  }

  @Test func `a line without end is refused`() throws {
    try Self.withFile(String(repeating: "x", count: 2 << 20)) { path in
      #expect(throws: ImageError.self) {
        try Self.lines(path, DMATraceFile.Shard(index: 1, count: 1))
      }
    }
  }
}
