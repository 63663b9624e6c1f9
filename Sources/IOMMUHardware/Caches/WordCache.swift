import IOMMUFormats
import IOMMUTranslation

/// A cache whose entries are two words: a tag, in which a number stands for whose entry it is, and a
/// value that is never zero.
///
/// Requesters, domains and PASIDs are far wider than a word; the cache gives a number to each
/// combination that it meets. An unbounded cache doubles its sets when one is full; of a bounded one's
/// full set the entries give way in turn.
struct WordCache<Space: Hashable>: ~Copyable {
  private(set) var counters = CacheCounters()
  /// Entries in the cache.
  private var count = 0 {
    didSet { isFull = count == sets.slotCount && !grows }
  }
  /// Nothing is free, and nothing will be: each new entry takes the place of another.
  private(set) var isFull: Bool
  private(set) var sets: WordSets
  private let grows: Bool
  /// The way that gave up its entry last.
  private(set) var lastVictim = 0
  private var spaces: [Space] = []
  private var numbers: [Space: UInt64] = [:]

  init(_ geometry: CacheSize) {
    let shape = CacheShape(geometry)
    grows = shape.grows
    sets = WordSets(shape)
    isFull = sets.slotCount == 0
  }

  deinit { sets.deallocate() }

  /// Whether the cache keeps anything at all.
  var keepsEntries: Bool { sets.ways > 0 }

  // MARK: Tags

  /// The number of a space, in the place where tags have it: bits 18:3. It stays the same until the
  /// cache forgets everything.
  ///
  /// Of more spaces than there are numbers nothing is kept: the number that they get finds nothing.
  mutating func number(of space: Space) -> UInt64 {
    if let number = numbers[space] { return number }
    guard spaces.count < Self.spaceLimit else { return .max }
    let number = UInt64(spaces.count) << 3
    spaces.append(space)
    numbers[space] = number
    return number
  }

  /// Whose entry has a tag.
  func space(of tag: UInt64) -> Space { spaces[Int(tag >> 3 & 0xffff)] }

  private static var spaceLimit: Int { 1 << 16 }

  // MARK: Look-ups

  /// The value under a tag, 0 when there is none; counts nothing.
  @inline(__always)
  func word(of tag: UInt64) -> UInt64 { sets.word(of: tag) }

  /// Counts look-ups.
  @inline(__always)
  mutating func count(hit: Bool, times: UInt64 = 1) {
    if hit { counters.hits &+= times } else { counters.misses &+= times }
  }

  // MARK: Changes

  /// Keeps a value, in the place of an older one under the same tag.
  ///
  /// - Precondition: The cache keeps entries, and those of the tag's number.
  mutating func insert(_ word: UInt64, under tag: UInt64) {
    if let slot = sets.slot(of: tag) {
      sets.store(word, under: tag, in: slot)
    } else {
      insertAbsent(word, under: tag)
    }
  }

  /// The same for a tag that has no value.
  @inline(__always)
  mutating func insertAbsent(_ word: UInt64, under tag: UInt64) {
    guard likely(isFull) else {
      insertIntoSpace(word, under: tag)
      return
    }
    lastVictim = sets.next(after: lastVictim)
    counters.evictions &+= 1
    sets.store(word, under: tag, in: sets.firstSlot(of: tag, ways: sets.ways) &+ lastVictim)
  }

  /// The same in a cache of four ways that ``isFull``.
  @inline(__always)
  mutating func insertAbsent(_ word: UInt64, at place: WordPlace) {
    lastVictim = WordSets.next(after: lastVictim, ways: 4)
    counters.evictions &+= 1
    sets.store(word, under: place.tag, in: place.first &+ lastVictim)
  }

  /// The same where a slot may be free, or sets may double.
  ///
  /// - Returns: The slot that it went into.
  @discardableResult
  @inline(never)
  mutating func insertIntoSpace(_ word: UInt64, under tag: UInt64) -> Int {
    while grows, sets.slotCount * 2 <= CacheShape.limit, sets.freeSlot(for: tag) == nil {
      sets.double()
    }
    let slot: Int
    if let free = sets.freeSlot(for: tag) {
      count += 1
      slot = free
    } else {
      lastVictim = sets.next(after: lastVictim)
      counters.evictions += 1
      slot = sets.firstSlot(of: tag, ways: sets.ways) + lastVictim
    }
    sets.store(word, under: tag, in: slot)
    return slot
  }

  /// Tells what a loop did that stored by itself: it knew that the cache ``isFull`` and its tags absent.
  ///
  /// - Parameters:
  ///   - evictions: Entries that have given way.
  ///   - victim: The way that gave up its entry last.
  @inline(__always)
  mutating func settle(evictions: UInt64, victim: Int) {
    counters.evictions &+= evictions
    lastVictim = victim
  }

  // MARK: Invalidations

  /// Drops the entries that `isNamed` says, given their words and whose they are.
  mutating func invalidate(where isNamed: (_ tag: UInt64, _ word: UInt64, Space) -> Bool) {
    guard count > 0 else { return }
    for slot in 0..<sets.slotCount {
      let (tag, word) = sets.words(in: slot)
      guard tag != 0, isNamed(tag, word, space(of: tag)) else { continue }
      sets.free(slot)
      count -= 1
      counters.invalidations += 1
    }
  }

  mutating func invalidateAll() {
    invalidate { _, _, _ in true }
    if spaces.count == Self.spaceLimit { (spaces, numbers) = ([], [:]) }
  }
}
