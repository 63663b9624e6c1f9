import IOMMUFormats
import IOMMUTranslation

/// How machine files describe the units of one hardware: one conformance for each, in the hardware's
/// folder, listed in ``UnitRecords``.
protocol UnitRecordFormat: Sendable {
  /// What a record describes.
  associatedtype Model: UnitModel

  /// The kinds of units, as files name them.
  static var kinds: [String] { get }
  /// What a record has besides its kind and registers, in the order in which mistakes are told.
  static var keys: [UnitRecordKey] { get }
  /// Bytes of registers that a unit has at most.
  static var registerSpace: UInt64 { get }
  /// Digits that a register's offset is written with, at least.
  static var offsetDigits: Int { get }

  /// Bits in a register; 64 for those that are not known here.
  static func registerBits(at offset: UInt64) -> Int
  /// The unit as its registers stand.
  ///
  /// - Throws: ``ImageError`` when a register is missing without which an answer would be a guess,
  ///   or when registers select what this version does not read.
  static func model(of record: UnitRecord) throws(ImageError) -> Model
  /// The record that ``model(of:)`` makes an equal unit of.
  static func record(of model: Model) -> MachineFile.Unit
  /// What is strange about the hardware's units together and no error.
  ///
  /// - Parameter firmware: The table behind ``firmwareKey``, where the file has one.
  static func warnings(
    about units: [(index: Int, unit: MachineFile.Unit)], firmware: FirmwareTable?
  ) -> [String]

  /// The key of a machine file behind which stands firmware's table of such units; `nil` where there
  /// is none.
  static var firmwareKey: String? { get }
  /// A machine's units with what firmware's table says of them, and of further ones.
  ///
  /// - Parameters:
  ///   - units: Of all hardware, in the order of the file.
  ///   - records: What the file has of each.
  /// - Throws: ``ImageError`` for bytes that are no such table.
  static func complete(
    _ units: [TranslationUnit], records: [MachineFile.Unit], with firmware: FirmwareTable,
    _ place: JSONPlace
  ) throws(ImageError) -> [TranslationUnit]
  /// The firmware's table that units were completed with.
  static func firmware(of units: [TranslationUnit]) -> FirmwareTable?
  /// Whether a unit comes of firmware's table alone and has no record.
  static func isImplied(_ unit: TranslationUnit) -> Bool
}

extension UnitRecordFormat {
  static var offsetDigits: Int { 0 }
  static func warnings(
    about _: [(index: Int, unit: MachineFile.Unit)], firmware _: FirmwareTable?
  ) -> [String] { [] }

  static var firmwareKey: String? { nil }
  static func complete(
    _ units: [TranslationUnit], records _: [MachineFile.Unit], with _: FirmwareTable, _: JSONPlace
  ) throws(ImageError) -> [TranslationUnit] { units }
  static func firmware(of _: [TranslationUnit]) -> FirmwareTable? { nil }
  static func isImplied(_: TranslationUnit) -> Bool { false }

  /// A register's key as files are written.
  static func registerKey(_ offset: UInt64) -> String {
    "0x" + hexadecimal(offset, digits: max(1, offsetDigits))
  }

  /// The record of a unit; `nil` for one of other hardware.
  static func record(ofUnit unit: TranslationUnit) -> MachineFile.Unit? {
    unit.as(Model.self).map(record(of:))
  }

  static func key(_ name: String) -> UnitRecordKey? { keys.first { $0.name == name } }
}

/// All hardware that machine files describe.
enum UnitRecords {
  static let all: [any UnitRecordFormat.Type] = [
    Calgary.Record.self, GART.Record.self, VTd.Record.self, AMDVi.Record.self,
  ]

  /// The kinds of units, as files name them.
  static var kinds: [String] { all.flatMap { $0.kinds } }

  /// The keys behind which tables of firmware stand.
  static var firmwareKeys: [String] { all.compactMap { $0.firmwareKey } }

  /// The hardware of a kind; `nil` for one that is not known.
  static func format(of kind: String) -> (any UnitRecordFormat.Type)? {
    all.first { $0.kinds.contains(kind) }
  }
}

/// A table of firmware in a machine file: named by its path, or written down in it.
struct FirmwareTable: Sendable, Hashable {
  /// As the file has it, relative to the file's directory; `nil` for one that is written down.
  var path: String?
  var bytes: [UInt8]
}

