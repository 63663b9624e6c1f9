import IOMMUFormats

/// What page tables say of one page, in a word: for a cache in front of them.
///
/// Bits 51:12 are the page's first byte in memory. Bit 0 says that it may be read, bit 1 that it may
/// be written, by every entry on the way and whoever asks; bit 2 that a write leaves no mark that is
/// not there already. Bits 5:3 are what the first stage allows and bits 7:6 what the second does, as in
/// ``MappedPage``; bit 8 says that there is a first stage; bits 10:9 tell 4 KiB, 2 MiB and 1 GiB as 0,
/// 1 and 2. All others are zero. A word of zeros says nothing: whoever meets it asks the tables.
@frozen
public struct PackedPage: RawRepresentable, Hashable, Sendable {
  public var rawValue: UInt64

  @inlinable @inline(__always)
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// Says nothing.
  @inlinable public static var unknown: Self { Self(rawValue: 0) }

  @inlinable static var isDirtyBit: UInt64 { 4 }
  @inlinable static var usesFirstStageBit: UInt64 { 1 << 8 }
  @inlinable static var sizeMask: UInt64 { 3 << 9 }

  /// Of 4 KiB pages bits 1:0 hold for all requests, supervisor or user, without PASID, and so they do
  /// of larger ones; both are clear in a page that the interrupt range is a part of.
  public init(_ page: MappedPage, usesFirstStage: Bool) {
    var allowed = page.secondStage.intersection(.readWrite)
    if !page.firstStage.contains(.user) { allowed = [] }
    if !page.firstStage.contains(.write) { allowed.remove(.write) }
    let sizeCode = UInt64(page.sizeLog2 - 12) / 9
    if Self.reachesInterrupts(page.page.rawValue, sizeCode: sizeCode) { allowed = [] }
    let (first, second) = (page.firstStage, page.secondStage.intersection(.readWrite))
    rawValue =
      page.page.rawValue | UInt64(allowed.rawValue) | (page.isDirty ? Self.isDirtyBit : 0)
      | UInt64(first.rawValue) << 3 | UInt64(second.rawValue) << 6
      | (usesFirstStage ? Self.usesFirstStageBit : 0) | sizeCode << 9
  }

  /// A part of the page is no memory.
  @inlinable @inline(__always)
  static func reachesInterrupts(_ page: UInt64, sizeCode: UInt64) -> Bool {
    (page ^ VTd.interruptAddresses.lowerBound) &>> max(20, 12 &+ sizeCode &* 9) == 0
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

  /// Where `address`, which lies in the page of 4 KiB, goes; only for a request that it allows.
  @inlinable @inline(__always)
  public func translation(of address: IOVA) -> PackedTranslation {
    PackedTranslation(rawValue: rawValue & ~0xfff | address.rawValue & 0xfff)
  }

  /// 12, 21 or 30.
  @inlinable @inline(__always)
  public var sizeLog2: Int { 12 &+ Int(truncatingIfNeeded: rawValue &>> 9 & 3) &* 9 }

  /// The level of the table that a page of this size has its entry in: 1 to 3.
  @inlinable @inline(__always)
  public var leafLevel: Int { 1 &+ Int(truncatingIfNeeded: rawValue &>> 9 & 3) }

  /// The same as ``translation(of:)`` of a page of any size.
  @inlinable @inline(__always)
  public func translation(ofAnySize address: IOVA) -> PackedTranslation {
    let offset = (1 &<< UInt64(truncatingIfNeeded: sizeLog2)) &- 1
    return PackedTranslation(
      rawValue: rawValue & ~(offset | 0xfff) | address.rawValue & offset)
  }

  @inlinable public var usesFirstStage: Bool { rawValue & Self.usesFirstStageBit != 0 }
}

extension MappedPage {
  /// What a word says.
  public init(_ page: PackedPage) {
    let word = page.rawValue
    self.init(
      page: PhysicalAddress(word & ~0xfff), sizeLog2: page.sizeLog2,
      firstStage: Permissions(rawValue: UInt8(truncatingIfNeeded: word >> 3 & 7)),
      secondStage: Permissions(rawValue: UInt8(truncatingIfNeeded: word >> 6 & 3)),
      isDirty: word & PackedPage.isDirtyBit != 0)
  }
}
