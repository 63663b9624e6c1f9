import CIOMMUAtomics

/// Entries of one word each, read where they lie in this process; no load sees half an entry.
///
/// Making one is unsafe, because it does not keep the bytes alive: whoever does holds their memory.
/// Reading is checked.
@frozen
@safe
@usableFromInline
package struct EntryWords {
  @usableFromInline let start: UnsafeRawPointer
  @usableFromInline let byteCount: Int
  @usableFromInline let isBigEndian: Bool
  /// Entries, at least 1.
  @usableFromInline package let count: Int

  /// - Precondition: An entry has 32 or 64 bits; `bytes` begins at a multiple of its size, holds at
  ///   least one, and stays readable.
  @unsafe
  @inlinable @inline(__always)
  package init(_ bytes: UnsafeRawBufferPointer, of entry: (some TableEntry).Type) {
    byteCount = entry.byteCount
    precondition(byteCount == 4 || byteCount == 8, "an entry read in one piece is one word")
    let address = UInt(bitPattern: bytes.baseAddress)
    precondition(
      bytes.count >= byteCount && address % UInt(byteCount) == 0,
      "entries lie whole at multiples of their size")
    // Safe: the buffer is not empty.
    unsafe start = bytes.baseAddress.unsafelyUnwrapped
    count = bytes.count / byteCount
    isBigEndian = entry.isBigEndian
  }

  /// The entry's word, as a number.
  ///
  /// - Precondition: `index` is below ``count``.
  @inlinable @inline(__always)
  package subscript(index: Int) -> UInt64 {
    precondition(index >= 0 && index < count, "there are no more entries than the bytes hold")
    // Safe: it was checked.
    return unsafe load(index)
  }

  @unsafe
  @inlinable @inline(__always)
  func load(_ index: Int) -> UInt64 {
    // Safe: every caller has checked that 0 ≤ index < count.
    let place = unsafe start + index &* byteCount
    guard byteCount == 8 else {
      let word = unsafe UInt32(littleEndian: ciommu_load32(place))
      return UInt64(isBigEndian ? word.byteSwapped : word)
    }
    return unsafe inMemory(UInt64(littleEndian: ciommu_load64(place)))
  }

  /// The bytes of a quadword as a little-endian load sees them; the same again backwards.
  @inlinable @inline(__always)
  func inMemory(_ quadword: UInt64) -> UInt64 { isBigEndian ? quadword.byteSwapped : quadword }

  /// How many words in a row are each `step` more than the one before; `step` 0 counts equal ones.
  ///
  /// - Parameter first: The first word, which has been read.
  /// - Complexity: O(the result).
  @inlinable @inline(__always)
  package func runLength(from first: UInt64, step: UInt64) -> Int {
    var expected = first &+ step
    var index = 1
    // Rows of scattered pages are short: the first few words one by one, then sixteen at a time.
    var nextBlock = byteCount == 8 ? 4 : Int.max
    let range = step &* 15
    let inMemoryStep = inMemory(step)
    if inMemory(range) != inMemoryStep &* 15 { nextBlock = .max }
    while index < count {
      // Steps may be added to big-endian words as they lie there while none carries.
      if index >= nextBlock, index &+ 16 <= count, !isBigEndian || expected & range == 0 {
        // Safe: index + 16 ≤ count, and quadwords lie at multiples of eight.
        let isSeries = unsafe ciommu_is_series16(
          start + index &* 8, inMemory(expected), inMemoryStep)
        if isSeries {
          index &+= 16
          expected &+= step &* 16
          continue
        }
        nextBlock = index &+ 16
      }
      // Safe: index < count.
      guard unsafe load(index) == expected else { break }
      index &+= 1
      expected &+= step
    }
    return index
  }

  /// Asks for the cache lines of bytes in this process without waiting for them.
  @inlinable
  package static func prefetch(_ bytes: UnsafeRawBufferPointer) {
    for offset in stride(from: 0, to: bytes.count, by: 64) {
      // Safe: a buffer that holds bytes has a base, and nothing is read.
      unsafe ciommu_prefetch(bytes.baseAddress.unsafelyUnwrapped + offset)
    }
  }
}
