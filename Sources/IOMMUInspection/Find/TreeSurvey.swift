import IOMMUFormats
import IOMMUTranslation

/// Goes through page tables and counts what is sound in them.
struct TreeSurvey: TableVisitor {
  private(set) var treeCount = 0
  private(set) var soundTreeCount = 0
  private(set) var leafCount = 0
  private(set) var malformedCount = 0
  private(set) var absentCount = 0
  /// The first entries that lead back to a table above them.
  private(set) var loops: [TableGap] = []
  private(set) var skippedLoopCount = 0
  private var skippedTreeCount = 0
  private var obstaclesInTree = 0
  private var owner = TableOwner.aperture

  private static let loopLimit = 8

  /// Page tables looked at for one candidate; more say nothing new.
  private static let treeLimit = 64
  private static let tableBudget: UInt64 = 8192

  /// Looks at the trees of one candidate, each once.
  init(of tables: [DMATable], in memory: some PhysicalMemory, budget: inout SearchBudget) {
    let share = min(Self.tableBudget, budget.tables)
    var shareLeft = EnumerationBudget(remainingTables: share)
    defer { budget.tables -= share - shareLeft.remainingTables }
    var seen: Set<Table> = []
    for used in tables {
      guard let table = used.table, seen.insert(table.identity).inserted else { continue }
      if seen.count <= Self.treeLimit {
        add(table, of: used.owner, in: memory, budget: &shareLeft)
      } else {
        skippedTreeCount += 1
      }
    }
  }

  private mutating func add(
    _ table: Table, of owner: TableOwner, in memory: some PhysicalMemory,
    budget: inout EnumerationBudget
  ) {
    self.owner = owner
    obstaclesInTree = 0
    treeCount += 1
    do throws(EnumerationExhausted) {
      try table.forEachEntry(in: memory, budget: &budget, visitor: &self)
    } catch {
      // A budget that is used up says that the tree is large, not that it is broken.
      if budget.remainingTables > 0 { obstaclesInTree += 1 }
    }
    if obstaclesInTree == 0 { soundTreeCount += 1 }
  }

  mutating func leaf(_: Leaf) { leafCount += 1 }
  mutating func leaves(_ run: LeafRun) { leafCount += Int(run.count) }

  mutating func obstacle(_ obstacle: Obstacle) {
    obstaclesInTree += 1
    switch obstacle.cause {
    case .malformed: malformedCount += 1
    case .unreadable: absentCount += 1
    case .loop(let loop):
      var known = loops
      // Addresses of a guest's tables count from 0 as all others do.
      known.add(
        TableGap(
          .loop(loop),
          .addresses(
            owner,
            IOVA(obstacle.address)..<IOVA(obstacle.address &+ obstacle.byteCount)),
          in: .level(obstacle.level), at: obstacle.entryAddress))
      if known.count <= Self.loopLimit { loops = known } else { skippedLoopCount += 1 }
    }
  }

  /// Sound page tables of all, 0 to 1; a table that is missing from a dump counts half.
  var soundShare: Double {
    guard treeCount > 0 else { return 0 }
    let broken = treeCount - soundTreeCount
    let forgiven = malformedCount == 0 && loops.isEmpty ? 0.5 * Double(broken) : 0
    return (Double(soundTreeCount) + forgiven) / Double(treeCount)
  }

  var text: String {
    var parts = ["\(soundTreeCount) of \(countText(treeCount, "page table tree")) sound"]
    parts.append("\(countText(leafCount, "page")) mapped")
    if malformedCount > 0 {
      parts.append("\(countText(malformedCount, "entry", plural: "entries")) malformed")
    }
    if absentCount > 0 { parts.append("\(countText(absentCount, "table")) not in this dump") }
    if skippedTreeCount > 0 {
      parts.append("\(countText(skippedTreeCount, "tree")) more not looked at")
    }
    return parts.joined(separator: ", ")
  }
}
