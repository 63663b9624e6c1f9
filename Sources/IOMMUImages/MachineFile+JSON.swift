import FoundationEssentials
import IOMMUFormats
import IOMMUTranslation

extension MachineFile {
  /// Deeper JSON than this is refused: the decoder calls itself once per level.
  package static let nestingLimit = 64

  /// Physical addresses have at most 52 bits.
  package static let addressLimit: UInt64 = 1 << 52

  /// Reads a machine file.
  ///
  /// Numbers and ranges are checked here; what registers mean together, by ``machine()``.
  ///
  /// - Throws: ``ImageError`` that names the file and the JSON path of what is wrong.
  public init(path: String) throws(ImageError) {
    try self.init(
      try decodeJSON(
        Document.self, path: path, atMost: Self.byteCountLimit, kind: "a machine file"),
      path: path)
  }

  /// Writes the machine file, keys in alphabetical order.
  ///
  /// - Throws: ``ImageError`` when the file cannot be written; an older one is untouched then.
  public func write(to path: String) throws(ImageError) {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    let text: [UInt8]
    do {
      text = Array(try encoder.encode(Document(self))) + [UInt8(ascii: "\n")]
    } catch {
      throw ImageError(file: path, found: "cannot be written as JSON: \(error)")
    }
    let file = try OutputFile(path: path)
    try file.write(text)
    try file.commit()
  }

  /// Refuses text that the decoder would take for another encoding, or that nests too deeply.
  static func checkText(
    _ bytes: [UInt8], _ path: String, kind: String
  ) throws(ImageError) {
    guard !bytes.isEmpty else {
      throw ImageError(file: path, found: "is empty", remedy: "\(kind) is a JSON object")
    }
    // The decoder guesses UTF-16 and UTF-32 from zero bytes; brackets are counted in UTF-8 here.
    if let zero = bytes.firstIndex(of: 0) {
      throw ImageError(
        file: path, offset: UInt64(zero), found: "a zero byte",
        remedy: "\(kind) is JSON in UTF-8; is this the dump?")
    }
    guard String(validating: bytes, as: UTF8.self) != nil else {
      throw ImageError(
        file: path, found: "is not UTF-8 text",
        remedy: "\(kind) is JSON in UTF-8; is this the dump?")
    }
    try checkBrackets(bytes, path, kind)
  }

  /// Refuses brackets that do not match, with the place that the decoder does not tell.
  private static func checkBrackets(
    _ bytes: [UInt8], _ path: String, _ kind: String
  ) throws(ImageError) {
    func error(_ offset: Int, _ found: String, _ remedy: String) -> ImageError {
      let line = bytes[..<offset].count { $0 == UInt8(ascii: "\n") } + 1
      return ImageError(
        file: path, place: "line \(line)", offset: UInt64(offset), found: found, remedy: remedy)
    }
    var open: [(byte: UInt8, offset: Int)] = []
    var stringStart: Int?
    var isEscaped = false
    for (offset, byte) in bytes.enumerated() {
      guard stringStart == nil else {
        if isEscaped {
          isEscaped = false
        } else if byte == UInt8(ascii: "\\") {
          isEscaped = true
        } else if byte == UInt8(ascii: "\"") {
          stringStart = nil
        }
        continue
      }
      switch byte {
      case UInt8(ascii: "\""):
        stringStart = offset
      case UInt8(ascii: "["), UInt8(ascii: "{"):
        guard open.count < nestingLimit else {
          throw error(
            offset, "JSON nested more than \(nestingLimit) deep",
            "\(kind) needs fewer")
        }
        open.append((byte, offset))
      case UInt8(ascii: "]"), UInt8(ascii: "}"):
        // In ASCII a closing bracket comes two after its opening one.
        guard open.popLast()?.byte == byte - 2 else {
          throw error(
            offset, "'\(Unicode.Scalar(byte))' closes nothing that is open", "correct the JSON")
        }
      default:
        break
      }
    }
    if let stringStart {
      throw error(stringStart, "a string that does not end", "the file is cut short, or correct it")
    }
    if let last = open.last {
      throw error(
        last.offset, "'\(Unicode.Scalar(last.byte))' is never closed",
        "the file is cut short, or correct it")
    }
  }
}

