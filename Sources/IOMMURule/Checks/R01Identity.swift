import IOMMUFormats
import IOMMUTranslation

extension RuleCheck {
  /// R1: every page of the crash kernel is mapped read and write at its own number, in every table
  /// that a kdump device uses; addresses that pass untranslated are.
  ///
  /// - Complexity: O(mappings with numbers of the crash kernel).
  public func identity() -> RuleVerdict {
    var verdict = RuleVerdict(.identity)
    judgeIdentity(of: crashKernel, into: &verdict) { missing, range, why in
      "\(missing) of \(range.byteCount / PageCount.pageByteCount) pages are not mapped to "
        + "themselves; the first: \(why)"
    }
    return verdict
  }

  /// Looks for pages of ranges that requests do not reach at their own numbers.
  ///
  /// - Parameter text: Of the number of pages missing, the range, and what becomes of a request to the
  ///   first.
  func judgeIdentity(
    of ranges: [Range<PhysicalAddress>], into verdict: inout RuleVerdict,
    text: (_ missing: UInt64, _ range: Range<PhysicalAddress>, _ why: String) -> String
  ) {
    if neededDevices == nil {
      // Of whoever has a table that is not known nothing is known either.
      verdict.add(survey.gaps)
      // Without a unit that translates any device passes, whoever it may be.
      if subjects.isEmpty, survey.gaps.isEmpty, machine.translates { verdict.add(nobodyFinding) }
    }
    for group in groups(reaching: ranges) {
      let subject = group.first
      switch group.state {
      case .ambiguous(let text):
        verdict.add(
          RuleFinding(kind: .unknown, device: subject.device, others: group.others, text))
      case .unserved(let text):
        verdict.add(RuleFinding(kind: .unknown, text))
      case .reaches(let reach):
        for missing in reach.missing {
          verdict.add(
            RuleFinding(
              device: subject.device, owner: subject.device == nil ? subject.owner : nil,
              others: group.others, iova: missing.first,
              access: missing.access, text(missing.pageCount, missing.range, missing.why)))
        }
        verdict.add(
          TableMappings(gaps: reach.gaps).told(as: subject.owner).gaps, others: group.others)
      }
    }
  }

  /// Subjects of whom the same holds: those that share a table, and without one those whose requests
  /// end alike.
  private struct Group {
    enum State: Hashable {
      case reaches(Reach)
      /// Nobody knows whose the device is.
      case ambiguous(String)
      /// No unit serves its segment; the text names the device.
      case unserved(String)
    }

    var first: Subject
    var others: [TableOwner] = []
    var state: State
  }

  private func groups(reaching ranges: [Range<PhysicalAddress>]) -> [Group] {
    var groups: [Group] = []
    var tables: [Table: Int] = [:]
    var states: [Group.State: Int] = [:]
    for subject in subjects {
      var table: Table?
      let state: Group.State
      if let ambiguity = subject.device.flatMap(ambiguity) {
        state =
          ambiguity.device == nil ? .unserved(ambiguity.text) : .ambiguous(ambiguity.text)
      } else {
        if case .table(let own) = subject.handle.route { table = own.identity }
        if let index = table.flatMap({ tables[$0] }) {
          groups[index].others.append(subject.owner)
          continue
        }
        state = .reaches(reach(of: subject, in: ranges))
      }
      // Two tables are two, whatever they say.
      if table == nil, let index = states[state] {
        groups[index].others.append(subject.owner)
        continue
      }
      if let table { tables[table] = groups.count } else { states[state] = groups.count }
      groups.append(Group(first: subject, state: state))
    }
    return groups
  }

  /// How far somebody reaches ranges at their own numbers, read and write.
  private struct Reach: Hashable {
    /// Pages of a range that are not reached.
    struct Missing: Hashable {
      var range: Range<PhysicalAddress>
      var pageCount: UInt64
      /// The first, and what becomes of a request to it.
      var first: IOVA
      var access: Access?
      var why: String
    }

    var missing: [Missing] = []
    /// What is not known and would tell.
    var gaps: [TableGap] = []
  }

