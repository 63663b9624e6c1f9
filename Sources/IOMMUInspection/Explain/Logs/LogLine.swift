import IOMMUFormats

/// A line of a log as its kernel wrote it: without what mail, terminals and web pages have added.
struct LogLine {
  /// The line without quotation marks before it, colours, and blanks at its end.
  var text: String
  /// A mail program has broken the line within a word: the next one goes on without a blank.
  var isBrokenInWord = false

  /// Bytes of a line that are looked at; no kernel writes more.
  static let byteCountLimit = 16 << 10

  /// - Parameter bytes: The line, without its newline.
  init(_ bytes: ArraySlice<UInt8>) {
    if Self.isPlain(bytes) {
      text = String(decoding: bytes, as: UTF8.self)
      return
    }
    var plain: [UInt8] = []
    plain.reserveCapacity(min(bytes.count, Self.byteCountLimit))
    var isEscape = false
    for byte in bytes.prefix(Self.byteCountLimit) {
      if isEscape {
        // A colour of a terminal ends with a letter.
        isEscape = !(0x40...0x7e ~= byte && byte != UInt8(ascii: "["))
      } else if byte == 0x1b {
        isEscape = true
      } else {
        plain.append(byte == 9 || byte == 13 ? UInt8(ascii: " ") : byte)
      }
    }
    Self.removeQuotationMarks(&plain)
    Self.removeBlanks(&plain)
    // Quoted-printable, which is told by its own sign for "=": no other text has it before a digit.
    if plain.firstRange(of: "=3D") != nil { Self.decode(&plain) }
    while plain.suffix(3).elementsEqual("=20".utf8) {
      plain.removeLast(3)
      Self.removeBlanks(&plain)
    }
    // Behind a blank and in a short line it is the line's own.
    if plain.last == UInt8(ascii: "="),
      70...77 ~= plain.count || plain.dropLast().last != UInt8(ascii: " ")
    {
      plain.removeLast()
      isBrokenInWord = true
    }
    Self.joinBlanks(&plain)
    text = String(decoding: plain, as: UTF8.self)
  }

  /// Whether a line is as its kernel wrote it: nothing to take away, which most are.
  private static func isPlain(_ bytes: ArraySlice<UInt8>) -> Bool {
    guard bytes.count <= byteCountLimit, let first = bytes.first, let last = bytes.last else {
      return false
    }
    guard first > 0x20, ![0x26, 0x3d, 0x3e, 0x7c].contains(first), last > 0x20, last != 0x3d,
      last != UInt8(ascii: "0")
    else { return false }
    var previous: UInt8 = 0
    for byte in bytes {
      // Controls, two blanks, or what may be quoted-printable.
      if byte < 0x20 || byte == 0x20 && previous == 0x20 || previous == 0x3d && byte == 0x33 {
        return false
      }
      previous = byte
    }
    return true
  }

  /// What mail programs put before lines of others: `> `, `| `, `=> `, and `&gt; ` as pages have it.
  private static func removeQuotationMarks(_ bytes: inout [UInt8]) {
    var start = 0
    while bytes[start...].starts(with: "&gt;".utf8) {
      start += 4
      while start < bytes.count, bytes[start] == UInt8(ascii: " ") { start += 1 }
    }
    bytes.removeFirst(start)
    let count = bytes.prefix { $0 == 0x20 || $0 == 0x3e || $0 == 0x7c || $0 == 0x3d }.count
    let head = bytes[..<count]
    if head.contains(0x3e) || head.contains(0x7c) { bytes.removeFirst(count) }
  }

  private static func removeBlanks(_ bytes: inout [UInt8]) {
    while bytes.last == UInt8(ascii: " ") { bytes.removeLast() }
  }

  /// One blank for several: whoever breaks lines may indent the rest.
  private static func joinBlanks(_ bytes: inout [UInt8]) {
    var isBlank = false
    bytes.removeAll { byte in
      defer { isBlank = byte == UInt8(ascii: " ") }
      return isBlank && byte == UInt8(ascii: " ")
    }
  }

  /// Puts a byte for each `=XX`, two digits with capitals.
  private static func decode(_ bytes: inout [UInt8]) {
    var decoded: [UInt8] = []
    var index = 0
    while index < bytes.count {
      if bytes[index] == UInt8(ascii: "="), index + 2 < bytes.count,
        let high = hexadecimalDigit(bytes[index + 1]), let low = hexadecimalDigit(bytes[index + 2]),
        !(0x61...0x66 ~= bytes[index + 1]), !(0x61...0x66 ~= bytes[index + 2])
      {
        decoded.append(UInt8(high << 4 | low))
        index += 3
      } else {
        decoded.append(bytes[index])
        index += 1
      }
    }
    bytes = decoded
  }
}

