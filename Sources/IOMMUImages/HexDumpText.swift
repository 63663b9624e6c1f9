import IOMMUFormats

/// Bytes that somebody has printed: `acpidump`, the raw data of iasl, `xxd`, `hexdump`, `od`.
struct HexDumpText {
  /// One run of bytes from offset 0 on.
  struct Piece {
    /// Where it begins, from 1.
    var line: Int
    var bytes: [UInt8] = []
    /// The bytes if the groups of digits are numbers of the other byte order.
    var swapped: [UInt8] = []

    /// - Parameter isWhole: No digit of the group is missing; half a number is another one.
    mutating func append(_ group: [UInt8], isNumber: Bool, isWhole: Bool) {
      if isWhole || !isNumber { bytes += isNumber ? group.reversed() : group }
      if isWhole || isNumber { swapped += isNumber ? group : group.reversed() }
    }
  }

  let pieces: [Piece]
  /// A line whose offset is not where the one before ended.
  let gap: (line: Int, offset: UInt64, expected: Int)?
  /// A line "*" that stands for others, of which nothing tells how many.
  let omission: Int?

  /// Reads what looks like a dump, and passes over other lines.
  init(_ text: [UInt8]) {
    var reader = Reader()
    let lines = text.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
      .map(Self.content)
    for line in lines { reader.read(line) }
    reader.end()
    gap = reader.gap
    guard reader.pieces.isEmpty else {
      (pieces, omission) = (reader.pieces, nil)
      return
    }
    if let bytes = Self.array(text) {
      (pieces, omission) = ([Piece(line: 1, bytes: bytes)], nil)
    } else {
      (pieces, omission) = Self.plain(lines)
    }
  }

  /// What a line says, without what mail, a log or an editor has put around it: marks of a quotation, the
  /// time of a kernel's log, blanks, those that do not break a line among them.
  private static func content(_ line: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    var line = unquoted(withPlainBlanks(line))
    if line.first == UInt8(ascii: "["), let end = line.firstIndex(of: UInt8(ascii: "]")) {
      let time = line[..<end].dropFirst()
      let isTime = time.allSatisfy {
        isBlank($0) || $0 == UInt8(ascii: ".") || UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0
      }
      if isTime, time.contains(UInt8(ascii: ".")) { line = unquoted(line[end...].dropFirst()) }
    }
    while let last = line.last, isBlank(last) { line.removeLast() }
    return line
  }

  /// The line with a blank for each no-break space, U+00A0 or U+202F.
  private static func withPlainBlanks(_ line: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    guard line.contains(0xc2) || line.contains(0xe2) else { return line }
    var result: [UInt8] = []
    var rest = line
    while let byte = rest.first {
      let isSpace = rest.starts(with: "\u{a0}".utf8) || rest.starts(with: "\u{202f}".utf8)
      result.append(isSpace ? 32 : byte)
      rest = rest.dropFirst(isSpace ? (byte == 0xc2 ? 2 : 3) : 1)
    }
    return result[...]
  }

  private static func unquoted(_ line: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    line.drop { isBlank($0) || $0 == UInt8(ascii: ">") }
  }

  /// `xxd -i`: a C array of bytes.
  private static func array(_ text: [UInt8]) -> [UInt8]? {
    guard let start = text.firstIndex(of: UInt8(ascii: "{")) else { return nil }
    let end = text[start...].firstIndex(of: UInt8(ascii: "}"))
    var words = text[text.index(after: start)..<(end ?? text.endIndex)].split {
      $0 == UInt8(ascii: ",") || isBlank($0) || $0 == 10
    }
    // Where the text is cut, so may be its last number.
    if end == nil, let last = words.last, last.count < 4 { words.removeLast() }
    let bytes = words.compactMap { word -> UInt8? in
      guard word.starts(with: "0x".utf8) || word.starts(with: "0X".utf8) else { return nil }
      return Notation.hexadecimal(utf8: word.dropFirst(2)).flatMap { UInt8(exactly: $0) }
    }
    return bytes.count == words.count && !bytes.isEmpty ? bytes : nil
  }

