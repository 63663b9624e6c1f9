import IOMMUFormats

/// Tables of a guest in its own addresses, and the host's that translate those.
protocol TwoStageTables: IOTable {
  associatedtype Stage: HostStage
  var hostStage: Stage { get }
  /// What requests may do to a page whose entries of both stages allow this together; `nil` when none
  /// may do anything.
  func access(allowedBy guest: Permissions, _ host: Permissions) -> MappedAccess?
}

extension VTd.NestedTables: TwoStageTables {
  var hostStage: VTd.SecondStageTable { secondStage }
  func access(allowedBy guest: Permissions, _ host: Permissions) -> MappedAccess? {
    rules.access(allowedBy: guest, host)
  }
}

extension TwoStageTables {
  /// Collects what both stages map together.
  func collect(
    into collector: inout MappingCollector, from memory: some PhysicalMemory,
    budget: inout EnumerationBudget
  ) {
    var leaves = GuestLeaves()
    let guest = GuestMemory(hostStage, memory: memory)
    do throws(EnumerationExhausted) {
      try forEachEntry(in: guest, budget: &budget, visitor: &leaves)
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
      // What the host's tables refuse is no gap: hardware gets no further either.
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

  /// Collects the pieces that the host's tables cut a guest's page into.
  private func collect(
    _ leaf: Leaf, into collector: inout MappingCollector, from memory: some PhysicalMemory,
    budget: inout EnumerationBudget
  ) throws(EnumerationExhausted) {
    // What the guest's tables refuse to everybody gets no further.
    guard access(allowedBy: leaf.permissions, .readWrite) != nil else { return }
    var observer = Unobserved()
    var offset: UInt64 = 0
    while offset >> UInt64(leaf.sizeLog2) == 0 {
      guard budget.remainingTables > 0 else {
        throw EnumerationExhausted(
          root: root, table: leaf.page, level: leaf.level,
          address: leaf.address + offset)
      }
      budget.remainingTables -= 1
      let address = leaf.page.rawValue + offset
      guard hostStage.reaches(address) else { return }
      let walk = hostStage.format.walk(
        address, from: hostStage.root, in: memory, observer: &observer)
      // To the end of the page, or of what the entry that stops the walk leaves unmapped.
      let isMapped = walk.end == .page
      let sizeLog2 = isMapped ? walk.sizeLog2 : hostStage.format.sizeLog2(level: walk.level)
      let step = bytesInPage(
        address, sizeLog2: sizeLog2, atMost: 1 << UInt64(leaf.sizeLog2) - offset)
      if isMapped {
        collector.add(
          leaf.address + offset, byteCount: step,
          to: place(address, in: walk.page, sizeLog2: walk.sizeLog2),
          access: access(allowedBy: leaf.permissions, walk.permissions))
      } else if walk.end == .unreadable {
        collector.addGap(
          from: leaf.address + offset, byteCount: step, level: walk.level, at: walk.entryAddress)
      }
      offset += step
    }
  }
}

/// Collects leaves of a guest's tables, whose pages are guest addresses.
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
