/// Every table entry, register and descriptor of the library, by the names that people give it.
///
/// Each hardware lists its own in a file of its folder. Whoever offers entries by name (a decoder,
/// help texts, checks that hold of all) goes through this list.
public enum EntryCatalog {
  /// The entries of one hardware, in the order in which people look for them.
  public struct Group: Sendable {
    /// `Intel VT-d`.
    public let name: String
    /// At least one.
    public let kinds: [Kind]

    init(_ name: String, _ kinds: [Kind]) {
      self.name = name
      self.kinds = kinds
    }
  }

  /// What a reader knows beside the bits of an entry, for each hardware.
  public struct Circumstances: Sendable {
    /// Of Intel VT-d.
    public var vtd = VTd.EntryCircumstances()
    /// Nothing is known: whatever some unit allows is legal.
    public init() {}
  }

  /// All hardware.
  public static let groups = [
    Calgary.entries, GART.entries, AGP.entries, VTd.entries, AMDVi.entries, SMMUv3.entries,
    PCI.entries,
  ]

  /// All entries.
  public static let all: [Kind] = groups.flatMap(\.kinds)

  /// The types of all entries, each once: a type has several names where its place decides what it
  /// is.
  public static let types: [any TableEntry.Type] = {
    var seen: Set<ObjectIdentifier> = []
    return all.map(\.type).filter { seen.insert(ObjectIdentifier($0)).inserted }
  }()

  /// The kind of this name or alias; upper and lower case are the same.
  public static func kind(named text: some StringProtocol) -> Kind? {
    let name = text.lowercased()
    return all.first { $0.name == name || $0.aliases.contains(name) }
  }
}

extension EntryCatalog {
  /// A kind of entry, register or descriptor.
  public struct Kind: Sendable {
    /// Lower case, with hyphens: `ss-pte`. No other kind has it, nor any of the aliases.
    public let name: String
    /// Other names of the same form.
    public let aliases: [String]
    /// What it is, in one line.
    public let summary: String
    /// Makes the format when it is asked for: for each type the runtime goes through all conformances of
    /// the program.
    private let format: @Sendable () -> any Format

    /// - Parameters:
    ///   - layouts: The ways in which the bits may lie, each with what its entries have in common, such
    ///     as `PS = 0`; left out where there is one.
    ///   - variant: What the bits of an entry mean under the circumstances.
    init<Entry: TableEntry>(
      _ name: String, aliases: [String] = [], _ summary: String, _: Entry.Type,
      layouts: (@Sendable (Circumstances) -> [(condition: String, variant: Entry.Variant)])? = nil,
      variant: @escaping @Sendable (Entry, Circumstances) -> Entry.Variant
    ) {
      self.name = name
      self.aliases = aliases
      self.summary = summary
      let layouts = layouts ?? { [("", variant(Entry(low: 0, high: 0), $0))] }
      format = { VariantFormat(variant: variant, layouts: layouts) }
    }

    init<Entry: TableEntry>(
      _ name: String, aliases: [String] = [], _ summary: String, _ type: Entry.Type
    ) where Entry.Variant == OnlyVariant {
      self.init(name, aliases: aliases, summary, type) { _, _ in OnlyVariant() }
    }

    /// The entry's type.
    public var type: any TableEntry.Type { format().type }

    /// Hands the entry of these words over, with the variant that decides what its bits mean.
    ///
    /// - Parameters:
    ///   - words: The entry as its manual numbers the bits, in quadwords, low first.
    ///   - circumstances: What is known of the unit beside the entry; makes the variant.
    ///   - visitor: Called once; its answer is returned.
    /// - Precondition: There are as many words as ``type`` has quadwords; of a type of 32 bits the
    ///   upper half is zero.
    public func visit<Visitor: EntryVisitor>(
      _ words: [UInt64], under circumstances: Circumstances = Circumstances(), by visitor: Visitor
    ) -> Visitor.Answer {
      format().visit(words, under: circumstances, by: visitor)
    }

    /// Hands over an entry of zeros for each way in which the bits may lie.
    ///
    /// - Parameters:
    ///   - circumstances: What is known of the unit.
    ///   - visitor: Called once for each; what it says of the entry's bits holds of the layout.
    /// - Returns: Its answers, each with what the entries of that layout have in common: `PS = 0`, or
    ///   nothing where there is one layout only.
    public func visitLayouts<Visitor: EntryVisitor>(
      under circumstances: Circumstances = Circumstances(), by visitor: Visitor
    ) -> [(condition: String, answer: Visitor.Answer)] {
      format().visitLayouts(under: circumstances, by: visitor)
    }
  }

  /// A type with what makes its variants; erases the type.
  private protocol Format: Sendable {
    var type: any TableEntry.Type { get }
    func visit<Visitor: EntryVisitor>(
      _ words: [UInt64], under circumstances: Circumstances, by visitor: Visitor
    ) -> Visitor.Answer
    func visitLayouts<Visitor: EntryVisitor>(
      under circumstances: Circumstances, by visitor: Visitor
    ) -> [(condition: String, answer: Visitor.Answer)]
  }

  private struct VariantFormat<Entry: TableEntry>: Format {
    let variant: @Sendable (Entry, Circumstances) -> Entry.Variant
    let layouts: @Sendable (Circumstances) -> [(condition: String, variant: Entry.Variant)]

    var type: any TableEntry.Type { Entry.self }

    func visit<Visitor: EntryVisitor>(
      _ words: [UInt64], under circumstances: Circumstances, by visitor: Visitor
    ) -> Visitor.Answer {
      precondition(words.count == Entry.quadwordCount, "an entry is made of all its quadwords")
      precondition(
        Entry.bitCount >= 64 || words[0] >> UInt64(Entry.bitCount) == 0,
        "a value wider than its entry")
      var entry = Entry(low: 0, high: 0)
      for (index, word) in words.enumerated() { entry[quadword: index] = word }
      return visitor.visit(entry, as: variant(entry, circumstances))
    }

    func visitLayouts<Visitor: EntryVisitor>(
      under circumstances: Circumstances, by visitor: Visitor
    ) -> [(condition: String, answer: Visitor.Answer)] {
      layouts(circumstances).map { layout in
        (layout.condition, visitor.visit(Entry(low: 0, high: 0), as: layout.variant))
      }
    }
  }
}

/// What is done with an entry of whatever type.
public protocol EntryVisitor {
  /// What comes of the visit.
  associatedtype Answer
  /// Takes an entry, with the variant that decides what its bits mean.
  func visit<Entry: TableEntry>(_ entry: Entry, as variant: Entry.Variant) -> Answer
}
