/// The shape of a cache of translations: how many entries, in sets of how many, and who has to go.
package struct CacheGeometry: Hashable, Sendable {
  /// Which entry of a full set goes.
  package enum Policy: String, Sendable, CaseIterable {
    /// The one not used for longest.
    case lru
    /// By a tree of bits, each pointing away from the half used last: what hardware builds for LRU.
    case plru
    /// The one that came first.
    case fifo
    /// Any, by a generator with a fixed seed.
    case random
  }

  package var entries: Int
  /// Entries in a set; as many as entries for a fully associative cache.
  package var ways: Int
  package var policy: Policy

  /// - Throws: ``GeometryError`` where hardware could not be built like that.
  package init(entries: Int, ways: Int? = nil, policy: Policy = .lru) throws(GeometryError) {
    let ways = ways ?? entries
    guard 1...(1 << 24) ~= entries else { throw .entries(entries) }
    guard 1...entries ~= ways, entries % ways == 0 else { throw .ways(ways, entries: entries) }
    guard (entries / ways).nonzeroBitCount == 1 else { throw .sets(entries / ways) }
    guard policy != .plru || ways.nonzeroBitCount == 1 else { throw .treeWays(ways) }
    self.entries = entries
    self.ways = ways
    self.policy = policy
  }

  package var sets: Int { entries / ways }

  /// `64x4`, or `64` when fully associative.
  package var text: String { ways == entries ? "\(entries)" : "\(entries)x\(ways)" }
}

/// A cache that could not be built.
package enum GeometryError: Error, Equatable, CustomStringConvertible {
  case entries(Int)
  case ways(Int, entries: Int)
  case sets(Int)
  case treeWays(Int)

  package var description: String {
    switch self {
    case .entries(let count): "\(count) entries; a cache has 1 to 16777216"
    case .ways(let ways, let entries):
      "\(entries) entries are not made of sets of \(ways); choose ways that divide the entries"
    case .sets(let sets):
      "\(sets) sets; the number of sets (entries / ways) is a power of two"
    case .treeWays(let ways): "\(ways) ways; with plru the ways are a power of two"
    }
  }
}
