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
    try DMATraceFile(path: path).forEachLine(of: shard, warmUpByteCount: warmUp) { line in
      let text = String(decoding: line.bytes, as: UTF8.self)
      if line.isWarmUp { result.warm.append(text) } else { result.own.append(text) }
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

  /// The lines of a file by where they begin, whether they end, and what is in them.
  static func places(_ path: String) throws -> [(offset: Int, isCut: Bool, text: String)] {
    var places: [(offset: Int, isCut: Bool, text: String)] = []
    try DMATraceFile(path: path).forEachLine { line in
      places.append(
        (line.offset, line.isUnterminated, String(decoding: line.bytes, as: UTF8.self)))
    }
    return places
  }

  @Test func `a last line without a newline is said to be one`() throws {
    try Self.withFile("one\ntwo") { path in
      let places = try Self.places(path)
      #expect(places.map(\.text) == ["one", "two"])
      #expect(places.map(\.isCut) == [false, true])
    }
    try Self.withFile("one\n") { path in
      let places = try Self.places(path)
      #expect(places.map(\.isCut) == [false])
    }
  }

  /// Where a log was not written there are zeros, here five million of them.
  @Test func `a hole is a part of a line, however large it is`() throws {
    let hole = String(repeating: "\0", count: 5_000_000)
    try Self.withFile("one\ntw\(hole)o\nthree\nfour\(hole)") { path in
      let places = try Self.places(path)
      #expect(places.map(\.offset) == [0, 4, 5_000_008, 5_000_014])
      #expect(places.map(\.isCut) == [false, false, false, true])
      #expect(places[0].text == "one")
      #expect(places[2].text == "three")
      #expect(places[1].text.hasPrefix("tw\0") && places[1].text.hasSuffix("\0o"))
      #expect(places[1].text.utf8.count < 1 << 20)
      for count in [2, 3, 7] {
        let lines = try (1...count).flatMap { index in
          try Self.lines(path, Shard(index: index, count: count)).own
        }
        #expect(lines.map { $0.filter { $0 != "\0" } } == ["one", "two", "three", "four"])
      }
    }
  }

  @Test func `a mark of UTF-8 is no part of the first line`() throws {
    let directory = TemporaryDirectory()
    let mark: [UInt8] = [0xef, 0xbb, 0xbf]
    let path = directory.file("trace", mark + Array("one\n".utf8) + mark + Array("two\n".utf8))
    let places = try Self.places(path)
    #expect(places.map(\.text) == ["one", "\u{feff}two"])
    #expect(places.map(\.offset) == [3, 7])
    var head: [UInt8] = []
    try DMATraceFile(path: path).forEachLine(head: { head = Array($0) }) { _ in }
    #expect(head == Array("one\n".utf8) + mark + Array("two\n".utf8))
  }

  @Test(
    arguments: [
      ([0xff, 0xfe] + Self.wide("00:03.0,0x1000", isLow: true), "UTF-16"),
      ([0xfe, 0xff] + Self.wide("00:03.0,0x1000", isLow: false), "UTF-16"),
      (Self.wide("00:03.0,0x1000", isLow: true), "UTF-16LE"),
      (Self.wide("00:03.0,0x1000", isLow: false), "UTF-16BE"),
    ] as [([UInt8], String)])
  func `a text of two bytes a letter is named, with the way to one`(
    bytes: [UInt8], encoding: String
  ) {
    let directory = TemporaryDirectory()
    let path = directory.file("trace.csv", bytes)
    let error = #expect(throws: ImageError.self) { try Self.places(path) }
    #expect(
      error?.description.hasSuffix(
        "trace.csv: is a text in UTF-16; 'iconv -f \(encoding) -t UTF-8' makes one of it that is "
          + "read") == true)
  }

  static func wide(_ text: String, isLow: Bool) -> [UInt8] {
    text.utf8.flatMap { isLow ? [$0, 0] : [0, $0] }
  }

  /// "line 1\nline 2\n" as the programs pack it, twice in a row, with zeros behind; bytes of gzip 1.12,
  /// xz 5.4.1, zstd 1.5.4 and bzip2 1.0.8.
  static let packed: [(name: String, bytes: [UInt8])] = [
    (
      "gzip",
      [
        0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0xcb, 0xc9, 0xcc, 0x4b,
        0x55, 0x30, 0xe4, 0xca, 0x01, 0x51, 0x46, 0x5c, 0x00, 0x01, 0xb4, 0x3d, 0x85, 0x0e,
        0x00, 0x00, 0x00,
      ]
    ),
    (
      "xz",
      [
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x02, 0x00,
        0x21, 0x01, 0x16, 0x00, 0x00, 0x00, 0x74, 0x2f, 0xe5, 0xa3, 0x01, 0x00, 0x0d, 0x6c,
        0x69, 0x6e, 0x65, 0x20, 0x31, 0x0a, 0x6c, 0x69, 0x6e, 0x65, 0x20, 0x32, 0x0a, 0x00,
        0x00, 0x00, 0x0e, 0xa2, 0xba, 0xc9, 0x13, 0xde, 0x27, 0xf0, 0x00, 0x01, 0x26, 0x0e,
        0x08, 0x1b, 0xe0, 0x04, 0x1f, 0xb6, 0xf3, 0x7d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x04,
        0x59, 0x5a,
      ]
    ),
    (
      "zstd",
      [
        0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x58, 0x71, 0x00, 0x00, 0x6c, 0x69, 0x6e, 0x65, 0x20,
        0x31, 0x0a, 0x6c, 0x69, 0x6e, 0x65, 0x20, 0x32, 0x0a, 0x2e, 0xc8, 0x46, 0xb4,
      ]
    ),
    (
      "bzip2",
      [
        0x42, 0x5a, 0x68, 0x39, 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, 0x31, 0x88, 0x21, 0x68,
        0x00, 0x00, 0x05, 0x59, 0x00, 0x00, 0x10, 0x40, 0x00, 0x30, 0x00, 0x02, 0x25, 0x20,
        0x00, 0x31, 0x0c, 0x08, 0x12, 0x86, 0x46, 0x89, 0x31, 0x90, 0x87, 0x10, 0xf1, 0x77,
        0x24, 0x53, 0x85, 0x09, 0x03, 0x18, 0x82, 0x16, 0x80,
      ]
    ),
  ]

  @Test(arguments: packed.map(\.name))
  func `a packed trace is unpacked, member after member`(name: String) throws {
    let bytes = try #require(Self.packed.first { $0.name == name }).bytes
    let directory = TemporaryDirectory()
    let whole = Shard(index: 1, count: 1)
    let path = directory.file("trace", bytes + bytes + [UInt8](repeating: 0, count: 8))
    #expect(try Self.lines(path, whole).own == ["line 1", "line 2", "line 1", "line 2"])
    let cut = directory.file("cut", bytes.dropLast(6))
    let error = #expect(throws: ImageError.self) { try Self.lines(cut, whole) }
    #expect(error?.description.contains("the \(name) file is cut off behind byte") == true)
    var damaged = bytes
    for index in 20..<bytes.count { damaged[index] ^= 0x55 }
    let broken = directory.file("damaged", damaged)
    let damage = #expect(throws: ImageError.self) { try Self.lines(broken, whole) }
    #expect(damage?.description.contains("the \(name) file is damaged behind byte") == true)
    let piece = #expect(throws: ImageError.self) { try Self.lines(path, Shard(index: 1, count: 2)) }
    #expect(piece?.description.contains("is no plain file, so it has no pieces") == true)
  }

  typealias Shard = DMATraceFile.Shard

  @Test func `a pipe is read to its end`() throws {
    var ends: [Int32] = [0, 0]
    #expect(pipe(&ends) == 0)
    let text = "line 1\nline 2"
    #expect(write(ends[1], text, text.utf8.count) == text.utf8.count)
    close(ends[1])
    defer { close(ends[0]) }
    #expect(
      try Self.lines("/dev/fd/\(ends[0])", Shard(index: 1, count: 1)).own == ["line 1", "line 2"])
  }

  @Test(
    arguments: [
      (
        [0x17, 0x08, 0x44] + Array("tracing6".utf8), "a recording of trace-cmd", "trace-cmd report"
      ),
      (Array("PERFILE2".utf8), "a recording of perf", "perf script"),
      ([0x04, 0x22, 0x4d, 0x18], "lz4-compressed", "unlz4"),
    ] as [([UInt8], String, String)])
  func `a trace that is no text is named, with the way to one`(
    bytes: [UInt8], name: String, command: String
  ) {
    let directory = TemporaryDirectory()
    let path = directory.file("trace.dat", bytes)
    let error = #expect(throws: ImageError.self) { try Self.lines(path, Shard(index: 1, count: 1)) }
    #expect(error?.description.contains("trace.dat: is \(name); ") == true)
    #expect(error?.description.contains(command) == true)
  }
}
