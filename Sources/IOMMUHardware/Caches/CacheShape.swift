/// The sets and ways that a cache begins with.
struct CacheShape {
  /// A power of two; 0 for a cache that keeps nothing.
  var sets: Int
  var ways: Int
  /// The cache doubles its sets when one is full, up to ``limit`` entries.
  var grows: Bool

  /// More entries than this are not kept, whatever the geometry says.
  static var limit: Int { 1 << 20 }

  init(sets: Int, ways: Int, grows: Bool) {
    (self.sets, self.ways, self.grows) = (sets, ways, grows)
  }

  init(_ geometry: CacheSize) {
    switch geometry {
    case .none:
      (sets, ways, grows) = (0, 1, false)
    case .fixed(let wanted, let wantedWays):
      precondition(
        wanted > 0 && wanted & (wanted - 1) == 0 && 1...64 ~= wantedWays
          && wanted <= Self.limit / wantedWays,
        "a cache has a power of two of sets, and 1 to 64 ways")
      (sets, ways, grows) = (wanted, wantedWays, false)
    case .unbounded:
      (sets, ways, grows) = (64, 8, true)
    }
  }
}
