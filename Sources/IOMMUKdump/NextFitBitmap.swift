/// The allocator of Calgary and of the GART: one bit per entry, searched from a rotating hint.
///
/// As Linux's `iommu-helper` of the time behaves: first fit from the hint up, the last entry is
/// never given out, no run crosses a segment boundary, and freeing does not move the hint.
/// Source: Linux 2.6.27 `iommu-helper.c`, `pci-calgary_64.c`, `pci-gart_64.c`.
package struct NextFitBitmap: Sendable {
  /// Entries managed.
  package let count: Int
  /// Where the next search starts.
  package private(set) var hint = 0
  /// Times a search from the hint failed and the hardware's cache had to be dropped.
  package private(set) var wrapCount = 0
  private var words: [UInt64]

  /// Whether the same entries are taken in both.
  func takesTheSame(as other: NextFitBitmap) -> Bool {
    count == other.count && words == other.words
  }

  package init(count: Int) {
    self.count = count
    words = [UInt64](repeating: 0, count: (count + 63) / 64)
  }

  package func isTaken(_ index: Int) -> Bool {
    words[index >> 6] >> UInt64(index & 63) & 1 != 0
  }

  /// The first entry of a range that is taken; `nil` when all are free.
  ///
  /// - Precondition: the range lies within the bitmap.
  package func firstTaken(in indices: Range<Int>) -> Int? {
    var index = indices.lowerBound
    while index < indices.upperBound {
      let rest = words[index >> 6] >> UInt64(index & 63)
      if rest != 0 {
        let taken = index + rest.trailingZeroBitCount
        return taken < indices.upperBound ? taken : nil
      }
      index = (index | 63) + 1
    }
    return nil
  }

  private mutating func set(_ indices: Range<Int>, to taken: Bool) {
    var index = indices.lowerBound
    while index < indices.upperBound {
      // To the end of the word, or of the range.
      let bits = ~UInt64(0) >> UInt64(64 - min(64 - index & 63, indices.upperBound - index))
      let mask = bits << UInt64(index & 63)
      if taken { words[index >> 6] |= mask } else { words[index >> 6] &= ~mask }
      index = (index | 63) + 1
    }
  }

  /// Takes a range out of use. What lies past the end is cut off: the driver's own code forgot to.
  package mutating func reserve(_ indices: Range<Int>) {
    set(indices.clamped(to: 0..<count), to: true)
  }

  /// Gives back what ``allocate(_:boundary:offset:)`` returned.
  package mutating func free(_ indices: Range<Int>) { set(indices, to: false) }

  /// Moves the start of the next search.
  package mutating func setHint(_ index: Int) { hint = index }

  /// Takes `length` free entries in one run; `nil` when there are none anywhere.
  ///
  /// - Parameters:
  ///   - alignment: The run starts at a multiple of this, a power of two.
  ///   - boundary: No run crosses a multiple of this many entries, counted from `offset` before
  ///     entry 0. A power of two.
  package mutating func allocate(
    _ length: Int, alignment: Int = 1, boundary: Int = 1 << 20, offset: Int = 0
  ) -> Int? {
    precondition(length > 0, "an allocation takes at least one entry")
    var found = search(length, alignment, from: hint, boundary: boundary, offset: offset)
    if found == nil {
      wrapCount += 1
      found = search(length, alignment, from: 0, boundary: boundary, offset: offset)
    }
    guard let index = found else { return nil }
    set(index..<(index + length), to: true)
    hint = index + length
    return index
  }

  private func search(
    _ length: Int, _ alignment: Int, from start: Int, boundary: Int, offset: Int
  ) -> Int? {
    var index = start
    // The comparison leaves the last entry unused, as the search of the time does.
    while true {
      index = (index + alignment - 1) & ~(alignment - 1)
      guard index + length < count else { return nil }
      if isTaken(index) {
        index += 1
        continue
      }
      let first = (index + offset) / boundary
      if (index + offset + length - 1) / boundary != first, length <= boundary {
        index = (first + 1) * boundary - offset
        continue
      }
      if let taken = firstTaken(in: index..<(index + length)) {
        index = taken + 1
        continue
      }
      return index
    }
  }
}