// MARK: The JSON as it stands

/// A number in JSON: a string in hexadecimal, `"0x1f"`, as ``Notation`` has addresses; or a plain
/// integer.
package struct Number: Codable {
  package var value: UInt64
  /// Whether to write it as a plain integer.
  var isPlain = false

  init(_ value: UInt64, isPlain: Bool = false) {
    self.value = value
    self.isPlain = isPlain
  }

  package init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    let found: String
    if let text = try? container.decode(String.self) {
      do {
        value = try Notation.address(text)
        return
      } catch {
        found = "\(quoted(text)): \(error)"
      }
    } else if let value = try? container.decode(UInt64.self) {
      self.value = value
      return
    } else {
      // The decoder's own error for a number that does not fit says no place.
      found = "is not a whole number of at most 64 bits; write hexadecimal as a string, \"0x1000\""
    }
    throw DecodingError.dataCorruptedError(in: container, debugDescription: found)
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    if isPlain {
      try container.encode(value)
    } else {
      try container.encode(hexadecimal(value))
    }
  }
}

/// The keys and values of a machine file, before any of them is understood.
struct Document {
  /// What is written behind a key of a unit.
  enum Value {
    case number(UInt64)
    case text(String)
    case flag(Bool)
  }

  /// A unit; of a kind that is not known only that.
  struct Unit {
    var kind: String
    /// By the keys that the kind has.
    var values: [String: Value]
    var registers: [String: Number]
    var slips: [String] = []
  }

  var version: Number
  var name: String?
  var image: String?
  var images: [String]?
  var units: [Unit]
  var ram: [[Number]]?
  var crashKernel: [[Number]]?
  /// By the keys that tables of firmware have.
  var firmware: [String: Firmware]
  /// Keys that are not known and look like ones that are.
  var slips: [String] = []

  /// A table of firmware: `"DMAR"`, the path of a file, or `{"bytes": "444d4152…"}`.
  enum Firmware {
    case path(String)
    case bytes([UInt8])
  }

  /// A key of any name.
  struct Key: CodingKey {
    var stringValue: String
    var intValue: Int? { nil }

    init(_ name: String) { stringValue = name }
    init?(stringValue: String) { self.init(stringValue) }
    init?(intValue _: Int) { nil }

    static let version = Key("version")
    static let name = Key("name")
    static let image = Key("image")
    static let images = Key("images")
    static let units = Key("units")
    static let ram = Key("ram")
    static let crashKernel = Key("crash_kernel")
    static let kind = Key("kind")
    static let registers = Key("registers")
    static let bytes = Key("bytes")
  }
}

