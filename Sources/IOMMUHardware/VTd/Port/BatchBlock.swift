import IOMMUFormats
import IOMMUTranslation

/// What the blocks of a port's batches need: the requests of a block that missed, and for them the
/// regions that the batch has met.
@safe
final class BatchBlock {
  static var capacity: Int { 256 }
  /// In shorter batches forgetting the regions of the one before costs more than they bring.
  private static var leastForRegions: Int { 16 * capacity }

  /// The numbers of the misses in their block.
  let misses = UnsafeMutablePointer<Int>.allocate(capacity: capacity)
  let addresses = UnsafeMutablePointer<IOVA>.allocate(capacity: capacity)
  /// What the tables say of them.
  let pages = UnsafeMutablePointer<PackedPage>.allocate(capacity: capacity)
  /// For the batch that is on its way; `nil` when it is short.
  private(set) var regions: RegionCache?
  private var spare: RegionCache?

  deinit {
    unsafe misses.deallocate()
    unsafe addresses.deallocate()
    unsafe pages.deallocate()
  }

  /// Makes ready for a batch.
  func begin(count: Int) {
    guard count >= Self.leastForRegions else {
      regions = nil
      return
    }
    let cache = spare ?? RegionCache()
    spare = cache
    regions = cache
    cache.flush()
  }

  /// Tables may have changed.
  func forgetRegions() { regions?.flush() }
}
