import IOMMUFormats

/// One table entry or register taken apart: its bytes, its fields, and what it means in words.
///
/// Everything comes from the entry's own list of fields, so that text, drawing and JSON cannot
/// disagree with what the walker reads. Encoding it gives the same content as the text.
public struct EntryDescription: Sendable, Encodable {
  /// A run of bits with its value.
  public struct Field: Sendable, Encodable {
    /// The bits, as the manual numbers them.
    public let field: BitField
    /// The bits' value, moved to the bottom of a word.
    public let value: UInt64

    /// The manual's mnemonic, or `reserved`, or `ignored`.
    public var name: String { "\(field.name)" }

    /// `63:12`, or `0` for a single bit.
    public var bits: String { field.bitsText }

    /// `value`, `address`, `ignored` or `reserved`.
    public var use: String {
      switch field.use {
      case .value: "value"
      case .address: "address"
      case .ignored: "ignored"
      case .reserved: "reserved"
      }
    }

    /// The value where it lies in its quadword; `nil` for a field that is no address.
    public var address: UInt64? { field.use == .address ? value << field.shift : nil }

    enum CodingKeys: String, CodingKey { case name, bits, value, use, address }

    public func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(name, forKey: .name)
      try container.encode(bits, forKey: .bits)
      try container.encode(hexadecimal(value), forKey: .value)
      try container.encode(use, forKey: .use)
      try container.encodeIfPresent(address.map { hexadecimal($0) }, forKey: .address)
    }
  }

  /// The entry's name, with its level where that decides the name: `SS-PDE (2 MiB page)`.
  public let name: String
  /// Where the manual defines it.
  public let specification: String
  /// 32, 64, 128, 256 or 512.
  public let bitCount: Int
  /// The entry's words, low first; one for each 64 bits.
  public let words: [UInt64]
  /// The bytes in the order they lie in memory.
  public let bytes: [UInt8]
  /// Every bit once, from the highest down, as drawings have them.
  public let fields: [Field]
  /// What the entry says, in one line; empty where its fields say all that is known.
  public let meaning: String
  /// Complaints about reserved bits that hardware looks at, and about values that it does not take;
  /// empty for a well-formed entry.
  public let violations: [String]

  /// No reserved bit is set that hardware looks at, and no value that it does not take.
  public var isWellFormed: Bool { violations.isEmpty }

  /// Takes an entry of any format apart.
  ///
  /// - Parameters:
  ///   - entry: Its words and bits, legal or not.
  ///   - variant: What decides the meaning of its bits.
  ///   - name: Another name than the type's.
  ///   - meaning: What it says, in one line.
  ///   - violations: The reserved fields to complain about; `nil` for all that are set.
  ///   - illegalValues: What else is wrong with it, in words.
  public init<Entry: TableEntry>(
    _ entry: Entry, variant: Entry.Variant, name: String? = nil, meaning: String,
    violations: [BitField]? = nil, illegalValues: [String] = []
  ) {
    self.name = name ?? "\(Entry.name)"
    specification = "\(Entry.specification)"
    bitCount = Entry.bitCount
    words = (0..<Entry.quadwordCount).map { entry[quadword: $0] }
    bytes = entry.bytes
    fields = Entry.fields(variant).reversed().map { Field(field: $0, value: entry[$0]) }
    self.meaning = meaning
    self.violations =
      (violations ?? entry.reservedViolations(variant)).map {
        $0.violationText(value: entry[$0])
      } + illegalValues
  }

  init<Entry: Explained>(explaining entry: Entry, _ variant: Entry.Variant, name: String? = nil) {
    self.init(
      entry, variant: variant, name: name, meaning: entry.meaning(variant),
      violations: entry.checkedViolations(variant), illegalValues: entry.illegalValues(variant))
  }

  /// The words in hexadecimal with all their digits, low first.
  public var wordTexts: [String] {
    words.map { "0x" + hexadecimal($0, digits: min(bitCount, 64) / 4) }
  }

  /// The same in one line: bits 63:0 come first, as in memory and as `decode` takes them.
  public var rawText: String { wordTexts.joined(separator: " ") }

  /// The bytes as a hexdump shows them, eight to a group.
  public var bytesText: String {
    var text = ""
    for (index, byte) in bytes.enumerated() {
      if index > 0 { text += index % 8 == 0 ? "  " : " " }
      text += hexadecimal(byte, digits: 2)
    }
    return text
  }

  /// The bytes sixteen to a line, as a hexdump shows them.
  private var bytesLines: [String] {
    let groups = bytesText.count > 49 ? 50 : bytesText.count
    var lines: [String] = []
    var rest = bytesText[...]
    while !rest.isEmpty {
      lines.append(String(rest.prefix(groups)).withoutTrailingSpaces)
      rest = rest.dropFirst(groups)
    }
    return lines
  }

  /// Writes the whole description: heading, value, drawing, a line per field, meaning, complaints.
  public func write(to out: inout some TextOutputStream) {
    out.write("\(name)  (\(specification))\n")
    let texts = wordTexts
    if texts.count == 2 {
      out.write("value  low \(texts[0]), high \(texts[1])\n")
    } else {
      for (index, text) in texts.enumerated() {
        let label = index == 0 ? "value" : "     "
        out.write("\(label)  \(text)")
        out.write(texts.count == 1 ? "\n" : "  bits \(64 * index + 63):\(64 * index)\n")
      }
    }
    for (index, line) in bytesLines.enumerated() {
      out.write("\(index == 0 ? "bytes" : "     ")  \(line)\n")
    }
    out.write("\n")
    writeDrawing(to: &out)
    out.write("\n")
    writeFields(to: &out)
    let words = (meaning.isEmpty ? [] : [meaning]) + violations
    if !words.isEmpty { out.write("\n" + words.joined(separator: "\n") + "\n") }
  }

  /// Draws the bits with the fields' names above them; the highest quadword first.
  public func writeDrawing(to out: inout some TextOutputStream) {
    for index in words.indices.reversed() {
      if words.count > 1 { out.write("bits \(64 * index + 63):\(64 * index)\n") }
      Self.draw(fields.filter { $0.field.quadwordIndex == index }, to: &out)
    }
  }

  /// Columns of a drawing's line at most; fields that do not fit go to the next one.
  private static let drawingWidth = 80

  private static func draw(_ fields: [Field], to out: inout some TextOutputStream) {
    var names = ""
    var digits = ""
    func flush() {
      out.write(names.withoutTrailingSpaces + "\n")
      out.write(digits.withoutTrailingSpaces + "\n")
    }
    for field in fields {
      let bitCount = field.field.bits.count
      let width = max(field.name.count, bitCount)
      let bits = String(field.value, radix: 2)
      let padded = String(repeating: "0", count: bitCount - bits.count) + bits
      if names.count + width > drawingWidth {
        flush()
        (names, digits) = ("", "")
      }
      names += field.name.padded(to: width) + " "
      digits += padded.paddedLeft(to: width) + " "
    }
    flush()
  }

  private func writeFields(to out: inout some TextOutputStream) {
    let rows = fields.map { field -> (bits: String, name: String, value: String, note: String) in
      let label = field.field.bits.count == 1 ? "bit " : "bits "
      let note =
        switch field.field.use {
        case .address: "address " + hexadecimal(field.address ?? 0)
        case .ignored where field.name != "ignored": "ignored"
        case .reserved where field.value != 0: "must be zero"
        default: ""
        }
      return (label + field.bits, field.name, hexadecimal(field.value), note)
    }
    let bits = rows.map(\.bits.count).max() ?? 0
    let names = rows.map(\.name.count).max() ?? 0
    let values = rows.map(\.value.count).max() ?? 0
    for row in rows {
      let line =
        row.bits.padded(to: bits) + "  " + row.name.padded(to: names) + "  "
        + row.value.padded(to: values) + "  " + row.note
      out.write(line.withoutTrailingSpaces + "\n")
    }
  }

  enum CodingKeys: String, CodingKey {
    case name, specification, words, bytes, fields, meaning, violations
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(name, forKey: .name)
    try container.encode(specification, forKey: .specification)
    // As text: many readers of JSON keep no more than 53 bits of a number.
    try container.encode(wordTexts, forKey: .words)
    try container.encode(bytesText, forKey: .bytes)
    try container.encode(fields, forKey: .fields)
    try container.encode(meaning, forKey: .meaning)
    try container.encode(violations, forKey: .violations)
  }
}
