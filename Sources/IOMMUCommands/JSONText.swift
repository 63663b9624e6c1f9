import IOMMUFormats
import IOMMUInspection

/// JSON that is being written.
final class JSONText<Out: TextOutputStream> {
  private var out: Out
  private let keys: JSONKeys
  /// What has not been handed to `out`.
  private var bytes: [UInt8] = []
  private var frames: [Frame] = []
  /// The members of open objects whose keys may be out of order, with where in `bytes` they begin.
  private var members: [(key: String, start: Int)] = []
  /// Open objects that wait for the order of their keys: nothing is handed out before they close.
  private var heldCount = 0

  private static var chunk: Int { 1 << 16 }

  /// A value that is being encoded.
  private struct Frame {
    enum Kind { case scalar, object, array }
    var kind = Kind.scalar
    /// The members are written as they come.
    var isStreamed: Bool
    /// Where its own members begin in `members`.
    var firstMember: Int
    var count = 0
    var lastKey = ""
  }

  init(_ out: Out, _ keys: JSONKeys) {
    self.out = out
    self.keys = keys
  }

  /// Hands out the rest, with a newline.
  consuming func finish() -> Out {
    bytes.append(UInt8(ascii: "\n"))
    flush()
    return out
  }

  private func flush() {
    out.write(String(decoding: bytes, as: UTF8.self))
    bytes.removeAll(keepingCapacity: true)
  }

  /// Writes a value of any kind.
  func write<Value: Encodable>(_ value: Value) throws {
    // What lists hand in without its type.
    switch value {
    case let text as String: return write(text)
    case let number as Int: return raw(number.description)
    case let number as UInt64: return raw(number.description)
    case let flag as Bool: return raw(flag ? "true" : "false")
    default: break
    }
    frames.append(Frame(isStreamed: value is any StreamedEncodable, firstMember: members.count))
    try value.encode(to: JSONTextEncoder(text: self))
    close()
  }

  private func close() {
    let frame = frames.removeLast()
    switch frame.kind {
    case .scalar: return
    case .array:
      if frame.count == 0 { bytes.append(UInt8(ascii: "\n")) }
      newline()
      bytes.append(UInt8(ascii: "]"))
    case .object:
      if !frame.isStreamed { putInOrder(from: frame.firstMember) }
      if frame.count == 0 { bytes.append(UInt8(ascii: "\n")) }
      newline()
      bytes.append(UInt8(ascii: "}"))
      if !frame.isStreamed { heldCount -= 1 }
    }
    if heldCount == 0, bytes.count >= Self.chunk { flush() }
  }

  /// Puts the members of the object that closes in the order of their keys.
  private func putInOrder(from first: Int) {
    defer { members.removeSubrange(first...) }
    let own = members[first...]
    guard zip(own, own.dropFirst()).contains(where: { $0.key > $1.key }) else { return }
    let ends = own.dropFirst().map(\.start) + [bytes.count]
    let start = own[first].start
    var ordered: [UInt8] = []
    for (place, member) in zip(own, ends).sorted(by: { $0.0.key < $1.0.key }).enumerated() {
      if place > 0 { ordered.append(UInt8(ascii: ",")) }
      // Without its comma, which all but the first have.
      let isFirst = member.0.start == start
      ordered += bytes[(member.0.start + (isFirst ? 0 : 1))..<member.1]
    }
    bytes.replaceSubrange(start..., with: ordered)
  }

  private func newline() {
    bytes.append(UInt8(ascii: "\n"))
    for _ in frames { bytes.append(contentsOf: [0x20, 0x20]) }
  }

  // MARK: What containers do

  func begin(_ kind: Character) {
    let last = frames.count - 1
    guard frames[last].kind == .scalar else { return }
    bytes.append(kind.asciiValue ?? 0)
    frames[last].kind = kind == "{" ? .object : .array
    if kind == "{", !frames[last].isStreamed { heldCount += 1 }
  }

  /// The place of a member's value.
  func beginMember(_ name: String) {
    let last = frames.count - 1
    precondition(frames[last].kind == .object, "containers are used one inside of the other")
    let key = keys.text(name)
    if frames[last].isStreamed {
      precondition(frames[last].lastKey < key, "what is streamed has its keys in order")
      frames[last].lastKey = key
    } else {
      members.append((key, bytes.count))
    }
    separate()
    write(key)
    bytes.append(contentsOf: [0x20, UInt8(ascii: ":"), 0x20])
  }

  /// The place of a list's element.
  func beginElement() {
    precondition(
      frames[frames.count - 1].kind == .array, "containers are used one inside of the other")
    separate()
  }

  var elementCount: Int { frames[frames.count - 1].count }

  private func separate() {
    let last = frames.count - 1
    if frames[last].count > 0 { bytes.append(UInt8(ascii: ",")) }
    frames[last].count += 1
    newline()
  }

  /// A number, `true`, `false` or `null`.
  func raw(_ text: String) { bytes.append(contentsOf: text.utf8) }

  func write(_ number: Double) throws {
    guard number.isFinite else {
      throw EncodingError.invalidValue(
        number, .init(codingPath: [], debugDescription: "JSON has no such number"))
    }
    let text = number.description
    raw(text.hasSuffix(".0") ? String(text.dropLast(2)) : text)
  }

  /// A string. What disguises something is written as its number.
  func write(_ text: String) {
    bytes.append(UInt8(ascii: "\""))
    let isPlain = text.utf8.allSatisfy {
      $0 >= 0x20 && $0 < 0x7f && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\")
    }
    if isPlain {
      bytes.append(contentsOf: text.utf8)
    } else {
      for scalar in text.unicodeScalars { write(scalar) }
    }
    bytes.append(UInt8(ascii: "\""))
  }

