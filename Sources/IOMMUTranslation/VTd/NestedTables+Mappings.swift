import IOMMUFormats

extension VTd.NestedTables {
  /// Collects what both stages map together.
  func collect(
    into collector: inout MappingCollector, from memory: some PhysicalMemory,
    budget: inout EnumerationBudget
  ) {
    var leaves = GuestLeaves()
    let guest = GuestMemory(secondStage, memory: memory)
    do throws(EnumerationExhausted) {
      try Table.nested(self).forEachEntry(in: memory, budget: &budget, visitor: &leaves)
    } catch {
      collector.add(error)
    }
    for obstacle in leaves.obstacles {
      if case .loop(let loop) = obstacle.cause {
        // Told where the tables lie in memory, as all else is.
        func host(_ address: PhysicalAddress) -> PhysicalAddress {
          guest.hostAddress(of: address) ?? address
        }
        collector.addGap(
          .loop(TableLoop(from: host(loop.table), to: host(loop.target))),
          from: obstacle.address, byteCount: obstacle.byteCount, level: obstacle.level,
          at: host(obstacle.entryAddress))
        continue
      }
      // What the second stage refuses is no gap: hardware gets no further either.
      guard let place = guest.absentHostAddress(for: obstacle.entryAddress) else { continue }
      collector.addGap(
        from: obstacle.address, byteCount: obstacle.byteCount, level: obstacle.level, at: place)
    }
    do throws(EnumerationExhausted) {
      for run in leaves.runs {
        for index in 0..<run.count {
          try collect(run[index], into: &collector, from: memory, budget: &budget)
        }
      }
    } catch {
      collector.add(error)
    }
  }

  /// Collects the pieces that the second stage cuts a first-stage page into.
  private func collect(
    _ leaf: Leaf, into collector: inout MappingCollector, from memory: some PhysicalMemory,
    budget: inout EnumerationBudget
  ) throws(EnumerationExhausted) {
    // What the first stage refuses to everybody gets no further.
    guard rules.access(allowedBy: leaf.permissions, .readWrite) != nil else { return }
    var observer = Unobserved()
    var offset: UInt64 = 0
    while offset >> UInt64(leaf.sizeLog2) == 0 {
      guard budget.remainingTables > 0 else {
        throw EnumerationExhausted(
          root: firstStage.root, table: leaf.page, level: leaf.level,
          address: leaf.address + offset)
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
      if isMapped {
        collector.add(
          leaf.address + offset, byteCount: step,
          to: place(address, in: walk.page, sizeLog2: walk.sizeLog2),
          access: rules.access(allowedBy: leaf.permissions, walk.permissions))
      } else if walk.end == .unreadable {
        collector.addGap(
          from: leaf.address + offset, byteCount: step, level: walk.level, at: walk.entryAddress)
      }
      offset += step
    }
  }
}

/// Collects first-stage leaves, whose pages are guest addresses.
private struct GuestLeaves: TableVisitor {
  var runs: [LeafRun] = []
  /// Entries that are missing, and loops.
  var obstacles: [Obstacle] = []

  mutating func leaf(_: Leaf) {}
  mutating func leaves(_ run: LeafRun) { runs.append(run) }
  mutating func obstacle(_ obstacle: Obstacle) {
    if obstacle.cause != .malformed { obstacles.append(obstacle) }
  }
}
