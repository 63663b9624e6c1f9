import IOMMUFormats

/// Goes along the bytes of one line; never past its end.
struct LineScanner {
  private let bytes: ArraySlice<UInt8>
  /// The line has no end: a number that stands last in it may go on, and is none.
  private let isOpen: Bool
  /// An index of `bytes`.
  private(set) var position: Int

  init(_ bytes: ArraySlice<UInt8>, isOpen: Bool = false) {
    self.bytes = bytes
    self.isOpen = isOpen
    position = bytes.startIndex
  }

  var rest: ArraySlice<UInt8> { bytes[position...] }

  /// The same line up to what it ends with; itself where it ends otherwise.
  func dropping(suffix: StaticString) -> LineScanner {
    let count = suffix.utf8CodeUnitCount
    var end = bytes.endIndex
    while end > position, Self.isBlank(bytes[end - 1]) { end -= 1 }
    guard end - position >= count, matches(suffix, at: end - count) else { return self }
    return LineScanner(bytes[position..<(end - count)])
  }

  private static func isBlank(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: " ") || byte == 9 || byte == 13
  }

  var peek: UInt8? { position < bytes.endIndex ? bytes[position] : nil }
  var isAtEnd: Bool { position >= bytes.endIndex }

  func hasPrefix(_ text: StaticString) -> Bool { matches(text, at: position) }

  func contains(_ text: StaticString) -> Bool {
    var copy = self
    return copy.skip(past: text)
  }

  private func matches(_ text: StaticString, at place: Int) -> Bool {
    let count = text.utf8CodeUnitCount
    guard place + count <= bytes.endIndex else { return false }
    for index in 0..<count {
      // Safe: a literal has as many bytes as it says, for ever.
      let expected = unsafe text.utf8Start[index]
      if bytes[place + index] != expected { return false }
    }
    return true
  }

  /// Goes on behind the next occurrence of `text`; stays when there is none.
  mutating func skip(past text: StaticString) -> Bool {
    let start = bytes.startIndex
    guard let place = bytes.span.firstIndex(of: text, from: position - start) else { return false }
    position = start + place + text.utf8CodeUnitCount
    return true
  }

  mutating func skipBlanks() {
    while let byte = peek, Self.isBlank(byte) { position += 1 }
  }

  /// The bytes up to one of `ends`, which stays, or to the end of the line.
  mutating func word(until ends: StaticString) -> ArraySlice<UInt8> {
    let start = position
    while let byte = peek {
      // Safe: the literal's bytes are looked at in here only.
      let isEnd = ends.withUTF8Buffer { unsafe $0.contains(byte) }
      if isEnd { break }
      position += 1
    }
    return bytes[start..<position]
  }

  /// A number in hexadecimal, with or without 0x.
  mutating func hexadecimal() -> UInt64? {
    if hasPrefix("0x") { position += 2 }
    return digits(radix: 16)
  }

  mutating func decimal() -> UInt64? { digits(radix: 10) }

  private mutating func digits(radix: UInt64) -> UInt64? {
    var value: UInt64 = 0
    let start = position
    while let byte = peek {
      let digit: UInt64
      switch byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = UInt64(byte) - 48
      case UInt8(ascii: "a")...UInt8(ascii: "f") where radix == 16: digit = UInt64(byte) - 87
      case UInt8(ascii: "A")...UInt8(ascii: "F") where radix == 16: digit = UInt64(byte) - 55
      default: return position > start ? value : nil
      }
      let (product, overflow) = value.multipliedReportingOverflow(by: radix)
      let (sum, carry) = product.addingReportingOverflow(digit)
      guard !overflow, !carry else { return nil }
      value = sum
      position += 1
    }
    return position > start && !isOpen ? value : nil
  }

  /// `00:1f.2`, `0001:00:1f.2`, or with two digits of function as QEMU writes it.
  mutating func device() -> PCI.Function? {
    guard var bus = hexadecimal(), peek == UInt8(ascii: ":") else { return nil }
    position += 1
    guard var device = hexadecimal() else { return nil }
    var segment: UInt32 = 0
    if peek == UInt8(ascii: ":") {
      position += 1
      guard let first = UInt32(exactly: bus), let next = hexadecimal() else { return nil }
      (segment, bus, device) = (first, device, next)
    }
    guard peek == UInt8(ascii: ".") else { return nil }
    position += 1
    guard let function = hexadecimal(), bus < 256, device < 32, function < 8 else { return nil }
    return PCI.Function(
      segment: segment, Requester(rawValue: UInt16(bus << 8 | device << 3 | function)))
  }

  /// The number behind `key`, anywhere in the rest of the line; the scanner stays where it is.
  func hexadecimal(after key: StaticString) -> UInt64? {
    var copy = self
    return copy.skip(past: key) ? copy.hexadecimal() : nil
  }

  func decimal(after key: StaticString) -> UInt64? {
    var copy = self
    return copy.skip(past: key) ? copy.decimal() : nil
  }

  /// A number: in hexadecimal behind 0x, else in decimal.
  mutating func number() -> UInt64? { hasPrefix("0x") ? hexadecimal() : decimal() }

  func number(after key: StaticString) -> UInt64? {
    var copy = self
    return copy.skip(past: key) ? copy.number() : nil
  }

  /// A number behind `key` that another key follows: one that the line's cut end shortens has none.
  func number(after key: StaticString, before next: StaticString) -> UInt64? {
    var copy = self
    guard copy.skip(past: key), let number = copy.number(), let byte = copy.peek,
      Self.isBlank(byte), copy.contains(next)
    else { return nil }
    return number
  }

  /// What stands before the first `KEY=`, without the blanks around it; `nil` when that is nothing.
  func textBeforeKeys() -> ArraySlice<UInt8>? {
    guard let equals = rest.firstIndex(of: UInt8(ascii: "=")),
      let blank = rest[..<equals].lastIndex(of: UInt8(ascii: " "))
    else { return nil }
    var text = rest[..<blank]
    while text.last == UInt8(ascii: " ") { text.removeLast() }
    while text.first == UInt8(ascii: " ") { text.removeFirst() }
    return text.isEmpty ? nil : text
  }

  /// The numbers of `{0x1,0x2}` behind `key`.
  func list(after key: StaticString) -> [UInt64]? {
    var copy = self
    guard copy.skip(past: key), copy.peek == UInt8(ascii: "{") else { return nil }
    copy.position += 1
    var values: [UInt64] = []
    while let byte = copy.peek, byte != UInt8(ascii: "}") {
      if byte == UInt8(ascii: ",") || byte == UInt8(ascii: " ") {
        copy.position += 1
        continue
      }
      guard let value = copy.hexadecimal() else { return nil }
      values.append(value)
    }
    return copy.isAtEnd ? nil : values
  }
}
