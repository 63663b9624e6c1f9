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
    let (mark, _) = [UInt8].filled(capacity: FlattenedStream.magic.count) {
      file.copy(at: 0, count: FlattenedStream.magic.count, into: &$0)
    }
    isFlattened = mark == FlattenedStream.magic
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
  var mappingInPlace: FileMapping? { isFlattened ? nil : file.mapping }

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

  /// Appends bytes; those that no run of a whole stream has are zero.
  ///
  /// - Returns: Whether all of them are known and could be read; none are appended when not.
  /// - Precondition: there is room for them.
  func copy(at offset: UInt64, count: Int, into output: inout OutputSpan<UInt8>) -> Bool {
    guard isFlattened else { return file.copy(at: offset, count: count, into: &output) }
    guard holds(count, at: offset) else { return false }
    var done = 0
    var index = runs.partitioningIndex { $0.end > offset }
    while done < count {
      let position = offset + UInt64(done)
      let start = index < runs.count ? runs[index].start : .max
      let isRun = start <= position
      let end = isRun ? runs[index].end : start
      let length = Int(min(UInt64(count - done), end - position))
      if isRun {
        let place = runs[index].fileOffset + (position - start)
        guard file.copy(at: place, count: length, into: &output) else {
          output.removeLast(done)
          return false
        }
        index += 1
      } else {
        output.append(repeating: 0, count: length)
      }
      done += length
    }
    return true
  }

  /// Hands over bytes, in place where they lie in one run of a mapped file; `nil` when they are not
  /// known or cannot be read.
  func withBytes<Result>(
    at offset: UInt64, count: Int, _ body: (Span<UInt8>) -> Result
  ) -> Result? {
    guard holds(count, at: offset) else { return nil }
    if let mapping = file.mapping, let place = place(of: offset, count: UInt64(count)) {
      return mapping.withBytes(at: place, count: count, body)
    }
    let (bytes, isThere) = [UInt8].filled(capacity: count) {
      copy(at: offset, count: count, into: &$0)
    }
    return isThere ? body(bytes.span) : nil
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
  func integer<Word: FixedWidthInteger & BitwiseCopyable>(
    _: Word.Type, at offset: UInt64
  ) -> Word? {
    withBytes(at: offset, count: MemoryLayout<Word>.size) { $0.integer(Word.self, at: 0) }
  }

  /// Bytes for a small part of the file, such as a note; `nil` when they are not known.
  func bytes(at offset: UInt64, count: Int) -> [UInt8]? {
    withBytes(at: offset, count: count) { part in
      var bytes: [UInt8] = []
      bytes.append(copying: part)
      return bytes
    }
  }

  func starts(with magic: [UInt8]) -> Bool { bytes(at: 0, count: magic.count) == magic }

  // MARK: What is stored

  /// Goes through the parts of a range of bytes that are stored somewhere, ascending, for as long as
  /// `body` says; what lies between them, in gaps of a stream and holes of a file, is zero or not
  /// known.
  func forEachStoredRange(in range: Range<UInt64>, while body: (Range<UInt64>) -> Bool) {
    guard isFlattened else {
      _ = forEachStoredRange(ofFile: range, while: body)
      return
    }
    var index = runs.partitioningIndex { $0.end > range.lowerBound }
    while index < runs.count, runs[index].start < range.upperBound {
      let run = runs[index]
      let part = (run.start..<run.end).clamped(to: range)
      let place = run.fileOffset + (part.lowerBound - run.start)
      let isWanted = forEachStoredRange(ofFile: place..<place + (part.upperBound - part.lowerBound))
      {
        let start = part.lowerBound + ($0.lowerBound - place)
        return body(start..<start + ($0.upperBound - $0.lowerBound))
      }
      guard isWanted else { return }
      index += 1
    }
  }

  private func forEachStoredRange(
    ofFile range: Range<UInt64>, while body: (Range<UInt64>) -> Bool
  ) -> Bool {
    let stored = file.storedRanges
    var index = stored.partitioningIndex { $0.upperBound > range.lowerBound }
    while index < stored.count, stored[index].lowerBound < range.upperBound {
      guard body(stored[index].clamped(to: range)) else { return false }
      index += 1
    }
    return true
  }

  /// Bytes of a range that the file has, or the records of a stream; holes of the file count.
  func recordedByteCount(in range: Range<UInt64>) -> UInt64 {
    guard isFlattened else { return UInt64(range.count) }
    var count: UInt64 = 0
    var index = runs.partitioningIndex { $0.end > range.lowerBound }
    while index < runs.count, runs[index].start < range.upperBound {
      count += UInt64((runs[index].start..<runs[index].end).clamped(to: range).count)
      index += 1
    }
    return count
  }

  /// Bytes of a range that are stored somewhere.
  func storedByteCount(in range: Range<UInt64>) -> UInt64 {
    var count: UInt64 = 0
    forEachStoredRange(in: range) {
      count += $0.upperBound - $0.lowerBound
      return true
    }
    return count
  }

  /// The first byte at or after `offset` that is stored somewhere; the end when there is none.
  func firstStoredByte(from offset: UInt64) -> UInt64 {
    var first = byteCount
    guard offset < byteCount else { return first }
    forEachStoredRange(in: offset..<byteCount) {
      first = $0.lowerBound
      return false
    }
    return first
  }
}
