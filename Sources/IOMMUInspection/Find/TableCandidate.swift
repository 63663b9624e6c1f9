import IOMMUFormats
import IOMMUTranslation

/// Something in memory that looks like a table, and why.
public struct TableCandidate: Sendable {
  /// What it looks like.
  public enum Kind: String, Sendable, Encodable, CaseIterable {
    case rootTable = "VT-d root table"
    case scalableRootTable = "VT-d root table, scalable mode"
    case tceTable = "TCE table"
    case gatt = "GATT"
    case dmar = "ACPI DMAR table"
    case rioTable = "Rio table in the EBDA"

    /// A table that devices' DMA goes through; the others are the firmware's.
    public var translates: Bool {
      switch self {
      case .rootTable, .scalableRootTable, .tceTable, .gatt: true
      case .dmar, .rioTable: false
      }
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
  /// A unit whose registers would lead to this table; `nil` for tables without enough to go by.
  ///
  /// Nothing is known of the unit but the table: everything that could be legal is. Where an aperture
  /// lies is said by no GATT.
  public var unit: TranslationUnit? {
    switch kind {
    case .rootTable, .scalableRootTable:
      let mode: VTd.TranslationTableMode = kind == .rootTable ? .legacy : .scalable
      return .vtd(
        VTd.Unit(
          base: PhysicalAddress(0),
          rootTableAddress: VTd.RootTableAddress(rootTable: address, mode: mode),
          status: nil, limits: .permissive))
    case .tceTable:
      guard let size = Calgary.TableSize.allCases.first(where: { $0.byteCount == byteCount }) else {
        return nil
      }
      return TranslationUnit(Calgary.FoundTable(at: address, size: size))
    case .gatt, .dmar, .rioTable: return nil
    }
  }
}

extension TableCandidate {
  /// The northbridge that a GATT makes with an aperture; `nil` for other tables.
  ///
  /// - Parameter base: Where the aperture begins, a multiple of 32 MiB below 2^40.
  func node(apertureBase base: UInt64) -> TranslationUnit? {
    // Registers have no bits for a table beyond.
    guard kind == .gatt, address.rawValue < GART.physicalLimit else { return nil }
    let aperture = byteCount / UInt64(GART.GATTEntry.byteCount) * PageCount.pageByteCount
    guard
      let order = (0..<7).first(where: { order in
        GART.ApertureControl(isEnabled: true, order: order).apertureByteCount == aperture
      })
    else { return nil }
    return .gart(
      GART.Node(
        device: Requester(bus: 0, device: 0x18, function: GART.function),
        control: GART.ApertureControl(isEnabled: true, order: order),
        base: GART.ApertureBase(address: base), tableBase: GART.TableBase(table: address)))
  }
}

extension TableCandidate: Encodable {
  enum CodingKeys: String, CodingKey {
    case kind, address, bytes, score, certain, reasons, owner
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(kind, forKey: .kind)
    try container.encode("\(address)", forKey: .address)
    try container.encode(hexadecimal(byteCount), forKey: .bytes)
    try container.encode(score, forKey: .score)
    try container.encode(isCertain, forKey: .certain)
    try container.encode(reasons, forKey: .reasons)
    try container.encodeIfPresent(owner, forKey: .owner)
  }
}
