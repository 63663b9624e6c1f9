import IOMMUFormats

/// What a page of memory may be, by its bits alone.
struct PageLook: OptionSet {
  let rawValue: UInt8
  /// All bytes are zero.
  static let zero = PageLook(rawValue: 1)
  /// Every quadword is zero or a pointer with a present bit: a root table, perhaps.
  static let root = PageLook(rawValue: 2)
  /// Every quadword is zero or a TCE as drivers write it.
  static let tce = PageLook(rawValue: 4)
  /// Every doubleword is a GATT entry without reserved bits.
  static let gatt = PageLook(rawValue: 8)
}

/// Looks at pages, quickly: memory streams through here.
///
/// One pass with a few operations for 64 bytes; it ends where a page can be nothing any more. The
/// masks come from the entries' own lists of fields.
struct PageSieve {
  static let pageByteCount = 4096

  private let root: UInt64
  private let tce: UInt64
  private let gatt: UInt64

  init() {
    root = VTd.RootEntry.reservedMasks(.permissive).low
    // Drivers write zeros into the bits that the chip ignores.
    let ignored = Calgary.TranslationControlEntry.fields.filter { $0.use == .ignored }
    tce = ignored.reduce(0) { $0 | $1.mask }.byteSwapped
    let reserved = GART.GATTEntry.reservedMasks(OnlyVariant()).low
    gatt = reserved | reserved << 32
  }

  /// What the page may be.
  ///
  /// - Parameter page: 4 KiB that are all there.
  func look(_ page: UnsafeRawBufferPointer) -> PageLook {
    precondition(page.count == Self.pageByteCount, "a page has 4 KiB")
    let rootMask = SIMD8(repeating: root)
    let tceMask = SIMD8(repeating: tce)
    let gattMask = SIMD8(repeating: gatt)
    var any = SIMD8<UInt64>.zero
    var notRoot = SIMD8<UInt64>.zero
    var notTCE = SIMD8<UInt64>.zero
    var notGATT = SIMD8<UInt64>.zero
    var offset = 0
    while offset < Self.pageByteCount {
      let end = offset + 512
      while offset < end {
        // Safe: end is at most 4096.
        let words = page.baseAddress.unsafelyUnwrapped.loadUnaligned(
          fromByteOffset: offset, as: SIMD8<UInt64>.self)
        any |= words
        notRoot |= words & rootMask
        notTCE |= words & tceMask
        notGATT |= words & gattMask
        offset &+= 64
      }
      if Self.union(notRoot) != 0, Self.union(notTCE) != 0, Self.union(notGATT) != 0 { return [] }
    }
    if Self.union(any) == 0 { return .zero }
    var look: PageLook = []
    if Self.union(notRoot) == 0 { look.insert(.root) }
    if Self.union(notTCE) == 0 { look.insert(.tce) }
    if Self.union(notGATT) == 0 { look.insert(.gatt) }
    return look
  }

  @inline(__always)
  private static func union(_ words: SIMD8<UInt64>) -> UInt64 {
    let four = words.lowHalf | words.highHalf
    let two = four.lowHalf | four.highHalf
    return two.x | two.y
  }

  /// Where in `bytes` four given bytes begin, in the order they lie there.
  static func offsets(
    of signature: StaticString, in bytes: UnsafeRawBufferPointer
  ) -> [Int] {
    let pattern = pattern(signature)
    // Two of the four bytes are rare enough, and half as many comparisons.
    let wanted = SIMD32(repeating: UInt16(truncatingIfNeeded: pattern))
    var found: [Int] = []
    let limit = bytes.count - 3
    var offset = 0
    // A step looks at 256 places and reads one byte more; the last one looks at some again.
    while offset < limit, bytes.count > Self.stepByteCount {
      let start = min(offset, bytes.count - Self.stepByteCount - 1)
      var hits = SIMDMask<SIMD32<Int16>>(repeating: false)
      var place = start
      while place < start + Self.stepByteCount {
        // Safe: place + 1 + 64 ≤ start + 257 ≤ bytes.count.
        let base = bytes.baseAddress.unsafelyUnwrapped + place
        hits .|= base.loadUnaligned(as: SIMD32<UInt16>.self) .== wanted
        hits .|= base.loadUnaligned(fromByteOffset: 1, as: SIMD32<UInt16>.self) .== wanted
        place &+= 64
      }
      let end = min(start + Self.stepByteCount, limit)
      if Self.isAny(hits) { found += exactOffsets(of: pattern, in: bytes, range: offset..<end) }
      offset = start + Self.stepByteCount
    }
    guard offset < limit else { return found }
    return found + exactOffsets(of: pattern, in: bytes, range: offset..<limit)
  }

  private static let stepByteCount = 256

  @inline(__always)
  private static func isAny(_ mask: SIMDMask<SIMD32<Int16>>) -> Bool {
    // Safe: both are 64 bytes of plain bits. The standard library's any() costs more than the rest.
    union(unsafeBitCast(mask, to: SIMD8<UInt64>.self)) != 0
  }

  /// A signature as a little-endian word.
  static func pattern(_ signature: StaticString) -> UInt32 {
    precondition(signature.utf8CodeUnitCount == 4, "a signature has four characters")
    return UnsafeRawPointer(signature.utf8Start).loadUnaligned(as: UInt32.self)
  }

  /// Whether `bytes`, at least four, begin with all of a signature but its first `tail` bytes.
  static func endsSignature(_ bytes: UnsafeRawBufferPointer, pattern: UInt32, tail: Int) -> Bool {
    let bits = UInt32(8 * tail)
    return bytes.loadUnaligned(as: UInt32.self) << bits == (pattern >> bits) << bits
  }

  @inline(never)
  private static func exactOffsets(
    of pattern: UInt32, in bytes: UnsafeRawBufferPointer, range: Range<Int>
  ) -> [Int] {
    range.filter { bytes.loadUnaligned(fromByteOffset: $0, as: UInt32.self) == pattern }
  }
}