extension [UInt8] {
  /// The first place where `mark` lies.
  fileprivate func firstRange(of mark: StaticString) -> Range<Int>? {
    let count = mark.utf8CodeUnitCount
    var place = startIndex
    while place + count <= endIndex {
      if holds(mark, at: place) { return place..<(place + count) }
      place += 1
    }
    return nil
  }

  /// - Precondition: as many bytes follow.
  private func holds(_ mark: StaticString, at place: Int) -> Bool {
    for index in 0..<mark.utf8CodeUnitCount {
      // Safe: a literal has as many bytes as it says, for ever.
      if unsafe self[place + index] != mark.utf8Start[index] { return false }
    }
    return true
  }
}

/// Goes along the words of a message; never past its end.
struct LogScanner {
  private(set) var rest: Substring

  init(_ text: some StringProtocol) { rest = Substring(text) }

  /// Goes on behind the next `mark`; stays when there is none.
  @discardableResult
  mutating func skip(past mark: String) -> Bool {
    guard let range = rest.firstRange(of: mark) else { return false }
    rest = rest[range.upperBound...]
    return true
  }

  /// A number in hexadecimal, with `0x` or without, that a blank, a bracket or a comma ends.
  mutating func hexadecimal() -> UInt64? {
    skipBlanks()
    var word = rest
    if word.hasPrefix("0x") || word.hasPrefix("0X") { word = word.dropFirst(2) }
    let digits = word.prefix { $0.isHexDigit }
    let behind = word[digits.endIndex...]
    if let next = behind.first, next.isLetter || next.isNumber || next == "_" { return nil }
    guard let value = Notation.hexadecimal(utf8: digits.utf8) else { return nil }
    rest = behind
    return value
  }

  /// A number in decimal.
  mutating func decimal() -> UInt64? {
    skipBlanks()
    let digits = rest.prefix { $0.isASCII && $0.isNumber }
    guard let value = UInt64(digits) else { return nil }
    rest = rest[digits.endIndex...]
    return value
  }

  /// A number as C prints it: hexadecimal with `0x`, decimal without.
  mutating func printed() -> UInt64? {
    skipBlanks()
    return rest.hasPrefix("0x") ? hexadecimal() : decimal()
  }

  mutating func skipBlanks() { rest = rest.drop { $0 == " " } }

  /// The next word, up to a blank.
  mutating func word() -> Substring {
    skipBlanks()
    let word = rest.prefix { $0 != " " }
    rest = rest[word.endIndex...]
    return word
  }

  /// The hexadecimal number behind `mark`, wherever that is; the scanner stays.
  func hexadecimal(after mark: String) -> UInt64? {
    var copy = self
    return copy.skip(past: mark) ? copy.hexadecimal() : nil
  }

  func decimal(after mark: String) -> UInt64? {
    var copy = self
    return copy.skip(past: mark) ? copy.decimal() : nil
  }

  func printed(after mark: String) -> UInt64? {
    var copy = self
    return copy.skip(past: mark) ? copy.printed() : nil
  }

  /// The device behind `mark`, up to a blank, a comma or a bracket.
  func device(after mark: String) -> PCI.Function? {
    var copy = self
    guard copy.skip(past: mark) else { return nil }
    copy.skipBlanks()
    let text = copy.rest.drop { $0 == "[" }.prefix { !" ],;)".contains($0) }
    guard !text.isEmpty, text.contains(":") else { return nil }
    return try? Notation.device(text)
  }
}

extension Substring {
  /// The first place where `mark` lies in the text.
  func firstRange(of mark: String) -> Range<Index>? {
    guard let first = mark.utf8.first else { return nil }
    var start = startIndex
    while let index = utf8[start...].firstIndex(of: first) {
      if utf8[index...].starts(with: mark.utf8) {
        return index..<utf8.index(index, offsetBy: mark.utf8.count)
      }
      start = utf8.index(after: index)
    }
    return nil
  }

  func contains(_ mark: String) -> Bool { firstRange(of: mark) != nil }
}

extension String {
  /// Bytes for bytes; the standard library's takes characters.
  func has(_ mark: String) -> Bool { self[...].contains(mark) }
}
