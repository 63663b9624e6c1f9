import IOMMUFormats
import IOMMUTranslation

/// One entry that a walk read: where it lies, what its bits are, and what they say.
public struct WalkStep: Sendable, Encodable {
  /// The entry's first byte.
  public let address: PhysicalAddress
  /// The walker's number for the level; above the page tables those of the format's own tables.
  public let level: Int
  /// The entry's number in its page of entries, from 0.
  public let index: UInt64
  /// The entry taken apart.
  public let entry: EntryDescription

  enum CodingKeys: String, CodingKey { case address, level, index, entry }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode("\(address)", forKey: .address)
    try container.encode(level, forKey: .level)
    try container.encode(hexadecimal(index), forKey: .index)
    try container.encode(entry, forKey: .entry)
  }

  /// `SS-PTE [0x1ff]`.
  public var titleText: String { "\(entry.name) [\(hexadecimal(index))]" }

  /// The fields that say something: no reserved or ignored bits that are clear.
  public var fieldsText: String {
    entry.fields.filter { field in
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
}

/// Collects what a walk reads, in words.
///
/// Entries of every kind come through here; what decides the meaning of their bits is the level and
/// the limits of the unit whose root table the walk started in.
struct StepCollector: WalkObserver {
  private let units: [VTd.Unit]
  private var limits = VTd.Limits.permissive
  private(set) var steps: [WalkStep] = []

  init(_ machine: Machine) {
    units = machine.units.compactMap { if case .vtd(let unit) = $0 { unit } else { nil } }
  }

  mutating func read(_ entry: some TableEntry, at address: PhysicalAddress, level: Int) {
    let page = address.alignedDown(to: PageCount.pageByteCount)
    if let unit = units.first(where: { $0.rootTableAddress.rootTable == page }) {
      limits = unit.limits
    }
    steps.append(
      WalkStep(
        address: address, level: level,
        index: address.offsetInPage / UInt64(type(of: entry).byteCount),
        entry: EntryDescription(anyEntry: entry, level: level, limits: limits)))
  }
}

extension EntryDescription {
  /// Takes an entry apart of which only the place in a walk is known.
  init(anyEntry entry: some TableEntry, level: Int, limits: VTd.Limits) {
    if let explained = entry as? any Explained {
      self = explained.description(level: level, limits: limits)
    } else {
      self.init(plain: entry)
    }
  }

  /// An entry of a kind that has no words of its own: its fields speak.
  private init<Entry: TableEntry>(plain entry: Entry) {
    self.init(entry, variant: Entry.exampleVariants[0], meaning: "\(Entry.name)")
  }
}

extension Explained {
  fileprivate func description(level: Int, limits: VTd.Limits) -> EntryDescription {
    let variant = placed(level: level, limits: limits)
    return EntryDescription(explaining: self, variant, name: name(variant))
  }
}
