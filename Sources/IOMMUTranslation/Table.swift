import IOMMUFormats

/// Tables that translate requests: what stands behind one case of ``Table``.
public protocol IOTable: Hashable, Sendable {
  associatedtype Format: TableFormat

  /// How the tables are laid out; of two stages the one that requests meet first.
  var format: Format { get }
  /// The first byte of the uppermost table; a guest's address where the tables are a guest's.
  var root: PhysicalAddress { get }
  /// The I/O addresses that the entries are for.
  var space: IOVASpace { get }
  /// The same tables without what two devices may have different and see the same mappings: whether
  /// faults are recorded, which marks are set.
  var identity: Self { get }

  /// What requests may do to a page whose entries allow this together; `nil` when none may do
  /// anything.
  func access(allowedBy permissions: Permissions) -> MappedAccess?
}

extension IOTable {
  public func access(allowedBy permissions: Permissions) -> MappedAccess? {
    permissions.isDisjoint(with: .readWrite) ? nil : MappedAccess(permissions)
  }
}

/// Page tables in force for some requests: the one list of all kinds there are.
///
/// The hot path is compiled for each case; everything else asks ``any``. A new kind of tables is one
/// case more, here and in the members below.
@frozen
public enum Table: Hashable, Sendable {
  case tce(Calgary.TCETable)
  case gatt(GART.Window)
  case secondStage(VTd.SecondStageTable)
  case firstStage(VTd.FirstStageTable)
  case nested(VTd.NestedTables)
  case amdHost(AMDVi.HostTable)
  case amdGuest(AMDVi.GuestTable)
  case amdNested(AMDVi.NestedTables)

  /// The tables, for whoever need not know their kind.
  public var any: any IOTable {
    switch self {
    case .tce(let table): table
    case .gatt(let window): window
    case .secondStage(let table): table
    case .firstStage(let table): table
    case .nested(let tables): tables
    case .amdHost(let table): table
    case .amdGuest(let table): table
    case .amdNested(let tables): tables
    }
  }

  /// What makes two tables the same mappings: devices with equal ones need one look, not two.
  public var identity: Table {
    switch self {
    case .tce, .gatt: self
    case .secondStage(let table): .secondStage(table.identity)
    case .firstStage(let table): .firstStage(table.identity)
    case .nested(let tables): .nested(tables.identity)
    case .amdHost(let table): .amdHost(table.identity)
    case .amdGuest(let table): .amdGuest(table.identity)
    case .amdNested(let tables): .amdNested(tables.identity)
    }
  }

  /// The tables in host memory that requests go through last: of nested tables the second stage, of
  /// all others themselves.
  public var host: Table {
    switch self {
    case .nested(let tables): .secondStage(tables.secondStage)
    case .amdNested(let tables): .amdHost(tables.host)
    default: self
    }
  }

  /// The tables are a guest's, in its own addresses, and the host's translate those.
  public var isNested: Bool { host != self }

  /// Where a guest's address lies; `nil` when the host's tables do not let it be read, and for tables
  /// that are no guest's.
  public func hostAddress(
    of guest: PhysicalAddress, in memory: some PhysicalMemory
  ) -> PhysicalAddress? {
    switch self {
    case .nested(let tables):
      GuestMemory(tables.secondStage, memory: memory).hostAddress(of: guest)
    case .amdNested(let tables): GuestMemory(tables.host, memory: memory).hostAddress(of: guest)
    default: nil
    }
  }

  public var root: PhysicalAddress { any.root }
  public var space: IOVASpace { any.space }

  /// Translates an untranslated request, up to the end of its page.
  ///
  /// - Parameters:
  ///   - address: The first byte, as the request names it.
  ///   - byteCount: At least 1.
  ///   - operation: What the request wants.
  ///   - memory: Memory that holds the tables.
  ///   - marker: Sets accessed and dirty bits: ``AtomicMarks`` for a live machine, ``NoMarks`` for
  ///     a dump.
  ///   - observer: Shown every entry read.
  /// - Complexity: At most one entry read per level; of nested tables, per level of both stages.
  @inlinable
  public func translate(
    _ address: UInt64, byteCount: UInt64, for operation: VTd.Request.Operation,
    in memory: some PhysicalMemory, marker: some EntryMarker, observer: inout some WalkObserver
  ) -> Translation {
    switch self {
    case .tce(let table):
      table.translate(
        address, byteCount: byteCount, access: operation.access, in: memory, observer: &observer)
    case .gatt(let window):
      window.translate(
        address, byteCount: byteCount, access: operation.access, in: memory, observer: &observer)
    case .secondStage(let table):
      table.translate(
        address, byteCount: byteCount, for: operation, in: memory, marker: marker,
        observer: &observer)
    case .firstStage(let table):
      table.translate(
        address, byteCount: byteCount, for: operation, in: memory, marker: marker,
        observer: &observer)
    case .nested(let tables):
      tables.translate(
        address, byteCount: byteCount, for: operation, in: memory, marker: marker,
        observer: &observer)
    case .amdHost(let table):
      table.translate(
        address, byteCount: byteCount, for: operation, in: memory, marker: marker,
        observer: &observer)
    case .amdGuest(let table):
      table.translate(
        address, byteCount: byteCount, for: operation, in: memory, marker: marker,
        observer: &observer)
    case .amdNested(let tables):
      tables.translate(
        address, byteCount: byteCount, for: operation, in: memory, marker: marker,
        observer: &observer)
    }
  }

