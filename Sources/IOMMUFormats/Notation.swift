/// Why a text is no number, range or device, and what would be one.
public struct NotationError: Error, Hashable, CustomStringConvertible {
  public let description: String
  package init(_ description: String) { self.description = description }
}

/// How numbers, ranges and devices are written: one grammar for the command line and for files.
///
/// - An *address* is hexadecimal, with `0x` or without; decimal with `0n`, or with a K, M, G or T
///   behind it that counts KiB to TiB: `16M`.
/// - A *size* is decimal, with the same letters or without; hexadecimal with `0x`.
/// - A *range* is `START-LAST`, both ends included, as `/proc/iomem` prints it; `START+SIZE`,
///   `SIZE@START`, or `START..<END`.
/// - A *device* is `bus:device.function`, with its PCI segment in front where that is not 0.
/// - A *PASID* is decimal; hexadecimal with `0x`.
///
/// None of these letters is a hexadecimal digit, so that no text means two things.
package enum Notation {
  /// What is expected, for a refusal.
  private enum Form: String {
    case address =
      "an address is hexadecimal (7663000 or 0x7663000), decimal behind 0n, or a size such as 16M"
    case size = "a size is decimal, with K, M, G or T behind it (128M), or hexadecimal with 0x"
    case range =
      """
      a range is START-LAST as /proc/iomem has it (15000000-1effffff), START+SIZE, SIZE@START or \
      START..<END
      """
    case device =
      """
      a device is bus:device.function (00:1f.2), with its segment in front where that is not 0 \
      (0001:00:1f.2)
      """
    case pasid = "a PASID is a number of 20 bits, decimal, or hexadecimal with 0x"

    func refusal(_ why: String) -> NotationError { NotationError("\(why); \(rawValue)") }
  }

  // MARK: Numbers

  /// Reads an address.
  package static func address(_ text: some StringProtocol) throws(NotationError) -> UInt64 {
    try number(String(text), radix: 16, .address)
  }

  /// Reads an address from bytes; a million requests come through here.
  @inlinable
  package static func address(utf8 text: some Collection<UInt8>) throws(NotationError) -> UInt64 {
    if let value = hexadecimal(utf8: text) { return value }
    return try address(String(decoding: text, as: UTF8.self))
  }

  /// Reads a number of bytes.
  package static func size(_ text: some StringProtocol) throws(NotationError) -> UInt64 {
    try number(String(text), radix: 10, .size)
  }

  /// Reads a number of bytes from bytes.
  @inlinable
  package static func size(utf8 text: some Collection<UInt8>) throws(NotationError) -> UInt64 {
    if let value = decimal(utf8: text) { return value }
    return try size(String(decoding: text, as: UTF8.self))
  }

  /// Reads a PASID.
  package static func pasid(_ text: some StringProtocol) throws(NotationError) -> PASID {
    let value = try number(String(text), radix: 10, .pasid)
    guard value >> 20 == 0 else { throw Form.pasid.refusal("\(value) is above 1048575") }
    return PASID(UInt32(value))
  }

  /// Reads a whole number that must lie in `range`.
  package static func count(
    _ text: some StringProtocol, in range: ClosedRange<Int>
  ) throws(NotationError) -> Int {
    guard let count = Int(String(text)), range.contains(count) else {
      throw NotationError(
        "a whole number from \(range.lowerBound) to \(range.upperBound) is expected")
    }
    return count
  }

  /// Reads hexadecimal digits, with `0x` or without; `nil` for anything else.
  @inlinable
  package static func hexadecimal(utf8 text: some Collection<UInt8>) -> UInt64? {
    var value: UInt64 = 0
    var digitCount = 0
    for byte in text {
      guard let digit = hexadecimalDigit(byte) else {
        // The x of 0x: one digit came before it, a zero.
        guard byte | 0x20 == UInt8(ascii: "x"), digitCount == 1, value == 0 else { return nil }
        digitCount = -1
        continue
      }
      guard value >> 60 == 0 else { return nil }
      value = value << 4 | UInt64(digit)
      digitCount = digitCount < 0 ? 2 : digitCount + 1
    }
    return digitCount > 0 ? value : nil
  }

  /// Reads decimal digits; `nil` for anything else.
  @inlinable
  package static func decimal(utf8 text: some Collection<UInt8>) -> UInt64? {
    var value: UInt64 = 0
    for byte in text {
      guard UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte else { return nil }
      let (product, overflow) = value.multipliedReportingOverflow(by: 10)
      let (sum, carry) = product.addingReportingOverflow(UInt64(byte &- UInt8(ascii: "0")))
      guard !overflow, !carry else { return nil }
      value = sum
    }
    return text.isEmpty ? nil : value
  }

  private static func number(
    _ text: String, radix: UInt64, _ form: Form
  ) throws(NotationError) -> UInt64 {
    let bytes = Array(text.utf8)
    guard let first = bytes.first, let last = bytes.last else {
      throw form.refusal("nothing is there")
    }
    guard first != UInt8(ascii: "-"), first != UInt8(ascii: "+") else {
      throw form.refusal("numbers have no sign")
    }
    let prefix = bytes.count > 1 && first == UInt8(ascii: "0") ? bytes[1] | 0x20 : 0
    let isHexadecimal = prefix == UInt8(ascii: "x")
    // 0x10g is an address with a slip of the finger.
    let hasLetter = form == .size || form == .address && !isHexadecimal
    let shift = hasLetter ? Self.shift(last) : 0
    let radix = isHexadecimal ? 16 : shift > 0 || prefix == UInt8(ascii: "n") ? 10 : radix
    let start = isHexadecimal || prefix == UInt8(ascii: "n") ? 2 : 0
    let end = shift > 0 ? bytes.count - 1 : bytes.count
    guard start < end else { throw form.refusal("digits are missing") }
    var value: UInt64 = 0
    for index in start..<end {
      guard let digit = hexadecimalDigit(bytes[index]), digit < radix else {
        // All before it is ASCII, so that bytes and characters have the same numbers.
        let shown = String(text.unicodeScalars.dropFirst(index).prefix(1)).visible
        let kind = radix == 16 ? "hexadecimal" : "decimal"
        throw form.refusal("'\(shown)' is no \(kind) digit")
      }
      let (product, overflow) = value.multipliedReportingOverflow(by: radix)
      let (sum, carry) = product.addingReportingOverflow(UInt64(digit))
      guard !overflow, !carry else { throw form.refusal("it has more than 64 bits") }
      value = sum
    }
    guard value.leadingZeroBitCount >= shift else {
      throw form.refusal("it has more than 64 bits")
    }
    return value << UInt64(shift)
  }

  /// What a letter behind the digits multiplies them by, as a power of two; 0 for any other byte.
  private static func shift(_ letter: UInt8) -> Int {
    switch letter | 0x20 {
    case UInt8(ascii: "k"): 10
    case UInt8(ascii: "m"): 20
    case UInt8(ascii: "g"): 30
    case UInt8(ascii: "t"): 40
    default: 0
    }
  }

  // MARK: Ranges

  /// Reads a range of addresses, which holds at least one byte.
  package static func range<Bound: Address>(
    _ text: some StringProtocol, of _: Bound.Type = Bound.self
  ) throws(NotationError) -> Range<Bound> {
    let text = withoutName(String(text))
    if let (start, end) = halves(text, "..<") {
      return try range(from: try address(start), to: try address(end))
    }
    if let (size, start) = halves(text, "@") {
      return try range(from: try address(start), byteCount: try self.size(size))
    }
    if let (start, size) = halves(text, "+") {
      return try range(from: try address(start), byteCount: try self.size(size))
    }
    guard let (first, second) = halves(text, "-") else {
      throw Form.range.refusal("it has a start and no end")
    }
    let (start, last) = (try address(first), try address(second))
    guard start <= last else { throw Form.range.refusal("it ends before it starts") }
    guard last < .max else {
      throw NotationError("it ends with the last byte of 64 bits; leave that byte out")
    }
    return try range(from: start, to: last + 1)
  }

  private static func range<Bound: Address>(
    from start: UInt64, byteCount: UInt64
  ) throws(NotationError) -> Range<Bound> {
    let (end, overflow) = start.addingReportingOverflow(byteCount)
    guard !overflow else { throw Form.range.refusal("it ends beyond 64 bits") }
    return try range(from: start, to: end)
  }

  private static func range<Bound: Address>(
    from start: UInt64, to end: UInt64
  ) throws(NotationError) -> Range<Bound> {
    guard start != end else { throw Form.range.refusal("it holds no byte") }
    guard start < end else { throw Form.range.refusal("it ends before it starts") }
    return Bound(rawValue: start)..<Bound(rawValue: end)
  }

  /// A line of `/proc/iomem` without its blanks and its name: `15000000-1effffff : Crash kernel`.
  private static func withoutName(_ text: String) -> Substring {
    let blanks = text.prefix { $0 == " " }
    let line = text.dropFirst(blanks.count)
    return halves(String(line), " : ")?.0 ?? line
  }

  /// The two parts of `text` around the first `separator`; `nil` when there is none, or nothing
  /// stands before it.
  package static func halves(
    _ text: some StringProtocol, _ separator: String
  ) -> (Substring, Substring)? {
    let text = Substring(text)
    var index = text.startIndex
    while index < text.endIndex {
      if index > text.startIndex, text[index...].hasPrefix(separator) {
        return (text[..<index], text[text.index(index, offsetBy: separator.count)...])
      }
      index = text.index(after: index)
    }
    return nil
  }

  // MARK: Devices

  /// Reads a device from bytes; a million requests come through here.
  @inlinable
  package static func device(
    utf8 text: some Collection<UInt8>
  ) throws(NotationError) -> PCI.Function {
    if let requester = Requester(utf8: text) { return PCI.Function(requester) }
    return try device(String(decoding: text, as: UTF8.self))
  }

  /// Reads a device that may have a PASID behind a slash: `00:03.0`, `00:03.0/5`, `0000:00:03.0/0x5`. What
  /// follows the last slash of a path is its device.
  package static func deviceAndPASID(
    _ text: some StringProtocol
  ) throws(NotationError) -> (device: PCI.Function, pasid: PASID?) {
    if let slash = text.lastIndex(of: "/"), let device = try? device(text[..<slash]) {
      let last = text[text.index(after: slash)...]
      // No PASID has a colon: that is a device further down a path.
      if !last.contains(":") { return (device, try pasid(last)) }
    }
    return (try device(text), nil)
  }

  /// Reads a device in any form that logs and people have for it.
  ///
  /// `00:1f.2`, `0001:00:1f.2`, `00:1f:2`, `00.1f.2`, `0x00:0x1f.0x2`, in brackets or at the end of
  /// a path; or the 16 bits of a requester as `0x00fa`.
  package static func device(_ text: some StringProtocol) throws(NotationError) -> PCI.Function {
    var core = Substring(text.lowercased().split(separator: "/").last ?? "")
    while let first = core.first, "[( ".contains(first) { core = core.dropFirst() }
    while let last = core.last, "]), ".contains(last) { core = core.dropLast() }
    guard !core.isEmpty else { throw Form.device.refusal("nothing is there") }
    let parts = core.split(omittingEmptySubsequences: false) { $0 == ":" || $0 == "." }
    if parts.count == 1, core.hasPrefix("0x"), let value = hexadecimal(utf8: core.utf8) {
      guard let number = UInt16(exactly: value) else {
        throw Form.device.refusal("a requester's number has 16 bits")
      }
      return PCI.Function(Requester(rawValue: number))
    }
    switch parts.count {
    case 1 where hexadecimal(utf8: core.utf8) != nil:
      throw Form.device.refusal("a requester's number alone has 0x in front")
    case 1: throw Form.device.refusal("it is none")
    case 2: throw Form.device.refusal("its bus, its device or its function is missing")
    case 3, 4: break
    default: throw Form.device.refusal("it has too many parts")
    }
    var values: [UInt32] = []
    for part in parts {
      guard let value = hexadecimal(utf8: part.utf8).flatMap({ UInt32(exactly: $0) }) else {
        throw Form.device.refusal("'\(part)' is no hexadecimal number of at most 32 bits")
      }
      values.append(value)
    }
    let (bus, device, function) = (parts.count - 3, parts.count - 2, parts.count - 1)
    // 0000:03:00 is a segment, a bus and a device.
    guard values[bus] < 256, parts[bus].count <= 2 || parts[bus].hasPrefix("0x") else {
      throw Form.device.refusal("bus '\(parts[bus])' is none of 00 to ff")
    }
    guard values[device] < 32 else {
      throw Form.device.refusal("device '\(parts[device])' is none of 00 to 1f")
    }
    guard values[function] < 8 else {
      throw Form.device.refusal("function '\(parts[function])' is none of 0 to 7")
    }
    return PCI.Function(
      segment: parts.count == 4 ? values[0] : 0,
      Requester(
        bus: UInt8(values[bus]), device: UInt8(values[device]), function: UInt8(values[function])))
  }
}

// MARK: As programs print them

extension Notation {
  /// Reads a number as logs and recordings have it: hexadecimal with `0x`, decimal without; `nil` for
  /// anything else.
  package static func printed(_ text: some StringProtocol) -> UInt64? {
    let isHexadecimal = text.utf8.starts(with: "0x".utf8) || text.utf8.starts(with: "0X".utf8)
    return isHexadecimal ? hexadecimal(utf8: text.utf8) : decimal(utf8: text.utf8)
  }
}

// MARK: Digits

/// The value of one hexadecimal digit; `nil` for any other byte.
@inlinable
package func hexadecimalDigit(_ byte: UInt8) -> Int? {
  switch byte {
  case UInt8(ascii: "0")...UInt8(ascii: "9"): Int(byte &- UInt8(ascii: "0"))
  case UInt8(ascii: "a")...UInt8(ascii: "f"): Int(byte &- UInt8(ascii: "a") &+ 10)
  case UInt8(ascii: "A")...UInt8(ascii: "F"): Int(byte &- UInt8(ascii: "A") &+ 10)
  default: nil
  }
}