extension Document: Codable {
  init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: Key.self)
    version = try container.decode(Number.self, forKey: .version)
    name = try container.decodeIfPresent(String.self, forKey: .name)
    image = try container.decodeIfPresent(String.self, forKey: .image)
    images = try container.decodeIfPresent([String].self, forKey: .images)
    units = try container.decode([Unit].self, forKey: .units)
    ram = try Self.pairs(in: container, .ram)
    crashKernel = try Self.pairs(in: container, .crashKernel)
    firmware = [:]
    for key in UnitRecords.firmwareKeys {
      firmware[key] = try container.decodeIfPresent(Firmware.self, forKey: Key(key))
    }
    let keys: [Key] = [.version, .name, .image, .images, .units, .ram, .crashKernel]
    slips =
      Self.slips(in: container, of: keys.map(\.stringValue) + UnitRecords.firmwareKeys)
      + units.flatMap(\.slips)
  }

  /// Keys of an object that are not known, where one that is known and not there looks like it.
  fileprivate static func slips(
    in container: KeyedDecodingContainer<Key>, of known: [String]
  ) -> [String] {
    let present = container.allKeys.map(\.stringValue)
    let lacking = known.filter { !present.contains($0) }
    return present.filter { !known.contains($0) }.sorted().compactMap { name in
      guard let meant = likelyName(for: name, among: lacking) else { return nil }
      let place = jsonPath(container.codingPath + [Key(name)]) ?? name
      return "\(place): not a key that is known, and passed over; did you mean \"\(meant)\"?"
    }
  }

  /// Ranges; what is not written as one says how ranges are written.
  private static func pairs(
    in container: KeyedDecodingContainer<Key>, _ key: Key
  ) throws -> [[Number]]? {
    do {
      return try container.decodeIfPresent([[Number]].self, forKey: key)
    } catch DecodingError.typeMismatch(_, let context) {
      throw DecodingError.dataCorrupted(
        DecodingError.Context(
          codingPath: context.codingPath,
          debugDescription: foundKind(context.debugDescription)
            + "; ranges are a list of pairs, first byte and one past the last: "
            + #"[["0x2000000", "0xa000000"]]"#))
    }
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: Key.self)
    try container.encode(version, forKey: .version)
    try container.encodeIfPresent(name, forKey: .name)
    try container.encodeIfPresent(image, forKey: .image)
    try container.encodeIfPresent(images, forKey: .images)
    try container.encode(units, forKey: .units)
    try container.encodeIfPresent(ram, forKey: .ram)
    try container.encodeIfPresent(crashKernel, forKey: .crashKernel)
    for (key, table) in firmware { try container.encode(table, forKey: Key(key)) }
  }
}

extension Document.Firmware: Codable {
  init(from decoder: any Decoder) throws {
    if let path = try? decoder.singleValueContainer().decode(String.self) {
      self = .path(path)
      return
    }
    let container = try decoder.container(keyedBy: Document.Key.self)
    let text = try container.decode(String.self, forKey: .bytes)
    let digits = text.utf8.compactMap { hexadecimalDigit($0) }
    guard digits.count == text.utf8.count, digits.count % 2 == 0 else {
      throw DecodingError.dataCorruptedError(
        forKey: .bytes, in: container,
        debugDescription: "is not hexadecimal, two digits for each byte")
    }
    self = .bytes(
      stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) })
  }

  func encode(to encoder: any Encoder) throws {
    switch self {
    case .path(let path):
      var container = encoder.singleValueContainer()
      try container.encode(path)
    case .bytes(let bytes):
      var container = encoder.container(keyedBy: Document.Key.self)
      try container.encode(
        bytes.map { hexadecimal($0, digits: 2) }.joined(), forKey: .bytes)
    }
  }
}

/// A string of a file inside an error text: control characters shown, long ones cut.
package func quoted(_ text: String) -> String {
  let shown = String(text.unicodeScalars.prefix(64))
  return "\"" + shown.replacing("\"", with: "\\\"").visible + "\"" + (shown == text ? "" : "...")
}

extension ImageError {
  package init(file: String, _ error: DecodingError) {
    switch error {
    case .keyNotFound(let key, let context):
      self.init(
        file: file, place: jsonPath(context.codingPath + [key]), found: "is missing",
        remedy: "add it")
    case .typeMismatch(let type, let context), .valueNotFound(let type, let context):
      let place = jsonPath(context.codingPath)
      let found = foundKind(context.debugDescription)
      self.init(
        file: file, place: place ?? "the whole file",
        found: "\(found), where \(kindText(type)) belongs")
    case .dataCorrupted(let context):
      self.init(
        file: file, place: jsonPath(context.codingPath), found: context.debugDescription)
    @unknown default:
      self.init(file: file, found: "cannot be read as JSON: \(error)")
    }
  }
}

