import IOMMUFormats
import IOMMUTranslation

/// Judges whether a page is a VT-d root table: by following it as hardware would.
///
/// A root table is two pages deep before anything random could pass for it: its entries have to
/// lead to context tables whose every entry that is in use is legal, and those to page tables. The
/// following is the translation's own, for a unit of which nothing is known.
struct RootJudge<Memory: PhysicalMemory> {
  let memory: Memory

  /// What may still be read. An honest dump needs a fraction; one made of pages that look like
  /// root tables would take days.
  private var budget: SearchBudget

  /// Page tables looked at for one candidate; more say nothing new.
  private static var treeLimit: Int { 64 }
  private static var tableBudget: UInt64 { 8192 }

  init(memory: Memory) {
    self.memory = memory
    budget = SearchBudget(for: memory)
  }

  /// Some pages were not followed any more.
  var isExhausted: Bool { budget.isExhausted }

  /// The better of the two modes; `nil` for a page that leads to no device, and for every page when
  /// too much has been read.
  mutating func candidate(at page: PhysicalAddress) -> RootCandidate? {
    let legacy = judge(page, as: .rootTable)
    let scalable = judge(page, as: .scalableRootTable)
    guard let legacy, let scalable else { return legacy ?? scalable }
    return legacy.candidate.score >= scalable.candidate.score ? legacy : scalable
  }

  /// The page as a table of this kind; `nil` where it leads to no device.
  mutating func judge(
    _ page: PhysicalAddress, as kind: TableCandidate.Kind
  ) -> RootCandidate? {
    let shell = TableCandidate(
      kind: kind, address: page, byteCount: PageCount.pageByteCount, score: 0, reasons: [])
    guard !isExhausted, let unit = shell.unit?.as(VTd.Unit.self) else { return nil }
    budget.spend(onContextTables: contextTableCount(of: page))
    let requesters = unit.requesters(in: memory)
    budget.spend(on: requesters, of: kind)
    guard !requesters.isEmpty else { return nil }
    let machine = Machine(name: "", units: [.vtd(unit)])
    let inForce = machine.tables(in: memory)
    let tables = inForce.tables
    budget.spend(on: tables)
    // A requester has one table, or one for each of its PASIDs.
    let served = Set(tables.compactMap(\.owner.device))
    guard !served.isEmpty else { return nil }
    let contexts = Set(requesters.compactMap { unit.contextTable(of: $0, in: memory) }).sorted()
    let stray = contexts.reduce(0) { $0 + strayBytes(in: $1, isPresent: $1 != page) }
    var trees = TreeSurvey()
    let share = min(Self.tableBudget, budget.tables)
    var shareLeft = EnumerationBudget(remainingTables: share)
    defer { budget.tables -= share - shareLeft.remainingTables }
    var seen: Set<Table> = []
    for used in tables {
      guard let table = used.table, seen.insert(table.identity).inserted else { continue }
      guard seen.count <= Self.treeLimit else {
        trees.skip()
        continue
      }
      trees.add(table, of: used.owner, in: memory, budget: &shareLeft)
    }
    return verdict(
      shell, unit, requesters: requesters.count, served: served.count, contexts: contexts,
      stray: stray,
      tables: tables, trees: trees, gaps: inForce.gaps)
  }

  /// Pointers to context tables in a page: in legacy mode every other quadword may be one.
  private func contextTableCount(of page: PhysicalAddress) -> Int {
    memory.bytes(at: page, count: 4096)?.enumerated().count {
      $0.offset % 8 == 0 && $0.element & 1 != 0
    } ?? 0
  }

