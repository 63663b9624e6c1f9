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
    let isAnythingShown = show(range, of: memory, by: &writer, to: &out)
    if isAnythingShown { writer.offset(range.upperBound.rawValue) }
    writer.flush(to: &out)
  }

  /// Writes several ranges as one JSON array: an object for each page or part of one, for each run of
  /// zeros, and for each run that is not there.
  ///
  /// - Parameters:
  ///   - ranges: What is shown, in this order; half-open.
  ///   - memory: Memory that may lack some of it.
  ///   - showsQuadwords: 64-bit words, as entries are read, instead of bytes.
  ///   - out: Gets the array, and a line's end.
  public static func writeJSON(
    _ ranges: [Range<PhysicalAddress>], of memory: some PhysicalMemory,
    showsQuadwords: Bool = false,
    to out: inout some TextOutputStream
  ) {
    var writer = PieceWriter(showsQuadwords: showsQuadwords)
    out.write("[")
    for range in ranges {
      _ = show(range, of: memory, by: &writer, to: &out)
      writer.endZeros()
      writer.flush(to: &out)
    }
    out.write("\n]\n")
  }

  /// Hands a range out piece by piece.
  ///
  /// - Returns: Whether any byte of it answers.
  private static func show(
    _ range: Range<PhysicalAddress>, of memory: some PhysicalMemory,
    by writer: inout some HexdumpWriter, to out: inout some TextOutputStream
  ) -> Bool {
    var buffer = [UInt8](repeating: 0, count: chunkByteCount)
    let backed = memory.backedRanges
    let stored = memory.storedRanges
    var next = backed.partitioningIndex { $0.upperBound > range.lowerBound }
    var nextStored = stored.partitioningIndex { $0.upperBound > range.lowerBound }
    let end = range.upperBound.rawValue
    var position = range.lowerBound.rawValue
    var gapStart: UInt64?
    var isAnythingShown = false
    var looks = Self.gapLookLimit

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
        writer.gaps(Self.gaps(in: start..<position, of: memory, looks: &looks))
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
      if zeroEnd > position { position += writer.passOverZeros(zeroEnd - position) }
    }
    if let start = gapStart {
      writer.gaps(Self.gaps(in: start..<end, of: memory, looks: &looks))
    }
    return isAnythingShown
  }

  /// Pages of gaps that are asked one by one why they are not there.
  static let gapLookLimit: UInt64 = 1 << 20

  /// A gap in pieces of one reason each; whole and without a reason where it has more pages than may
  /// still be looked at.
  private static func gaps(
    in range: Range<UInt64>, of memory: some PhysicalMemory, looks: inout UInt64
  ) -> [(range: Range<UInt64>, presence: Presence)] {
    let pageCount = (range.upperBound - 1) >> 12 - range.lowerBound >> 12 + 1
    guard pageCount <= looks else { return [(range, .absent)] }
    looks -= pageCount
    var pieces: [(range: Range<UInt64>, presence: Presence)] = []
    var start = range.lowerBound
    while start < range.upperBound {
      let last = min(start | 4095, range.upperBound - 1)
      let found = memory.presence(of: PhysicalAddress(start))
      // Its first byte may answer where others of the page do not.
      let presence = found.isReadable ? .absent : found
      if let before = pieces.last, before.presence == presence {
        pieces[pieces.count - 1].range = before.range.lowerBound..<last + 1
      } else {
        pieces.append((start..<last + 1, presence))
      }
      start = last + 1
    }
    return pieces
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

/// What memory is written as.
private protocol HexdumpWriter {
  /// Bytes that answer, those of one call in a row.
  mutating func chunk(_ bytes: Span<UInt8>, at start: UInt64)
  /// Ranges that are not there, and why.
  mutating func gaps(_ gaps: [(range: Range<UInt64>, presence: Presence)])
  /// How many of so many zeros that follow need not be handed out.
  mutating func passOverZeros(_ byteCount: UInt64) -> UInt64
  /// Hands over what was written so far.
  mutating func flush(to out: inout some TextOutputStream)
}

/// Memory as objects of a JSON array.
private struct PieceWriter: HexdumpWriter {
  let showsQuadwords: Bool
  private var text = ""
  private var isFirst = true
  /// The run of zeros that may go on.
  private var zeros: Range<UInt64>?

  init(showsQuadwords: Bool) { self.showsQuadwords = showsQuadwords }

  mutating func flush(to out: inout some TextOutputStream) {
    out.write(text)
    text = ""
  }

  mutating func chunk(_ bytes: Span<UInt8>, at start: UInt64) {
    var offset = 0
    while offset < bytes.count {
      let place = start + UInt64(offset)
      let count = min(bytes.count - offset, Int(4096 - place & 4095))
      let page = bytes.extracting(offset..<offset + count)
      offset += count
      if isZero(page) {
        addZeros(place..<place + UInt64(count))
      } else {
        endZeros()
        add(place..<place + UInt64(count), showsQuadwords ? words(of: page) : hex(of: page))
      }
    }
  }

  mutating func gaps(_ gaps: [(range: Range<UInt64>, presence: Presence)]) {
    endZeros()
    // Sentences of ours: nothing in them has to be escaped.
    for (range, presence) in gaps { add(range, "\"missing\" : \"\(presence.whereabouts)\"") }
  }

  mutating func passOverZeros(_ byteCount: UInt64) -> UInt64 {
    guard let zeros else { return 0 }
    addZeros(zeros.upperBound..<zeros.upperBound + byteCount)
    return byteCount
  }

  private mutating func addZeros(_ range: Range<UInt64>) {
    if let before = zeros, before.upperBound == range.lowerBound {
      zeros = before.lowerBound..<range.upperBound
    } else {
      endZeros()
      zeros = range
    }
  }

  mutating func endZeros() {
    guard let range = zeros else { return }
    zeros = nil
    add(range, "\"zero\" : true")
  }

  private mutating func add(_ range: Range<UInt64>, _ content: String) {
    text += isFirst ? "\n" : ",\n"
    isFirst = false
    text += "  {\"address\" : \"\(hexadecimal(range.lowerBound))\", "
    text += "\"bytes\" : \"\(hexadecimal(range.upperBound - range.lowerBound))\", \(content)}"
  }

  private func isZero(_ bytes: Span<UInt8>) -> Bool {
    for index in bytes.indices where bytes[index] != 0 { return false }
    return true
  }

  private func hex(of bytes: Span<UInt8>) -> String {
    var digits: [UInt8] = []
    digits.reserveCapacity(bytes.count * 2)
    for index in bytes.indices {
      digits.append(hexadecimalCharacter(bytes[index] >> 4))
      digits.append(hexadecimalCharacter(bytes[index] & 15))
    }
    return "\"hex\" : \"\(String(decoding: digits, as: UTF8.self))\""
  }

  private func words(of bytes: Span<UInt8>) -> String {
    let words = stride(from: 0, to: bytes.count, by: 8).map { start in
      let places = start..<min(start + 8, bytes.count)
      let word = places.reversed().reduce(0) { $0 << 8 | UInt64(bytes[$1]) }
      return "\"0x" + hexadecimal(word, digits: 2 * places.count) + "\""
    }
    return "\"words\" : [" + words.joined(separator: ", ") + "]"
  }
}

/// The character of one hexadecimal digit.
private func hexadecimalCharacter(_ value: UInt8) -> UInt8 {
  value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10
}

/// Lines of a hexdump in the making.
private struct LineWriter<Notes: LineNotes>: HexdumpWriter {
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

  /// Bytes of whole lines in a run of zeros about which there is nothing to say, where the last line was
  /// of zeros and so was the one before it: an entry that ends behind the run may begin in its last
  /// lines.
  func passOverZeros(_ byteCount: UInt64) -> UInt64 {
    guard isSqueezing, let previous, previous == (0, 0) else { return 0 }
    let tail: UInt64 = 256
    return byteCount < tail ? 0 : (byteCount - tail) & ~UInt64(Hexdump.lineByteCount - 1)
  }

  mutating func flush(to out: inout some TextOutputStream) {
    guard !text.isEmpty else { return }
    out.write(String(decoding: text, as: UTF8.self))
    text.removeAll(keepingCapacity: true)
  }

  /// Says which ranges are not there, and why. The line after them is shown whatever the line before
  /// them was.
  mutating func gaps(_ gaps: [(range: Range<UInt64>, presence: Presence)]) {
    for (range, presence) in gaps {
      let why = presence == .absent ? "not in this image" : presence.description
      let words =
        "(\(hexadecimal(range.lowerBound))..<\(hexadecimal(range.upperBound)) is \(why))\n"
      text += Array(words.utf8)
    }
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
        text.append(hexadecimalCharacter(line[index] >> 4))
        text.append(hexadecimalCharacter(line[index] & 15))
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
      text.append(hexadecimalCharacter(UInt8(truncatingIfNeeded: offset >> UInt64(4 * index)) & 15))
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
}
