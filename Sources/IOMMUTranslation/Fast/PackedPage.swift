import IOMMUFormats

/// What page tables say of one 4 KiB page, in a word: for a cache in front of them.
///
/// Bits 51:12 are the page's first byte in memory. Bit 0 says that it may be read, bit 1 that it may
/// be written, by every entry on the way and whoever asks; bit 2 that a write leaves no mark that is
/// not there already. All others are zero. A word of zeros says nothing: whoever meets it asks the
/// tables.
@frozen
public struct PackedPage: RawRepresentable, Hashable, Sendable {
  public var rawValue: UInt64

  @inlinable @inline(__always)
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// Says nothing.
  @inlinable public static var unknown: Self { Self(rawValue: 0) }

  @inlinable static var isDirtyBit: UInt64 { 4 }

  /// What `page` says that holds for all requests, supervisor or user; nothing for large pages and
  /// for pages in the interrupt range.
  public init(_ page: MappedPage) {
    guard page.sizeLog2 == 12, !VTd.isInterruptAddress(page.page.rawValue) else {
      self = .unknown
      return
    }
    var allowed = page.secondStage.intersection(.readWrite)
    if !page.firstStage.contains(.user) { allowed = [] }
    if !page.firstStage.contains(.write) { allowed.remove(.write) }
    rawValue =
      page.page.rawValue | UInt64(allowed.rawValue) | (page.isDirty ? Self.isDirtyBit : 0)
  }

  /// Whether a request that needs these permissions is answered from here.
  @inlinable @inline(__always)
  public func allows(_ needs: Permissions) -> Bool { lacks(Self.needed(needs)) == 0 }

  /// The bits that a request with these needs has to find set.
  @inlinable @inline(__always)
  public static func needed(_ needs: Permissions) -> UInt64 {
    UInt64(needs.rawValue) | (needs.contains(.write) ? isDirtyBit : 0)
  }

  /// 0 when all the bits that are needed are set, else 1: a number, where a jump would not be
  /// foreseen.
  @inlinable @inline(__always)
  public func lacks(_ needed: UInt64) -> Int {
    // Of three bits, all that are needed and all that are not add up to seven.
    Int(truncatingIfNeeded: 1 &- ((rawValue & needed) &+ (8 &- needed)) &>> 3)
  }

  /// Where `address`, which lies in the page, goes; only for a request that it allows.
  @inlinable @inline(__always)
  public func translation(of address: IOVA) -> PackedTranslation {
    PackedTranslation(rawValue: rawValue & ~0xfff | address.rawValue & 0xfff)
  }
}

extension RadixPath {
  /// The pages of a block: first the upper levels of all, with a prefetch of each leaf, then the
  /// leaves. `unknown` for everything that the short way does not know, large pages among it.
  ///
  /// - Parameter regions: Remembers places with what the entries above the leaf allow, 1 to 3, in
  ///   their low bits.
  @inlinable @inline(__always)
  func pages(
    of requests: Requests, levels: Int, regions: inout some RegionStore
  ) {
    let descent = Descent(self)
    for index in 0..<requests.count {
      let place = resolve(
        requests.address(index), levels: levels, .impliedLevels, descent, &regions,
        small: { $0 | $1 & 3 },
        large: { _, _, _ in Self.unresolved })
      requests[index] = place
      descent.window.prefetch(place & ~7)
    }
    let leaf = LeafTest(self)
    let dirty = parameters.dirty
    for index in 0..<requests.count {
      let place = requests[index]
      guard likely(place != Self.unresolved) else {
        requests[index] = PackedPage.unknown.rawValue
        continue
      }
      let entry = descent.entry(at: place & ~7)
      let isDirty = entry & dirty == dirty
      requests[index] =
        likely(leaf.answer(entry, 0, .impliedLevels) != Self.noAnswer)
        ? Self.addressBits(entry) | entry & place & 3 | (isDirty ? PackedPage.isDirtyBit : 0)
        : PackedPage.unknown.rawValue
    }
  }
}

extension Translator {
  /// Looks up the 4 KiB pages of second-stage tables that addresses lie in, for a cache that keeps
  /// them; sets no mark.
  ///
  /// - Parameters:
  ///   - access: What is asked for; every entry on the way allows it.
  ///   - pages: As many as addresses. ``PackedPage/unknown`` for an address that the access has no
  ///     plain answer for: faults, large pages, marks that would have to be set, other tables.
  ///   - regions: Remembers places of leaves with what the entries above them allow in their low bits.
  /// - Complexity: O(addresses); at most 256 look-ups are on their way at once.
  @inlinable
  package func pages(
    of addresses: UnsafeBufferPointer<IOVA>, for access: Access,
    into pages: UnsafeMutableBufferPointer<PackedPage>, remembering regions: inout some RegionStore
  ) {
    precondition(addresses.count == pages.count, "there is one page for each address")
    // Safe: as many pages as addresses, and both are there until this returns.
    guard let requests = unsafe Requests(addresses, pages) else { return }
    withExtendedLifetime(exact) {
      let path = exact.path(for: access)
      var start = 0
      while start < requests.count {
        let count = min(BatchPart.blockCount, requests.count &- start)
        path.pages(of: requests.suffix(from: start).prefix(count), &regions)
        start &+= count
      }
    }
  }
}

extension ShortPath {
  @inlinable @inline(__always)
  func pages(of requests: Requests, _ regions: inout some RegionStore) {
    if !parameters.hasSecondStage {
      for index in 0..<requests.count { requests[index] = PackedPage.unknown.rawValue }
    } else if isOf(.fourLevels) {
      radix.pages(of: requests, levels: 4, regions: &regions)
    } else if isOf(.threeLevels) {
      radix.pages(of: requests, levels: 3, regions: &regions)
    } else {
      radix.pages(of: requests, levels: 5, regions: &regions)
    }
  }
}
