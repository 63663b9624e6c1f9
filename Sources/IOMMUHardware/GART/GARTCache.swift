import IOMMUFormats

/// What a GART's TLB remembers: translations of aperture pages, until a flush drops all of them.
///
/// Nothing else drops an entry: neither a store to the table nor a change of the registers.
/// *Assumed*: only valid entries are kept, and the least recently used one of a set makes room.
public struct GARTCache: Sendable {
  /// How many translations there is room for.
  public enum Geometry: Sendable, Hashable {
    /// None: every access reads the table.
    case off
    /// All of them, in one set: how long a stale translation can last at the worst.
    case unlimited
    /// `setCount` sets, chosen by the low bits of the page number, of `wayCount` each.
    case sets(setCount: Int, wayCount: Int)
  }

  private struct Way {
    var page: UInt64
    var entry: GART.GATTEntry
    var lastUse: UInt64
  }

  package let geometry: Geometry
  private var all: [UInt64: GART.GATTEntry] = [:]
  private var sets: [[Way]]
  private var clock: UInt64 = 0

  /// - Precondition: A set count is a power of two; there is at least one way.
  package init(geometry: Geometry) {
    self.geometry = geometry
    sets = []
    guard case .sets(let setCount, let wayCount) = geometry else { return }
    precondition(
      setCount > 0 && setCount & (setCount - 1) == 0, "a cache has a power of two of sets")
    precondition(wayCount > 0, "a set has at least one way")
    sets = Array(repeating: [], count: setCount)
  }

  /// Translations kept now.
  package var count: Int { all.count + sets.reduce(0) { $0 + $1.count } }

  /// The entry kept for an aperture page.
  ///
  /// - Parameter page: The address's page number.
  package mutating func entry(for page: UInt64) -> GART.GATTEntry? {
    switch geometry {
    case .off: return nil
    case .unlimited: return all[page]
    case .sets(let setCount, _):
      let set = Int(page & UInt64(setCount - 1))
      guard let way = sets[set].firstIndex(where: { $0.page == page }) else { return nil }
      clock += 1
      sets[set][way].lastUse = clock
      return sets[set][way].entry
    }
  }

  /// Keeps the entry that a walk has read.
  package mutating func insert(_ entry: GART.GATTEntry, for page: UInt64) {
    switch geometry {
    case .off: return
    case .unlimited: all[page] = entry
    case .sets(let setCount, let wayCount):
      let set = Int(page & UInt64(setCount - 1))
      clock += 1
      let new = Way(page: page, entry: entry, lastUse: clock)
      if let way = sets[set].firstIndex(where: { $0.page == page }) {
        sets[set][way] = new
      } else if sets[set].count < wayCount {
        sets[set].append(new)
      } else {
        let oldest = sets[set].indices.min { sets[set][$0].lastUse < sets[set][$1].lastUse }!
        sets[set][oldest] = new
      }
    }
  }

  /// The flush: forgets everything.
  package mutating func removeAll() {
    all.removeAll(keepingCapacity: true)
    for set in sets.indices { sets[set].removeAll(keepingCapacity: true) }
  }
}