  private func write(_ scalar: Unicode.Scalar) {
    switch scalar {
    case "\"": raw("\\\"")
    case "\\": raw("\\\\")
    case "\n": raw("\\n")
    case "\r": raw("\\r")
    case "\t": raw("\\t")
    case "\u{8}": raw("\\b")
    case "\u{c}": raw("\\f")
    case _ where scalar.isDisguise:
      for unit in String(scalar).utf16 { raw("\\u" + hexadecimal(UInt64(unit), digits: 4)) }
    default: bytes.append(contentsOf: String(scalar).utf8)
    }
  }
}

/// Encodes into a ``JSONText``.
private struct JSONTextEncoder<Out: TextOutputStream>: Encoder {
  let text: JSONText<Out>
  var codingPath: [any CodingKey] { [] }
  var userInfo: [CodingUserInfoKey: Any] { [:] }

  func container<Key: CodingKey>(keyedBy _: Key.Type) -> KeyedEncodingContainer<Key> {
    text.begin("{")
    return KeyedEncodingContainer(JSONMembers(text: text))
  }

  func unkeyedContainer() -> any UnkeyedEncodingContainer {
    text.begin("[")
    return JSONElements(text: text)
  }

  func singleValueContainer() -> any SingleValueEncodingContainer { JSONScalar(text: text) }
}

private struct JSONMembers<Out: TextOutputStream, Key: CodingKey>: KeyedEncodingContainerProtocol {
  let text: JSONText<Out>
  var codingPath: [any CodingKey] { [] }

  private func number(_ value: some BinaryInteger, _ key: Key) {
    text.beginMember(key.stringValue)
    text.raw(value.description)
  }

  func encodeNil(forKey key: Key) {
    text.beginMember(key.stringValue)
    text.raw("null")
  }
  func encode(_ value: Bool, forKey key: Key) {
    text.beginMember(key.stringValue)
    text.raw(value ? "true" : "false")
  }
  func encode(_ value: String, forKey key: Key) {
    text.beginMember(key.stringValue)
    text.write(value)
  }
  func encode(_ value: Double, forKey key: Key) throws {
    text.beginMember(key.stringValue)
    try text.write(value)
  }
  func encode(_ value: Float, forKey key: Key) throws { try encode(Double(value), forKey: key) }
  func encode(_ value: Int, forKey key: Key) { number(value, key) }
  func encode(_ value: Int8, forKey key: Key) { number(value, key) }
  func encode(_ value: Int16, forKey key: Key) { number(value, key) }
  func encode(_ value: Int32, forKey key: Key) { number(value, key) }
  func encode(_ value: Int64, forKey key: Key) { number(value, key) }
  func encode(_ value: UInt, forKey key: Key) { number(value, key) }
  func encode(_ value: UInt8, forKey key: Key) { number(value, key) }
  func encode(_ value: UInt16, forKey key: Key) { number(value, key) }
  func encode(_ value: UInt32, forKey key: Key) { number(value, key) }
  func encode(_ value: UInt64, forKey key: Key) { number(value, key) }
  func encode(_ value: some Encodable, forKey key: Key) throws {
    text.beginMember(key.stringValue)
    try text.write(value)
  }

  func nestedContainer<Nested: CodingKey>(
    keyedBy _: Nested.Type, forKey _: Key
  ) -> KeyedEncodingContainer<Nested> { preconditionFailure("values are encoded one by one") }
  func nestedUnkeyedContainer(forKey _: Key) -> any UnkeyedEncodingContainer {
    preconditionFailure("values are encoded one by one")
  }
  func superEncoder() -> any Encoder { preconditionFailure("there are no classes") }
  func superEncoder(forKey _: Key) -> any Encoder { preconditionFailure("there are no classes") }
}

private struct JSONElements<Out: TextOutputStream>: UnkeyedEncodingContainer {
  let text: JSONText<Out>
  var codingPath: [any CodingKey] { [] }
  var count: Int { text.elementCount }

  func encodeNil() {
    text.beginElement()
    text.raw("null")
  }
  func encode(_ value: some Encodable) throws {
    text.beginElement()
    try text.write(value)
  }

  func nestedContainer<Nested: CodingKey>(
    keyedBy _: Nested.Type
  ) -> KeyedEncodingContainer<Nested> { preconditionFailure("values are encoded one by one") }
  func nestedUnkeyedContainer() -> any UnkeyedEncodingContainer {
    preconditionFailure("values are encoded one by one")
  }
  func superEncoder() -> any Encoder { preconditionFailure("there are no classes") }
}

/// Numbers of every type come here in the end.
private struct JSONScalar<Out: TextOutputStream>: SingleValueEncodingContainer {
  let text: JSONText<Out>
  var codingPath: [any CodingKey] { [] }

  func encodeNil() { text.raw("null") }
  func encode(_ value: Bool) { text.raw(value ? "true" : "false") }
  func encode(_ value: String) { text.write(value) }
  func encode(_ value: Double) throws { try text.write(value) }
  func encode(_ value: Float) throws { try text.write(Double(value)) }
  func encode(_ value: Int) { text.raw(value.description) }
  func encode(_ value: Int8) { text.raw(value.description) }
  func encode(_ value: Int16) { text.raw(value.description) }
  func encode(_ value: Int32) { text.raw(value.description) }
  func encode(_ value: Int64) { text.raw(value.description) }
  func encode(_ value: UInt) { text.raw(value.description) }
  func encode(_ value: UInt8) { text.raw(value.description) }
  func encode(_ value: UInt16) { text.raw(value.description) }
  func encode(_ value: UInt32) { text.raw(value.description) }
  func encode(_ value: UInt64) { text.raw(value.description) }
  func encode(_ value: some Encodable) throws { try text.write(value) }
}
