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

  /// One note; its name without the zero that ends it.
  struct Note {
    var name: ArraySlice<UInt8>
    var type: Int
    var content: ArraySlice<UInt8>
  }

  /// The notes in order, up to the first that is damaged.
  func forEach(_ body: (Note) -> Void) {
    var offset = 0
    while bytes.count - offset >= 12 {
      let nameCount = word(offset)
      let contentCount = word(offset + 4)
      let nameStart = offset + 12
      let contentStart = nameStart + alignedUp(nameCount)
      // Before the sum of three: each has at most 33 bits.
      guard contentStart + contentCount <= bytes.count else { return }
      body(
        Note(
          name: bytes[nameStart..<nameStart + nameCount].prefix { $0 != 0 }, type: word(offset + 8),
          content: bytes[contentStart..<contentStart + contentCount]))
      offset = contentStart + alignedUp(contentCount)
    }
  }

  /// The content of the first note of a name; `nil` when there is none.
  func content(named name: String) -> ArraySlice<UInt8>? {
    var content: ArraySlice<UInt8>?
    forEach { note in
      if content == nil, note.name.elementsEqual(name.utf8) { content = note.content }
    }
    return content
  }

  /// The processors whose registers are there.
  ///
  /// Source: `NT_PRSTATUS` of `elf.h`.
  var processorCount: Int {
    var count = 0
    forEach { if $0.type == 1, $0.name.elementsEqual("CORE".utf8) { count += 1 } }
    return count
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
