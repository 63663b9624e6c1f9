import Glibc
import IOMMUFormats

/// Memory as `hexdump -C` shows it, byte for byte; offsets are physical addresses.
///
/// Where memory does not answer there is nothing to show: one line in brackets stands for such a
/// gap. A range without gaps gives exactly what `hexdump -C` gives for a file with these bytes.
public enum Hexdump {
  /// Bytes to a line.
  public static let lineByteCount = 16

  /// Bytes read at a time, a multiple of a line: what a dump of any length needs of memory.
  static let chunkByteCount = 65_536

  /// Zeros that nobody stores are read up to here, a multiple of a line; the rest of their run is not.
  static let zeroByteCount: UInt64 = 1024

  /// Writes the bytes of `range`, half-open; lines are counted from its first byte.
  public static func write(
    _ range: Range<PhysicalAddress>, of memory: some PhysicalMemory,
    style: HexdumpStyle = HexdumpStyle(), to out: inout some TextOutputStream
  ) {
    write(range, of: memory, notes: NoNotes(), style: style, to: &out)
  }

  static func write(
    _ range: Range<PhysicalAddress>, of memory: some PhysicalMemory, notes: some LineNotes,
    style: HexdumpStyle = HexdumpStyle(), to out: inout some TextOutputStream
  ) {
    var writer = LineWriter(notes: notes, style: style)
    var buffer = [UInt8](repeating: 0, count: chunkByteCount)
    let backed = memory.backedRanges
    let stored = memory.storedRanges
    var next = backed.partitioningIndex { $0.upperBound > range.lowerBound }
    var nextStored = stored.partitioningIndex { $0.upperBound > range.lowerBound }
    let end = range.upperBound.rawValue
    var position = range.lowerBound.rawValue
    var gapStart: UInt64?
    var isAnythingShown = false

    while position < end {
      while next < backed.count, backed[next].upperBound.rawValue <= position { next += 1 }
      // What answers next; the whole rest of the range may be a gap.
      let start = next < backed.count ? min(backed[next].lowerBound.rawValue, end) : end
      guard start <= position else {
        gapStart = gapStart ?? position
        position = start
        continue
      }
      while nextStored < stored.count, stored[nextStored].upperBound.rawValue <= position {
        nextStored += 1
      }
      // What is stored, and as much of the zeros behind it as is worth a look.
      let isStored =
        nextStored < stored.count && stored[nextStored].lowerBound.rawValue <= position
      let storedEnd = isStored ? stored[nextStored].upperBound.rawValue : position
      let worth = min(storedEnd - position, UInt64(buffer.count)) + Self.zeroByteCount
      let lines = worth & ~UInt64(lineByteCount - 1)
      let wanted = Int(min(lines, UInt64(buffer.count), end - position))
      let count = fill(&buffer, upTo: wanted, from: position, of: memory)
      guard count > 0 else {
        // A page that its own range promises and that is not there after all.
        gapStart = gapStart ?? position
        position = min(end, position | 4095 == .max ? end : (position | 4095) + 1)
        continue
      }
      if let start = gapStart {
        writer.gap(start..<position)
        gapStart = nil
      }
      writer.chunk(buffer.span.extracting(..<count), at: position)
      isAnythingShown = true
      position += UInt64(count)
      writer.flush(to: &out)
      while nextStored < stored.count, stored[nextStored].upperBound.rawValue <= position {
        nextStored += 1
      }
      // Zeros that nobody stores are further lines of what stands for them, and need no look.
      let zeroEnd = min(
        end, next < backed.count ? backed[next].upperBound.rawValue : position,
        nextStored < stored.count ? stored[nextStored].lowerBound.rawValue : .max)
      if zeroEnd > position, writer.isSqueezingZeros {
        position += writer.silentByteCount(of: zeroEnd - position)
      }
    }
    if let start = gapStart { writer.gap(start..<end) }
    if isAnythingShown { writer.offset(end) }
    writer.flush(to: &out)
  }

  /// Reads until there are `wanted` bytes or memory does not answer, so that only the last line of a
  /// run can be a partial one.
  private static func fill(
    _ buffer: inout [UInt8], upTo wanted: Int, from position: UInt64, of memory: some PhysicalMemory
  ) -> Int {
    var count = 0
    while count < wanted {
      let got = memory.copyBytes(
        from: PhysicalAddress(position + UInt64(count)), to: &buffer, count..<wanted)
      guard got > 0 else { break }
      count += got
    }
    return count
  }
}

