import IOMMUFormats

/// How often each table was reached.
///
/// A hash table of its own: a look into a dictionary takes as long as going through half a table.
/// Pages next to each other share a slot, so that the tables of a tree, which mostly lie together,
/// share cache lines.
struct ReachCounts {
  private struct Slot {
    /// The number of the first of sixteen pages; 1, which is none, while the slot is free.
    var firstPage: UInt64 = 1
    var counts = InlineArray<16, UInt16>(repeating: 0)
  }

  /// A power of two of them, at least a quarter of them free.
  private var slots = [Slot](repeating: Slot(), count: 16)
  private var usedCount = 0
  private let multiplier = Self.multiplier

  /// Odd. Unknown to whoever made a dump, so that no tables are chosen to meet in one slot.
  private static let multiplier = UInt64.random(in: 0...UInt64.max) | 1

  /// Counts one more time that the table in a page is reached.
  ///
  /// - Returns: How often it was, this time included, up to 65,535.
  /// - Complexity: O(1) on average.
  mutating func add(page: UInt64) -> Int {
    let firstPage = page & ~15
    let index = slot(of: firstPage)
    if slots[index].firstPage != firstPage {
      slots[index].firstPage = firstPage
      usedCount += 1
    }
    let count = min(slots[index].counts[Int(page & 15)], .max - 1) + 1
    slots[index].counts[Int(page & 15)] = count
    if usedCount * 4 > slots.count * 3 { grow() }
    return Int(count)
  }

  /// The slot of a page, or the free one where it belongs.
  private func slot(of firstPage: UInt64) -> Int {
    let mask = slots.count &- 1
    var mixed = firstPage &* multiplier
    mixed = (mixed ^ mixed &>> 32) &* 0x9e37_79b9_7f4a_7c15
    var index = Int(truncatingIfNeeded: mixed &>> 32) & mask
    while slots[index].firstPage != firstPage, slots[index].firstPage != 1 {
      index = (index &+ 1) & mask
    }
    return index
  }

  private mutating func grow() {
    let old = slots
    slots = [Slot](repeating: Slot(), count: old.count * 2)
    for slot in old where slot.firstPage != 1 { slots[self.slot(of: slot.firstPage)] = slot }
  }
}
