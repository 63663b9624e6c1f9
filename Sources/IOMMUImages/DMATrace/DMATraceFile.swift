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

  /// A line of a trace.
  package struct Line {
    /// Without its newline, and the first one without a mark of UTF-8. A run of zeros that makes a line
    /// very long is one zero.
    package var bytes: ArraySlice<UInt8>
    /// Where it begins in the file.
    package var offset: Int
    /// It is part of the warm-up.
    package var isWarmUp: Bool
    /// The file ends without a newline behind it.
    package var isUnterminated: Bool
  }

  /// Calls `body` with each line that begins in the shard, and before them with the lines of a
  /// warm-up.
  ///
  /// - Parameters:
  ///   - warmUpByteCount: So many bytes before the shard are read too.
  ///   - head: Gets the first bytes, 64 KiB where there are as many, before the first line.
  ///   - body: Gets a line.
  /// - Throws: ``ImageError`` when the file cannot be read or unpacked, a line is longer than 1 MiB, or a
  ///   part is wanted of what has no size; what `body` throws.
  package func forEachLine(
    of shard: Shard = Shard(index: 1, count: 1), warmUpByteCount: Int = 0,
    head: (ArraySlice<UInt8>) -> Void = { _ in },
    _ body: (Line) throws -> Void
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
    // Zeros that were taken out of the line that `buffer` begins with.
    var zeroCount = 0
    while buffer.count < Self.headByteCount {
      guard try stream.append(atMost: Self.headByteCount - buffer.count, to: &buffer) > 0 else {
        break
      }
    }
    head(buffer[ByteOrderMark.byteCount(in: buffer[...], at: offset)...])
    while offset < end {
      let room = Self.lineByteCountLimit - buffer.count
      let got = try stream.append(atMost: room, to: &buffer)
      var begin = 0
      func place() -> Int { offset + begin + (begin > 0 ? zeroCount : 0) }
      while begin < buffer.count, place() < end {
        let newline = buffer.span.firstIndex(of: UInt8(ascii: "\n"), from: begin)
        guard newline != nil || got == 0 else { break }
        let stop = newline ?? buffer.count
        if skipsLine {
          skipsLine = false
        } else {
          let line = buffer[begin..<stop]
          let mark = ByteOrderMark.byteCount(in: line, at: place())
          try body(
            Line(
              bytes: line.dropFirst(mark), offset: place() + mark, isWarmUp: place() < start,
              isUnterminated: newline == nil))
        }
        begin = stop + 1
      }
      if got == 0 || place() >= end { return }
      if begin == 0, buffer.count == Self.lineByteCountLimit {
        zeroCount += Self.shortenHoles(&buffer)
        guard buffer.count < Self.lineByteCountLimit else {
          throw ImageError(
            file: stream.name, offset: UInt64(offset), found: "a line of more than 1 MiB",
            remedy: "is it a trace at all?")
        }
      } else if begin > 0 {
        offset = place()
        zeroCount = 0
        buffer.removeFirst(min(begin, buffer.count))
      }
    }
  }

  /// Leaves one zero of each run of them. Where a log was not written before its machine died, it has as
  /// many as a block of the disk or more.
  ///
  /// - Returns: How many were taken out.
  private static func shortenHoles(_ bytes: inout [UInt8]) -> Int {
    let before = bytes.count
    var isInHole = false
    bytes.removeAll { byte in
      let isZero = byte == 0
      defer { isInHole = isZero }
      return isZero && isInHole
    }
    return before - bytes.count
  }

  private static let lineByteCountLimit = 1 << 20
  private static let headByteCount = 1 << 16
}
