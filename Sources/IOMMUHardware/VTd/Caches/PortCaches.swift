import IOMMUFormats
import IOMMUTranslation

/// A PASID table entry in the PASID cache.
struct PASIDCacheEntry {
  var entry: VTd.PASIDEntry
  var pasid: PASID
}

/// The caches of one port, tagged as the manual says. Specification: Intel VT-d 6.2.
struct PortCaches: ~Copyable {
  var contexts: TaggedCache<VTd.Context>
  var pasids: TaggedCache<PASIDCacheEntry>
  var iotlb: IOTLB
  var structures: StructureCache
  var entriesRead = EntryCounters()
  private let trustsDomainIDs: Bool

  init(_ configuration: CacheConfiguration) {
    trustsDomainIDs = configuration.trustsDomainIDs
    contexts = TaggedCache(configuration.contexts)
    pasids = TaggedCache(configuration.pasids)
    iotlb = IOTLB(configuration.iotlb)
    structures = StructureCache(configuration.pagingStructures)
  }

  // MARK: Tags

  static func contextTag(_ requester: Requester, isScalable: Bool) -> CacheTag {
    CacheTag(UInt64(requester.rawValue), isScalable ? 1 : 0)
  }

  static func pasidTag(_ requester: Requester, _ pasid: PASID) -> CacheTag {
    CacheTag(UInt64(requester.rawValue), UInt64(pasid.rawValue))
  }

  // MARK: Contexts and PASIDs

  /// Whether what is found above the page tables stays known: in both caches, if both are asked.
  func keepBindings(isScalable: Bool) -> Bool {
    contexts.keepsEntries && (!isScalable || pasids.keepsEntries)
  }

  /// Counts requests that needed no look into the context cache, nor into the PASID cache.
  mutating func countBindings(isScalable: Bool, _ count: UInt64) {
    contexts.count(hit: true, times: count)
    if isScalable { pasids.count(hit: true, times: count) }
  }

  // MARK: Pages

  /// A page that the IOTLB does not know is found by reading all of its tables and nothing else.
  var hasPlainWalks: Bool {
    iotlb.keepsEntries && !structures.keepsEntries && !iotlb.hasLargePages
  }

  /// Counts what ``PortPages`` answered.
  ///
  /// - Parameters:
  ///   - levels: Of the tables that requests meet first.
  ///   - hostLevels: Of the second stage under a first; otherwise 0.
  mutating func settle(
    _ counts: PageCounts, isScalable: Bool, usesFirstStage: Bool, levels: Int, hostLevels: Int
  ) {
    countBindings(isScalable: isScalable, counts.hits &+ counts.misses)
    iotlb.count(hit: true, times: counts.hits)
    iotlb.count(hit: false, times: counts.misses)
    structures.count(hit: true, times: counts.structureHits)
    structures.count(hit: false, times: counts.misses &- counts.structureHits)
    for level in 1...5 {
      entriesRead.count(
        level: level, isFirstStage: usesFirstStage, times: counts.entries(level: level, of: levels))
      entriesRead.count(
        level: level, isFirstStage: false, times: counts.hostEntries(level: level, of: hostLevels))
    }
  }

  // MARK: Paging structures

  /// The numbers of what walks through a table leave behind.
  mutating func structureNumbers(
    of table: Table, domainID: UInt16, pasid: PASID
  ) -> StructureNumbers {
    guard structures.keepsEntries else { return StructureNumbers() }
    func number(_ root: PhysicalAddress, _ pasid: PASID?) -> UInt64 {
      structures.number(
        of: StructureSpace(domainID: domainID, pasid: pasid, root: trustsDomainIDs ? nil : root))
    }
    switch table {
    case .secondStage(let table):
      let number = number(table.root, nil)
      return StructureNumbers(outer: number, secondStage: number)
    case .firstStage(let table): return StructureNumbers(outer: number(table.root, pasid))
    case .nested(let tables):
      return StructureNumbers(
        outer: number(tables.firstStage.root, pasid),
        secondStage: number(tables.secondStage.root, nil))
    default: return StructureNumbers()
    }
  }

  /// Where a walk of an address begins: in the lowest table that is known, or in the root; counts one
  /// hit or miss.
  mutating func start(
    for address: UInt64, in root: WalkStart, _ numbers: StructureNumbers
  ) -> WalkStart {
    let known =
      structures.keepsEntries
      ? structures.lowestTable(for: address, numbers.outer, below: root.level) : nil
    structures.count(hit: known != nil)
    return known.map { $0.table.start(level: $0.level) } ?? root
  }
}

/// The numbers that a paging-structure cache has for the trees of some requests.
struct StructureNumbers {
  /// Of the tables that requests meet first.
  var outer: UInt64 = .max
  /// Of second-stage tables, alone or under a first stage.
  var secondStage: UInt64 = .max
}

/// Whose page tables are walked: what tags are made of.
struct AddressSpace {
  var domainID: UInt16
  /// RID_PASID for requests without PASID; 0 in legacy mode.
  var pasid: PASID
  var usesFirstStage: Bool
}

/// Entries that walks have read, by level: 1 to 5 of either stage, and the tables above.
public struct EntryCounters: Hashable, Sendable {
  /// Levels 1 to 5 of the second stage; four tables above, from the lowest; 1 to 5 of the first stage.
  private var counts = Quadwords<16>()

  public init() {}

  /// Counts entries of page tables of `level`.
  mutating func count(level: Int, isFirstStage: Bool, times: UInt64) {
    counts[isFirstStage ? 10 + level : level] &+= times
  }

  mutating func count(_ place: TablePlace, isFirstStage: Bool, times: UInt64 = 1) {
    switch place {
    case .level(let level): counts[min(15, isFirstStage ? 10 + level : level)] &+= times
    case .upper(let kind): counts[min(10, 5 + kind.height)] &+= times
    }
  }

  /// Second-stage entries of `level`, 1 to 5.
  public subscript(level: Int) -> UInt64 { counts[level] }
  /// Entries of the tables above the page tables.
  public subscript(upper kind: UpperTableKind) -> UInt64 { counts[5 + kind.height] }
  /// First-stage entries of `level`, 1 to 5.
  public func firstStage(level: Int) -> UInt64 { counts[10 + level] }
  /// All of them.
  public var total: UInt64 { (0..<16).reduce(0) { $0 + counts[$1] } }
}
