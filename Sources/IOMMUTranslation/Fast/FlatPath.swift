import IOMMUFormats

/// The short way of one kind of access through a flat table, a Calgary TCE table or a GATT: one
/// compare for the address and one for the entry.
///
/// Knows the longest run of addresses that the table translates without a hole in between, and
/// entries that allow the access. Everything else has no answer here.
@frozen
public struct FlatPath: Sendable {
  /// From the entry for the first address on.
  @usableFromInline let entries: MemoryWindow
  /// A multiple of 4 KiB.
  @usableFromInline let firstAddress: UInt64
  /// Bytes of address from the first on.
  @usableFromInline let byteCount: UInt64
  /// The bit of a TCE that has to be set; 0 for a GATT, whose entries have none.
  @usableFromInline let permission: UInt64

  /// A way on which nothing is found.
  init() {
    entries = MemoryWindow()
    firstAddress = 0
    byteCount = 0
    permission = 0
  }

  /// - Parameters:
  ///   - entry: Where the entry for `addresses.lowerBound` lies.
  ///   - addresses: Half-open; cut to whole pages and to the entries inside the window.
  ///   - permission: What a TCE has to allow; none in a GATT.
  init?(
    window: MemoryWindow, entry: PhysicalAddress, entryByteCount: UInt64,
    addresses: Range<UInt64>, permission: Permissions
  ) {
    let start = addresses.lowerBound
    guard start & 0xfff == 0, entry.isAligned(to: entryByteCount),
      entry.rawValue < window.byteCount, !addresses.isEmpty
    else { return nil }
    let pages = min(
      (addresses.upperBound - start) >> 12, (window.byteCount - entry.rawValue) / entryByteCount)
    guard pages > 0 else { return nil }
    entries = window.moved(by: entry.rawValue)
    firstAddress = start
    byteCount = pages << 12
    self.permission = UInt64(permission.rawValue)
  }
}

extension FlatPath {
  @inlinable @inline(__always)
  func contains(_ address: UInt64) -> Bool { likely(address &- firstAddress < byteCount) }

  /// The physical address for `address` by a TCE, or `noAnswer`.
  @inlinable @inline(__always)
  func translateTCE(_ address: UInt64) -> UInt64 {
    guard contains(address) else { return RadixPath.noAnswer }
    let word = tce(address &- firstAddress)
    guard likely(word & permission != 0) else { return RadixPath.noAnswer }
    return Self.physical(tce: word, address)
  }

  /// The physical address for `address` by a GATT entry, or `noAnswer`.
  @inlinable @inline(__always)
  func translateGATT(_ address: UInt64) -> UInt64 {
    guard contains(address) else { return RadixPath.noAnswer }
    let entry = gattEntry(address &- firstAddress)
    guard likely(entry.isValid) else { return RadixPath.noAnswer }
    return entry.page.rawValue | address & 0xfff
  }

  @inlinable @inline(__always)
  func tce(_ offset: UInt64) -> UInt64 {
    // Safe: offsets are below `byteCount`, and the window has an entry for each of those pages.
    unsafe entries.quadword(unchecked: (offset &>> 12) &* 8).byteSwapped
  }

  @inlinable @inline(__always)
  static func physical(tce word: UInt64, _ address: UInt64) -> UInt64 {
    Calgary.TranslationControlEntry(rawValue: word).page.rawValue | address & 0xfff
  }

  @inlinable @inline(__always)
  func gattEntry(_ offset: UInt64) -> GART.GATTEntry {
    // Safe: as above.
    unsafe GART.GATTEntry(rawValue: entries.doubleword(unchecked: (offset &>> 12) &* 4))
  }

  /// Translates a block by TCEs: bounds and permissions of all at once, and one by one only when
  /// that says that something is wrong.
  @inlinable @inline(__always)
  func translateTCE(block: Requests) -> BatchPart {
    guard let ahead = prefetchDistance(of: block) else {
      return translate(block: block) { translateTCE($0) }
    }
    var all = permission
    visit(block, ahead: ahead, entryByteCountLog2: 3) { index in
      let address = block.address(index)
      let word = tce(address &- firstAddress)
      all &= word
      block[index] = Self.physical(tce: word, address)
    }
    guard likely(all != 0) else { return translate(block: block) { translateTCE($0) } }
    return BatchPart(count: block.count, isComplete: true)
  }

  /// Translates a block by GATT entries; as for TCEs.
  @inlinable @inline(__always)
  func translateGATT(block: Requests) -> BatchPart {
    guard let ahead = prefetchDistance(of: block) else {
      return translate(block: block) { translateGATT($0) }
    }
    var all = GART.GATTEntry(rawValue: .max)
    visit(block, ahead: ahead, entryByteCountLog2: 2) { index in
      let address = block.address(index)
      let entry = gattEntry(address &- firstAddress)
      all.rawValue &= entry.rawValue
      block[index] = entry.page.rawValue | address & 0xfff
    }
    guard likely(all.isValid) else { return translate(block: block) { translateGATT($0) } }
    return BatchPart(count: block.count, isComplete: true)
  }

  /// Translates a block, each address for itself.
  @inlinable @inline(__always)
  func translate(block: Requests, _ translate: (UInt64) -> UInt64) -> BatchPart {
    var all: UInt64 = 0
    for index in 0..<block.count {
      let answer = translate(block.address(index))
      block[index] = answer
      all |= answer
    }
    return BatchPart(count: block.count, isComplete: all &>> 63 == 0)
  }

  /// How far ahead of a block's translations its entries should be asked for: 0 where no two
  /// addresses are 64 MiB apart, since their entries fit a second-level cache and prefetches would
  /// cost more than they bring. `nil` unless the table has entries for all of them.
  @inlinable @inline(__always)
  func prefetchDistance(of block: Requests) -> Int? {
    let first = block.address(0) &- firstAddress
    // Bits in which two addresses differ: no offset is more than the first one with all of them set.
    var differing: UInt64 = 0
    for index in 0..<block.count { differing |= (block.address(index) &- firstAddress) ^ first }
    guard likely(first | differing < byteCount) else { return nil }
    // As many lines as are on their way from memory at once.
    return differing >= 64 << 20 ? 64 : 0
  }

  /// Goes through a block with prefetches on the way, so that memory is at work while entries that
  /// have come are translated.
  @inlinable @inline(__always)
  func visit(
    _ block: Requests, ahead: Int, entryByteCountLog2: UInt64, _ body: (Int) -> Void
  ) {
    func prefetch(_ index: Int) {
      entries.prefetch(((block.address(index) &- firstAddress) &>> 12) &<< entryByteCountLog2)
    }
    var index = 0
    if ahead > 0 {
      for next in 0..<min(ahead, block.count) { prefetch(next) }
      while index &+ ahead < block.count {
        prefetch(index &+ ahead)
        body(index)
        index &+= 1
      }
    }
    while index < block.count {
      body(index)
      index &+= 1
    }
  }
}
