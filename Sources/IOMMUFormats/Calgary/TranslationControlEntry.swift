extension Calgary {
  /// A translation control entry (TCE): one 4 KiB page of I/O space.
  ///
  /// Eight bytes, **big-endian** in memory, at table + 8 · (IOVA >> 12). An entry of all zeros is
  /// free. Read and write permissions are independent of each other (*assumed*: no driver wrote a
  /// write-only entry). Bits 11:2 and 63:48 are ignored for translation (*assumed*).
  ///
  /// Source: Linux `tce.h`, `tce_64.c`.
  @frozen
  public struct TranslationControlEntry: WordEntry {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  }
}

extension Calgary.TranslationControlEntry {
  public static var name: StaticString { "TCE" }
  public static var specification: StaticString { "Linux tce.h, tce_64.c" }
  @inlinable public static var isBigEndian: Bool { true }

  @inlinable static var read: BitField { BitField(0...0, "R") }
  @inlinable static var write: BitField { BitField(1...1, "W") }
  @inlinable static var rpn: BitField { BitField(12...47, "RPN", .address) }

  static var hub: BitField { BitField(2...7, "hub id", .ignored) }
  static var lowUnused: BitField { .ignored(8...11) }
  static var highUnused: BitField { .ignored(48...63) }

  public static func fields(_: OnlyVariant) -> [BitField] {
    [read, write, hub, lowUnused, rpn, highUnused]
  }

  /// An entry for the page that `page` lies in.
  ///
  /// - Precondition: `page` is below 2^48; the entry has no bits for more.
  public init(page: PhysicalAddress, permissions: Permissions) {
    precondition(page.rawValue >> 48 == 0, "a TCE names pages below 2^48")
    self.init(rawValue: page.rawValue & Self.rpn.mask)
    self[Self.read] = permissions.contains(.read) ? 1 : 0
    self[Self.write] = permissions.contains(.write) ? 1 : 0
  }

  /// The page's first byte.
  @inlinable
  public var page: PhysicalAddress { PhysicalAddress(addressBits(Self.rpn)) }

  /// What a device may do to the page; empty for a free entry.
  @inlinable
  public var permissions: Permissions {
    Permissions(rawValue: UInt8(truncatingIfNeeded: self[Self.read] | self[Self.write] &<< 1))
  }

  /// The hub that the page belongs to, on machines of another kind; drivers leave it 0.
  public var hubIdentifier: UInt8 { UInt8(self[Self.hub]) }

  /// Whether a bit is set that no source gives a meaning.
  public var hasUnusedBits: Bool { self[Self.lowUnused] != 0 || self[Self.highUnused] != 0 }

  /// The entry for the page so many further on, with the same permissions; after the last page that
  /// an entry has bits for comes page 0.
  public func advanced(byPages count: UInt64) -> Self {
    let page = rawValue &+ count &<< PageCount.pageSizeLog2
    return Self(rawValue: rawValue & ~Self.rpn.mask | page & Self.rpn.mask)
  }

  /// Stores entries for `count` pages in a row, of which this one is the first's: what maps a range
  /// of memory, to itself where the first entry of the table for it is meant.
  ///
  /// What the entries were before does not matter. Each store is atomic by itself.
  ///
  /// - Parameters:
  ///   - count: Pages; 0 stores nothing.
  ///   - memory: Memory that holds the table.
  ///   - address: Where the first page's entry lies: table + 8 · (IOVA >> 12).
  /// - Precondition: `address` is 8-byte aligned, and all entries are writable; of a flat memory, in one RAM range.
  /// - Complexity: O(`count`), with one check for all of them.
  public func storeRun(
    ofPages count: Int, to memory: some WritableMemory, at address: PhysicalAddress
  ) {
    let lastPage = Self.rpn.mask >> PageCount.pageSizeLog2
    let beforeWrap = Int(min(UInt64(count), lastPage - page.pageNumber + 1))
    memory.storeSeries(
      from: rawValue, step: PageCount.pageByteCount, count: beforeWrap, isBigEndian: true,
      at: address)
    guard count > beforeWrap else { return }
    memory.storeSeries(
      from: advanced(byPages: UInt64(beforeWrap)).rawValue, step: PageCount.pageByteCount,
      count: count - beforeWrap, isBigEndian: true,
      at: PhysicalAddress(address.rawValue + UInt64(beforeWrap) * 8))
  }
}