/// What JSON calls a type of ours.
private func kindText(_ type: any Any.Type) -> String {
  let name = "\(type)"
  switch name {
  case "String": return "a string"
  case "Bool": return "true or false"
  case _ where name.hasPrefix("Array"): return "a list"
  case _ where name.hasPrefix("Dictionary"): return "an object"
  case _ where type is any Numeric.Type: return "a number"
  default: return "another kind of value"
  }
}

/// What the decoder found instead, out of its own sentence.
private func foundKind(_ sentence: String) -> String {
  for (mark, kind) in [
    ("found null", "null"), ("null value", "null"), ("found a string", "a string"),
    ("found a number", "a number"), ("found number", "a number"), ("found bool", "true or false"),
    ("found a bool", "true or false"), ("found an array", "a list"),
    ("found a dictionary", "an object"),
  ] where sentence.contains(mark) {
    return kind
  }
  return "a value of another kind"
}

/// `units[1].registers["0x90"]`; `nil` for the whole file.
func jsonPath(_ keys: [any CodingKey]) -> String? {
  var text = ""
  for key in keys {
    if let index = key.intValue {
      text += "[\(index)]"
    } else if isPlainKey(key.stringValue) {
      text += (text.isEmpty ? "" : ".") + key.stringValue
    } else {
      text += "[\(quoted(key.stringValue))]"
    }
  }
  return text.isEmpty ? nil : text
}

/// Whether a key is in snake case, as those that programs know are.
private func isPlainKey(_ key: String) -> Bool {
  func isDigit(_ byte: UInt8) -> Bool { 0x30...0x39 ~= byte }
  guard let first = key.utf8.first, !isDigit(first) else { return false }
  return key.utf8.allSatisfy { $0 == 0x5f || 0x61...0x7a ~= $0 || isDigit($0) }
}

// MARK: From JSON

extension MachineFile {
  init(_ document: Document, path: String) throws(ImageError) {
    guard document.version.value == Self.version else {
      throw ImageError(
        file: path, place: "version", found: "\(document.version.value) is not known",
        remedy: "this program reads version \(Self.version)")
    }
    var units: [Unit] = []
    for (index, unit) in document.units.enumerated() {
      units.append(try Unit(unit, JSONPlace(file: path, path: "units[\(index)]")))
    }
    let ram = try Self.ranges(document.ram ?? [], JSONPlace(file: path, path: "ram"))
    let crash = try Self.ranges(
      document.crashKernel ?? [], JSONPlace(file: path, path: "crash_kernel"))
    self.init(
      path: path, name: document.name ?? path,
      images: (document.image.map { [$0] } ?? []) + (document.images ?? []), units: units,
      ram: ram.sorted { $0.lowerBound < $1.lowerBound }, crashKernel: crash)
    slips = document.slips
    try checkCrashKernel()
    for (key, table) in document.firmware {
      switch table {
      case .bytes(let bytes):
        guard bytes.count <= Self.firmwareLimit else {
          throw JSONPlace(file: path, path: key).error(
            "\(bytes.count) bytes", "tables of firmware have at most \(Self.firmwareLimit)")
        }
        firmware[key] = FirmwareTable(bytes: bytes)
      case .path(let relative):
        firmware[key] = FirmwareTable(
          path: relative,
          bytes: try FirmwareTableFile.read(
            Self.resolve(relative, beside: path), signature: key.uppercased(),
            atMost: Self.firmwareLimit))
      }
    }
  }

  /// Tables of firmware have some hundred bytes; more than this are something else.
  private static let firmwareLimit = 1 << 16

