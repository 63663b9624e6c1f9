/// Where messages about faults begin: the marks of all readers, looked for at once.
enum LogMarks {
  struct Place {
    var index: Substring.Index
    var reader: any LogReader.Type
  }

  private struct Mark {
    let bytes: [UInt8]
    let reader: any LogReader.Type
    /// Counts as a word of its own only: not at the end of `default`.
    let isWord: Bool
  }

  private static let marks: [Mark] = LogReaders.all.flatMap { reader in
    reader.marks.map {
      Mark(
        bytes: Array("\($0)".utf8), reader: reader, isWord: reader == OtherUnitsLogReader.self)
    }
  }

  /// The marks by their first bytes; of two that begin at one place, the reader listed first counts.
  private static let byFirst: [[Mark]] = marks.reduce(
    into: Array(repeating: [], count: 256)
  ) { $0[Int($1.bytes[0])].append($1) }

  /// Whether a mark begins with a byte.
  private static let begins: [Bool] = byFirst.map { !$0.isEmpty }

  /// The first place in a line where any mark lies.
  static func first(in line: ArraySlice<UInt8>) -> Int? {
    offset(in: line.span).map { line.startIndex + $0 }
  }

  private static func offset(in bytes: Span<UInt8>) -> Int? {
    var index = 0
    while index < bytes.count {
      if begins[Int(bytes[index])], mark(at: index, in: bytes) != nil { return index }
      index += 1
    }
    return nil
  }

  private static func mark(at index: Int, in bytes: Span<UInt8>) -> Mark? {
    for mark in byFirst[Int(bytes[index])] where matches(mark.bytes, at: index, in: bytes) {
      if mark.isWord, index > 0, isWordByte(bytes[index - 1]) { continue }
      return mark
    }
    return nil
  }

  /// Of a longer word or name: `default`, `report_fault`, `=fault`.
  private static func isWordByte(_ byte: UInt8) -> Bool {
    0x61...0x7a ~= byte | 0x20 || byte == UInt8(ascii: "_") || byte == UInt8(ascii: "=")
  }

  private static func matches(_ mark: [UInt8], at index: Int, in bytes: Span<UInt8>) -> Bool {
    guard index + mark.count <= bytes.count else { return false }
    for offset in 1..<mark.count where bytes[index + offset] != mark[offset] { return false }
    return true
  }

  /// All places, ascending. Words that any unit might say count only in a line without other marks.
  static func all(in text: Substring) -> [Place] {
    var places: [Place] = []
    let bytes = Array(text.utf8)
    var index = text.startIndex
    var offset = 0
    var next = 0
    while offset < bytes.count, places.count < 64 {
      if begins[Int(bytes[offset])], offset >= next,
        let mark = mark(at: offset, in: bytes.span)
      {
        places.append(Place(index: index, reader: mark.reader))
        next = offset + mark.bytes.count
      }
      index = text.utf8.index(after: index)
      offset += 1
    }
    let known = places.filter { $0.reader != OtherUnitsLogReader.self }
    return known.isEmpty ? Array(places.prefix(1)) : known
  }
}
