import IOMMUFormats

extension VTd.NestedTables {
  /// What both stages map together, as maximal runs ascending by IOVA.
  ///
  /// Accesses that either stage refuses to everybody are left out.
  func runs(
    in memory: some PhysicalMemory, budget: inout EnumerationBudget
  ) throws(EnumerationExhausted) -> [MappingRun] {
    let guest = GuestMemory(secondStage, memory: memory)
    var leaves = GuestLeaves()
    try firstStage.format.forEachEntry(
      from: firstStage.root, in: guest, budget: &budget, visitor: &leaves)
    var runs = RunCollector(base: 0, signBit: firstStage.format.addressWidth - 1)
    for leaf in leaves.leaves { try append(leaf, to: &runs, in: memory, budget: &budget) }
    return runs.runs
  }

  /// Adds the pieces that the second stage cuts a first-stage page into.
  private func append(
    _ leaf: Leaf, to runs: inout RunCollector, in memory: some PhysicalMemory,
    budget: inout EnumerationBudget
  ) throws(EnumerationExhausted) {
    var observer = Unobserved()
    let range = runs.range(from: leaf.address, byteCount: 1 << UInt64(leaf.sizeLog2))
    var offset: UInt64 = 0
    while offset >> UInt64(leaf.sizeLog2) == 0 {
      guard budget.remainingTables > 0 else {
        throw EnumerationExhausted(root: firstStage.root, table: leaf.page, level: leaf.level)
      }
      budget.remainingTables -= 1
      let address = leaf.page.rawValue + offset
      guard secondStage.reaches(address) else { return }
      let walk = secondStage.format.walk(
        address, from: secondStage.root, in: memory, observer: &observer)
      // To the end of the page, or of what the entry that stops the walk leaves unmapped.
      let isMapped = walk.end == .page
      let sizeLog2 = isMapped ? walk.sizeLog2 : secondStage.format.sizeLog2(level: walk.level)
      let step = bytesInPage(
        address, sizeLog2: sizeLog2, atMost: 1 << UInt64(leaf.sizeLog2) - offset)
      let permissions = leaf.permissions.intersection(walk.permissions).intersection(.readWrite)
      if isMapped, !permissions.isEmpty {
        let start = IOVA(range.lowerBound.rawValue + offset)
        let end = start.rawValue &+ step
        runs.append(
          MappingRun(
            iova: start..<IOVA(end < start.rawValue ? .max : end),
            physical: place(address, in: walk.page, sizeLog2: walk.sizeLog2),
            permissions: permissions))
      }
      offset += step
    }
  }
}

/// Collects first-stage leaves, whose pages are guest addresses.
private struct GuestLeaves: TableVisitor {
  var leaves: [Leaf] = []
  mutating func leaf(_ leaf: Leaf) { leaves.append(leaf) }
}
