/// The shape of one cache.
public enum CacheSize: Hashable, Sendable {
  /// Nothing is remembered.
  case none
  /// `sets` times `ways` entries; a full set gives up its entries in turn.
  case fixed(sets: Int, ways: Int)
  /// Nothing is given up but what an invalidation names.
  case unbounded
}

/// What a cache has done since it was made.
public struct CacheCounters: Hashable, Sendable {
  /// Look-ups that found their entry.
  public var hits: UInt64 = 0
  /// Look-ups that did not; also those of a cache that keeps nothing.
  public var misses: UInt64 = 0
  /// Entries that gave way to others.
  public var evictions: UInt64 = 0
  /// Entries that an invalidation dropped.
  public var invalidations: UInt64 = 0

  public init() {}
}
