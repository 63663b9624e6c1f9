/// Gives out the highest free addresses first: IOVAs of VT-d domains, pages of RAM.
///
/// Keeps what is taken as ascending ranges that do not touch, so that an allocation costs as much
/// as there are separate ranges above it.
package struct TopDownAllocator: Sendable {
  /// Where addresses may be given out at all: half-open, ascending.
  package let space: [Range<UInt64>]
  private var taken: [Range<UInt64>] = []

  package init(space: [Range<UInt64>]) { self.space = space }

  /// The part of `range` that is taken first; `nil` when all of it is free.
  package func firstTaken(in range: Range<UInt64>) -> Range<UInt64>? {
    let index = partition(range.lowerBound)
    guard index < taken.count, taken[index].lowerBound < range.upperBound else { return nil }
    return taken[index].clamped(to: range)
  }

  /// Takes a range out of use, whether parts of it were taken or not.
  package mutating func reserve(_ range: Range<UInt64>) {
    guard !range.isEmpty else { return }
    var merged = range
    // Ranges that overlap or touch become one.
    let first = taken.firstIndex { $0.upperBound >= range.lowerBound } ?? taken.count
    var last = first
    while last < taken.count, taken[last].lowerBound <= range.upperBound {
      merged =
        min(
          merged.lowerBound, taken[last].lowerBound)..<max(
          merged.upperBound, taken[last].upperBound)
      last += 1
    }
    taken.replaceSubrange(first..<last, with: [merged])
  }

  /// Gives a range back.
  package mutating func free(_ range: Range<UInt64>) {
    taken = taken.flatMap { piece -> [Range<UInt64>] in
      guard piece.overlaps(range) else { return [piece] }
      var rest: [Range<UInt64>] = []
      if piece.lowerBound < range.lowerBound { rest.append(piece.lowerBound..<range.lowerBound) }
      if piece.upperBound > range.upperBound { rest.append(range.upperBound..<piece.upperBound) }
      return rest
    }
  }

  /// Takes the highest free `byteCount` bytes that end at or below `limit`; `nil` when none are
  /// left.
  ///
  /// - Parameter alignment: A power of two.
  package mutating func allocate(
    _ byteCount: UInt64, alignment: UInt64, below limit: UInt64 = .max
  ) -> UInt64? {
    precondition(byteCount > 0, "an allocation takes at least one byte")
    for area in space.reversed() where area.lowerBound < limit {
      var end = min(area.upperBound, limit)
      while end > area.lowerBound, end - area.lowerBound >= byteCount {
        let start = (end - byteCount) & ~(alignment - 1)
        guard start >= area.lowerBound else { break }
        let candidate = start..<(start + byteCount)
        guard let obstacle = lastTaken(in: candidate) else {
          reserve(candidate)
          return start
        }
        end = obstacle.lowerBound
      }
    }
    return nil
  }

  private func lastTaken(in range: Range<UInt64>) -> Range<UInt64>? {
    // The first range that starts at or after the end; the one before it is the only candidate.
    var low = 0
    var high = taken.count
    while low < high {
      let middle = (low + high) / 2
      if taken[middle].lowerBound < range.upperBound { low = middle + 1 } else { high = middle }
    }
    guard low > 0, taken[low - 1].upperBound > range.lowerBound else { return nil }
    return taken[low - 1]
  }

  /// The index of the first taken range that ends after `address`.
  private func partition(_ address: UInt64) -> Int {
    var low = 0
    var high = taken.count
    while low < high {
      let middle = (low + high) / 2
      if taken[middle].upperBound <= address { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
