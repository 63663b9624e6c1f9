/// What lies where in a machine's physical addresses, as its kernel lists it in `/proc/iomem`.
///
/// Source: Linux `Documentation/filesystems/proc.rst`, "iomem".
public struct ResourceMap: Sendable {
  /// A range with its name; both ends are of it in the text, half-open here.
  public struct Entry: Sendable, Hashable {
    public var range: Range<PhysicalAddress>
    public var name: String
    /// 0 for one that lies within no other.
    public var depth: Int
  }

  /// In the order of the text: those within another follow it.
  public let entries: [Entry]

  /// Reads lines `  00100000-7ffdffff : System RAM`; others are passed over.
  ///
  /// - Complexity: O(bytes).
  public init(_ text: some StringProtocol) {
    entries = text.split(whereSeparator: \.isNewline).compactMap { line in
      let indentation = line.prefix { $0 == " " }.count
      let core = line.dropFirst(indentation)
      let ends = core.prefix { $0 != " " }.split(separator: "-")
      let rest = core.drop { $0 != " " }
      guard ends.count == 2, rest.hasPrefix(" : "),
        let start = Notation.hexadecimal(utf8: ends[0].utf8),
        let last = Notation.hexadecimal(utf8: ends[1].utf8), start <= last, last < .max
      else { return nil }
      return Entry(
        range: PhysicalAddress(start)..<PhysicalAddress(last + 1), name: String(rest.dropFirst(3)),
        depth: indentation / 2)
    }
  }

  /// Whether addresses are there: a kernel shows zeros to whoever may not see them.
  public var hasAddresses: Bool { entries.contains { $0.range.upperBound.rawValue > 1 } }

  /// The names of what lies at an address, the widest first; empty where nothing does.
  ///
  /// - Complexity: O(entries).
  public func names(at address: PhysicalAddress) -> [String] {
    entries.filter { $0.range.contains(address) }.map(\.name)
  }
}
