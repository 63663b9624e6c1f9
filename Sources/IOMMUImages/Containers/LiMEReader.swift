import IOMMUFormats

/// Ranges of memory, each behind a header of its own, one after the other to the end of the file.
///
/// A header has 32 bytes, little-endian: a mark, a version, the first and the last byte's physical
/// address, and eight bytes of padding. LiME writes `EMiL` (the number 0x4c694d45) with version 1 and the
/// bytes as they are, and so does AVML unless it packs: then it writes `AVML` with version 2, the bytes
/// as a stream of Snappy frames, and the length of that stream in 8 bytes.
///
/// Sources: LiME's documentation, "Spec"; AVML's files, and what avml-convert makes of them.
struct LiMEReader {
  static let limeMark = Array("EMiL".utf8)
  static let avmlMark = Array("AVML".utf8)
  private static let headerByteCount: UInt64 = 32
  private static let versionOffset: UInt64 = 4
  private static let firstOffset: UInt64 = 8
  private static let lastOffset: UInt64 = 16
  /// The length behind a packed range.
  private static let trailerByteCount: UInt64 = 8
  /// More than any machine has.
  private static let rangeLimit = 1 << 22

  let file: DumpFile
  /// Ranges are packed.
  let isPacked: Bool

  init(file: DumpFile) {
    self.file = file
    isPacked = file.starts(with: Self.avmlMark)
  }

  /// What the headers say; of a packed file the pieces lie in the stream that comes with it.
  ///
  /// - Throws: ``ImageError`` for a header that is none.
  /// - Complexity: O(ranges); of a packed file O(frames), whose headers are read.
  func content() throws(ImageError) -> (content: PieceContent, stream: SnappyStream?) {
    var content = PieceContent()
    var index = SnappyStream.Index()
    var offset: UInt64 = 0
    while offset < file.byteCount {
      guard file.holds(Self.headerByteCount, at: offset) else {
        content.unknownFrom = content.pieces.last?.end ?? 0
        break
      }
      let memory = try range(at: offset)
      guard content.pieces.count < Self.rangeLimit else {
        throw error(at: offset, "more than \(Self.rangeLimit) ranges", "dump the memory again")
      }
      offset += Self.headerByteCount
      let byteCount = memory.upperBound - memory.lowerBound
      let end: UInt64?
      if isPacked {
        let part = try index.append(byteCount, from: offset, in: file)
        content.append(
          memory.lowerBound, stored: part.byteCount, of: byteCount, from: part.start)
        end = part.end.flatMap { file.holds(Self.trailerByteCount, at: $0) ? $0 + 8 : nil }
      } else {
        let known = min(byteCount, file.knownByteCount(from: offset))
        content.append(memory.lowerBound, stored: known, of: byteCount, from: offset)
        end = known == byteCount ? offset + byteCount : nil
      }
      guard let end else {
        content.unknownFrom = memory.upperBound
        break
      }
      offset = end
    }
    return (content, isPacked ? SnappyStream(file: file, index: index) : nil)
  }

  /// The memory that a header names, half-open.
  private func range(at offset: UInt64) throws(ImageError) -> Range<UInt64> {
    let damaged = "the dump is damaged, copy it again or dump the memory again"
    let mark = file.bytes(at: offset, count: Self.limeMark.count)
    guard mark == (isPacked ? Self.avmlMark : Self.limeMark) else {
      throw error(at: offset, "no header of a range stands here", damaged)
    }
    let version = file.integer(UInt32.self, at: offset + Self.versionOffset) ?? 0
    guard version == (isPacked ? 2 : 1) else {
      throw error(
        at: offset + Self.versionOffset, "version \(version), and \(isPacked ? 2 : 1) is known",
        "convert it with the program that wrote it, to LiME's format or to raw bytes")
    }
    let first = file.integer(UInt64.self, at: offset + Self.firstOffset) ?? 0
    let last = file.integer(UInt64.self, at: offset + Self.lastOffset) ?? 0
    guard first <= last, last < .max else {
      throw error(
        at: offset + Self.firstOffset,
        "a range from \(hexadecimal(first)) to \(hexadecimal(last))", damaged)
    }
    return first..<last + 1
  }

  private func error(at offset: UInt64, _ found: String, _ remedy: String) -> ImageError {
    ImageError(
      file: file.path, place: "\(isPacked ? "AVML" : "LiME") header", offset: offset, found: found,
      remedy: remedy)
  }
}
