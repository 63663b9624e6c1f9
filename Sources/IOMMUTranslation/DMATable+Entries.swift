import IOMMUFormats

extension DMATable {
  /// The I/O address that the table's first entry is for.
  public var base: UInt64 { if case .gatt(let window) = content { window.base } else { 0 } }

  /// Goes through every entry of the table, below the width in force.
  ///
  /// Addresses that the visitor sees count from ``base``. A pass-through device has no entries; of
  /// nested tables the first stage's are meant.
  ///
  /// - Throws: ``EnumerationExhausted`` when tables point at each other.
  /// - Complexity: O(entries of all tables reached).
  public func forEachEntry(
    in memory: some PhysicalMemory, budget: inout EnumerationBudget,
    visitor: inout some TableVisitor
  ) throws(EnumerationExhausted) {
    switch content {
    case .passThrough: return
    case .tce(let table):
      try table.format.forEachEntry(
        from: table.table, in: memory, budget: &budget, visitor: &visitor)
    case .gatt(let window):
      try window.format.forEachEntry(
        from: window.table, in: memory, budget: &budget, visitor: &visitor)
    case .secondStage(let table):
      try table.format.forEachEntry(
        from: table.root, in: memory, below: 1 << UInt64(table.addressWidth), budget: &budget,
        visitor: &visitor)
    case .firstStage(let table):
      try table.format.forEachEntry(
        from: table.root, in: memory, budget: &budget, visitor: &visitor)
    case .nested(let tables):
      // The first stage's entries, which lie in guest memory and name guest pages.
      try tables.firstStage.format.forEachEntry(
        from: tables.firstStage.root, in: GuestMemory(tables.secondStage, memory: memory),
        budget: &budget, visitor: &visitor)
    }
  }
}
