import IOMMUFormats

/// Bytes that somebody has printed: `acpidump`, the raw data of iasl, `xxd`, `hexdump`, `od`.
struct HexDumpText {
  /// One run of bytes from offset 0 on.
  struct Piece {
    /// Where it begins, from 1.
    var line: Int
    var bytes: [UInt8] = []
  }

  let pieces: [Piece]
  /// A line whose offset is not where the one before ended.
  let gap: (line: Int, offset: UInt64, expected: Int)?

  /// Reads what looks like a dump, and passes over other lines.
  init(_ text: [UInt8]) {
    var reader = Reader()
    for line in text.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
      reader.read(line)
    }
    reader.end()
    if reader.pieces.isEmpty, let bytes = Self.plain(text) {
      pieces = [Piece(line: 1, bytes: bytes)]
    } else {
      pieces = reader.pieces
    }
    gap = reader.gap
  }

  /// `xxd -p`: digits and nothing else; `xxd -i`: a C array of them.
  private static func plain(_ text: [UInt8]) -> [UInt8]? {
    if let start = text.firstIndex(of: UInt8(ascii: "{")) {
      let end = text[start...].firstIndex(of: UInt8(ascii: "}")) ?? text.endIndex
      let words = text[text.index(after: start)..<end].split {
        $0 == UInt8(ascii: ",") || isBlank($0) || $0 == 10
      }
      let bytes = words.compactMap { word -> UInt8? in
        guard word.starts(with: "0x".utf8) || word.starts(with: "0X".utf8) else { return nil }
        return Notation.hexadecimal(utf8: word.dropFirst(2)).flatMap { UInt8(exactly: $0) }
      }
      return bytes.count == words.count && !bytes.isEmpty ? bytes : nil
    }
    let digits = text.filter { !isBlank($0) && $0 != 10 }
    guard digits.count >= 8, digits.count % 2 == 0,
      digits.allSatisfy({ hexadecimalDigit($0) != nil })
    else { return nil }
    return byteValues(digits[...])
  }

  private static func byteValues(_ digits: ArraySlice<UInt8>) -> [UInt8] {
    stride(from: digits.startIndex, to: digits.endIndex, by: 2).map {
      UInt8((hexadecimalDigit(digits[$0]) ?? 0) << 4 | (hexadecimalDigit(digits[$0 + 1]) ?? 0))
    }
  }

  fileprivate static func isBlank(_ byte: UInt8) -> Bool { byte == 32 || byte == 9 || byte == 13 }

  private struct Reader {
    var pieces: [Piece] = []
    var gap: (line: Int, offset: UInt64, expected: Int)?
    private var piece: Piece?
    private var number = 0
    /// A line "*" stands for more of the bytes before it.
    private var repeats = false
    /// In which base offsets are, once one has told.
    private var radix: Int?

    mutating func end() {
      if let piece, !piece.bytes.isEmpty { pieces.append(piece) }
      piece = nil
      repeats = false
      radix = nil
    }

    mutating func read(_ line: ArraySlice<UInt8>) {
      number += 1
      // Mail quotes with ">".
      var rest = line.drop { HexDumpText.isBlank($0) || $0 == UInt8(ascii: ">") }
      while let last = rest.last, HexDumpText.isBlank(last) { rest.removeLast() }
      if rest.elementsEqual([UInt8(ascii: "*")]), piece != nil {
        repeats = true
        return
      }
      guard let (text, hasColon, data) = Self.parts(rest) else {
        // Blank lines are no part of a dump, and end none.
        if !rest.isEmpty { end() }
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
        let last = piece?.bytes.suffix(16), last.count == 16
      {
        while UInt64(piece?.bytes.count ?? 0) < offset { piece?.bytes += last }
        repeats = false
        append(data, hasColon)
      } else if piece != nil, let offset = offsets.first, data.count > 1 {
        gap = gap ?? (number, offset, count)
        end()
      }
    }

    private mutating func append(_ groups: [ArraySlice<UInt8>], _ hasColon: Bool) {
      for group in groups {
        let bytes = HexDumpText.byteValues(group)
        // Without a colon behind the offset groups are numbers, of which the low byte comes first.
        piece?.bytes += hasColon || bytes.count == 1 ? bytes : bytes.reversed()
      }
    }

    /// Offset and groups of digits; `nil` for a line that is none of a dump.
    private static func parts(
      _ line: ArraySlice<UInt8>
    ) -> (offset: String, hasColon: Bool, data: [ArraySlice<UInt8>])? {
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
      var groups: [ArraySlice<UInt8>] = []
      var byteCount = 0
      var index = rest.startIndex
      while index < rest.endIndex, byteCount < 32 {
        let start = index
        while index < rest.endIndex, HexDumpText.isBlank(rest[index]) { index += 1 }
        let blanks = index - start
        let group = rest[index...].prefix { !HexDumpText.isBlank($0) }
        index += group.count
        // hexdump -C has two blanks in the middle of a line.
        let isMiddle = blanks == 2 && byteCount == 8 && group.count == 2
        if blanks > 1, !groups.isEmpty, !isMiddle { break }
        guard [2, 4, 8, 16].contains(group.count),
          group.allSatisfy({ hexadecimalDigit($0) != nil })
        else { break }
        groups.append(group)
        byteCount += group.count / 2
      }
      guard !groups.isEmpty || rest.isEmpty else { return nil }
      return (String(decoding: digits, as: UTF8.self), hasColon, groups)
    }
  }
}
