import IOMMUFormats

/// What the headers of a file say of memory, for formats that hold it in pieces.
struct PieceContent {
  /// Overlaps and all; bytes that the file ends before are lost. Where pieces overlap, the one of the
  /// smallest priority counts.
  var pieces: [ImagePiece] = []
  /// Headers that the file ends before, or that were not written before the disk was full.
  var missingHeaderCount: UInt64 = 0
  /// Where the file is cut off, a header that is missing may stand for bytes in place of zeros.
  var areZerosCertain = true
  /// The disk was full before the dump was whole.
  var isMarkedIncomplete = false
  /// From here on nothing says what there should be; `nil` where something does.
  var unknownFrom: UInt64?
  /// Where memory stands in the kernel's own map, for sources that say it: pieces whose place in the file
  /// is the virtual address.
  var virtualPieces: [ImagePiece] = []
  /// What is strange and no error.
  var warnings: [String] = []

  /// Memory from an address on, whose bytes stand from an offset on as far as they are stored; the rest
  /// is lost.
  ///
  /// - Precondition: `start + byteCount` is at most 2^64 − 1, and no more is stored.
  mutating func append(
    _ start: UInt64, stored: UInt64, of byteCount: UInt64, from offset: UInt64
  ) {
    precondition(
      stored <= byteCount && !start.addingReportingOverflow(byteCount).overflow,
      "memory ends below 2^64")
    let priority = UInt64(pieces.count)
    if stored > 0 {
      pieces.append(
        ImagePiece(start: start, end: start + stored, source: .file(offset), priority: priority))
    }
    if stored < byteCount {
      pieces.append(
        ImagePiece(
          start: start + stored, end: start + byteCount, source: .lost, priority: priority))
    }
  }
}

/// Where the bytes of pieces lie: in a file as it is, or unpacked from one.
protocol PieceSource: AnyObject, Sendable {
  /// Appends bytes; whether all of them could be had. None are appended when not.
  ///
  /// - Precondition: there is room for them.
  func copy(at offset: UInt64, count: Int, into output: inout OutputSpan<UInt8>) -> Bool

  /// Why bytes that are there could not be given, each reason once, other than the file's own.
  var problems: [ImageError] { get }

  /// Whether a byte can be given.
  func presence(at offset: UInt64) -> Presence

  /// Goes through the parts of a range that are stored somewhere, ascending, for as long as `body`
  /// says; what lies between them is zero.
  func forEachStoredRange(in range: Range<UInt64>, while body: (Range<UInt64>) -> Bool)

  /// Bytes of a range that are recorded as they are; gaps of a stream are not.
  func recordedByteCount(in range: Range<UInt64>) -> UInt64
}

extension DumpFile: PieceSource {
  /// The file's own problem says what failed.
  var problems: [ImageError] { [] }
  func presence(at _: UInt64) -> Presence { .stored }
}