/// How a hexdump looks.
public struct HexdumpStyle: Sendable {
  /// Two 64-bit words to a line, as entries are read, instead of sixteen bytes and their text.
  public var showsQuadwords: Bool
  public var ink: Ink

  public init(showsQuadwords: Bool = false, ink: Ink = .none) {
    self.showsQuadwords = showsQuadwords
    self.ink = ink
  }
}

/// What is to be said below the lines of a hexdump.
protocol LineNotes {
  /// Whether anything may be said about bytes from `start` on. `false` is a promise.
  func mayConcern(_ range: Range<UInt64>) -> Bool

  /// What begins in the line at `start`: the offset in the line, and the words.
  func notes(at start: UInt64, byteCount: Int) -> [(offset: Int, text: String)]
}

/// Nothing to say; costs nothing.
struct NoNotes: LineNotes {
  func mayConcern(_: Range<UInt64>) -> Bool { false }
  func notes(at _: UInt64, byteCount _: Int) -> [(offset: Int, text: String)] { [] }
}

/// Lines of a hexdump in the making.
private struct LineWriter<Notes: LineNotes> {
  let notes: Notes
  let style: HexdumpStyle
  var text: [UInt8] = []
  /// The last full line; lines equal to it are left out.
  var previous: (UInt64, UInt64)?
  /// A `*` stands for the lines left out at the moment.
  var isSqueezing = false

  init(notes: Notes, style: HexdumpStyle) {
    self.notes = notes
    self.style = style
    text.reserveCapacity(Hexdump.chunkByteCount * 6)
  }

  /// The last line was of zeros, and so was the one before it.
  var isSqueezingZeros: Bool { isSqueezing && previous.map { $0 == (0, 0) } ?? false }

  /// Bytes of whole lines in a run of zeros about which there is nothing to say: an entry that ends
  /// behind the run may begin in its last lines.
  func silentByteCount(of byteCount: UInt64) -> UInt64 {
    let tail: UInt64 = 256
    return byteCount < tail ? 0 : (byteCount - tail) & ~UInt64(Hexdump.lineByteCount - 1)
  }

  mutating func flush(to out: inout some TextOutputStream) {
    guard !text.isEmpty else { return }
    out.write(String(decoding: text, as: UTF8.self))
    text.removeAll(keepingCapacity: true)
  }

  /// Says that a range is not there. The line after it is shown whatever the line before it was.
  mutating func gap(_ range: Range<UInt64>) {
    let words = "(\(hexadecimal(range.lowerBound))..<\(hexadecimal(range.upperBound)) "
    text += Array((words + "is not in this image)\n").utf8)
    previous = nil
    isSqueezing = false
  }

  /// The last line of a dump: an offset alone.
  mutating func offset(_ offset: UInt64) {
    text += Array((hexadecimal(offset, digits: 8) + "\n").utf8)
  }

  mutating func chunk(_ bytes: Span<UInt8>, at start: UInt64) {
    let lineByteCount = Hexdump.lineByteCount
    let fullByteCount = bytes.count & ~(lineByteCount - 1)
    let mayHaveNotes = notes.mayConcern(start..<start + UInt64(bytes.count))
    var offset = 0
    if repeatsPrevious(bytes, byteCount: fullByteCount),
      !mayHaveNotes || isSilent(previous, at: start)
    {
      squeeze()
      offset = fullByteCount
    }
    while offset < fullByteCount {
      let line = (
        bytes.integer(UInt64.self, at: offset), bytes.integer(UInt64.self, at: offset + 8)
      )
      let place = start + UInt64(offset)
      let said =
        mayHaveNotes && !isSilent(line, at: place)
        ? notes.notes(at: place, byteCount: lineByteCount) : []
      if let previous, previous == line, said.isEmpty {
        squeeze()
      } else {
        append(bytes.extracting(offset..<offset + lineByteCount), at: place)
        append(said, at: place)
        previous = line
        isSqueezing = false
      }
      offset += lineByteCount
    }
    if offset < bytes.count {
      let place = start + UInt64(offset)
      append(bytes.extracting(offset...), at: place)
      if mayHaveNotes { append(notes.notes(at: place, byteCount: bytes.count - offset), at: place) }
    }
  }

  /// Empty entries are not spoken of; an aligned line of zeros holds no others.
  private func isSilent(_ line: (UInt64, UInt64)?, at start: UInt64) -> Bool {
    guard let line else { return false }
    return line == (0, 0) && start % UInt64(Hexdump.lineByteCount) == 0
  }

