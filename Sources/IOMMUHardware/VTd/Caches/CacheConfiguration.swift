/// How large the caches of a unit's ports are. Specification: Intel VT-d 6.2.
public struct CacheConfiguration: Hashable, Sendable {
  /// The shape of one cache.
  public typealias Geometry = CacheSize

  /// Context entries, by requester.
  public var contexts: Geometry
  /// PASID table entries, by requester and PASID.
  public var pasids: Geometry
  /// Pages, by requester, PASID, domain and address.
  public var iotlb: Geometry
  /// Pointers to lower tables, by domain (first stage: and PASID) and address.
  public var pagingStructures: Geometry
  /// Interrupt remapping entries, by index; one cache for the whole unit.
  public var interruptEntries: Geometry
  /// Paging structures are found by domain and address alone, as the manual tags them, also where the
  /// tables have another root than those that they are of: what software meets that gives one domain-id to
  /// two tables. Without it such software is helped.
  public var trustsDomainIDs: Bool

  public init(
    contexts: Geometry, pasids: Geometry, iotlb: Geometry, pagingStructures: Geometry,
    interruptEntries: Geometry = .none, trustsDomainIDs: Bool = false
  ) {
    self.contexts = contexts
    self.pasids = pasids
    self.iotlb = iotlb
    self.pagingStructures = pagingStructures
    self.interruptEntries = interruptEntries
    self.trustsDomainIDs = trustsDomainIDs
  }

  /// Every request reads all of its tables.
  public static let none = CacheConfiguration(
    contexts: .none, pasids: .none, iotlb: .none, pagingStructures: .none,
    interruptEntries: .none)

  /// Sizes as a unit may have them (*assumed*: no data sheet tells).
  public static let hardware = CacheConfiguration(
    contexts: .fixed(sets: 16, ways: 4), pasids: .fixed(sets: 16, ways: 4),
    iotlb: .fixed(sets: 64, ways: 4), pagingStructures: .fixed(sets: 16, ways: 4),
    interruptEntries: .fixed(sets: 32, ways: 4))

  /// Everything the manual lets a unit keep: what software that forgets an invalidation meets at
  /// worst.
  public static let everything = CacheConfiguration(
    contexts: .unbounded, pasids: .unbounded, iotlb: .unbounded,
    pagingStructures: .unbounded, interruptEntries: .unbounded)
}