  private func reach(of subject: Subject, in ranges: [Range<PhysicalAddress>]) -> Reach {
    let handle = subject.handle
    // What passes may still be bound to one direction.
    var reached = RangeSet(handle.route.passing.filter { passes(handle, at: $0.lowerBound) })
    var gaps: [TableGap] = []
    switch handle.route {
    case .table(let table):
      let findings = survey[table] ?? look(at: table)
      for run in findings.identities where whyNotIdentity(handle, run.iova.lowerBound) == nil {
        reached.insert(contentsOf: run.iova.numbers)
      }
      gaps = findings.gaps
    case .blocked(let fault) where fault.isUnanswered:
      gaps = survey.gaps.filter { gap in subject.device.map { gap.concerns($0) } ?? true }
    case .blocked, .untranslated, .passThrough: break
    }
    var unknown = RangeSet<UInt64>()
    for gap in gaps { unknown.insert(contentsOf: gap.numbers) }
    var reach = Reach()
    var open = RangeSet<UInt64>()
    for range in ranges {
      let missing = RangeSet(range.numbers).subtracting(reached)
      let wrong = missing.subtracting(unknown)
      guard let first = wrong.ranges.first else {
        open.formUnion(missing)
        continue
      }
      let iova = IOVA(first.lowerBound).alignedDown(to: PageCount.pageByteCount)
      let why = whyNotIdentity(handle, iova)
      reach.missing.append(
        Reach.Missing(
          range: range, pageCount: wrong.pageCount, first: iova, access: why?.access,
          why: why?.text ?? "only part of it is"))
    }
    reach.gaps = gaps.filter { !RangeSet($0.numbers).isDisjoint(open) }
    return reach
  }

  /// Whether both kinds of requests reach the address that they name.
  private func passes(_ handle: DeviceHandle, at address: UInt64) -> Bool {
    Access.allCases.allSatisfy { access in
      guard
        case .mapped(let physical, _) = handle.translate(
          IOVA(address), byteCount: 1, access: access, in: memory)
      else { return false }
      return physical.rawValue == address
    }
  }

  /// What becomes of a request to a page that does not reach it; `nil` when both kinds do.
  private func whyNotIdentity(_ handle: DeviceHandle, _ iova: IOVA) -> (
    access: Access, text: String
  )? {
    let byteCount = PageCount.pageByteCount - iova.offsetInPage
    for access in Access.allCases {
      switch handle.translate(iova, byteCount: byteCount, access: access, in: memory) {
      case .mapped(let physical, let mapped):
        if physical.rawValue != iova.rawValue { return (access, "\(access) goes to \(physical)") }
        if mapped != byteCount {
          return (access, "\(access) reaches only \(mapped) bytes of the page")
        }
      case .interruptMessage:
        return (access, "\(access) is an interrupt message")
      case .fault(let fault):
        return (access, "\(access) faults: \(fault.meaning)")
      }
    }
    return nil
  }

  /// A look at a table that is none of the survey's.
  private func look(at table: Table) -> TableSurvey.Findings {
    var budget = EnumerationBudget(for: memory)
    var room = TableSurvey.runLimit
    let shown = DMATable(owner: .table(table.root), table: table)
    return TableSurvey.Findings(
      machine.mappings(of: shown, in: memory, budget: &budget), of: shown, crashKernel, room: &room)
  }
}

extension TableGap {
  /// The numbers that depend on it: all, for one above the page tables.
  fileprivate var numbers: Range<UInt64> {
    if case .addresses(_, let range) = scope { range.numbers } else { 0 ..< .max }
  }
}

extension Range where Bound: Address {
  /// The bounds as bare numbers.
  var numbers: Range<UInt64> { lowerBound.rawValue..<upperBound.rawValue }
}

extension RangeSet<UInt64> {
  /// Pages with any of these bytes; one in which two ranges lie counts once for each.
  var pageCount: UInt64 {
    ranges.reduce(0) { count, range in
      count + ((range.upperBound - 1) >> 12) - (range.lowerBound >> 12) + 1
    }
  }
}