  /// Half-open pairs in the order of the file; none overlaps another.
  private static func ranges(_ pairs: [[Number]], _ place: JSONPlace) throws(ImageError)
    -> [Range<PhysicalAddress>]
  {
    var ranges: [Range<PhysicalAddress>] = []
    for (index, pair) in pairs.enumerated() {
      guard pair.count == 2 else {
        throw place[index].error(
          "\(pair.count) numbers", "a range is a pair: first byte, and one past the last")
      }
      let (start, end) = (pair[0].value, pair[1].value)
      guard start < end else {
        throw place[index].error(
          "\(hexadecimal(start)) to \(hexadecimal(end)) is empty or the wrong way round",
          "a range is a pair: first byte, and one past the last")
      }
      guard end <= addressLimit else {
        throw place[index].error(
          "\(hexadecimal(end)) is above \(hexadecimal(addressLimit))",
          "physical addresses have at most 52 bits")
      }
      ranges.append(PhysicalAddress(start)..<PhysicalAddress(end))
    }
    let order = ranges.indices.sorted { ranges[$0].lowerBound < ranges[$1].lowerBound }
    for (first, second) in zip(order, order.dropFirst())
    where ranges[first].upperBound > ranges[second].lowerBound {
      throw place[second].error(
        "\(ranges[second].text) overlaps \(place[first].path), \(ranges[first].text)",
        "name every byte once")
    }
    return ranges
  }

  /// The crash kernel's ranges are whole pages, and in RAM where that is known.
  private func checkCrashKernel() throws(ImageError) {
    let place = JSONPlace(file: path, path: "crash_kernel")
    // Touching RAM ranges count as one: what must not be there is a gap.
    var joined: [Range<PhysicalAddress>] = []
    for range in ram {
      if let last = joined.last, last.upperBound == range.lowerBound {
        joined[joined.count - 1] = last.lowerBound..<range.upperBound
      } else {
        joined.append(range)
      }
    }
    // Ascending, so that one pass over RAM serves all ranges.
    var next = 0
    let order = crashKernel.indices.sorted {
      crashKernel[$0].lowerBound < crashKernel[$1].lowerBound
    }
    for index in order {
      let range = crashKernel[index]
      guard range.lowerBound.isAligned(to: 4096), range.upperBound.isAligned(to: 4096) else {
        throw place[index].error(
          "\(range.text) is not a multiple of 4 KiB", "crash kernels are loaded into whole pages")
      }
      guard !joined.isEmpty else { continue }
      while next < joined.count, joined[next].upperBound <= range.lowerBound { next += 1 }
      guard next < joined.count, joined[next].lowerBound <= range.lowerBound,
        range.upperBound <= joined[next].upperBound
      else {
        throw place[index].error("\(range.text) is not all RAM", "correct it, or 'ram'")
      }
    }
  }
}

/// A place in a machine file, for errors.
struct JSONPlace {
  var file: String
  /// Empty for the whole file.
  var path: String

  subscript(index: Int) -> JSONPlace { JSONPlace(file: file, path: "\(path)[\(index)]") }
  subscript(key: String) -> JSONPlace { JSONPlace(file: file, path: "\(path).\(key)") }

  /// The register of this key, in a unit.
  func register(_ key: String) -> JSONPlace {
    JSONPlace(file: file, path: "\(path).registers[\(quoted(key))]")
  }

  func error(_ found: String, _ remedy: String? = nil) -> ImageError {
    ImageError(file: file, place: path.isEmpty ? nil : path, found: found, remedy: remedy)
  }
}

extension Document.Unit: Codable {
  init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: Document.Key.self)
    kind = try container.decode(String.self, forKey: .kind)
    values = [:]
    for key in UnitRecords.format(of: kind)?.keys ?? [] {
      let name = Document.Key(key.name)
      values[key.name] =
        switch key.form {
        case .registerBase, .number:
          try container.decodeIfPresent(Number.self, forKey: name).map { .number($0.value) }
        case .function: try container.decodeIfPresent(String.self, forKey: name).map { .text($0) }
        case .flag: try container.decodeIfPresent(Bool.self, forKey: name).map { .flag($0) }
        }
    }
    registers = try container.decode([String: Number].self, forKey: .registers)
    let keys = UnitRecords.format(of: kind)?.keys.map(\.name) ?? []
    slips = Document.slips(in: container, of: ["kind", "registers"] + keys)
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: Document.Key.self)
    try container.encode(kind, forKey: .kind)
    for key in UnitRecords.format(of: kind)?.keys ?? [] {
      let name = Document.Key(key.name)
      switch (key.form, values[key.name]) {
      case (.number, .number(let number)):
        try container.encode(Number(number, isPlain: true), forKey: name)
      case (_, .number(let number)): try container.encode(Number(number), forKey: name)
      case (_, .text(let text)): try container.encode(text, forKey: name)
      case (_, .flag(let flag)): try container.encode(flag, forKey: name)
      case (_, nil): break
      }
    }
    try container.encode(registers, forKey: .registers)
  }
}

