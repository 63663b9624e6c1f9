/// The notes of a core: registers of the processors, and what the kernel says of itself.
///
/// A note is three words (sizes of name and content, and a type), the name and the content, each
/// filled up to a multiple of four bytes.
///
/// Source: System V application binary interface, "Note Section".
struct ELFNotes {
  /// More than the notes of any machine take: some hundred bytes for each of its processors.
  static let byteCountLimit: UInt64 = 64 << 20

  let bytes: [UInt8]

  /// The content of the first note of a name; `nil` when there is none, or when the notes are
  /// damaged before it.
  func content(named name: String) -> ArraySlice<UInt8>? {
    let wanted = Array(name.utf8)
    var offset = 0
    while bytes.count - offset >= 12 {
      let nameCount = word(offset)
      let contentCount = word(offset + 4)
      let nameStart = offset + 12
      let contentStart = nameStart + alignedUp(nameCount)
      let next = contentStart + alignedUp(contentCount)
      guard contentStart + contentCount <= bytes.count else { return nil }
      // The name ends with a zero byte, which counts.
      if bytes[nameStart..<nameStart + nameCount].prefix(while: { $0 != 0 }).elementsEqual(wanted) {
        return bytes[contentStart..<contentStart + contentCount]
      }
      guard next <= bytes.count else { return nil }
      offset = next
    }
    return nil
  }

  /// Sums of two 32-bit sizes and an offset do not overflow 64 bits.
  private func alignedUp(_ count: Int) -> Int { (count + 3) & ~3 }

  private func word(_ offset: Int) -> Int {
    (0..<4).reduce(0) { $0 | Int(bytes[offset + $1]) << (8 * $1) }
  }

  /// One note.
  static func note(name: String, content: some Collection<UInt8>) -> [UInt8] {
    func filled(_ bytes: [UInt8]) -> [UInt8] {
      bytes + [UInt8](repeating: 0, count: (4 - bytes.count % 4) % 4)
    }
    func word(_ value: Int) -> [UInt8] {
      (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }
    let named = Array(name.utf8) + [0]
    return word(named.count) + word(content.count) + word(0) + filled(named)
      + filled(Array(content))
  }
}

/// What a kernel says of itself for those who read its dump: lines of `KEY=VALUE`.
///
/// Source: Linux `Documentation/admin-guide/kdump/vmcoreinfo.rst`.
public struct VMCoreInfo: Sendable, Equatable {
  /// The name of its note.
  static let noteName = "VMCOREINFO"

  /// The keys and values in the order of the note.
  public let entries: [(key: String, value: String)]

  init(_ content: some Collection<UInt8>) {
    let text = String(decoding: content.prefix { $0 != 0 }, as: UTF8.self)
    entries = text.split(separator: "\n").compactMap { line in
      guard let equals = line.firstIndex(of: "=") else { return nil }
      return (String(line[..<equals]), String(line[line.index(after: equals)...]))
    }
  }

  /// The value of a key such as `OSRELEASE` or `SYMBOL(init_uts_ns)`; the first one counts.
  public subscript(key: String) -> String? { entries.first { $0.key == key }?.value }

  public static func == (left: Self, right: Self) -> Bool {
    left.entries.elementsEqual(right.entries) { $0 == $1 }
  }
}
