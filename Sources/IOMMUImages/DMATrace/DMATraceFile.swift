import IOMMUFormats

/// A trace in a file, a pipe or standard input (`-`), read by lines, whole or a part of it.
package struct DMATraceFile {
  package let path: String

  package init(path: String) { self.path = path }

  /// A part of a trace: one of `count` pieces of the same length in bytes, cut at line ends.
  package struct Shard: Hashable, Sendable {
    package var index: Int
    package var count: Int

    /// - Precondition: `index` is 1 to `count`.
    package init(index: Int, count: Int) {
      precondition(1...count ~= index, "shards are counted from 1")
      self.index = index
      self.count = count
    }
  }

  /// The whole file, for results that are merged.
  ///
  /// - Throws: ``ImageError`` when it cannot be read or has more than 64 MiB.
  package func contents() throws(ImageError) -> [UInt8] {
    try InputFile(path: path).contents(atMost: 64 << 20, remedy: "is it a result at all?")
  }

  /// Calls `body` with each line that begins in the shard, and before them with the lines of a
  /// warm-up.
  ///
  /// - Parameters:
  ///   - warmUpByteCount: So many bytes before the shard are read too.
  ///   - body: Gets a line without its newline, where it begins in the file, and whether it is part
  ///     of the warm-up.
  /// - Throws: ``ImageError`` when the file cannot be read or unpacked, a line is longer than 1 MiB, or a
  ///   part is wanted of what has no size; what `body` throws.
  package func forEachLine(
    of shard: Shard = Shard(index: 1, count: 1), warmUpByteCount: Int = 0,
    _ body: (ArraySlice<UInt8>, _ offset: Int, _ isWarmUp: Bool) throws -> Void
  ) throws {
    var stream = try ByteStream(path: path)
    let isWhole = shard.count == 1
    guard isWhole || stream.byteCount != nil else {
      throw ImageError(
        file: stream.name, found: "is no plain file, so it has no pieces of a length",
        remedy: "unpack it to a file first, or replay it whole")
    }
    // Files of the kernel say that they have no bytes: what is read whole is read to its end.
    let size = isWhole ? Int.max : stream.byteCount ?? 0
    func boundary(_ index: Int) -> Int {
      // In whole steps first: a product of both may not fit.
      size / shard.count * index + size % shard.count * index / shard.count
    }
    let start = boundary(shard.index - 1)
    let end = boundary(shard.index)
    var offset = max(0, start - warmUpByteCount)
    // A line that begins before the first byte belongs to somebody else.
    var skipsLine = offset > 0
    if skipsLine {
      offset -= 1
      try stream.seek(to: offset)
    }
    // What was read and belongs to a line that has not ended; begins at `offset`.
    var buffer: [UInt8] = []
    buffer.reserveCapacity(Self.lineByteCountLimit)
    while offset < end {
      let room = Self.lineByteCountLimit - buffer.count
      let got = try stream.append(atMost: room, to: &buffer)
      var begin = 0
      while begin < buffer.count, offset + begin < end {
        let newline = buffer.span.firstIndex(of: UInt8(ascii: "\n"), from: begin)
        guard newline != nil || got == 0 else { break }
        let stop = newline ?? buffer.count
        if skipsLine {
          skipsLine = false
        } else {
          try body(buffer[begin..<stop], offset + begin, offset + begin < start)
        }
        begin = stop + 1
      }
      if got == 0 || offset + begin >= end { return }
      guard begin > 0 || buffer.count < Self.lineByteCountLimit else {
        throw ImageError(
          file: stream.name, offset: UInt64(offset), found: "a line of more than 1 MiB",
          remedy: "is it a trace at all?")
      }
      buffer.removeFirst(min(begin, buffer.count))
      offset += begin
    }
  }

  private static let lineByteCountLimit = 1 << 20
}
