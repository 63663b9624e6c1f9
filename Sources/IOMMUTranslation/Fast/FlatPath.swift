import IOMMUFormats

/// The short way of one kind of access through a flat table, a Calgary TCE table or a GATT: one
/// compare for the address and one for the entry.
///
/// Knows the longest run of addresses that the table translates without a hole in between, and
/// entries that allow the access. Everything else has no answer here.
@frozen
public struct FlatPath: Sendable {
  /// Moved so that entry n lies at n times its size.
  @usableFromInline let entries: MemoryWindow
  /// A multiple of 4 KiB.
  @usableFromInline let firstAddress: UInt64
  /// Bytes of address from the first on.
  @usableFromInline let byteCount: UInt64
  /// What a TCE has to allow, in its lowest bits.
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
  init?(
    window: MemoryWindow, entry: PhysicalAddress, entryByteCount: UInt64,
    addresses: Range<UInt64>, access: Access
  ) {
    let start = addresses.lowerBound
    guard start & 0xfff == 0, entry.isAligned(to: entryByteCount),
      entry.rawValue < window.byteCount, !addresses.isEmpty
    else { return nil }
    let pages = min(
      (addresses.upperBound - start) >> 12, (window.byteCount - entry.rawValue) / entryByteCount)
    guard pages > 0 else { return nil }
    entries = window.moved(by: entry.rawValue &- (start >> 12) &* entryByteCount)
    firstAddress = start
    byteCount = pages << 12
    permission = UInt64(access.permission.rawValue)
  }
}

extension FlatPath {
  @inlinable @inline(__always)
  func contains(_ address: UInt64) -> Bool { likely(address &- firstAddress < byteCount) }

  /// The physical address for `address` by a TCE, or `noAnswer`.
  @inlinable @inline(__always)
  func translateTCE(_ address: UInt64) -> UInt64 {
    guard contains(address) else { return RadixPath.noAnswer }
    let word = entries.quadword(unchecked: (address &>> 12) &* 8).byteSwapped
    guard likely(word & permission == permission) else { return RadixPath.noAnswer }
    return Calgary.TranslationControlEntry(rawValue: word).page.rawValue | address & 0xfff
  }

  /// The physical address for `address` by a GATT entry, or `noAnswer`.
  @inlinable @inline(__always)
  func translateGATT(_ address: UInt64) -> UInt64 {
    guard contains(address) else { return RadixPath.noAnswer }
    let entry = GART.GATTEntry(rawValue: entries.doubleword(unchecked: (address &>> 12) &* 4))
    guard likely(entry.isValid) else { return RadixPath.noAnswer }
    return entry.page.rawValue | address & 0xfff
  }

  /// Translates a block by TCEs. Answers that have no short way are `noAnswer`.
  ///
  /// - Returns: All answers, combined with OR: bit 63 says that one of them is `noAnswer`.
  @inlinable @inline(__always)
  func translateTCE(
    block addresses: UnsafePointer<UInt64>, count: Int, into answers: UnsafeMutablePointer<UInt64>
  ) -> UInt64 {
    prefetch(block: addresses, count: count, entryByteCountLog2: 3)
    var all: UInt64 = 0
    for index in 0..<count {
      let answer = translateTCE(addresses[index])
      answers[index] = answer
      all |= answer
    }
    return all
  }

  /// Translates a block by GATT entries; as for TCEs.
  @inlinable @inline(__always)
  func translateGATT(
    block addresses: UnsafePointer<UInt64>, count: Int, into answers: UnsafeMutablePointer<UInt64>
  ) -> UInt64 {
    prefetch(block: addresses, count: count, entryByteCountLog2: 2)
    var all: UInt64 = 0
    for index in 0..<count {
      let answer = translateGATT(addresses[index])
      answers[index] = answer
      all |= answer
    }
    return all
  }

  /// Asks for the entries of a block, unless a look at some of its addresses says that the caches
  /// have them: then the prefetches cost more than they bring.
  ///
  /// - Parameter entryByteCountLog2: 3 for TCEs, 2 for GATT entries.
  @inlinable @inline(__always)
  func prefetch(
    block addresses: UnsafePointer<UInt64>, count: Int, entryByteCountLog2: UInt64
  ) {
    guard isScattered(addresses, count: count) else { return }
    for index in 0..<count {
      // Outside the table a prefetch reads nothing and harms nothing.
      entries.prefetch((addresses[index] &>> 12) &<< entryByteCountLog2)
    }
  }

  /// Whether eight addresses of the block lie further apart than 64 MiB, whose entries fit a
  /// second-level cache.
  @inlinable @inline(__always)
  func isScattered(_ addresses: UnsafePointer<UInt64>, count: Int) -> Bool {
    let step = max(1, count &>> 3)
    let first = addresses[0]
    var index = 0
    while index < count {
      // Within 64 MiB to either side.
      if addresses[index] &- first &+ 0x400_0000 >= 0x800_0000 { return true }
      index &+= step
    }
    return false
  }
}
