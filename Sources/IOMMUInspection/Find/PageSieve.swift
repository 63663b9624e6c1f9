import IOMMUFormats

/// Which finders a page of memory may be for, by its bits alone.
struct PageLook: Equatable {
  /// All bytes are zero.
  var isZero = false
  /// Bit n is set where the page has no bit of mask n.
  var passed: UInt32 = 0

  /// The page can be nothing, or is nothing at all.
  var isIdle: Bool { passed == 0 || isZero }
  func passes(_ index: Int) -> Bool { passed >> UInt32(index) & 1 != 0 }
}

/// Looks at pages, quickly: memory streams through here.
///
/// One pass joins the bits of all quadwords at the same place of 64 bytes, which is one operation for
/// 64 bytes however many masks there are; it ends where a page can be nothing any more.
struct PageSieve {
  static let pageByteCount = 4096

  /// What is looked for, at most 32.
  private let masks: [SIMD8<UInt64>]

  init(_ masks: [SIMD8<UInt64>]) {
    precondition(masks.count <= 32, "a look has a bit for each mask")
    self.masks = masks
  }

  /// What the page may be.
  ///
  /// - Parameter page: 4 KiB that are all there.
  func look(_ page: Span<UInt8>) -> PageLook {
    precondition(page.count == Self.pageByteCount, "a page has 4 KiB")
    // Safe: `end` is at most 4096, and the pointer is used in here only.
    return unsafe page.withUnsafeBytes { page in
      let start = unsafe page.baseAddress.unsafelyUnwrapped
      var bits = SIMD8<UInt64>.zero
      var offset = 0
      while offset < Self.pageByteCount {
        let end = offset + 512
        while offset < end {
          bits |= unsafe start.loadUnaligned(fromByteOffset: offset, as: SIMD8<UInt64>.self)
          offset &+= 64
        }
        if passed(bits) == 0 { return PageLook() }
      }
      return PageLook(isZero: Self.union(bits) == 0, passed: passed(bits))
    }
  }

  @inline(__always)
  private func passed(_ bits: SIMD8<UInt64>) -> UInt32 {
    var passed: UInt32 = 0
    for index in masks.indices where Self.union(bits & masks[index]) == 0 {
      passed |= 1 << UInt32(truncatingIfNeeded: index)
    }
    return passed
  }

  @inline(__always)
  private static func union(_ words: SIMD8<UInt64>) -> UInt64 {
    let four = words.lowHalf | words.highHalf
    let two = four.lowHalf | four.highHalf
    return two.x | two.y
  }

  /// Where in `bytes` a signature begins, as ``pattern(_:)`` has it.
  static func offsets(of pattern: UInt32, in bytes: Span<UInt8>) -> [Int] {
    var found: [Int] = []
    let limit = bytes.count - 3
    var offset = 0
    // A step looks at 256 places and reads one byte more; the last one looks at some again.
    while offset < limit, bytes.count > Self.stepByteCount {
      let start = min(offset, bytes.count - Self.stepByteCount - 1)
      let end = min(start + Self.stepByteCount, limit)
      if mayBegin(pattern, in: bytes.extracting(start...start + Self.stepByteCount)) {
        found += exactOffsets(of: pattern, in: bytes, range: offset..<end)
      }
      offset = start + Self.stepByteCount
    }
    guard offset < limit else { return found }
    return found + exactOffsets(of: pattern, in: bytes, range: offset..<limit)
  }

  private static let stepByteCount = 256

  /// Whether a signature may begin at one of 256 places.
  ///
  /// - Parameter bytes: From the first place on, one more than there are places.
  @inline(__always)
  private static func mayBegin(_ pattern: UInt32, in bytes: Span<UInt8>) -> Bool {
    precondition(bytes.count == stepByteCount + 1, "a step reads one byte more than its places")
    // Two of the four bytes are rare enough, and half as many comparisons.
    let wanted = SIMD32(repeating: UInt16(truncatingIfNeeded: pattern))
    var hits = SIMDMask<SIMD32<Int16>>(repeating: false)
    // Safe: place + 1 + 64 ≤ 257, and the pointer is used in here only.
    unsafe bytes.withUnsafeBytes { bytes in
      var place = 0
      while place < stepByteCount {
        let base = unsafe bytes.baseAddress.unsafelyUnwrapped + place
        hits .|= unsafe base.loadUnaligned(as: SIMD32<UInt16>.self) .== wanted
        hits .|= unsafe base.loadUnaligned(fromByteOffset: 1, as: SIMD32<UInt16>.self) .== wanted
        place &+= 64
      }
    }
    return isAny(hits)
  }

  @inline(__always)
  private static func isAny(_ mask: SIMDMask<SIMD32<Int16>>) -> Bool {
    // Safe: both are 64 bytes of plain bits. The standard library's any() costs more than the rest.
    unsafe union(unsafeBitCast(mask, to: SIMD8<UInt64>.self)) != 0
  }

  /// A signature as a little-endian word.
  static func pattern(_ signature: StaticString) -> UInt32 {
    precondition(signature.utf8CodeUnitCount == 4, "a signature has four characters")
    // Safe: that many bytes are there for as long as the program.
    return unsafe UnsafeRawPointer(signature.utf8Start).loadUnaligned(as: UInt32.self)
  }

  /// Whether `bytes`, at least four, begin with all of a signature but its first `tail` bytes.
  static func endsSignature(_ bytes: Span<UInt8>, pattern: UInt32, tail: Int) -> Bool {
    let bits = UInt32(8 * tail)
    return bytes.integer(UInt32.self, at: 0) << bits == (pattern >> bits) << bits
  }

  @inline(never)
  private static func exactOffsets(
    of pattern: UInt32, in bytes: Span<UInt8>, range: Range<Int>
  ) -> [Int] {
    range.filter { bytes.integer(UInt32.self, at: $0) == pattern }
  }
}
