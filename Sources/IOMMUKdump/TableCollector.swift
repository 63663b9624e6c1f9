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
