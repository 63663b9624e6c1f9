import IOMMUFormats

/// Gives builders the pages that tables lie in: an allocator of one's own.
///
/// Builders clear what they get. They free pages of tables that no entry leads to any more; a unit may have
/// cached what led there, so that whoever runs one invalidates before the page is used for anything else.
public protocol TableAllocator: AnyObject {
  /// Memory for a table.
  ///
  /// - Parameters:
  ///   - byteCount: A multiple of 4 KiB: one page for most tables, up to 8 MiB for flat ones.
  ///   - alignment: A power of two, at least 4 KiB.
  /// - Returns: The first byte, or `nil` when there is no room.
  func allocate(byteCount: UInt64, alignment: UInt64) -> PhysicalAddress?

  /// Takes back what was given, in whole pages.
  func free(_ range: Range<PhysicalAddress>)
}

/// Pages for tables from ranges of memory, from the top down; freed ones are given out again first.
public final class TablePool: TableAllocator {
  /// What is left, below each range's pages that were given out; the uppermost range last.
  private var ranges: [Range<PhysicalAddress>]
  /// Pages that were given back, by their numbers.
  private var freePages: [UInt64] = []
  /// What is never given out; half-open, ascending, not touching each other.
  private var avoided: [Range<PhysicalAddress>] = []

  /// A pool of all whole pages in `ranges`, but of page 0.
  ///
  /// - Parameters:
  ///   - ranges: Half-open, ascending, not overlapping.
  ///   - limit: Pages end at or below this address.
  public init(_ ranges: [Range<PhysicalAddress>], below limit: PhysicalAddress = .init(.max)) {
    self.ranges = ranges.compactMap { range in
      let (rounded, wraps) = range.lowerBound.rawValue.addingReportingOverflow(4095)
      let start = max(4096, rounded & ~4095)
      let end = min(range.upperBound, limit).rawValue & ~4095
      return !wraps && start < end ? PhysicalAddress(start)..<PhysicalAddress(end) : nil
    }
  }

  /// Gives nothing out of a range from now on.
  ///
  /// - Complexity: O(ranges avoided).
  public func avoid(_ range: Range<PhysicalAddress>) {
    guard !range.isEmpty else { return }
    let first = avoided.partitioningIndex { $0.upperBound >= range.lowerBound }
    var end = first
    var joined = range
    while end < avoided.count, avoided[end].lowerBound <= range.upperBound {
      joined =
        min(
          joined.lowerBound, avoided[end].lowerBound)..<max(
          joined.upperBound, avoided[end].upperBound)
      end += 1
    }
    avoided.replaceSubrange(first..<end, with: CollectionOfOne(joined))
  }

  /// The lowest range to avoid that overlaps one.
  private func obstacle(in range: Range<PhysicalAddress>) -> Range<PhysicalAddress>? {
    let index = avoided.partitioningIndex { $0.upperBound > range.lowerBound }
    return index < avoided.count && avoided[index].overlaps(range) ? avoided[index] : nil
  }

  public func allocate(byteCount: UInt64, alignment: UInt64) -> PhysicalAddress? {
    if byteCount == 4096, alignment == 4096 {
      while let number = freePages.popLast() {
        let page = PhysicalAddress(number << 12)
        if obstacle(in: page..<PhysicalAddress(page.rawValue + 4096)) == nil { return page }
      }
    }
    for index in ranges.indices.reversed() {
      let range = ranges[index]
      var end = range.upperBound.rawValue
      while end >= byteCount {
        let start = PhysicalAddress(end - byteCount).alignedDown(to: alignment)
        guard start >= range.lowerBound else { break }
        let found = start..<PhysicalAddress(start.rawValue + byteCount)
        guard let obstacle = obstacle(in: found) else {
          // What lies above an aligned table serves smaller ones, if it is not very much.
          let rest = found.upperBound..<range.upperBound
          if rest.byteCount <= 16 << 20 { free(rest) }
          ranges[index] = range.lowerBound..<start
          return start
        }
        end = obstacle.lowerBound.rawValue & ~4095
      }
    }
    return nil
  }

  public func free(_ range: Range<PhysicalAddress>) {
    freePages += (range.lowerBound.pageNumber..<range.upperBound.pageNumber).reversed()
  }
}
