import Glibc

/// A flattened makedumpfile stream: a header of 4 KiB, then records of "these bytes belong at that
/// offset", all big-endian.
///
/// makedumpfile writes it where it cannot seek, and QEMU's `dump-guest-memory -z` always. The stream
/// is not rearranged, in memory or on disk: an index says where in the file each run of bytes is.
///
/// Source: makedumpfile(8), "FLATTENED FORMAT"; the layout as its files show it.
struct FlattenedStream {
  static let magic = Array("makedumpfile".utf8)
  static let headerByteCount: UInt64 = 4096
  static let typeOffset: UInt64 = 16
  static let versionOffset: UInt64 = 24
  static let recordByteCount: UInt64 = 16

  /// Bytes that follow each other in what the stream describes, and in the stream.
  struct Run {
    /// Half-open.
    var start: UInt64
    var end: UInt64
    /// Where the first byte lies in the stream.
    var fileOffset: UInt64
  }

  /// Ascending, not overlapping; of two records for a byte the later one counts.
  let runs: [Run]
  /// The end mark was there.
  let isComplete: Bool

  /// Reads the records' headers, and none of their bytes.
  ///
  /// - Complexity: O(*n* log *n*) in the number of records, which the file's length bounds.
  init(file: FileBytes) throws(ImageError) {
    func bigEndian(_ offset: UInt64) -> Int64? {
      file.integer(Int64.self, at: offset)?.byteSwapped
    }
    guard bigEndian(Self.typeOffset) == 1, bigEndian(Self.versionOffset) == 1 else {
      throw ImageError(
        file: file.path, place: "flattened header", offset: Self.typeOffset,
        found: "a type or version other than 1", remedy: "rearrange it with 'makedumpfile -R'")
    }
    // The bytes between the headers are of no use yet, and there may be hundreds of gigabytes.
    file.advise(MADV_RANDOM)
    defer { file.advise(MADV_NORMAL) }
    var runs: [Run] = []
    var offset = Self.headerByteCount
    var isComplete = false
    while offset < file.byteCount {
      guard let start = bigEndian(offset), let count = bigEndian(offset + 8) else {
        throw Self.truncated(file, offset)
      }
      // An offset of −1 ends the stream.
      if start == -1 {
        isComplete = true
        break
      }
      guard start >= 0, count > 0 else {
        throw ImageError(
          file: file.path, place: "flattened record", offset: offset,
          found: "offset \(start) and size \(count)", remedy: "the stream is damaged, dump again")
      }
      let data = offset + Self.recordByteCount
      guard file.holds(count, at: data) else { throw Self.truncated(file, offset) }
      // Both are below 2^63: the sum does not overflow.
      runs.append(
        Run(start: UInt64(start), end: UInt64(start) + UInt64(count), fileOffset: data))
      offset = data + UInt64(count)
    }
    guard !runs.isEmpty else {
      throw ImageError(
        file: file.path, offset: Self.headerByteCount, found: "a flattened stream without records",
        remedy: "the dump failed, dump again")
    }
    self.runs = Self.disjoint(runs)
    self.isComplete = isComplete
  }

  /// The runs sorted; where some overlap, cut so that later records cover earlier ones.
  private static func disjoint(_ runs: [Run]) -> [Run] {
    let sorted = runs.sorted { $0.start < $1.start }
    if zip(sorted, sorted.dropFirst()).allSatisfy({ $0.end <= $1.start }) { return sorted }
    // The smallest priority is on top.
    let pieces = runs.enumerated().map { index, run in
      ImagePiece(
        start: run.start, end: run.end, fileOffset: run.fileOffset, priority: .max - UInt64(index))
    }
    return disjointPieces(pieces).map {
      Run(start: $0.start, end: $0.end, fileOffset: $0.fileOffset!)
    }
  }

  private static func truncated(_ file: FileBytes, _ offset: UInt64) -> ImageError {
    ImageError(
      file: file.path, place: "flattened record", offset: offset,
      found: "a record that runs past the end of the file "
        + "(\(file.byteCount) bytes)",
      remedy: "the file is truncated, copy it again")
  }
}