  /// `xxd -p`, `od -An -t x1`: lines of digits and nothing else, one behind the other.
  private static func plain(_ lines: [ArraySlice<UInt8>]) -> (pieces: [Piece], omission: Int?) {
    var pieces: [Piece] = []
    var omission: Int?
    var digits: [UInt8] = []
    var start = 1
    func end() {
      if digits.count >= 8 {
        // A digit without its other half is one that the text's end has cut.
        pieces.append(
          Piece(line: start, bytes: byteValues(digits[..<(digits.count & ~1)])))
      }
      digits = []
    }
    for (index, line) in lines.enumerated() where !line.isEmpty {
      let here = line.filter { !isBlank($0) }
      if here.allSatisfy({ hexadecimalDigit($0) != nil }) {
        if digits.isEmpty { start = index + 1 }
        digits += here
      } else if here == [UInt8(ascii: "*")], digits.count >= 8 {
        omission = omission ?? index + 1
      } else {
        end()
      }
    }
    end()
    return (pieces, omission)
  }

  private static func byteValues(_ digits: ArraySlice<UInt8>) -> [UInt8] {
    stride(from: digits.startIndex, to: digits.endIndex, by: 2).map {
      UInt8((hexadecimalDigit(digits[$0]) ?? 0) << 4 | (hexadecimalDigit(digits[$0 + 1]) ?? 0))
    }
  }

  fileprivate static func isBlank(_ byte: UInt8) -> Bool { byte == 32 || byte == 9 || byte == 13 }

  /// How a dump writes its groups of digits.
  private enum Style {
    /// Two digits for a byte.
    case hexadecimal
    /// `hexdump -b`, `od -b`.
    case octalBytes
    /// `od` without options.
    case octalWords
    /// `hexdump -d`, `od -d`.
    case decimalWords
    /// `xxd -b`.
    case binary

    /// By the first line of a dump; `nil` for digits that are none of these.
    init?(_ groups: [ArraySlice<UInt8>], hasColon: Bool) {
      guard let first = groups.first else { return nil }
      if hasColon {
        // No table's signature has such digits in hexadecimal.
        let isBinary = groups.allSatisfy {
          $0.count == 8 && $0.allSatisfy { $0 == UInt8(ascii: "0") || $0 == UInt8(ascii: "1") }
        }
        self = isBinary ? .binary : .hexadecimal
        return
      }
      switch first.count {
      case 2, 4, 8, 16: self = .hexadecimal
      case 3: self = .octalBytes
      case 5: self = .decimalWords
      case 6: self = .octalWords
      default: return nil
      }
    }

    /// The bytes of a group, the highest first; `nil` when it is none of this style.
    func bytes(_ group: ArraySlice<UInt8>) -> [UInt8]? {
      switch self {
      case .hexadecimal: group.count % 2 == 0 ? byteValues(group) : nil
      case .octalBytes: Self.number(group, base: 8, below: 1 << 8).map { [UInt8($0)] }
      case .binary: Self.number(group, base: 2, below: 1 << 8).map { [UInt8($0)] }
      case .octalWords: Self.word(group, base: 8)
      case .decimalWords: Self.word(group, base: 10)
      }
    }

    private static func word(_ digits: ArraySlice<UInt8>, base: Int) -> [UInt8]? {
      number(digits, base: base, below: 1 << 16).map { [UInt8($0 >> 8), UInt8($0 & 0xff)] }
    }

    /// The number that digits of a base make; `nil` for another digit, or for `limit` and more.
    private static func number(
      _ digits: ArraySlice<UInt8>, base: Int, below limit: Int
    ) -> Int? {
      var value = 0
      for digit in digits {
        guard let digit = hexadecimalDigit(digit), digit < base else { return nil }
        value = value * base + digit
        guard value < limit else { return nil }
      }
      return value
    }
  }

  private struct Reader {
    var pieces: [Piece] = []
    var gap: (line: Int, offset: UInt64, expected: Int)?
    private var piece: Piece?
    private var number = 0
    /// A line "*" stands for more of the bytes before it.
    private var repeats = false
    /// In which base offsets are, once one has told.
    private var radix: Int?
    /// How groups are written, of how many digits, and in how many columns, by the first line.
    private var style: (Style, width: Int, stride: Int)?

    mutating func end() {
      if let piece, !piece.bytes.isEmpty { pieces.append(piece) }
      piece = nil
      repeats = false
      radix = nil
      style = nil
    }

