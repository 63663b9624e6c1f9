import IOMMUFormats
import IOMMUTranslation

/// Something in memory that looks like a table, and why.
public struct TableCandidate: Sendable {
  /// What it looks like. The kinds stand beside the hardware that they are of.
  public struct Kind: Sendable {
    /// What people call such tables: `VT-d root table`.
    public let name: String
    /// A table that devices' DMA goes through; the others are the firmware's.
    public let translates: Bool
    /// Who finds such tables.
    let finder: any TableFinder.Type

    init(_ name: String, translates: Bool = true, of finder: any TableFinder.Type) {
      self.name = name
      self.translates = translates
      self.finder = finder
    }
  }

  /// Whose table it is, where several kernels have left theirs.
  public enum Owner: String, Sendable, Encodable {
    case deadKernel = "dead kernel"
    case captureKernel = "capture kernel"
  }

  public var kind: Kind
  /// The first byte.
  public var address: PhysicalAddress
  /// Bytes of table; for a root table its own page.
  public var byteCount: UInt64
  /// 0 to 100; from ``certainScore`` on nothing else is known to look like that.
  public var score: Int
  /// What speaks for it, and what against.
  public var reasons: [String]
  /// `nil` where nothing tells.
  public var owner: Owner?
  /// Parts of its tables that were not followed, in words: those that lead back to themselves.
  public var incomplete: [String] = []
  /// Whose it is by the kernels in the dump; `nil` where there is none to ask.
  public internal(set) var claim: KernelClaims.Claim?
  /// The page that the dump lacks and that would say how long the table is; `nil` where none does. Such
  /// a table is never certain.
  public private(set) var missingPage: PhysicalAddress?

  /// Candidates of this score and more are taken for what they look like.
  public static let certainScore = 60

  public var isCertain: Bool { score >= Self.certainScore }

  public init(
    kind: Kind, address: PhysicalAddress, byteCount: UInt64, score: Int, reasons: [String],
    owner: Owner? = nil
  ) {
    self.kind = kind
    self.address = address
    self.byteCount = byteCount
    self.score = score
    self.reasons = reasons
    self.owner = owner
  }
}

extension TableCandidate {
  /// The same, not certain: a page that the dump lacks might make it another table.
  func doubted(for missing: PhysicalAddress?) -> TableCandidate {
    guard let missing else { return self }
    var candidate = self
    candidate.score = min(score, Self.certainScore - 1)
    candidate.reasons.append(Self.doubt(missing))
    candidate.missingPage = missing
    return candidate
  }

  /// Whether it is certainly not of the kernel whose table `other` is.
  func isOfAnotherKernel(than other: TableCandidate) -> Bool {
    guard let owner, let otherOwner = other.owner else { return false }
    return owner != otherOwner
  }

  static func doubt(_ missing: PhysicalAddress) -> String {
    "may be longer, shorter or several: \(missing) is not in this dump"
  }

  /// A unit whose registers would lead to this table; `nil` for tables without enough to go by.
  ///
  /// Nothing is known of the unit but the table: everything that could be legal is.
  public var unit: TranslationUnit? {
    if case .unit(let unit) = kind.finder.unit(of: self, TableHints()) { unit } else { nil }
  }
}

extension TableCandidate.Kind: Hashable {
  public static func == (left: Self, right: Self) -> Bool { left.name == right.name }
  public func hash(into hasher: inout Hasher) { hasher.combine(name) }
}

extension TableCandidate: Encodable {
  enum CodingKeys: String, CodingKey {
    case kind, address, bytes, score, certain, reasons, owner, kernel, incomplete
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(kind.name, forKey: .kind)
    try container.encode("\(address)", forKey: .address)
    try container.encode(hexadecimal(byteCount), forKey: .bytes)
    try container.encode(score, forKey: .score)
    try container.encode(isCertain, forKey: .certain)
    try container.encode(reasons, forKey: .reasons)
    try container.encodeIfPresent(owner, forKey: .owner)
    try container.encodeIfPresent(claim, forKey: .kernel)
    if !incomplete.isEmpty { try container.encode(incomplete, forKey: .incomplete) }
  }
}
