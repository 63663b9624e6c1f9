import IOMMUFormats

/// The bytes of a dump as its format counts them: the file itself, or what a flattened stream
/// describes.
final class DumpFile: Sendable {
  let file: FileBytes
  let isFlattened: Bool
  /// The file is a stream that ends before its end mark: what no record has may be lost.
  let isCut: Bool
  /// Of a flattened stream; what lies between them is zero when the stream is whole.
  private let runs: [FlattenedStream.Run]
  /// One past the last byte.
  let byteCount: UInt64
  /// The bytes that are known: half-open, ascending, not touching each other; all of a whole file.
  private let known: [Range<UInt64>]

  var path: String { file.path }

  /// A file that is its own bytes, or a flattened stream, told by its mark.
  init(_ file: FileBytes) throws(ImageError) {
    self.file = file
    var mark = [UInt8](repeating: 0, count: FlattenedStream.magic.count)
    isFlattened =
      mark.withUnsafeMutableBytes { file.copy(at: 0, into: $0) } && mark == FlattenedStream.magic
    if isFlattened {
      let stream = try FlattenedStream(file: file)
      runs = stream.runs
      byteCount = runs[runs.count - 1].end
      isCut = !stream.isComplete
      known = isCut ? stream.coverage : [0..<byteCount]
    } else {
      runs = []
      byteCount = file.byteCount
      isCut = false
      known = [0..<byteCount]
    }
  }

  /// All bytes in place; `nil` when they are rearranged or not mapped.
  var bytesInPlace: UnsafeRawBufferPointer? { isFlattened ? nil : file.mapping }

  /// Whether `count` bytes from `offset` are known.
  func holds(_ count: some BinaryInteger, at offset: UInt64) -> Bool {
    offset <= byteCount && count <= knownByteCount(from: offset)
  }

  /// Bytes in a row from `offset` on that are known.
  func knownByteCount(from offset: UInt64) -> UInt64 {
    let index = known.partitioningIndex { $0.upperBound > offset }
    guard index < known.count, known[index].lowerBound <= offset else { return 0 }
    return known[index].upperBound - offset
  }

  /// Goes through the known parts of a range of bytes, ascending.
  func forEachKnownRange(in range: Range<UInt64>, _ body: (Range<UInt64>) -> Void) {
    var index = known.partitioningIndex { $0.upperBound > range.lowerBound }
    while index < known.count, known[index].lowerBound < range.upperBound {
      body(known[index].clamped(to: range))
      index += 1
    }
  }

  /// Copies bytes; those that no run of a whole stream has are zero.
  ///
  /// - Returns: Whether all of them are known and could be read.
  func copy(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) -> Bool {
    guard isFlattened else { return file.copy(at: offset, into: buffer) }
    guard holds(buffer.count, at: offset) else { return false }
    var done = 0
    var index = runs.partitioningIndex { $0.end > offset }
    while done < buffer.count {
      let position = offset + UInt64(done)
      let start = index < runs.count ? runs[index].start : .max
      let isRun = start <= position
      let end = isRun ? runs[index].end : start
      let length = Int(min(UInt64(buffer.count - done), end - position))
      let target = UnsafeMutableRawBufferPointer(rebasing: buffer[done..<done + length])
      if isRun {
        let place = runs[index].fileOffset + (position - start)
        guard file.copy(at: place, into: target) else { return false }
        index += 1
      } else {
        target.initializeMemory(as: UInt8.self, repeating: 0)
      }
      done += length
    }
    return true
  }

  /// Hands over bytes, in place where they lie in one run of a mapped file; `nil` when they are not
  /// known or cannot be read.
  func withBytes<Result>(
    at offset: UInt64, count: Int, _ body: (UnsafeRawBufferPointer) -> Result
  ) -> Result? {
    guard holds(count, at: offset) else { return nil }
    if let mapping = file.mapping, let place = place(of: offset, count: UInt64(count)) {
      return body(UnsafeRawBufferPointer(rebasing: mapping[place..<place + count]))
    }
    return withUnsafeTemporaryAllocation(byteCount: count, alignment: 8) {
      copy(at: offset, into: $0) ? body(UnsafeRawBufferPointer($0)) : nil
    }
  }

  /// Where bytes lie in the file, when they lie there in one piece.
  private func place(of offset: UInt64, count: UInt64) -> Int? {
    guard isFlattened else { return Int(offset) }
    let index = runs.partitioningIndex { $0.end > offset }
    guard index < runs.count, runs[index].start <= offset, runs[index].end - offset >= count
    else { return nil }
    return Int(runs[index].fileOffset + (offset - runs[index].start))
  }

  /// The little-endian integer at `offset`; `nil` where it is not known.
  func integer<Word: FixedWidthInteger>(_: Word.Type, at offset: UInt64) -> Word? {
    var word = Word.zero
    let isThere = withUnsafeMutableBytes(of: &word) { copy(at: offset, into: $0) }
    return isThere ? Word(littleEndian: word) : nil
  }

  /// Bytes for a small part of the file, such as a note; `nil` when they are not known.
  func bytes(at offset: UInt64, count: Int) -> [UInt8]? {
    withBytes(at: offset, count: count) { Array($0) }
  }

  func starts(with magic: [UInt8]) -> Bool { bytes(at: 0, count: magic.count) == magic }

  /// The first byte at or after `offset` that is stored somewhere; what is left out is zero.
  func firstStoredByte(from offset: UInt64) -> UInt64 {
    guard isFlattened else { return file.firstStoredByte(from: offset) }
    let index = runs.partitioningIndex { $0.end > offset }
    return index < runs.count ? max(offset, runs[index].start) : byteCount
  }
}
