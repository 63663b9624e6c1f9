/// A bitmap of page frames in a dump: one bit each, the lowest bit of a byte first.
///
/// The bitmap stays in the file. What is kept is one count for each 4 KiB of it that has a bit set:
/// the bitmap of a machine with 1 TiB costs 128 KiB, and one that claims a machine of 4 PiB costs
/// what is stored of it.
///
/// Of a file that is cut off, the frames before the first byte that is not known count: no later one
/// can have a rank.
struct FrameBitmap: Sendable {
  /// Frames that a part of the bitmap stands for.
  private static let partFrameCount: UInt64 = 1 << 15
  private static let partByteCount = 4096

  private struct Part {
    var index: UInt64
    /// Set bits before this part.
    var rank: UInt64
  }

  private let file: DumpFile
  private let offset: UInt64
  /// Bits that count; those beyond mean nothing.
  let frameCount: UInt64
  /// The frames whose bits are known: all of them, or those before the end of a file that is cut off.
  let knownFrameCount: UInt64
  /// The parts with a bit set, ascending.
  private let parts: [Part]
  /// Bits set.
  let count: UInt64

  /// - Precondition: there are at most 2^40 frames.
  init(file: DumpFile, offset: UInt64, frameCount: UInt64) {
    self.file = file
    self.offset = offset
    self.frameCount = frameCount
    let knownByteCount = min(file.knownByteCount(from: offset), (frameCount + 7) / 8)
    let knownFrameCount = min(knownByteCount * 8, frameCount)
    self.knownFrameCount = knownFrameCount
    var parts: [Part] = []
    var count: UInt64 = 0
    var index: UInt64 = 0
    while index * Self.partFrameCount < knownFrameCount {
      let start = index * UInt64(Self.partByteCount)
      let stored = file.firstStoredByte(from: offset + start)
      guard stored < offset + knownByteCount else { break }
      let skipped = (stored - offset - start) / UInt64(Self.partByteCount)
      if skipped > 0 {
        // Zeros up to there.
        index += skipped
        continue
      }
      var bits: UInt64 = 0
      Self.forEachWord(index, file, offset, knownFrameCount) { word, _ in
        bits += UInt64(word.nonzeroBitCount)
      }
      if bits > 0 { parts.append(Part(index: index, rank: count)) }
      count += bits
      index += 1
    }
    self.parts = parts
    self.count = count
  }

  /// Hands over the words of a part up to its last known frame, one after the other.
  private static func forEachWord(
    _ index: UInt64, _ file: DumpFile, _ offset: UInt64, _ knownFrameCount: UInt64,
    _ body: (_ word: UInt64, _ number: Int) -> Void
  ) {
    let bits = Int(min(partFrameCount, knownFrameCount - index * partFrameCount))
    let byteCount = (bits + 7) / 8
    // A read that fails gives nothing, and the file's problem tells.
    file.withBytes(at: offset + index * UInt64(partByteCount), count: byteCount) { bytes in
      for number in 0..<bits / 64 { body(bytes.integer(UInt64.self, at: 8 * number), number) }
      guard bits % 64 != 0 else { return }
      var last: UInt64 = 0
      for place in bits / 64 * 8..<byteCount {
        last |= UInt64(bytes[place]) << UInt64(8 * (place % 8))
      }
      body(last & (1 << UInt64(bits % 64) - 1), bits / 64)
    }
  }

  /// Whether a frame's bit is set; not for one whose bit is not known.
  func contains(_ frame: UInt64) -> Bool {
    guard frame < knownFrameCount else { return false }
    let byte = file.integer(UInt8.self, at: offset + frame / 8) ?? 0
    return byte >> (frame % 8) & 1 != 0
  }

  /// Set bits before `frame`, which may lie beyond the last; of those that are known.
  func rank(of frame: UInt64) -> UInt64 {
    guard frame < knownFrameCount else { return count }
    let index = frame / Self.partFrameCount
    let next = parts.partitioningIndex { $0.index >= index }
    guard next < parts.count else { return count }
    guard parts[next].index == index else { return parts[next].rank }
    var rank = parts[next].rank
    // Up to the frame only: those after it are none of a shorter bitmap.
    Self.forEachWord(index, file, offset, frame) { word, _ in
      rank += UInt64(word.nonzeroBitCount)
    }
    return rank
  }

  /// Goes through the runs of set bits in a range of frames, ascending, each as long as it can be.
  func forEachRun(in range: Range<UInt64>, _ body: (Range<UInt64>) -> Void) {
    let range = range.clamped(to: 0..<knownFrameCount)
    var start: UInt64?
    var expected: UInt64 = 0
    func close(_ end: UInt64) {
      guard let first = start else { return }
      start = nil
      let run = (first..<end).clamped(to: range)
      if !run.isEmpty { body(run) }
    }
    let first = parts.partitioningIndex { $0.index >= range.lowerBound / Self.partFrameCount }
    for part in parts[first...] {
      let base = part.index * Self.partFrameCount
      guard base < range.upperBound else { break }
      if base != expected { close(expected) }
      Self.forEachWord(part.index, file, offset, knownFrameCount) { word, number in
        let frame = base + UInt64(number) * 64
        switch word {
        case 0: close(frame)
        case .max: start = start ?? frame
        default:
          for bit in 0..<UInt64(64) {
            if word >> bit & 1 != 0 { start = start ?? frame + bit } else { close(frame + bit) }
          }
        }
      }
      expected = base + Self.partFrameCount
    }
    close(expected)
  }
}
