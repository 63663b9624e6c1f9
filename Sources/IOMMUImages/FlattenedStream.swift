import Glibc
import IOMMUFormats

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
  /// The end mark was there. Without it, what no run has may be lost as well as zero.
  let isComplete: Bool

  /// Reads the records' headers, and none of their bytes.
  ///
  /// A stream that ends early is read as far as it goes, down to a part of its last record.
  ///
  /// - Complexity: O(*n* log *n*) in the number of records, which the file's length bounds.
  init(file: FileBytes) throws(ImageError) {
    func bigEndian(_ offset: UInt64) -> Int64? {
      file.integer(Int64.self, at: offset)?.byteSwapped
    }
    guard let type = bigEndian(Self.typeOffset), let version = bigEndian(Self.versionOffset) else {
      throw Self.empty(file)
    }
    guard type == 1, version == 1 else {
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
    while offset < file.byteCount, let start = bigEndian(offset), let count = bigEndian(offset + 8)
    {
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
      let stored = min(UInt64(count), file.byteCount - data)
      // Both are below 2^63: the sum does not overflow.
      if stored > 0 {
        runs.append(Run(start: UInt64(start), end: UInt64(start) + stored, fileOffset: data))
      }
      offset = data + stored
    }
    guard !runs.isEmpty else { throw Self.empty(file) }
    self.runs = Self.disjoint(runs)
    self.isComplete = isComplete
  }

  /// What the runs cover: half-open, ascending, not touching each other.
  var coverage: [Range<UInt64>] {
    var ranges: [Range<UInt64>] = []
    for run in runs {
      if let last = ranges.last, last.upperBound == run.start {
        ranges[ranges.count - 1] = last.lowerBound..<run.end
      } else {
        ranges.append(run.start..<run.end)
      }
    }
    return ranges
  }

  /// The runs sorted; where some overlap, cut so that later records cover earlier ones.
  private static func disjoint(_ runs: [Run]) -> [Run] {
    let sorted = runs.sorted { $0.start < $1.start }
    if zip(sorted, sorted.dropFirst()).allSatisfy({ $0.end <= $1.start }) { return sorted }
    // The smallest priority is on top.
    let pieces = runs.enumerated().map { index, run in
      ImagePiece(
        start: run.start, end: run.end, source: .file(run.fileOffset),
        priority: .max - UInt64(index))
    }
    return disjointPieces(pieces).compactMap {
      guard case .file(let offset) = $0.source else { return nil }
      return Run(start: $0.start, end: $0.end, fileOffset: offset)
    }
  }

  private static func empty(_ file: FileBytes) -> ImageError {
    ImageError(
      file: file.path, offset: min(file.byteCount, headerByteCount),
      found: "a flattened stream without records",
      remedy: "the dump failed or its copy did: copy it again, or dump again")
  }
}