extension MachineFile.Unit {
  /// The hardware of a kind.
  ///
  /// - Throws: ``ImageError`` with the kinds there are, for another.
  static func format(
    of kind: String, _ place: JSONPlace
  ) throws(ImageError) -> any UnitRecordFormat.Type {
    guard let format = UnitRecords.format(of: kind) else {
      throw place["kind"].error(
        "\(quoted(kind)) is not known",
        "known are \(UnitRecords.kinds.joined(separator: ", "))")
    }
    return format
  }

  init(_ unit: Document.Unit, _ place: JSONPlace) throws(ImageError) {
    let format = try Self.format(of: unit.kind, place)
    var values: [String: Value] = [:]
    for key in format.keys {
      let place = place[key.name]
      guard let written = unit.values[key.name] else {
        if key.isRequired { throw place.error("is missing", key.remedy) }
        continue
      }
      values[key.name] = try key.value(written, place)
    }
    self.init(kind: unit.kind, values: values, registers: [:])
    // Sorted, so that of several mistakes always the same one is told.
    for (key, number) in unit.registers.sorted(by: { $0.key < $1.key }) {
      try add(number.value, key, format, place)
    }
  }

  private mutating func add(
    _ value: UInt64, _ key: String, _ format: any UnitRecordFormat.Type, _ place: JSONPlace
  ) throws(ImageError) {
    let place = place.register(key)
    guard let offset = Notation.hexadecimal(utf8: key.utf8) else {
      throw place.error("is not a register offset", "write offsets in hexadecimal")
    }
    guard offset % 4 == 0, offset < format.registerSpace else {
      throw place.error(
        "is no register offset",
        "offsets are multiples of 4 below \(hexadecimal(format.registerSpace))")
    }
    guard registers[offset] == nil else {
      throw place.error(
        "register \(hexadecimal(offset)) is there twice", "keep one of the spellings")
    }
    let bits = format.registerBits(at: offset)
    guard bits == 64 || value >> UInt64(bits) == 0 else {
      throw place.error("\"\(hexadecimal(value))\" does not fit \(bits) bits")
    }
    registers[offset] = value
  }
}

// MARK: To JSON

extension Document {
  init(_ file: MachineFile) {
    func pairs(_ ranges: [Range<PhysicalAddress>]) -> [[Number]]? {
      ranges.isEmpty
        ? nil : ranges.map { [Number($0.lowerBound.rawValue), Number($0.upperBound.rawValue)] }
    }
    self.init(
      version: Number(MachineFile.version, isPlain: true), name: file.name,
      image: file.images.count == 1 ? file.images[0] : nil,
      images: file.images.count > 1 ? file.images : nil, units: file.units.map(Unit.init),
      ram: pairs(file.ram), crashKernel: pairs(file.crashKernel),
      firmware: file.firmware.mapValues { $0.path.map { .path($0) } ?? .bytes($0.bytes) })
  }
}

extension Document.Unit {
  init(_ unit: MachineFile.Unit) {
    kind = unit.kind
    values = unit.values.mapValues { value in
      switch value {
      case .address(let address): .number(address.rawValue)
      case .function(let function): .text(PCI.Function(function).longText)
      case .flag(let flag): .flag(flag)
      case .number(let number): .number(number)
      }
    }
    registers = [:]
    guard let format = UnitRecords.format(of: kind) else { return }
    for (offset, value) in unit.registers { registers[format.registerKey(offset)] = Number(value) }
  }
}