    mutating func read(_ line: ArraySlice<UInt8>) {
      number += 1
      if line.elementsEqual([UInt8(ascii: "*")]), piece != nil {
        repeats = true
        return
      }
      guard let (text, hasColon, data) = parts(line) else {
        // Blank lines are no part of a dump, and end none.
        if !line.isEmpty { end() }
        return
      }
      let count = piece?.bytes.count ?? 0
      // hexdump and xxd count in hexadecimal, od in octal unless it was told otherwise.
      let bases = radix.map { [$0] } ?? (hasColon ? [16] : [16, 8, 10])
      let offsets = bases.compactMap { UInt64(text, radix: $0) }
      if offsets.contains(UInt64(count)), piece != nil, count > 0, !repeats {
        radix = bases.first { UInt64(text, radix: $0) == UInt64(count) }
        append(data, hasColon)
      } else if offsets.first == 0 {
        end()
        piece = Piece(line: number)
        append(data, hasColon)
      } else if let offset = offsets.first(where: { $0 > UInt64(count) && $0 < 1 << 20 }), repeats,
        let last = piece?.bytes.suffix(16), let lastSwapped = piece?.swapped.suffix(16),
        last.count == 16
      {
        while UInt64(piece?.bytes.count ?? 0) < offset {
          piece?.bytes += last
          piece?.swapped += lastSwapped
        }
        repeats = false
        append(data, hasColon)
      } else if piece != nil, let offset = offsets.first, data.count > 1 {
        gap = gap ?? (number, offset, count)
        end()
      }
    }

    private mutating func append(_ groups: [Group], _ hasColon: Bool) {
      if style == nil, let first = groups.first {
        style = Style(groups.map(\.digits), hasColon: hasColon).map {
          ($0, first.digits.count, first.stride)
        }
      }
      guard let (style, width, stride) = style else { return }
      for group in groups {
        // A short one is the last: of a text that is cut, or to the right in its column.
        let isWhole = group.digits.count == width || group.stride == stride
        guard style == .hexadecimal || isWhole, let bytes = style.bytes(group.digits) else {
          return
        }
        // Without a colon behind the offset groups are numbers, of which the low byte comes first.
        piece?.append(bytes, isNumber: !hasColon, isWhole: isWhole)
      }
    }

    private struct Group {
      var digits: ArraySlice<UInt8>
      /// Columns that it takes, with the blanks before it.
      var stride: Int
    }

    /// Offset and groups of digits; `nil` for a line that is none of a dump.
    private func parts(
      _ line: ArraySlice<UInt8>
    ) -> (offset: String, hasColon: Bool, data: [Group])? {
      var rest = line
      let digits = rest.prefix { hexadecimalDigit($0) != nil }
      rest = rest.dropFirst(digits.count)
      let hasColon = rest.first == UInt8(ascii: ":")
      if hasColon { rest = rest.dropFirst() }
      guard 3...16 ~= digits.count, rest.isEmpty || HexDumpText.isBlank(rest[rest.startIndex])
      else {
        return nil
      }
      // What people see of the bytes stands behind a mark, or behind two blanks.
      for mark in ["|", " >", "//"] {
        if let place = rest.firstRange(of: Array(mark.utf8)) {
          rest = rest[..<place.lowerBound]
          break
        }
      }
      var groups: [Group] = []
      var index = rest.startIndex
      while index < rest.endIndex, groups.count < 256 {
        let start = index
        while index < rest.endIndex, HexDumpText.isBlank(rest[index]) { index += 1 }
        let blanks = index - start
        let group = rest[index...].prefix { !HexDumpText.isBlank($0) }
        index += group.count
        let isDecimal =
          style.map { $0.0 == .decimalWords } ?? (!hasColon && groups.first?.digits.count == 5)
        let stride = blanks + group.count
        let isInColumn = groups.first.map { stride == $0.stride } ?? true
        // hexdump -C has two blanks in the middle of a line.
        let isMiddle = blanks == 2 && groups.count == 8 && group.count == 2
        if blanks > 1 || isDecimal, !isInColumn, !isMiddle { break }
        guard !group.isEmpty, hasColon ? group.count % 2 == 0 && group.count <= 64 : true,
          isDecimal || hasColon || [2, 3, 4, 5, 6, 8, 16].contains(group.count),
          group.allSatisfy({ hexadecimalDigit($0) != nil })
        else { break }
        groups.append(Group(digits: group, stride: stride))
      }
      guard !groups.isEmpty || rest.isEmpty else { return nil }
      return (String(decoding: digits, as: UTF8.self), hasColon, groups)
    }
  }
}
