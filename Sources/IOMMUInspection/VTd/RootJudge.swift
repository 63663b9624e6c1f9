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

  init(memory: Memory) {
    self.memory = memory
    budget = SearchBudget(for: memory)
  }

  /// Some pages were not followed any more.
  var isExhausted: Bool { budget.isCut }

  /// The better of the two modes; `nil` for a page that leads to no device, and for every page when
  /// too much has been read.
  mutating func candidate(at page: PhysicalAddress) -> RootCandidate? {
    // Both modes are one candidate: that one of them takes much leaves nothing out.
    guard budget.allowsAnother() else { return nil }
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
    guard let unit = shell.unit?.as(VTd.Unit.self) else { return nil }
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
    let trees = TreeSurvey(of: tables, in: memory, budget: &budget)
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
    let isScalable = unit.rootTableAddress.mode == .scalable
    return RootCandidate(
      candidate: candidate, noun: "root table", ownTables: [shell.address] + contexts,
      trees: Set(tables.compactMap(\.root)),
      companions: isScalable ? directories(of: unit) : Set(tables.compactMap(\.root)),
      companionText: isScalable ? "PASID directories" : "page table trees")
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
