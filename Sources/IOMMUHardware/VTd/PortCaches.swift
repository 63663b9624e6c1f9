import IOMMUFormats
import IOMMUTranslation

/// A page in the IOTLB, with what invalidations ask for.
struct IOTLBEntry {
  var page: MappedPage
  var domainID: UInt16
  var pasid: PASID
  /// First stage or nested; otherwise second stage.
  var usesFirstStage: Bool
}

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
  var sizeLog2: Int { 12 + 9 * start.level }
}

/// A PASID table entry in the PASID cache.
struct PASIDCacheEntry {
  var entry: VTdPASIDEntry
  var pasid: PASID
}

/// The caches of one port, tagged as the manual says. Specification: Intel VT-d 6.2.
struct PortCaches {
  var contexts: TaggedCache<VTdContext>
  var pasids: TaggedCache<PASIDCacheEntry>
  var iotlb: TaggedCache<IOTLBEntry>
  var structures: TaggedCache<PagingStructureEntry>
  /// Pages larger than 4 KiB that were ever kept: only their sizes are looked up.
  var has2MiBPages = false
  var has1GiBPages = false
  var entriesRead = EntryCounters()

  init(_ configuration: CacheConfiguration) {
    contexts = TaggedCache(configuration.contexts)
    pasids = TaggedCache(configuration.pasids)
    iotlb = TaggedCache(configuration.iotlb)
    structures = TaggedCache(configuration.pagingStructures)
  }

  func deallocate() {
    contexts.deallocate()
    pasids.deallocate()
    iotlb.deallocate()
    structures.deallocate()
  }

  // MARK: Tags

  static func contextTag(_ requester: Requester, isScalable: Bool) -> CacheTag {
    CacheTag(UInt64(requester.rawValue), isScalable ? 1 : 0)
  }

  static func pasidTag(_ requester: Requester, _ pasid: PASID) -> CacheTag {
    CacheTag(UInt64(requester.rawValue), UInt64(pasid.rawValue))
  }

  /// The first word of an IOTLB tag: everything but the address.
  static func iotlbKey(
    _ requester: Requester, _ pasid: PASID, hasPASID: Bool, domainID: UInt16, isScalable: Bool
  ) -> UInt64 {
    UInt64(requester.rawValue) | UInt64(domainID) << 16 | UInt64(pasid.rawValue) << 32
      | (hasPASID ? 1 << 52 : 0) | (isScalable ? 1 << 53 : 0)
  }

  @inline(__always)
  static func iotlbTag(_ key: UInt64, _ address: UInt64, sizeLog2: Int) -> CacheTag {
    let shift = UInt64(truncatingIfNeeded: sizeLog2)
    return CacheTag(key, (address &>> shift) &<< shift | shift)
  }

  static func structureTag(
    domainID: UInt16, pasid: PASID?, address: UInt64, level: Int
  ) -> CacheTag {
    let shift = UInt64(12 + 9 * level)
    let key = UInt64(domainID) | UInt64(pasid?.rawValue ?? 0) << 16 | (pasid == nil ? 0 : 1 << 36)
    return CacheTag(key, (address >> shift) << shift | UInt64(level))
  }

  // MARK: The IOTLB

  /// The page of an address, whatever its size; counts one hit or miss.
  @inline(__always)
  mutating func page(_ key: UInt64, _ address: UInt64) -> MappedPage? {
    if let entry = iotlb.peek(Self.iotlbTag(key, address, sizeLog2: 12)) {
      iotlb.count(hit: true)
      return entry.page
    }
    let large = has2MiBPages || has1GiBPages ? largePage(key, address) : nil
    iotlb.count(hit: large != nil)
    return large
  }

  @inline(never)
  private func largePage(_ key: UInt64, _ address: UInt64) -> MappedPage? {
    if has2MiBPages, let entry = iotlb.peek(Self.iotlbTag(key, address, sizeLog2: 21)) {
      return entry.page
    }
    guard has1GiBPages else { return nil }
    return iotlb.peek(Self.iotlbTag(key, address, sizeLog2: 30))?.page
  }

  mutating func keep(_ page: MappedPage, of address: UInt64, _ key: UInt64, _ space: AddressSpace) {
    guard iotlb.keepsEntries else { return }
    if page.sizeLog2 == 21 { has2MiBPages = true }
    if page.sizeLog2 == 30 { has1GiBPages = true }
    iotlb.insert(
      IOTLBEntry(
        page: page, domainID: space.domainID, pasid: space.pasid,
        usesFirstStage: space.usesFirstStage),
      under: Self.iotlbTag(key, address, sizeLog2: page.sizeLog2))
  }

  // MARK: Paging structures

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
      if let entry = structures.peek(tag), entry.root == root.table {
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
  /// Levels 1 to 5 second stage, 6 to 9 PASID, directory, context, root; 11 to 15 first stage.
  private var counts = Quadwords<16>()

  public init() {}

  mutating func count(level: Int, isFirstStage: Bool) {
    counts[min(15, isFirstStage ? 10 + level : level)] &+= 1
  }

  /// Second-stage entries of `level`, 1 to 5; at 6 to 9 PASID table, PASID directory, context and
  /// root entries.
  public subscript(level: Int) -> UInt64 { counts[level] }
  /// First-stage entries of `level`, 1 to 5.
  public func firstStage(level: Int) -> UInt64 { counts[10 + level] }
  /// All of them.
  public var total: UInt64 { (0..<16).reduce(0) { $0 + counts[$1] } }
}
