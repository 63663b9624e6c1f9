import IOMMUFormats
import IOMMUTranslation

/// One entry that a walk read: where it lies, what its bits are, and what they say.
public struct WalkStep: Sendable, Encodable {
  /// The entry's first byte.
  public let address: PhysicalAddress
  /// The level in the page tables, or the table above them.
  public let place: TablePlace
  /// The entry's number in its table, from 0.
  public let index: UInt64
  /// The entry taken apart.
  public let entry: EntryDescription

  enum CodingKeys: String, CodingKey { case address, level, table, index, entry }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode("\(address)", forKey: .address)
    try container.encode(place, level: .level, table: .table)
    try container.encode(hexadecimal(index), forKey: .index)
    try container.encode(entry, forKey: .entry)
  }

  /// `SS-PTE [0x1ff]`.
  public var titleText: String { "\(entry.name) [\(hexadecimal(index))]" }

  /// The fields that say something: no reserved or ignored bits that are clear.
  public var fieldsText: String { entry.fieldsText }
}

extension KeyedEncodingContainer {
  /// Encodes a place under one of two keys: a level of page tables as its number, a table above them
  /// as its name.
  mutating func encode(_ place: TablePlace, level: Key, table: Key) throws {
    switch place {
    case .level(let number): try encode(number, forKey: level)
    case .upper(let kind): try encode("\(kind)", forKey: table)
    }
  }
}

/// Collects what a walk reads, in words.
struct StepCollector: WalkObserver {
  private(set) var steps: [WalkStep] = []

  mutating func read<Entry: TableEntry>(
    _ entry: Entry, at address: PhysicalAddress, in place: TablePlace, index: UInt64,
    as variant: @autoclosure () -> Entry.Variant
  ) {
    steps.append(
      WalkStep(
        address: address, place: place, index: index,
        entry: EntryDescription(entry, as: variant())))
  }
}

extension EntryDescription {
  /// The fields that say something: no reserved or ignored bits that are clear.
  var fieldsText: String {
    fields.filter { field in
      switch field.field.use {
      case .value, .address: true
      case .ignored, .reserved: field.value != 0
      }
    }.map { field in
      switch field.field.use {
      case .address: "\(field.name)=\(hexadecimal(field.address ?? 0))"
      case .value: "\(field.name)=\(hexadecimal(field.value))"
      case .ignored, .reserved: "\(field.name) \(field.bits)=\(hexadecimal(field.value))"
      }
    }.joined(separator: " ")
  }

  /// Takes an entry apart, in its own words where it has any.
  init<Entry: TableEntry>(_ entry: Entry, as variant: Entry.Variant) {
    if let explained = entry as? any Explained {
      self = explained.description(as: variant)
    } else {
      self.init(entry, variant: variant, meaning: "")
    }
  }
}

extension Explained {
  /// - Parameter variant: One of this type.
  fileprivate func description(as variant: Any) -> EntryDescription {
    guard let variant = variant as? Variant else {
      preconditionFailure("an entry comes with a variant of its own type")
    }
    return EntryDescription(explaining: self, variant, name: name(variant))
  }
}
