import IOMMUFormats
import IOMMUTranslation

extension RuleCheck {
  /// R9: every table lies outside the crash kernel, has not been given back, can be walked, and has
  /// a domain of its own.
  ///
  /// Entries that no request is looked up in are nobody's concern.
  ///
  /// - Complexity: O(entries of all tables in force).
  public func tablesSound() -> RuleVerdict {
    guard machine.translates else { return RuleVerdict(.tablesSound, .notApplicable) }
    var inspector = TableInspector(
      crashKernel: crashKernel, freed: evidence.freedTables ?? [],
      uses: evidence.freedTables == nil ? evidence.tablePages?.uses : nil)
    for gap in survey.unanswered {
      let table =
        if case .upper(let kind) = gap.place { "\(kind)" } else { "table" }
      inspector.verdict.add(
        RuleFinding(
          entryAddress: gap.address, "no memory answers at \(gap.address), in the \(table)"))
    }
    for damage in survey.damages {
      inspector.verdict.add(
        stopping: RuleFinding(entryAddress: damage.entryAddress, damage.text))
    }
    if survey.omittedDamageCount > 0 { inspector.verdict.truncate() }
    for clash in survey.clashes {
      inspector.verdict.add(RuleFinding(owner: clash.tables[1].owner, clash.text))
    }
    inspector.verdict.add(survey.gaps)
    for unit in machine.units { enterUpperTables(of: unit, with: &inspector) }
    // A guest's own tables lie in its memory and are its business.
    let trees = TableSurvey.distinct(survey.tables, by: \.host)
    var shares = EnumerationShares(EnumerationBudget(for: memory), treeCount: trees.count)
    for tree in trees {
      shares.spend { inspect(tree, with: &inspector, budget: &$0) }
    }
    if evidence.freedTables == nil, let pages = evidence.tablePages {
      inspector.conclude(pages)
    } else if evidence.freedTables == nil {
      inspector.verdict.add(
        RuleFinding(kind: .unknown, "which tables were given back is not known"))
    }
    return inspector.verdict
  }

  /// Looks at where tables above the page tables lie, at each once: all buses may share one.
  private func enterUpperTables(of unit: TranslationUnit, with inspector: inout TableInspector) {
    var indices: [UpperPlace: Int] = [:]
    var places: [(place: UpperPlace, devices: [PCI.Function])] = []
    for extent in unit.model.upperTableExtents(in: memory) {
      let place = UpperPlace(kind: "\(extent.kind)", range: extent.range)
      if let index = indices[place] {
        if let device = extent.device { places[index].devices.append(device) }
      } else {
        indices[place] = places.count
        places.append((place, extent.device.map { [$0] } ?? []))
      }
    }
    for (place, devices) in places {
      inspector.enter(
        place.kind, place.range, device: devices.first,
        others: devices.dropFirst().map { .requester($0) })
    }
  }

  private func inspect(
    _ shared: TableSurvey.SharedTable, with inspector: inout TableInspector,
    budget: inout EnumerationBudget
  ) {
    guard let tree = shared.table.table?.host else { return }
    let owner = shared.table.owner
    let space = tree.space
    inspector.owner = owner
    inspector.others = shared.others
    inspector.space = space
    func add(_ gap: TableGap) {
      inspector.verdict.add([machine.judged(gap, in: memory) ?? gap], others: shared.others)
    }
    func add(
      _ cause: TableGap.Cause, from address: UInt64, byteCount: UInt64, level: Int,
      at place: PhysicalAddress
    ) {
      for range in space.ranges(from: address, byteCount: byteCount) {
        add(TableGap(cause, .addresses(owner, range), in: .level(level), at: place))
      }
    }
    do throws(EnumerationExhausted) {
      try tree.forEachEntry(in: memory, budget: &budget, visitor: &inspector)
    } catch {
      space.gaps(from: error, of: owner).forEach(add)
    }
    var loops: [TableGap] = []
    for obstacle in inspector.loops {
      guard case .loop(let loop) = obstacle.cause else { continue }
      for range in space.ranges(from: obstacle.address, byteCount: obstacle.byteCount) {
        loops.add(
          TableGap(
            .loop(loop), .addresses(owner, range), in: .level(obstacle.level),
            at: obstacle.entryAddress))
      }
    }
    loops.forEach(add)
    inspector.loops = []
    for obstacle in inspector.unread {
      if machine.isAbsent(obstacle.entryAddress, in: memory) {
        add(
          .absent, from: obstacle.address, byteCount: obstacle.byteCount, level: obstacle.level,
          at: obstacle.entryAddress)
      } else {
        inspector.add(obstacle, "lies where no memory answers")
      }
    }
    inspector.unread = []
  }
}