  private func verdict(
    _ shell: TableCandidate, _ unit: VTd.Unit, requesters: Int, served: Int,
    contexts: [PhysicalAddress],
    stray: Int, tables: [DMATable], trees: TreeSurvey, gaps: [TableGap]
  ) -> RootCandidate {
    var candidate = shell
    let isTranslating = tables.contains { $0.root != nil }
    let context = Double(served) / Double(requesters)
    // Pass-through devices have no page tables to speak for them.
    let tree = isTranslating ? trees.soundShare : 0.5
    var score = 20 + 40 * context * context * context + 30 * tree * tree
    if trees.leafCount > 0 { score += 5 }
    if served > 1 { score += 5 }
    if stray > 0 { score /= 2 }
    candidate.score = max(0, min(100, Int(score.rounded())))
    candidate.reasons.append(
      "\(served) of \(countText(requesters, "context entry", plural: "context entries")) legal, "
        + "in \(countText(contexts.count, "context table"))")
    if stray > 0 {
      candidate.reasons.append("\(countText(stray, "byte")) of context tables is no entry")
    }
    if isTranslating { candidate.reasons.append(trees.text) }
    candidate.incomplete = trees.loops.map(\.text)
    candidate.reasons += candidate.incomplete
    if trees.skippedLoopCount > 0 {
      candidate.reasons.append("\(trees.skippedLoopCount) more entries that lead back")
    }
    if let gap = gaps.first {
      candidate.reasons.append(
        gap.text + (gaps.count > 1 ? ", and \(gaps.count - 1) more parts of tables" : ""))
    }
    let passThrough = tables.count(where: \.isPassThrough)
    if passThrough > 0 { candidate.reasons.append("\(passThrough) in pass-through") }
    return RootCandidate(
      candidate: candidate, ownTables: [shell.address] + contexts,
      trees: Set(tables.compactMap(\.root)),
      companions: unit.rootTableAddress.mode == .scalable
        ? directories(of: unit) : Set(tables.compactMap(\.root)))
  }

  private func directories(of unit: VTd.Unit) -> Set<PhysicalAddress> {
    Set(
      unit.upperTables(in: memory).tables.compactMap { table in
        if case .pasidDirectory = table.kind { table.start } else { nil }
      })
  }

  /// Bytes of a context table that are not zero and in no entry that is present.
  private func strayBytes(in table: PhysicalAddress, isPresent: Bool) -> Int {
    guard isPresent, let bytes = memory.bytes(at: table, count: 4096) else { return 0 }
    var stray = 0
    for start in stride(from: 0, to: 4096, by: VTd.ContextEntry.byteCount) {
      let place = PhysicalAddress(table.rawValue + UInt64(start))
      guard let entry = VTd.ContextEntry(from: memory, at: place) else { continue }
      // The upper half of a scalable entry says little; FPD alone is legal.
      guard !entry.isPresent, !entry.suppressesFaultReports, entry.low != 0 else { continue }
      stray += bytes[start..<start + VTd.ContextEntry.byteCount].count { $0 != 0 }
    }
    return stray
  }
}

/// A root table, and what is needed to tell whose it is.
struct RootCandidate {
  var candidate: TableCandidate
  /// The root table and its context tables.
  var ownTables: [PhysicalAddress]
  /// The roots of the page tables.
  var trees: Set<PhysicalAddress>
  /// What a kernel allocates together with its context tables: page tables, or in scalable mode the
  /// PASID directories, since page tables come later there.
  var companions: Set<PhysicalAddress>

  /// How far from the root and context tables others still were allocated with them.
  private static let reach: UInt64 = 1 << 20

  /// Companions that lie near the root and context tables: a kernel allocates both at the same time, a
  /// kernel that only copies contexts leaves the others where they were.
  var companionsNearby: Int {
    companions.count { companion in
      ownTables.contains { own in
        max(own.rawValue, companion.rawValue) - min(own.rawValue, companion.rawValue) < Self.reach
      }
    }
  }

  /// The companions lie elsewhere: a capture kernel has copied root and context tables.
  var looksCopied: Bool { companions.count >= 3 && 2 * companionsNearby < companions.count }
}

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

  /// Counts a tree that is not looked at.
  mutating func skip() { skippedTreeCount += 1 }

  mutating func add(
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
