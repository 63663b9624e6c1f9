import IOMMUFormats
import IOMMUTranslation

/// Whose page tables are walked: what entries of the caches are tagged with.
struct AMDViSpace: Hashable {
  var domainID: UInt16
  /// Of guest tables; `nil` of a host's. Requests without PASID use those of PASID 0.
  var pasid: PASID?

  fileprivate var key: UInt64 {
    UInt64(domainID) | UInt64(pasid?.rawValue ?? 0) << 16 | (pasid == nil ? 0 : 1 << 36)
  }
}

/// The caches of an AMD-Vi unit. Specification: AMD IOMMU 2.4.
///
/// Translations of a domain are shared by all its devices, as the manual's tags have it.
struct AMDViCaches: ~Copyable {
  /// A page, with what invalidations ask for.
  struct Page {
    /// `nil` for one that is known not to be there.
    var page: AMDVi.TablePage?
    var space: AMDViSpace
    /// The first address, of the bits that count.
    var address: UInt64
    var sizeLog2: Int
    var comparedBits: UInt64
    /// A host's table had a part in it.
    var isNested: Bool
  }

  /// A pointer to a lower table, with what invalidations ask for.
  struct Table {
    var start: WalkStart
    /// The tree that the pointer belongs to: walks of another do not use it.
    ///
    /// The manual's tag is the domain alone. Devices of one domain share their tables, unless software is
    /// changing them one device after the other.
    var root: PhysicalAddress
    var space: AMDViSpace
    /// The first address that the table serves, of the bits that count.
    var address: UInt64
    var comparedBits: UInt64
    /// Bits of address that the table serves.
    var sizeLog2: Int { AMDViCaches.addressWidth(levels: start.level) }
  }

  /// What GCR3 entries make of a device table entry.
  struct GuestRoot {
    var binding: AMDVi.Binding
    var space: AMDViSpace
    var device: Requester
    var isNested: Bool
  }

  var deviceEntries: TaggedCache<AMDVi.DeviceTableEntry>
  var guestRoots: TaggedCache<GuestRoot>
  var translations: TaggedCache<Page>
  var pageWalks: TaggedCache<Table>
  var interruptEntries: TaggedCache<AMDVi.InterruptRemapping.Entry>
  /// Bit n: a page of 2^n bytes may be there.
  private var sizes: UInt64 = 0

  init(_ configuration: AMDViCacheConfiguration) {
    deviceEntries = TaggedCache(configuration.deviceEntries)
    guestRoots = TaggedCache(configuration.guestRoots)
    translations = TaggedCache(configuration.translations)
    pageWalks = TaggedCache(configuration.pageWalks)
    interruptEntries = TaggedCache(configuration.interruptEntries)
  }

  /// Bits of address below a table of entries of this level; of both kinds of tables.
  static func addressWidth(levels: Int) -> Int { min(64, 12 + 9 * levels) }

  // MARK: Tags

  static func tag(_ device: Requester) -> CacheTag { CacheTag(UInt64(device.rawValue), 0) }

  static func tag(_ device: Requester, interrupt index: Int) -> CacheTag {
    CacheTag(UInt64(device.rawValue), UInt64(index))
  }

  static func tag(_ request: AMDVi.Request) -> CacheTag {
    CacheTag(
      UInt64(request.requester.rawValue) | (request.pasid == nil ? 0 : 1 << 16)
        | (request.isSupervisor ? 1 << 17 : 0), UInt64(request.pasid?.rawValue ?? 0))
  }

  private static func tag(_ space: AMDViSpace, _ address: UInt64, sizeLog2: Int) -> CacheTag {
    CacheTag(space.key | UInt64(sizeLog2) << 40, address >> UInt64(sizeLog2))
  }

  // MARK: Translations

  /// The page of an address, whatever its size; counts one hit or miss.
  mutating func page(of address: UInt64, in space: AMDViSpace) -> Page? {
    var rest = sizes
    while rest != 0 {
      let sizeLog2 = rest.trailingZeroBitCount
      rest &= rest - 1
      if let page = translations.peek(Self.tag(space, address, sizeLog2: sizeLog2)) {
        translations.count(hit: true)
        return page
      }
    }
    translations.count(hit: false)
    return nil
  }

  /// Keeps what the tables say of an address: a page, or that there is none.
  ///
  /// - Parameter comparedBits: Those of an address that the tables look at; others are zero in `address`.
  mutating func keep(
    _ page: AMDVi.TablePage?, of address: UInt64, comparedBits: UInt64, in space: AMDViSpace,
    isNested: Bool
  ) {
    guard translations.keepsEntries else { return }
    let sizeLog2 = page?.sizeLog2 ?? 12
    guard 12..<64 ~= sizeLog2 else { return }
    sizes |= 1 << UInt64(sizeLog2)
    let start = (address >> UInt64(sizeLog2)) << UInt64(sizeLog2)
    translations.insert(
      Page(
        page: page, space: space, address: start, sizeLog2: sizeLog2, comparedBits: comparedBits,
        isNested: isNested),
      under: Self.tag(space, address, sizeLog2: sizeLog2))
  }

