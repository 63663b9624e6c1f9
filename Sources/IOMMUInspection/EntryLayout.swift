import IOMMUFormats

/// What the bits of a kind of entry, register or descriptor are, without a value: a drawing for people, the
/// same fields as data.
///
/// Everything but the words comes from the entry's own list of fields.
public struct EntryLayout: Sendable, Encodable {
  /// A run of bits.
  public struct Field: Sendable, Encodable {
    /// The bits, as the manual numbers them.
    public let field: BitField
    /// What software may do to it, as Intel's manual abbreviates it: `RO`, `RW1CS`; of registers only.
    public let access: String?
    /// What it is for; `nil` where its name says all that is known.
    public let meaning: String?

    enum CodingKeys: String, CodingKey { case name, bits, use, access, meaning }

    public func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode("\(field.name)", forKey: .name)
      try container.encode(field.bitsText, forKey: .bits)
      try container.encode(field.useText, forKey: .use)
      try container.encodeIfPresent(access, forKey: .access)
      try container.encodeIfPresent(meaning, forKey: .meaning)
    }
  }

  /// One way in which the bits may lie.
  public struct Variant: Sendable, Encodable {
    /// The name of such entries: `SS-PDE (2 MiB page)`.
    public let name: String
    /// What they have in common, `PS = 1, maps a page`; empty where there is one way only.
    public let condition: String
    /// Every bit once, from the highest down.
    public let fields: [Field]
  }

  /// A register of this layout.
  public struct Register: Sendable, Encodable {
    /// The manual's name.
    public let name: String
    /// Where it lies in the unit's window: `0x020`, `IRO + 0x8`.
    public let offset: String
  }

  /// The name that `decode` takes.
  public let kind: String
  /// Other names that it takes.
  public let aliases: [String]
  /// What it is, in one line.
  public let summary: String
  /// Where the manual defines it.
  public let specification: String
  /// 32, 64, 128, 256 or 512.
  public let bitCount: Int
  /// Whether its bytes lie in memory with the most significant first.
  public let isBigEndian: Bool
  /// The registers of this layout; empty for what is no register of a unit's window.
  public let registers: [Register]
  /// The value after a reset; `nil` for what is no register.
  public let resetValue: UInt64?
  /// At least one.
  public let variants: [Variant]

  /// The layout of a kind.
  ///
  /// - Parameters:
  ///   - kind: What is laid out.
  ///   - circumstances: What is known of the unit; decides which bits there are.
  public init(_ kind: EntryCatalog.Kind, under circumstances: EntryCatalog.Circumstances = .init())
  {
    self.kind = kind.name
    aliases = kind.aliases
    summary = kind.summary
    let type = kind.type
    specification = "\(type.specification)"
    bitCount = type.bitCount
    isBigEndian = type.isBigEndian
    let format = type as? any HardwareRegister.Type
    registers = format.map(Self.registers) ?? []
    resetValue = format?.resetValue
    variants = kind.visitLayouts(under: circumstances, by: Reader()).map { condition, answer in
      Variant(name: answer.name, condition: condition, fields: answer.fields)
    }
  }

  /// The registers of the maps that have a layout.
  private static func registers(_ format: any HardwareRegister.Type) -> [Register] {
    let vtd = VTd.registerMap.filter { $0.format == format }.map {
      Register(name: $0.name, offset: $0.place.text)
    }
    let amdvi = AMDVi.registerMap.filter { $0.format == format }.map {
      Register(name: $0.name, offset: offsetText($0.offset))
    }
    return vtd + amdvi
  }

  /// Takes the fields of a variant.
  private struct Reader: EntryVisitor {
    typealias Answer = (name: String, fields: [Field])

    func visit<Entry: TableEntry>(_ entry: Entry, as variant: Entry.Variant) -> Answer {
      let words = (Entry.self as? any FieldsInWords.Type)?.words(as: variant) ?? [:]
      let access = (Entry.self as? any HardwareRegister.Type)?.registerFields
      let name = EntryDescription(entry, as: variant).name
      let fields = Entry.fields(variant).reversed().map { field in
        Field(
          field: field,
          access: access?.first { $0.bits.bits == field.bits }?.accessText,
          meaning: words["\(field.name)"])
      }
      return (name, fields)
    }
  }

  // MARK: Text

  /// Writes all of it: what it is, and of each variant the drawing and a line for each named field.
  public func write(to out: inout some TextOutputStream) {
    out.write(filled(summary, first: "\(kind): ", indent: 2))
    let order = isBigEndian ? ", the most significant byte first" : ""
    out.write("\(specification); \(bitCount) bits\(order)\n")
    if !registers.isEmpty {
      let places = registers.map { "\($0.name) at \($0.offset)" }
      out.write(filled(listText(places), first: "registers: ", indent: 2))
    }
    if let resetValue, resetValue != 0 { out.write("after a reset: \(hexadecimal(resetValue))\n") }
    for variant in variants {
      out.write("\n")
      if !variant.condition.isEmpty { out.write("\(variant.name): \(variant.condition)\n") }
      write(variant, to: &out)
    }
  }

  private func write(_ variant: Variant, to out: inout some TextOutputStream) {
    for index in (0..<max(1, bitCount / 64)).reversed() {
      if bitCount > 64 { out.write("bits \(64 * index + 63):\(64 * index)\n") }
      BitDiagram.write(
        variant.fields.map(\.field).filter { $0.quadwordIndex == index }, to: &out)
    }
    let legend = Self.legend(variant.fields.map(\.field))
    if !legend.isEmpty { out.write(legend + "\n") }
    let rows = variant.fields.filter { BitDiagram.label(of: $0.field).count > 1 || $0.isNamed }
    let bits = rows.map { $0.bitsLabel.count }.max() ?? 0
    let names = rows.map { $0.field.name.description.count }.max() ?? 0
    let access = rows.map { $0.access?.count ?? 0 }.max() ?? 0
    for row in rows {
      var first =
        row.bitsLabel.padded(to: bits) + "  " + row.field.name.description.padded(to: names)
      if access > 0 { first += "  " + (row.access ?? "").padded(to: access) }
      let text = [row.field.use == .ignored ? "ignored" : nil, row.meaning].compactMap { $0 }
        .joined(separator: "; ")
      out.write(filled(text, first: first + "  ", indent: first.count + 2))
    }
  }

  /// What the signs in the boxes mean, of those that are there.
  private static func legend(_ fields: [BitField]) -> String {
    [
      fields.contains { $0.use == .reserved } ? "0 reserved, must be zero" : nil,
      fields.contains { BitDiagram.label(of: $0) == "-" } ? "- ignored" : nil,
    ].compactMap { $0 }.joined(separator: "; ")
  }

  enum CodingKeys: String, CodingKey {
    case kind, aliases, summary, specification, bits, registers, variants
    case isBigEndian = "big_endian"
    case resetValue = "reset_value"
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(kind, forKey: .kind)
    try container.encode(aliases, forKey: .aliases)
    try container.encode(summary, forKey: .summary)
    try container.encode(specification, forKey: .specification)
    try container.encode(bitCount, forKey: .bits)
    try container.encode(isBigEndian, forKey: .isBigEndian)
    try container.encode(registers, forKey: .registers)
    try container.encodeIfPresent(resetValue.map { hexadecimal($0) }, forKey: .resetValue)
    try container.encode(variants, forKey: .variants)
  }
}