/// A key of a unit's record, besides its kind and registers.
struct UnitRecordKey {
  /// What is written behind the key.
  enum Form {
    /// Where the unit's registers lie: a multiple of 4 KiB below 2^52.
    case registerBase
    /// A PCI function of segment 0, `0000:00:18.3`.
    case function
    /// `true` or `false`.
    case flag
    /// A number within bounds, decimal where files are written. A number outside is put into words by
    /// `found`; `remedy` says what is right.
    case number(ClosedRange<UInt64>, found: (UInt64) -> String, remedy: String)
  }

  var name: String
  var form: Form
  /// Without it there is no unit.
  var isRequired = false
}

extension MachineFile.Unit {
  /// What stands behind a key.
  enum Value: Sendable, Hashable {
    case address(PhysicalAddress)
    case function(Requester)
    case flag(Bool)
    case number(UInt64)
  }
}

extension UnitRecordKey {
  /// The value behind the key, checked.
  func value(_ written: Document.Value, _ place: JSONPlace) throws(ImageError)
    -> MachineFile.Unit.Value
  {
    let value: MachineFile.Unit.Value
    switch (form, written) {
    case (.registerBase, .number(let number)): value = .address(PhysicalAddress(number))
    case (.flag, .flag(let flag)): value = .flag(flag)
    case (.number, .number(let number)): value = .number(number)
    case (.function, .text(let text)):
      guard let device = Requester(text) else {
        throw place.error(
          "\(quoted(text)) is not a PCI function", "write it as \"0000:00:18.3\"")
      }
      value = .function(device)
    default: preconditionFailure("a value is decoded in the form of its key")
    }
    try check(value, place)
    return value
  }

  /// Refuses a value that the unit cannot have.
  func check(_ value: MachineFile.Unit.Value, _ place: JSONPlace) throws(ImageError) {
    switch (form, value) {
    case (.registerBase, .address(let base)):
      guard base.isAligned(to: 4096), base.rawValue < MachineFile.addressLimit else {
        throw place.error(
          "\"\(base)\" is no multiple of 4 KiB below 2^52",
          "give the physical base of the unit's registers")
      }
    case (.number(let bounds, let found, let remedy), .number(let number)):
      guard bounds.contains(number) else { throw place.error(found(number), remedy) }
    case (.function, .function), (.flag, .flag): break
    default: preconditionFailure("a record's values have the form of their keys")
    }
  }

  /// What to do where the key is missing.
  var remedy: String {
    switch form {
    case .registerBase: "add the physical base of the unit's registers"
    case .function: "add it, such as \"0000:00:18.3\""
    case .flag, .number: "add it"
    }
  }
}

/// A unit's record, for reading: `nil` where the file is silent.
struct UnitRecord {
  let unit: MachineFile.Unit
  let format: any UnitRecordFormat.Type
  let place: JSONPlace

  /// - Throws: when a value is missing without which there is no unit, or is one that no unit has,
  ///   as one set by a program may be.
  init(
    _ unit: MachineFile.Unit, _ format: any UnitRecordFormat.Type, _ place: JSONPlace
  ) throws(ImageError) {
    self.unit = unit
    self.format = format
    self.place = place
    for key in format.keys {
      guard let value = unit.values[key.name] else {
        if key.isRequired { throw place[key.name].error("is missing", key.remedy) }
        continue
      }
      try key.check(value, place[key.name])
    }
  }

  // MARK: Values of keys

  /// The value of a key that is required.
  func address(_ key: String) -> PhysicalAddress {
    guard case .address(let address) = unit.values[key] else {
      preconditionFailure("'\(key)' is a required address")
    }
    return address
  }

  /// The value of a key that is required.
  func function(_ key: String) -> Requester {
    guard case .function(let function) = unit.values[key] else {
      preconditionFailure("'\(key)' is a required PCI function")
    }
    return function
  }

  func flag(_ key: String) -> Bool? {
    if case .flag(let flag) = unit.values[key] { flag } else { nil }
  }

  func number(_ key: String) -> UInt64? {
    if case .number(let number) = unit.values[key] { number } else { nil }
  }

  // MARK: Registers

  func quadword(_ offset: UInt64) -> UInt64? { unit.registers[offset] }

  /// - Throws: when the value has more than 32 bits, as one set by a program may.
  func doubleword(_ offset: UInt64) throws(ImageError) -> UInt32? {
    guard let value = unit.registers[offset] else { return nil }
    guard let word = UInt32(exactly: value) else {
      throw error(offset, "\"\(hexadecimal(value))\" does not fit 32 bits")
    }
    return word
  }

  func error(_ offset: UInt64, _ found: String, _ remedy: String? = nil) -> ImageError {
    place.register(format.registerKey(offset)).error(found, remedy)
  }

  func missing(_ offset: UInt64, _ why: String) -> ImageError { error(offset, "is missing", why) }
}