  /// Whether all full lines equal the one before them: the quick way through gigabytes of zeros.
  private func repeatsPrevious(_ bytes: Span<UInt8>, byteCount: Int) -> Bool {
    let lineByteCount = Hexdump.lineByteCount
    // The first line equals the previous one, and each equals the one before it.
    guard let previous, byteCount >= lineByteCount,
      (bytes.integer(UInt64.self, at: 0), bytes.integer(UInt64.self, at: 8)) == previous
    else { return false }
    // Safe: both runs lie in the span, which has `byteCount` bytes.
    return unsafe bytes.extracting(..<byteCount).withUnsafeBytes { bytes in
      unsafe memcmp(
        bytes.baseAddress!, bytes.baseAddress! + lineByteCount, byteCount - lineByteCount) == 0
    }
  }

  private mutating func squeeze() {
    guard !isSqueezing else { return }
    text += [UInt8(ascii: "*"), UInt8(ascii: "\n")]
    isSqueezing = true
  }

  private mutating func append(_ line: Span<UInt8>, at place: UInt64) {
    guard !style.showsQuadwords, !style.ink.isOn else { return appendStyled(line, at: place) }
    appendOffset(place)
    for index in 0..<Hexdump.lineByteCount {
      if index % 8 == 0 { text.append(UInt8(ascii: " ")) }
      text.append(UInt8(ascii: " "))
      if index < line.count {
        text.append(Self.digit(line[index] >> 4))
        text.append(Self.digit(line[index] & 15))
      } else {
        text.append(UInt8(ascii: " "))
        text.append(UInt8(ascii: " "))
      }
    }
    text.append(UInt8(ascii: " "))
    text.append(UInt8(ascii: " "))
    text.append(UInt8(ascii: "|"))
    for index in line.indices {
      text.append(0x20...0x7e ~= line[index] ? line[index] : UInt8(ascii: "."))
    }
    text.append(UInt8(ascii: "|"))
    text.append(UInt8(ascii: "\n"))
  }

  /// The same with colours, or in words: what is zero steps back.
  private mutating func appendStyled(_ line: Span<UInt8>, at place: UInt64) {
    let ink = style.ink
    var parts = ink.address(hexadecimal(place, digits: 8))
    if style.showsQuadwords {
      for start in stride(from: 0, to: line.count, by: 8) {
        let places = start..<min(start + 8, line.count)
        let word = places.reversed().reduce(0) { $0 << 8 | UInt64(line[$1]) }
        let digits = hexadecimal(word, digits: 2 * places.count)
        parts += "  " + (word == 0 ? ink.faint(digits) : digits)
      }
    } else {
      for index in 0..<Hexdump.lineByteCount {
        if index % 8 == 0 { parts += " " }
        guard index < line.count else {
          parts += "   "
          continue
        }
        let digits = hexadecimal(line[index], digits: 2)
        parts += " " + (line[index] == 0 ? ink.faint(digits) : digits)
      }
      parts += "  |"
      for index in line.indices {
        let byte = line[index]
        parts += 0x20...0x7e ~= byte ? String(UnicodeScalar(byte)) : ink.faint(".")
      }
      parts += "|"
    }
    text += Array((parts + "\n").utf8)
  }

  /// Eight digits, and more from 4 GiB on.
  private mutating func appendOffset(_ offset: UInt64) {
    for index in stride(from: Self.digitCount(offset) - 1, through: 0, by: -1) {
      text.append(Self.digit(UInt8(truncatingIfNeeded: offset >> UInt64(4 * index)) & 15))
    }
  }

  private mutating func append(_ notes: [(offset: Int, text: String)], at place: UInt64) {
    for note in notes {
      // Below the note's first byte: two spaces, three columns a byte, one more between the groups;
      // below its word: two spaces and sixteen digits each.
      let inLine =
        style.showsQuadwords
        ? note.offset / 8 * 18 : 3 * note.offset + (note.offset >= 8 ? 1 : 0)
      let column = Self.digitCount(place) + 2 + inLine
      text += repeatElement(UInt8(ascii: " "), count: column)
      text += Array(style.ink.warning(note.text).utf8)
      text.append(UInt8(ascii: "\n"))
    }
  }

  private static func digitCount(_ offset: UInt64) -> Int {
    max(8, (UInt64.bitWidth - offset.leadingZeroBitCount + 3) / 4)
  }

  private static func digit(_ value: UInt8) -> UInt8 {
    value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10
  }
}
