import IOMMUFormats
import IOMMUTranslation

/// A lower table that is known, with what invalidations ask for.
struct StructureEntry {
  /// The first address that the table serves, and how many bits of address.
  var address: UInt64
  var sizeLog2: Int
  var space: StructureSpace
}

/// Whose tables: a paging-structure cache's tag without the address. Specification: Intel VT-d 6.2.5.
struct StructureSpace: Hashable {
  var domainID: UInt16
  /// First-stage tables belong to a PASID; second-stage tables have `nil`.
  var pasid: PASID?
  /// The tree that the tables belong to: walks of another do not use them.
  ///
  /// The manual's tag is the domain alone, and then this is `nil`. Devices of one domain share their
  /// tables, unless software is changing them one device after the other.
  var root: PhysicalAddress?
}

/// The paging-structure cache of a port: lower tables as ``PackedTable`` words.
struct StructureCache: ~Copyable {
  private var cache: WordCache<StructureSpace>

  init(_ geometry: CacheConfiguration.Geometry) { cache = WordCache(geometry) }

  var counters: CacheCounters { cache.counters }
  /// Whether the cache keeps anything at all.
  var keepsEntries: Bool { cache.keepsEntries }

  /// The number that tags have for a space.
  mutating func number(of space: StructureSpace) -> UInt64 { cache.number(of: space) }

  /// The tag of the table of `level`, 1 to 4, that serves an address. Bits 63:19 are bits 56:12 of the
  /// first address that it serves; bits 18:3 the space's number; bits 2:0 the level.
  @inline(__always)
  private static func tag(_ number: UInt64, _ address: UInt64, level: Int) -> UInt64 {
    let shift = UInt64(truncatingIfNeeded: VTd.Paging.sizeLog2(level: level &+ 1))
    // Of an address that a table translates bits above 56 repeat that one.
    return (address &>> shift) &<< (shift &+ 7) | number | UInt64(truncatingIfNeeded: level)
  }

  /// The lowest table that is known for an address, and its level; counts nothing.
  @inline(__always)
  func lowestTable(
    for address: UInt64, _ number: UInt64, below rootLevel: Int
  ) -> (table: PackedTable, level: Int)? {
    guard number != .max else { return nil }
    var level = 1
    while level < rootLevel {
      let word = cache.word(of: Self.tag(number, address, level: level))
      if word != 0 { return (PackedTable(rawValue: word), level) }
      level &+= 1
    }
    return nil
  }

  /// Counts look-ups.
  @inline(__always)
  mutating func count(hit: Bool, times: UInt64 = 1) { cache.count(hit: hit, times: times) }

  /// Keeps a table of `level`, in the place of an older one.
  mutating func insert(_ table: PackedTable, level: Int, for address: UInt64, _ number: UInt64) {
    guard keepsEntries, number != .max else { return }
    cache.insert(table.rawValue, under: Self.tag(number, address, level: level))
  }

  /// The same of a table that is not there.
  ///
  /// - Precondition: The cache keeps entries, and those of this number.
  @inline(__always)
  mutating func insertAbsent(
    _ table: PackedTable, level: Int, for address: UInt64, _ number: UInt64
  ) {
    cache.insertAbsent(table.rawValue, under: Self.tag(number, address, level: level))
  }

  /// Drops the entries that `isNamed` says.
  mutating func invalidate(where isNamed: (StructureEntry) -> Bool) {
    cache.invalidate { tag, _, space in
      isNamed(
        StructureEntry(
          // Bit 56 once more in those above it.
          address: UInt64(bitPattern: Int64(bitPattern: tag & ~0x7_ffff) >> 7),
          sizeLog2: VTd.Paging.sizeLog2(level: Int(tag & 7) + 1), space: space))
    }
  }

  mutating func invalidateAll() { cache.invalidateAll() }
}
