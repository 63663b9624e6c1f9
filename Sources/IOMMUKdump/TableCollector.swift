import IOMMUFormats
import IOMMUTranslation

extension TableFormat {
  /// The pages of a tree that the kernel itself has made, the root among them.
  func tables(from root: PhysicalAddress, in memory: FlatMemory) -> [PhysicalAddress] {
    var tables = TableCollector()
    var budget = EnumerationBudget(for: memory)
    do {
      try forEachEntry(from: root, in: memory, budget: &budget, visitor: &tables)
    } catch {
      preconditionFailure("the kernel's own tables point at each other: \(error)")
    }
    return tables.pages
  }
}

extension TableFormat {
  /// The numbers that a tree of some kernel maps, half-open, in the order of its entries; of a tree that
  /// is damaged, what can be reached.
  func mappedNumbers(from root: PhysicalAddress, in memory: FlatMemory) -> [Range<UInt64>] {
    var numbers = NumberCollector()
    var budget = EnumerationBudget(for: memory)
    try? forEachEntry(from: root, in: memory, budget: &budget, visitor: &numbers)
    return numbers.ranges
  }
}

/// Collects the numbers that a tree maps.
private struct NumberCollector: TableVisitor {
  var ranges: [Range<UInt64>] = []
  mutating func leaf(_ leaf: Leaf) { add(leaf.address, byteCount: 1 << UInt64(leaf.sizeLog2)) }
  mutating func leaves(_ run: LeafRun) { add(run.first.address, byteCount: run.byteCount) }

  private mutating func add(_ address: UInt64, byteCount: UInt64) {
    if let last = ranges.last, last.upperBound == address {
      ranges[ranges.count - 1] = last.lowerBound..<(address + byteCount)
    } else {
      ranges.append(address..<(address + byteCount))
    }
  }
}

/// Collects the pages of a tree.
private struct TableCollector: TableVisitor {
  var pages: [PhysicalAddress] = []
  mutating func enter(
    table: PhysicalAddress, byteCount _: UInt64, level _: Int, address _: UInt64
  ) {
    pages.append(table)
  }
  mutating func leaf(_: Leaf) {}
}
