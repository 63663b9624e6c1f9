import IOMMUFormats

/// What one PHB remembers of its TCE table.
///
/// *Assumed* throughout: that there is such a cache follows from the flushes in the Linux driver;
/// its size, its lines and what it replaces first were never published.
struct TCECache {
  typealias Entry = Calgary.TranslationControlEntry

  let geometry: CalgaryOptions.CacheGeometry
  /// A page number plus one; 0 where nothing is kept. `wayCount` to a set.
  private var tags: [UInt64]
  private var entries: [UInt64]
  /// The way that each set replaces next.
  private var nextWay: [Int]
  private(set) var isEmpty = true

  init(_ geometry: CalgaryOptions.CacheGeometry) {
    self.geometry = geometry
    tags = [UInt64](repeating: 0, count: geometry.setCount * geometry.wayCount)
    entries = tags
    nextWay = [Int](repeating: 0, count: geometry.setCount)
  }

  private func ways(of page: UInt64) -> Range<Int> {
    let set = Int(page & UInt64(geometry.setCount - 1))
    return (set * geometry.wayCount)..<((set + 1) * geometry.wayCount)
  }

  /// The entry kept for an I/O page.
  func lookUp(_ page: UInt64) -> Entry? {
    ways(of: page).first { tags[$0] == page + 1 }.map { Entry(rawValue: entries[$0]) }
  }

  /// Keeps an entry, in place of the oldest one of its set.
  mutating func keep(_ entry: Entry, for page: UInt64) {
    guard !entry.permissions.isEmpty || geometry.keepsEmptyEntries else { return }
    let ways = ways(of: page)
    let set = Int(page & UInt64(geometry.setCount - 1))
    let way = ways.lowerBound + nextWay[set]
    nextWay[set] = (nextWay[set] + 1) % geometry.wayCount
    tags[way] = page + 1
    entries[way] = entry.rawValue
    isEmpty = false
  }

  /// Forgets everything.
  mutating func drop() {
    guard !isEmpty else { return }
    tags = [UInt64](repeating: 0, count: tags.count)
    isEmpty = true
  }
}