extension EntryLayout.Field {
  fileprivate var bitsLabel: String {
    (field.bits.count == 1 ? "bit " : "bits ") + field.bitsText
  }

  /// A name of the manual's rather than `reserved` or `ignored`.
  fileprivate var isNamed: Bool { field.use != .reserved && field.name.description != "ignored" }
}

extension BitField {
  /// `value`, `address`, `ignored` or `reserved`.
  var useText: String {
    switch use {
    case .value: "value"
    case .address: "address"
    case .ignored: "ignored"
    case .reserved: "reserved"
    }
  }
}

extension RegisterField {
  /// As Intel VT-d 11.1 abbreviates it.
  fileprivate var accessText: String {
    let text =
      switch access {
      case .readWrite: "RW"
      case .readOnly: "RO"
      case .writeOnly: "WO"
      case .writeOneToClear: "RW1C"
      case .reserved: "RsvdZ"
      }
    return text + (isSticky ? "S" : "")
  }
}

private func offsetText(_ offset: UInt64) -> String {
  let digits = String(offset, radix: 16)
  return "0x" + String(repeating: "0", count: max(0, 3 - digits.count)) + digits
}

extension VTd.RegisterPlace {
  /// `0x020`, or from where capability registers place it.
  fileprivate var text: String {
    switch self {
    case .at(let offset): offsetText(offset)
    case .invalidation(0): "16 * ECAP.IRO"
    case .invalidation(let offset): "16 * ECAP.IRO + \(offset)"
    case .faultRecords(0): "16 * CAP.FRO"
    case .faultRecords(let offset): "16 * CAP.FRO + \(offset)"
    }
  }
}

