import CIOMMUAtomics
import IOMMUFormats
import IOMMUTranslation

/// A paging-structure cache: for each of 8,192 regions of 2 MiB, where the region's leaf table lies.
///
/// Kept between batches, it spares them the upper levels of VT-d tables; leaves are read anew by
/// every request. It obeys the invalidations that software owes the hardware's own caches: the unit,
/// or whoever owns the cache, calls ``flush()`` or ``invalidate(_:)`` when software does. One cache
/// serves one table; a batch through another table, or in another memory, forgets what the cache knew.
///
/// Direct mapped, 64 KiB for each kind of access, for IOVAs below 2^48; above them, and for large pages, nothing is
/// remembered. Entries are single words, read and written atomically, so that threads share a cache
/// without a lock. Translations that run while it is flushed may still use what they found before:
/// a unit drains them before it reports an invalidation as done.
@safe
public final class RegionCache: @unchecked Sendable {
  // Sendable: every word is read and written atomically. All uses are safe: words are there as long
  // as the cache, and an index is checked or masked.
  @inlinable static var regionCountLog2: Int { 13 }

  /// The words of reads, those of writes, and four more: the number of flushes since all words were
  /// last cleared, plus one, the root of the table that the cache serves, and the window of memory
  /// that its places lie in.
  ///
  /// A region's word: bits 63:61 the number of flushes when it was written; bits 60:47 bits 47:34 of
  /// the IOVA; bits 46:12 those of the leaf table's place, bits 2:0 its low bits. A word of zeros matches no address.
  @usableFromInline let words: UnsafeMutablePointer<UInt64>

  @usableFromInline static var wordCount: Int { 2 << regionCountLog2 }
  private static var generation: Int { wordCount }
  private static var root: Int { wordCount + 1 }
  private static var windowStart: Int { wordCount + 2 }
  private static var windowByteCount: Int { wordCount + 3 }
  private static var totalCount: Int { wordCount + 4 }

  public init() {
    let count = Self.totalCount
    unsafe words = .allocate(capacity: count)
    unsafe words.initialize(repeating: 0, count: count)
    self[Self.generation] = 1
    // No table lies there.
    self[Self.root] = .max
  }

  deinit { unsafe words.deallocate() }

  private subscript(index: Int) -> UInt64 {
    get {
      precondition(0 <= index && index < Self.totalCount, "a word lies inside its cache")
      return unsafe ciommu_load64(words + index)
    }
    set {
      precondition(0 <= index && index < Self.totalCount, "a word lies inside its cache")
      unsafe ciommu_store64(words + index, newValue)
    }
  }

  /// Forgets everything.
  ///
  /// - Complexity: O(1); every seventh time, 128 KiB are cleared.
  public func flush() {
    let next = self[Self.generation] + 1
    guard next < 8 else {
      for index in 0..<Self.wordCount { self[index] = 0 }
      self[Self.generation] = 1
      return
    }
    self[Self.generation] = next
  }

  /// Forgets the regions that a range lies in.
  ///
  /// - Parameter range: Bytes, half-open.
  /// - Complexity: O(regions), at most 8,192.
  public func invalidate(_ range: Range<IOVA>) {
    guard !range.isEmpty else { return }
    let first = range.lowerBound.rawValue >> 21
    let last = (range.upperBound.rawValue - 1) >> 21
    let count = UInt64(1) << UInt64(Self.regionCountLog2)
    guard last - first < count else { return flush() }
    for region in first...last {
      let index = Int(region & (count - 1))
      self[index] = 0
      self[index + Int(count)] = 0
    }
  }

  /// Takes the side of the table at `newRoot` in a memory: places in another are not read by.
  @usableFromInline
  func serve(_ newRoot: PhysicalAddress?, in window: MemoryWindow) {
    let newRoot = newRoot?.rawValue ?? .max
    guard
      self[Self.root] != newRoot || self[Self.windowStart] != window.start
        || self[Self.windowByteCount] != window.byteCount
    else { return }
    flush()
    self[Self.root] = newRoot
    self[Self.windowStart] = window.start
    self[Self.windowByteCount] = window.byteCount
  }

  /// The cache as one batch uses it; safe as long as the cache is there.
  @inlinable @inline(__always)
  func regions(for access: Access, keepingLowBits: Bool = false) -> Regions {
    Regions(self, access, keepsLowBits: keepingLowBits)
  }

  @frozen
  @usableFromInline
  @safe
  struct Regions: RegionStore {
    @usableFromInline let words: UnsafeMutablePointer<UInt64>
    @usableFromInline let generation: UInt64
    /// Places have something to keep in their low bits; else these say that a page is large.
    @usableFromInline let keepsLowBits: Bool

    @inlinable @inline(__always)
    init(_ cache: RegionCache, _ access: Access, keepsLowBits: Bool) {
      self.keepsLowBits = keepsLowBits
      unsafe words = cache.words + (access == .read ? 0 : 1 &<< RegionCache.regionCountLog2)
      generation = unsafe ciommu_load64(cache.words + RegionCache.wordCount) &<< 14
    }

    @inlinable @inline(__always)
    func word(of address: UInt64) -> UnsafeMutablePointer<UInt64> {
      let mask = UInt64(1) &<< UInt64(RegionCache.regionCountLog2) &- 1
      // Safe: there are as many words for each kind of access as the mask lets through.
      return unsafe words + Int(truncatingIfNeeded: address &>> 21 & mask)
    }

    @inlinable @inline(__always)
    func leaf(of address: UInt64) -> UInt64 {
      let word = unsafe ciommu_load64(word(of: address))
      // An address of 2^48 or more makes a number that no word of this or an older generation has.
      guard word &>> 47 == address &>> 34 &+ generation else { return 7 }
      return word & 0x7fff_ffff_f007 &+ (address &>> 9 & 0xff8)
    }

    @inlinable @inline(__always)
    func remember(_ place: UInt64, for address: UInt64) {
      guard place & 7 == 0 || keepsLowBits, address &>> 48 == 0 else { return }
      let stamp = address &>> 34 &+ generation
      unsafe ciommu_store64(word(of: address), stamp &<< 47 | place & ~0xff8)
    }
  }
}

extension Translator {
  /// Translates a batch of requests of one kind, with what `cache` knows of the upper levels.
  ///
  /// - Parameters:
  ///   - addresses: The first byte of each request.
  ///   - access: What all of them want.
  ///   - answers: As many as addresses.
  ///   - cache: Not used by a thread that translates through another table meanwhile.
  @inlinable
  public func translate(
    _ addresses: Span<IOVA>, _ access: Access, into answers: inout MutableSpan<PackedTranslation>,
    through cache: RegionCache
  ) {
    withExtendedLifetime(cache) {
      cache.serve(tableRoot, in: memory.window)
      var regions = cache.regions(for: access)
      translate(addresses, access, into: &answers, remembering: &regions)
    }
  }
}
