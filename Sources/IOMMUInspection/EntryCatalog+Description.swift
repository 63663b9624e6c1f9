import IOMMUFormats

extension EntryCatalog.Kind {
  /// The kind of this name or alias; upper and lower case are the same.
  ///
  /// - Throws: `DecodeError.unknownKind`, which says what comes near.
  public init(named text: String) throws(DecodeError) {
    guard let kind = EntryCatalog.kind(named: text) else { throw .unknownKind(text) }
    self = kind
  }

  /// Bits in the entry: 32, 64, 128, 256 or 512.
  public var bitCount: Int { type.bitCount }

  /// Words that ``describe(_:under:)`` takes: one for each 64 bits, at least one.
  public var wordCount: Int { type.quadwordCount }

  /// Takes an entry of this kind apart.
  ///
  /// - Parameters:
  ///   - words: The value as the manual numbers its bits (a TCE's is big-endian in memory, not
  ///     here); as quadwords, low first, for entries of more than 64 bits.
  ///   - circumstances: What is known of the unit; decides what some bits mean.
  public func describe(
    _ words: [UInt64], under circumstances: EntryCatalog.Circumstances = .init()
  ) throws(DecodeError) -> EntryDescription {
    guard words.count == wordCount else {
      throw .wordCount(kind: name, wanted: wordCount, given: words.count)
    }
    if bitCount < 64, let word = words.first, word >> UInt64(bitCount) != 0 {
      throw .tooWide(kind: name, bitCount: bitCount, word)
    }
    return visit(words, under: circumstances, by: Describer())
  }
}

private struct Describer: EntryVisitor {
  typealias Answer = EntryDescription

  func visit<Entry: TableEntry>(_ entry: Entry, as variant: Entry.Variant) -> EntryDescription {
    EntryDescription(entry, as: variant)
  }
}

/// Why a value cannot be taken apart, and what to give instead.
public enum DecodeError: Error, Equatable, CustomStringConvertible {
  case unknownKind(String)
  case wordCount(kind: String, wanted: Int, given: Int)
  case tooWide(kind: String, bitCount: Int, UInt64)

  public var description: String {
    switch self {
    case .unknownKind(let text):
      return "there is no entry called '\(text)'; nearest are "
        + listText(Self.names(nearestTo: text.lowercased()))
    case .wordCount(let kind, let wanted, let given):
      let want =
        switch wanted {
        case 1: "takes one value"
        case 2: "takes two quadwords, the low one first"
        default: "takes \(wanted) quadwords, the lowest first"
        }
      return "'\(kind)' \(want), and \(given) were given"
    case .tooWide(let kind, let bitCount, let word):
      return "\(hexadecimal(word)) does not fit: '\(kind)' has \(bitCount) bits; "
        + "give one entry at a time"
    }
  }

  /// The three names of kinds that take the fewest changes to become `text`, or their aliases do.
  private static func names(nearestTo text: String) -> [String] {
    let distances = EntryCatalog.all.map { kind in
      ([kind.name] + kind.aliases).map { editDistance(text, $0) }.min() ?? 0
    }
    let nearest = distances.indices.sorted { (distances[$0], $0) < (distances[$1], $1) }
    return nearest.prefix(3).map { EntryCatalog.all[$0].name }
  }
}