/// An entry or register that says in words what its fields are for.
///
/// The words are keyed by the names in the entry's list of fields; no bit position is known here.
protocol FieldsInWords: TableEntry {
  /// What each field is for, by its name: one clause, without the name.
  static var fieldWords: [String: String] { get }

  /// The same for a variant, where a field is for something else in it.
  static func fieldWords(_ variant: Variant) -> [String: String]
}

extension FieldsInWords {
  static func fieldWords(_: Variant) -> [String: String] { fieldWords }

  /// The words for a variant whose type is not known at compile time.
  fileprivate static func words(as variant: some Sendable) -> [String: String] {
    (variant as? Variant).map { fieldWords($0) } ?? fieldWords
  }
}

/// A line of the list of all kinds.
public struct CatalogLine: Sendable, Encodable {
  /// The hardware: `Intel VT-d`.
  public let group: String
  /// The name that `decode` takes.
  public let kind: String
  /// Other names that it takes.
  public let aliases: [String]
  /// What it is, in one line.
  public let summary: String
  /// Where the manual defines it.
  public let specification: String
  /// 32, 64, 128, 256 or 512.
  public let bits: Int

  /// All kinds, by hardware.
  public static var all: [CatalogLine] {
    EntryCatalog.groups.flatMap { group in
      group.kinds.map { kind in
        CatalogLine(
          group: group.name, kind: kind.name, aliases: kind.aliases, summary: kind.summary,
          specification: "\(kind.type.specification)", bits: kind.bitCount)
      }
    }
  }

  /// Writes a line for each kind, or two: name, bits, summary.
  public static func write(to out: inout some TextOutputStream) {
    let all = all
    let kinds = all.map(\.kind.count).max() ?? 0
    for line in all {
      let first = line.kind.padded(to: kinds) + "  " + "\(line.bits)".paddedLeft(to: 3) + "  "
      out.write(filled(line.summary, first: first, indent: first.count))
    }
  }
}

/// A text in lines of 80 columns at most, the lines after the first indented.
private func filled(_ text: String, first: String, indent: Int) -> String {
  var lines: [String] = []
  var line = first
  var isEmpty = true
  for word in text.split(separator: " ") {
    if !isEmpty, line.count + 1 + word.count > 80 {
      lines.append(line)
      line = String(repeating: " ", count: indent)
      isEmpty = true
    }
    line += (isEmpty ? "" : " ") + word
    isEmpty = false
  }
  return (lines + [line]).map { $0.withoutTrailingSpaces + "\n" }.joined()
}
