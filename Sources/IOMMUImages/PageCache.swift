import Synchronization

/// Unpacked pages, a bounded number of them, for any number of threads.
///
/// Set-associative: a page can be in one of a few slots of its set, and the one that came first
/// makes room. Sets are shared out among locks, so that threads rarely wait for each other.
final class PageCache: Sendable {
  private static let wayCount = 4

  /// The sets that one lock guards.
  private struct Sets: Sendable {
    /// A page and its bytes, which are taken from the system when the slot is first used.
    struct Slot: Sendable {
      /// All ones for none.
      var page: UInt64 = .max
      var bytes: [UInt8] = []
    }

    /// Empty until a page is first kept.
    var slots: [Slot] = []
    /// The slot of each set that makes room next.
    var victims: [UInt8] = []
  }

  private let pageByteCount: Int
  private let setMask: UInt64
  private let setsInShard: Int
  private let shards = InlineArray<16, Mutex<Sets>> { _ in Mutex(Sets()) }

  /// - Parameters:
  ///   - pageByteCount: Bytes in a page, a power of two of at most 64 KiB.
  ///   - byteCount: Bytes in all pages together, a power of two of at least 4 MiB. They are taken
  ///     from the system as they are used.
  init(pageByteCount: Int, byteCount: Int = 16 << 20) {
    precondition(
      pageByteCount <= 1 << 16 && byteCount >= 4 << 20
        && pageByteCount.nonzeroBitCount == 1 && byteCount.nonzeroBitCount == 1,
      "a cache has a power of two of sets, at least one for each lock")
    self.pageByteCount = pageByteCount
    let setCount = byteCount / pageByteCount / Self.wayCount
    setMask = UInt64(setCount - 1)
    setsInShard = setCount / shards.count
  }

  /// Appends bytes of a page, which `unpack` fills when it is not here; whether it could.
  ///
  /// A whole page that is not here goes to its reader only: who reads them in a row does not push
  /// out what others come back to.
  ///
  /// - Precondition: the bytes lie in the page and have room; `page` is not all ones; `unpack` fills
  ///   a whole page or nothing.
  func copy(
    page: UInt64, offset: Int, count: Int, into output: inout OutputSpan<UInt8>,
    unpack: (inout OutputSpan<UInt8>) -> Bool
  ) -> Bool {
    precondition(
      offset >= 0 && count >= 0 && count <= pageByteCount - offset && page != .max,
      "the bytes lie in one page")
    let set = Int(page & setMask)
    let isWhole = count == pageByteCount
    let isHere = shards[set % shards.count].withLock { sets in
      if sets.slots.isEmpty {
        sets.slots = Array(repeating: Sets.Slot(), count: setsInShard * Self.wayCount)
        sets.victims = Array(repeating: 0, count: setsInShard)
      }
      let first = set / shards.count * Self.wayCount
      var slot = first
      while slot < first + Self.wayCount, sets.slots[slot].page != page { slot += 1 }
      if slot == first + Self.wayCount {
        if isWhole { return false }
        let victim = set / shards.count
        slot = first + Int(sets.victims[victim]) % Self.wayCount
        sets.slots[slot].page = .max
        sets.slots[slot].bytes.removeAll(keepingCapacity: true)
        var isUnpacked = false
        sets.slots[slot].bytes.append(addingCapacity: pageByteCount) { isUnpacked = unpack(&$0) }
        guard isUnpacked else { return false }
        sets.slots[slot].page = page
        sets.victims[victim] &+= 1
      }
      let slots = sets.slots.span
      output.append(copying: slots[slot].bytes.span.extracting(offset..<offset + count))
      return true
    }
    return isHere || isWhole && unpack(&output)
  }
}
