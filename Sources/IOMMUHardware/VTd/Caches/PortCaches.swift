import IOMMUFormats
import IOMMUTranslation

/// A pointer to a lower table, with what invalidations ask for.
struct PagingStructureEntry {
  var start: WalkStart
  /// The tree that the pointer belongs to: walks of another do not use it.
  ///
  /// The manual's tag is the domain alone. Devices of one domain share their tables, unless
  /// software is changing them one device after the other.
  var root: PhysicalAddress
  var domainID: UInt16
  /// First-stage tables belong to a PASID; second-stage tables have `nil`.
  var pasid: PASID?
  /// The first address that the table serves.
  var address: UInt64

  /// Bits of address that the table serves.
  var sizeLog2: Int { VTd.Paging.addressWidth(levels: start.level) }
}

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
  var structures: TaggedCache<PagingStructureEntry>
  var entriesRead = EntryCounters()
  private let trustsDomainIDs: Bool

  init(_ configuration: CacheConfiguration) {
    trustsDomainIDs = configuration.trustsDomainIDs
    contexts = TaggedCache(configuration.contexts)
    pasids = TaggedCache(configuration.pasids)
    iotlb = IOTLB(configuration.iotlb)
    structures = TaggedCache(configuration.pagingStructures)
  }

  // MARK: Tags

  static func contextTag(_ requester: Requester, isScalable: Bool) -> CacheTag {
    CacheTag(UInt64(requester.rawValue), isScalable ? 1 : 0)
  }

  static func pasidTag(_ requester: Requester, _ pasid: PASID) -> CacheTag {
    CacheTag(UInt64(requester.rawValue), UInt64(pasid.rawValue))
  }

  static func structureTag(
    domainID: UInt16, pasid: PASID?, address: UInt64, level: Int
  ) -> CacheTag {
    let shift = UInt64(VTd.Paging.addressWidth(levels: level))
    let key = UInt64(domainID) | UInt64(pasid?.rawValue ?? 0) << 16 | (pasid == nil ? 0 : 1 << 36)
    return CacheTag(key, (address >> shift) << shift | UInt64(level))
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

  // MARK: Paging structures

  /// A page that the IOTLB does not know is found by reading all of its tables and nothing else.
  var hasPlainWalks: Bool {
    iotlb.keepsEntries && !structures.keepsEntries && !iotlb.hasLargePages
  }

  /// The lowest table that is known for an address; counts one hit or miss.
  mutating func start(
    for address: UInt64, in root: WalkStart, domainID: UInt16, pasid: PASID?
  ) -> WalkStart? {
    guard structures.keepsEntries else {
      structures.count(hit: false)
      return nil
    }
    for level in 1..<root.level {
      let tag = Self.structureTag(
        domainID: domainID, pasid: pasid, address: address, level: level)
      if let entry = structures.peek(tag), trustsDomainIDs || entry.root == root.table {
        structures.count(hit: true)
        return entry.start
      }
    }
    structures.count(hit: false)
    return nil
  }

  mutating func keep(
    _ start: WalkStart, for address: UInt64, in root: PhysicalAddress, domainID: UInt16,
    pasid: PASID?
  ) {
    guard structures.keepsEntries else { return }
    let tag = Self.structureTag(
      domainID: domainID, pasid: pasid, address: address, level: start.level)
    structures.insert(
      PagingStructureEntry(
        start: start, root: root, domainID: domainID, pasid: pasid, address: address), under: tag)
  }
}

/// Whose page tables are walked: the tags of what a walk leaves behind.
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
