import IOMMUFormats
import IOMMUInspection

/// An entry that is not what a test expects.
public struct EntryMismatch: Sendable, Equatable, CustomStringConvertible {
  /// A field of the entry that has another value.
  public struct Field: Sendable, Equatable, CustomStringConvertible {
    /// The manual's mnemonic, or `reserved`, or `ignored`.
    public let name: String
    /// `63:12`, or `0` for a single bit.
    public let bits: String
    /// The bits' value, moved to the bottom of a word.
    public let actual: UInt64
    public let expected: UInt64

    public var description: String {
      "\(name) (\(bits.contains(":") ? "bits" : "bit") \(bits)) is \(hexadecimal(actual)), "
        + "expected \(hexadecimal(expected))"
    }
  }

  /// Which entry it is, of whose table: `SS-PTE [0x3] of 00:03.0`.
  public let title: String
  /// Where the manual defines it.
  public let specification: String
  /// Where it lies.
  public let address: PhysicalAddress
  /// Where the expected one lies, in a memory of its own.
  public let expectedAddress: PhysicalAddress
  /// The entry in hexadecimal, bits 63:0 first.
  public let actual: String
  public let expected: String
  /// What it is called where that is another thing than what is expected.
  public let kinds: (actual: String, expected: String)?
  /// From the lowest bit up; empty where the two are entries of other kinds.
  public let fields: [Field]

  public static func == (one: Self, other: Self) -> Bool { one.description == other.description }

  /// - Returns: `nil` when the two have the same words.
  init?(
    _ title: String, actual: EntryDescription, at address: PhysicalAddress,
    expected: EntryDescription, at expectedAddress: PhysicalAddress,
    comparesAddresses: Bool = true
  ) {
    guard actual.words != expected.words || actual.name != expected.name else { return nil }
    self.title = title
    self.address = address
    self.expectedAddress = expectedAddress
    specification = expected.specification
    self.actual = actual.rawText
    self.expected = expected.rawText
    kinds = actual.name == expected.name ? nil : (actual.name, expected.name)
    fields =
      kinds == nil
      ? zip(actual.fields, expected.fields).reversed().compactMap { actual, expected in
        guard actual.value != expected.value, comparesAddresses || actual.use != "address" else {
          return nil
        }
        return Field(
          name: actual.name, bits: actual.bits, actual: actual.value, expected: expected.value)
      } : []
    if kinds == nil, fields.isEmpty { return nil }
  }

  /// The entry, what differs line by line, and all of it in hexadecimal.
  public var description: String {
    let place =
      address == expectedAddress ? "\(address)" : "\(address), expected as at \(expectedAddress)"
    var lines = ["\(title) at \(place) (\(specification))"]
    if let kinds { lines.append("is \(kinds.actual), expected \(kinds.expected)") }
    lines += fields.map(\.description)
    lines.append("\(actual), expected \(expected)")
    return lines.joined(separator: "\n  ")
  }
}
