import Synchronization

/// Unpacked pages, a bounded number of them, for any number of threads.
///
/// Set-associative: a page can be in one of a few slots of its set, and the one that came first
/// makes room. Sets are shared out among locks, so that threads rarely wait for each other.
final class PageCache: @unchecked Sendable {
  // Sendable: each set is looked at under its lock only.
  private static let lockCount = 16
  private static let wayCount = 4

  private let pageByteCount: Int
  private let setMask: UInt64
  private let locks: UnsafeMutablePointer<Mutex<Void>>
  /// The page in each slot; all ones for none.
  private let pages: UnsafeMutablePointer<UInt64>
  /// The slot of each set that makes room next.
  private let victims: UnsafeMutablePointer<UInt8>
  private let bytes: UnsafeMutableRawPointer

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
    let slotCount = byteCount / pageByteCount
    let setCount = slotCount / Self.wayCount
    setMask = UInt64(setCount - 1)
    locks = .allocate(capacity: Self.lockCount)
    for index in 0..<Self.lockCount { (locks + index).initialize(to: Mutex(())) }
    pages = .allocate(capacity: slotCount)
    pages.initialize(repeating: .max, count: slotCount)
    victims = .allocate(capacity: setCount)
    victims.initialize(repeating: 0, count: setCount)
    bytes = .allocate(byteCount: byteCount, alignment: 4096)
  }

  deinit {
    locks.deinitialize(count: Self.lockCount)
    locks.deallocate()
    pages.deallocate()
    victims.deallocate()
    bytes.deallocate()
  }

  /// Copies bytes of a page, which `unpack` fills when it is not here; whether it could.
  ///
  /// A whole page that is not here goes to its reader only: who reads them in a row does not push
  /// out what others come back to.
  ///
  /// - Precondition: the bytes lie in the page; `page` is not all ones.
  func copy(
    page: UInt64, offset: Int, into buffer: UnsafeMutableRawBufferPointer,
    unpack: (UnsafeMutableRawBufferPointer) -> Bool
  ) -> Bool {
    precondition(
      offset >= 0 && buffer.count <= pageByteCount - offset && page != .max,
      "the bytes lie in one page")
    let set = page & setMask
    let isHere = locks[Int(set) % Self.lockCount].withLock { _ in
      let first = Int(set) * Self.wayCount
      var slot = first
      while slot < first + Self.wayCount, pages[slot] != page { slot += 1 }
      if slot == first + Self.wayCount {
        if buffer.count == pageByteCount { return false }
        slot = first + Int(victims[Int(set)]) % Self.wayCount
        pages[slot] = .max
        let target = UnsafeMutableRawBufferPointer(
          start: bytes + slot * pageByteCount, count: pageByteCount)
        guard unpack(target) else { return false }
        pages[slot] = page
        victims[Int(set)] &+= 1
      }
      // Safe: the precondition keeps offset and count inside the slot.
      buffer.copyMemory(
        from: UnsafeRawBufferPointer(
          start: bytes + slot * pageByteCount + offset, count: buffer.count))
      return true
    }
    return isHere || buffer.count == pageByteCount && unpack(buffer)
  }
}
