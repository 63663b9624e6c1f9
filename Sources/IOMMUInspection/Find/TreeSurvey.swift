import IOMMUFormats
import IOMMUTranslation

/// Goes through page tables and counts what is sound in them.
///
/// Tables of a tree that are reached again are counted again, and not gone through: a kernel has one page
/// of stacks behind 65,536 entries of a process's tables.
struct TreeSurvey: TableVisitor {
  /// What was met.
  private struct Counts {
    var leaves = 0
    var malformed = 0
    var absent = 0

    /// Broken tables may have more ways through them than there are numbers.
    mutating func add(_ other: Counts) {
      func sum(_ left: Int, _ right: Int) -> Int {
        let (sum, overflows) = left.addingReportingOverflow(right)
        return overflows ? .max : sum
      }
      leaves = sum(leaves, other.leaves)
      malformed = sum(malformed, other.malformed)
      absent = sum(absent, other.absent)
    }
  }

  private struct Place: Hashable {
    var table: PhysicalAddress
    var level: Int
  }

  private(set) var treeCount = 0
  private(set) var soundTreeCount = 0
  /// Of all trees that were gone through.
  private var counts = Counts()
  /// The tables of this tree that were gone through, with all below them.
  private var known: [Place: Counts] = [:]
  /// Those from the root to the one at hand, with what was met in them so far.
  private var path: [(place: Place, counts: Counts)] = []
  /// The first entries that lead back to a table above them.
  private(set) var loops: [TableGap] = []
  private(set) var skippedLoopCount = 0
  private var skippedTreeCount = 0
  /// There were more page tables than are looked at.
  private var isCut = false
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
    defer {
      budget.spend(
        onPageTables: share - shareLeft.remainingTables,
        isCut: isCut && share < Self.tableBudget)
    }
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
    known = [:]
    defer { leave(upTo: .max) }
    do throws(EnumerationExhausted) {
      try table.forEachEntry(in: memory, budget: &budget, visitor: &self)
    } catch {
      // A budget that is used up says that the tree is large, not that it is broken.
      if budget.remainingTables > 0 { obstaclesInTree += 1 } else { isCut = true }
    }
    if obstaclesInTree == 0 { soundTreeCount += 1 }
  }

  /// Ends the tables at hand that are of this level or below it: another of the level follows.
  private mutating func leave(upTo level: Int) {
    while let last = path.last, last.place.level <= level {
      path.removeLast()
      known[last.place] = last.counts
      add(last.counts)
    }
  }

  /// Adds to the table at hand; above the root stands what all trees have.
  private mutating func add(_ more: Counts) {
    if path.isEmpty { counts.add(more) } else { path[path.count - 1].counts.add(more) }
  }

  mutating func knows(table: PhysicalAddress, level: Int) -> Bool {
    leave(upTo: level)
    guard let counts = known[Place(table: table, level: level)] else { return false }
    add(counts)
    return true
  }

  mutating func enter(table: PhysicalAddress, byteCount _: UInt64, level: Int, address _: UInt64) {
    path.append((Place(table: table, level: level), Counts()))
  }

  mutating func leaf(_: Leaf) { add(Counts(leaves: 1)) }
  mutating func leaves(_ run: LeafRun) { add(Counts(leaves: Int(run.count))) }

  mutating func obstacle(_ obstacle: Obstacle) {
    obstaclesInTree += 1
    switch obstacle.cause {
    case .malformed: add(Counts(malformed: 1))
    case .unreadable: add(Counts(absent: 1))
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

  var leafCount: Int { counts.leaves }
  var malformedCount: Int { counts.malformed }
  var absentCount: Int { counts.absent }

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
    if isCut { parts.append("larger than is looked at") }
    if skippedTreeCount > 0 {
      parts.append("\(countText(skippedTreeCount, "tree")) more not looked at")
    }
    return parts.joined(separator: ", ")
  }
}