  // MARK: Page walks

  /// The lowest table that is known for an address; counts one hit or miss.
  ///
  /// - Parameter needs: What the entries above have to allow: where they do not, the walk from the top
  ///   says which of them.
  mutating func start(
    for address: UInt64, in root: WalkStart, _ space: AMDViSpace, needs: Permissions
  ) -> WalkStart {
    guard pageWalks.keepsEntries else {
      pageWalks.count(hit: false)
      return root
    }
    for level in 1..<max(1, root.level) {
      let tag = Self.tag(space, address, sizeLog2: Self.addressWidth(levels: level))
      if let entry = pageWalks.peek(tag), entry.root == root.table,
        entry.start.permissions.isSuperset(of: needs)
      {
        pageWalks.count(hit: true)
        return entry.start
      }
    }
    pageWalks.count(hit: false)
    return root
  }

  mutating func keep(
    _ start: WalkStart, for address: UInt64, comparedBits: UInt64, in root: PhysicalAddress,
    _ space: AMDViSpace
  ) {
    let sizeLog2 = Self.addressWidth(levels: start.level)
    guard sizeLog2 < 64 else { return }
    pageWalks.insert(
      Table(
        start: start, root: root, space: space,
        address: (address >> UInt64(sizeLog2)) << UInt64(sizeLog2), comparedBits: comparedBits),
      under: Self.tag(space, address, sizeLog2: sizeLog2))
  }

  // MARK: Invalidations

  /// INVALIDATE_DEVTAB_ENTRY.
  mutating func invalidateDeviceEntry(of device: Requester) {
    deviceEntries.invalidate { tag, _ in tag == Self.tag(device) }
    guestRoots.invalidate { _, root in root.device == device }
  }

  /// INVALIDATE_IOMMU_PAGES: of a host's tables everything nested in them goes as well, wherever it is.
  mutating func invalidate(
    _ addresses: ClosedRange<IOVA>, of space: AMDViSpace, includesTables: Bool
  ) {
    // Both are aligned blocks: they overlap where the larger one's upper bits agree.
    let first = addresses.lowerBound.rawValue
    let blockLog2 = 64 - (first ^ addresses.upperBound.rawValue).leadingZeroBitCount
    func overlaps(_ address: UInt64, _ sizeLog2: Int, _ comparedBits: UInt64) -> Bool {
      let shift = UInt64(max(blockLog2, sizeLog2))
      return shift >= 64 || ((address ^ first) & comparedBits) >> shift == 0
    }
    translations.invalidate { _, page in
      page.space.domainID == space.domainID
        && (page.isNested && space.pasid == nil
          || page.space == space && overlaps(page.address, page.sizeLog2, page.comparedBits))
    }
    if includesTables {
      pageWalks.invalidate { _, table in
        table.space == space && overlaps(table.address, table.sizeLog2, table.comparedBits)
      }
    }
    guestRoots.invalidate { _, root in
      root.space.domainID == space.domainID
        && (space.pasid == nil ? root.isNested : root.space == space)
    }
  }

  /// INVALIDATE_INTERRUPT_TABLE.
  mutating func invalidateInterruptEntries(of device: Requester) {
    interruptEntries.invalidate { tag, _ in tag.low == Self.tag(device).low }
  }

  /// INVALIDATE_IOMMU_ALL, and a reset.
  mutating func invalidateAll() {
    deviceEntries.invalidateAll()
    guestRoots.invalidateAll()
    translations.invalidateAll()
    pageWalks.invalidateAll()
    interruptEntries.invalidateAll()
    sizes = 0
  }
}

/// Keeps the tables that a walk went through.
struct AMDViWalkObserver: WalkObserver {
  private(set) var starts: [(start: WalkStart, address: UInt64)] = []
  private let keepsGuest: Bool

  /// - Parameter keepsGuest: Those of guest tables are kept, not those of the host's.
  init(keepsGuest: Bool) { self.keepsGuest = keepsGuest }

  mutating func read<Entry: TableEntry>(
    _: Entry, at _: PhysicalAddress, in _: TablePlace, index _: UInt64,
    as _: @autoclosure () -> Entry.Variant
  ) {}

  mutating func descend<Entry: TableEntry>(
    to start: WalkStart, for address: UInt64, through _: Entry.Type
  ) {
    guard (Entry.self == AMDVi.GuestPageTableEntry.self) == keepsGuest else { return }
    starts.append((start, address))
  }
}