  /// Goes through every entry of the tables, below the width in force; of nested tables those of the
  /// first stage, which lie in guest memory and name guest pages.
  ///
  /// Addresses that the visitor sees count from the base of ``space``.
  ///
  /// - Throws: ``EnumerationExhausted`` when tables point at each other.
  /// - Complexity: O(entries of all tables reached).
  public func forEachEntry(
    in memory: some PhysicalMemory, budget: inout EnumerationBudget,
    visitor: inout some TableVisitor
  ) throws(EnumerationExhausted) {
    switch self {
    case .tce(let table): try table.forEachEntry(in: memory, budget: &budget, visitor: &visitor)
    case .gatt(let window): try window.forEachEntry(in: memory, budget: &budget, visitor: &visitor)
    case .secondStage(let table):
      try table.forEachEntry(in: memory, budget: &budget, visitor: &visitor)
    case .firstStage(let table):
      try table.forEachEntry(in: memory, budget: &budget, visitor: &visitor)
    case .nested(let tables):
      try tables.forEachEntry(
        in: GuestMemory(tables.secondStage, memory: memory), budget: &budget, visitor: &visitor)
    case .amdHost(let table):
      try table.forEachEntry(in: memory, budget: &budget, visitor: &visitor)
    case .amdGuest(let table):
      try table.forEachEntry(in: memory, budget: &budget, visitor: &visitor)
    case .amdNested(let tables):
      try tables.forEachEntry(
        in: GuestMemory(tables.host, memory: memory), budget: &budget, visitor: &visitor)
    }
  }
}

extension IOTable {
  /// The one tour of a whole table, in the addresses that its pointers are in.
  @inline(__always)
  func forEachEntry(
    in memory: some PhysicalMemory, budget: inout EnumerationBudget,
    visitor: inout some TableVisitor
  ) throws(EnumerationExhausted) {
    try format.forEachEntry(
      from: root, in: memory, below: space.byteCount, budget: &budget, visitor: &visitor)
  }
}

/// The I/O addresses that a table's entries are for.
public struct IOVASpace: Hashable, Sendable {
  /// The address that the first entry is for.
  public var base: UInt64
  /// Bytes of address from the base on; entries for those beyond are out of use.
  public var byteCount: UInt64
  /// The highest bit of address that counts, where those above repeat it.
  public var signBit: Int?
  /// Addresses that the unit does not look up in the table, whatever an entry for them says;
  /// half-open.
  public var holes: [Range<UInt64>]
  /// Physical addresses that no entry can lead to; half-open.
  public var unreachable: Range<UInt64>?
  /// Addresses outside that the same requests reach untranslated; half-open, ascending.
  public var passing: [Range<UInt64>]

  public init(
    base: UInt64 = 0, byteCount: UInt64, signBit: Int? = nil, holes: [Range<UInt64>] = [],
    unreachable: Range<UInt64>? = nil, passing: [Range<UInt64>] = []
  ) {
    self.base = base
    self.byteCount = byteCount
    self.signBit = signBit
    self.holes = holes
    self.unreachable = unreachable
    self.passing = passing
  }

  /// The I/O address for one that counts from ``base``.
  public func iova(_ address: UInt64) -> IOVA {
    var iova = base &+ address
    if let signBit, iova >> UInt64(signBit) & 1 != 0 { iova |= ~0 << UInt64(signBit) }
    return IOVA(iova)
  }

  /// The I/O addresses in use of a part of the table that may be larger: one range, or one on each side
  /// of the addresses that are not canonical.
  public func ranges(from address: UInt64, byteCount: UInt64) -> [Range<IOVA>] {
    guard address < self.byteCount else { return [] }
    let end = address + min(byteCount, self.byteCount - address)
    guard let signBit, address < 1 << UInt64(signBit), end > 1 << UInt64(signBit) else {
      return [range(from: address, byteCount: end - address)]
    }
    let middle: UInt64 = 1 << UInt64(signBit)
    return [
      range(from: address, byteCount: middle - address),
      range(from: middle, byteCount: end - middle),
    ]
  }

  /// I/O addresses, half-open; the last page of all ends one byte short, because no address follows
  /// it.
  public func range(from address: UInt64, byteCount: UInt64) -> Range<IOVA> {
    let start = iova(address)
    let (end, wraps) = start.rawValue.addingReportingOverflow(byteCount)
    return start..<IOVA(wraps ? .max : end)
  }
}
