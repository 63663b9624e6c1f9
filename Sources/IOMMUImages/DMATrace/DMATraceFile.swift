import Glibc
import IOMMUFormats

/// A trace in a file, read by lines, whole or a part of it.
public struct DMATraceFile {
  public let path: String

  public init(path: String) { self.path = path }

  /// A part of a trace: one of `count` pieces of the same length in bytes, cut at line ends.
  public struct Shard: Hashable, Sendable {
    public var index: Int
    public var count: Int

    /// - Precondition: `index` is 1 to `count`.
    public init(index: Int, count: Int) {
      precondition(1...count ~= index, "shards are counted from 1")
      self.index = index
      self.count = count
    }
  }

  /// The whole file, for results that are merged.
  ///
  /// - Throws: ``ImageError`` when it cannot be read or has more than 64 MiB.
  public func contents() throws(ImageError) -> [UInt8] {
    try InputFile(path: path).contents(atMost: 64 << 20, remedy: "is it a result at all?")
  }

  /// Calls `body` with each line that begins in the shard, and before them with the lines of a
  /// warm-up.
  ///
  /// - Parameters:
  ///   - warmUpByteCount: So many bytes before the shard are read too.
  ///   - body: Gets a line without its newline, where it begins in the file, and whether it is part
  ///     of the warm-up.
  /// - Throws: ``ImageError`` when the file cannot be read or a line is longer than 1 MiB; what
  ///   `body` throws.
  public func forEachLine(
    of shard: Shard = Shard(index: 1, count: 1), warmUpByteCount: Int = 0,
    _ body: (UnsafeRawBufferPointer, _ offset: Int, _ isWarmUp: Bool) throws -> Void
  ) throws {
    let file = try InputFile(path: path)
    let size = file.byteCount
    func boundary(_ index: Int) -> Int {
      // In whole steps first: a product of both may not fit.
      size / shard.count * index + size % shard.count * index / shard.count
    }
    let start = boundary(shard.index - 1)
    let end = boundary(shard.index)
    var offset = max(0, start - warmUpByteCount)
    // A line that begins before the first byte belongs to somebody else.
    var skipsLine = offset > 0
    if skipsLine { offset -= 1 }
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 16)
    defer { buffer.deallocate() }
    var filled = 0
    while offset < end {
      let got = pread(
        file.descriptor, buffer.baseAddress! + filled, buffer.count - filled, off_t(offset + filled)
      )
      if got < 0, errno == EINTR { continue }
      guard got >= 0 else { throw ImageError.system(path, "cannot be read", errno) }
      filled += got
      var begin = 0
      while begin < filled, offset + begin < end {
        let newline = memchr(buffer.baseAddress! + begin, 10, filled - begin)
        guard newline != nil || got == 0 else { break }
        let stop = newline.map { $0 - buffer.baseAddress! } ?? filled
        if skipsLine {
          skipsLine = false
        } else {
          try body(
            UnsafeRawBufferPointer(rebasing: buffer[begin..<stop]), offset + begin,
            offset + begin < start)
        }
        begin = stop + 1
      }
      if got == 0 || offset + begin >= end { return }
      guard begin > 0 || filled < buffer.count else {
        throw ImageError(
          file: path, offset: UInt64(offset), found: "a line of more than 1 MiB",
          remedy: "is it a trace at all?")
      }
      let rest = max(0, filled - begin)
      memmove(buffer.baseAddress!, buffer.baseAddress! + begin, rest)
      filled = rest
      offset += begin
    }
  }
}