/// Where a table above the page tables lies.
private struct UpperPlace: Hashable {
  var kind: String
  var range: Range<PhysicalAddress>
}

/// Collects what is wrong with tables.
private struct TableInspector: TableVisitor {
  let crashKernel: [Range<PhysicalAddress>]
  let freed: [Range<PhysicalAddress>]
  /// What the page allocator says, by the number of the page.
  let uses: [UInt64: RuleEvidence.PageUse]?
  /// Pages that tables lie in, and those of them that the page allocator says nothing of.
  private var pages: Set<UInt64> = []
  private var unknownPages: Set<UInt64> = []
  var owner: TableOwner?
  var others: [TableOwner] = []
  var space = IOVASpace(byteCount: 0)
  var verdict = RuleVerdict(.tablesSound)
  /// Entries where no memory answered; whether the dump lacks them remains to be seen.
  var unread: [Obstacle] = []
  /// Entries that lead back, up to as many as are told.
  var loops: [Obstacle] = []

  init(
    crashKernel: [Range<PhysicalAddress>], freed: [Range<PhysicalAddress>],
    uses: [UInt64: RuleEvidence.PageUse]?
  ) {
    self.uses = uses
    self.crashKernel = crashKernel
    self.freed = freed
  }

  /// Looks at where a table lies.
  mutating func enter(
    _ name: String, _ range: Range<PhysicalAddress>, device: PCI.Function? = nil,
    owner: TableOwner? = nil, others: [TableOwner] = [], iova: IOVA? = nil
  ) {
    func add(_ what: String) {
      verdict.add(
        RuleFinding(
          device: device, owner: owner, others: others, iova: iova,
          entryAddress: range.lowerBound,
          "\(name) at \(range.lowerBound) \(what)"))
    }
    if crashKernel.contains(where: { $0.overlaps(range) }) { add("lies in the crash kernel") }
    if freed.contains(where: { $0.overlaps(range) }) {
      add("has been given back and is still used")
    }
    guard let uses, !range.isEmpty else { return }
    for page in range.lowerBound.rawValue >> 12...(range.upperBound.rawValue - 1) >> 12
    where pages.insert(page).inserted {
      guard let use = uses[page] else {
        unknownPages.insert(page)
        continue
      }
      if let objection = use.objection {
        add("is still used, and the page \(PhysicalAddress(page << 12)) \(objection)")
      }
    }
  }

  /// Tells what the page allocator says of all that was looked at.
  mutating func conclude(_ known: RuleEvidence.TablePages) {
    if !unknownPages.isEmpty {
      verdict.add(
        RuleFinding(
          kind: .unknown,
          "whether \(unknownPages.count) of \(pages.count) pages of tables were given back is not known: "
            + (known.unknown ?? "the kernel was not asked")))
    }
    let count = pages.count - unknownPages.count
    if count > 0 {
      verdict.grounds.append(
        "looked at: what the kernel's page allocator says of \(count) pages of tables")
    }
  }

  mutating func enter(
    table start: PhysicalAddress, byteCount: UInt64, level _: Int, address: UInt64
  ) {
    guard let range = Range(start: start, byteCount: byteCount) else { return }
    enter("table", range, owner: owner, others: others, iova: space.iova(address))
  }

  mutating func leaf(_: Leaf) {}
  mutating func leaves(_: LeafRun) {}

  mutating func obstacle(_ obstacle: Obstacle) {
    switch obstacle.cause {
    case .unreadable: unread.append(obstacle)
    case .loop: if loops.count <= RuleVerdict.findingLimit { loops.append(obstacle) }
    case .malformed: add(obstacle, "has a reserved bit set")
    }
  }

  mutating func add(_ obstacle: Obstacle, _ what: String) {
    verdict.add(
      stopping: RuleFinding(
        owner: owner, others: others, iova: space.iova(obstacle.address),
        entryAddress: obstacle.entryAddress,
        "entry at \(obstacle.entryAddress), level \(obstacle.level), \(what)"))
  }
}

extension UpperTableExtent {
  /// The one device that it is about.
  fileprivate var device: PCI.Function? {
    switch scope {
    case .requesters(let range) where range.count == 1:
      PCI.Function(segment: segment, Requester(rawValue: range.lowerBound))
    case .addressSpaces(let requester, _): PCI.Function(segment: segment, requester)
    case .unit, .units, .requesters, .interrupts, .addresses: nil
    }
  }
}
