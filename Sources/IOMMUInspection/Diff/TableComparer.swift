import IOMMUFormats
import IOMMUTranslation

extension MapsDifference {
  /// A device's tables before and after, by their places in ``Side/tables``; `nil` where it has none.
  struct TablePair {
    var name: String
    var before: Int?
    var after: Int?
  }

  /// One machine's tables.
  struct Side<Memory: PhysicalMemory> {
    let machine: Machine
    let memory: Memory
    let names: DeviceNames
    var lookup: TableLookup<Memory>
    /// What lies above the page tables and is not known.
    let gaps: [TableGap]
    /// Those of ``gaps`` that are about more devices than one, by their places.
    private var wide: [Int] = []
    /// The first of the others, by the device that it is about.
    private var narrow: [PCI.Function: Int] = [:]

    init(_ machine: Machine, in memory: Memory, _ names: DeviceNames) {
      self.machine = machine
      self.memory = memory
      self.names = names
      let report = MapsReport(all: machine, in: memory, names: names)
      gaps = report.gaps
      lookup = TableLookup(
        report.tables, of: machine, in: memory, budget: EnumerationBudget(for: memory))
      for (index, gap) in gaps.enumerated() {
        switch gap.scope {
        case .requesters(let range) where range.count == 1:
          let device = PCI.Function(segment: gap.segment, Requester(rawValue: range.lowerBound))
          narrow[device] = narrow[device] ?? index
        case .addressSpaces(let requester, _):
          let device = PCI.Function(segment: gap.segment, requester)
          narrow[device] = narrow[device] ?? index
        default: wide.append(index)
        }
      }
    }

    var tables: [DMATable] { lookup.tables }

    var hasPASIDs: Bool {
      tables.contains { if case .requester(_, _?) = $0.owner { true } else { false } }
    }

    func tables(droppingZeroPASID drops: Bool) -> [(name: String, index: Int)] {
      tables.enumerated().map { index, table in
        guard drops, case .requester(let device, let pasid?) = table.owner, pasid.rawValue == 0
        else { return (table.name, index) }
        return ("\(device)", index)
      }
    }

    /// Whether no table stands in the way of an owner's requests.
    func passes(_ owner: TableOwner) -> Bool {
      guard let device = owner.device, let serving = try? machine.serving(device) else {
        return false
      }
      guard case .untranslated = serving.resolve(device.requester, in: memory).route else {
        return false
      }
      return true
    }

    /// What is not known and may hide the table of an owner that is not among the tables.
    func gap(hiding owner: TableOwner) -> TableGap? {
      guard let device = owner.device else { return gaps.first { $0.scope == .unit } }
      let first = wide.first { gaps[$0].concerns(device) }
      return [first, narrow[device]].compactMap { $0 }.min().map { gaps[$0] }
    }
  }

  /// Compares tables, and those that many devices have once.
  struct TableComparer<Before: PhysicalMemory, After: PhysicalMemory> {
    /// What a device has.
    private enum Content: Hashable {
      case nothing
      /// No table stands in its way.
      case untranslated
      /// Its entry says that it passes.
      case passThrough
      /// By their number.
      case mappings(Int)

      var number: Int? { if case .mappings(let number) = self { number } else { nil } }
      var reachesAll: Bool { self == .untranslated || self == .passThrough }
    }

    private struct Key: Hashable {
      var before: Content
      var after: Content

      /// All of memory against some of it: no list of ranges says that.
      var isComparable: Bool {
        !before.reachesAll && !after.reachesAll || before == after || before == .nothing
          || after == .nothing
      }
    }

    private struct Comparison {
      var differences = RunDifferences()
      /// As the first owner's.
      var gaps: [TableGap] = []
      /// The first device with these two tables.
      var name: String
      var title: String
    }

    private var old: Side<Before>
    private var new: Side<After>
    private var known: [Key: Comparison] = [:]
    /// Ranges that may still be told.
    private var rangesLeft = 1 << 17
    private(set) var tallies: [RunDifference.Change: RunDifferences.Tally] = [:]

    /// Ranges that are told of any two tables, however many there are.
    private static var leastRanges: Int { 8 }

    /// - Parameter pairs: All that will be compared, so that mappings are kept no longer than needed.
    init(_ old: Side<Before>, _ new: Side<After>, _ pairs: [TablePair]) {
      self.old = old
      self.new = new
      var keys: Set<Key> = []
      for pair in pairs {
        let key = key(of: pair)
        guard keys.insert(key).inserted else { continue }
        if let number = key.before.number { self.old.lookup.expect(number) }
        if let number = key.after.number { self.new.lookup.expect(number) }
      }
    }

    private func key(of pair: TablePair) -> Key {
      func content(_ index: Int?, _ numbers: [Int?]) -> Content {
        index.map { numbers[$0].map { .mappings($0) } ?? .passThrough } ?? .nothing
      }
      return Key(
        before: content(pair.before, old.lookup.numbers),
        after: content(pair.after, new.lookup.numbers))
    }

    /// What became of a device's table.
    mutating func row(_ pair: TablePair) -> Row {
      let before = pair.before.map { old.tables[$0] }
      let after = pair.after.map { new.tables[$0] }
      let owner = (after ?? before)?.owner
      let driver = owner.flatMap { new.names[$0] ?? old.names[$0] }
      var row: Row
      switch (before, after) {
      case (nil, let after?):
        if let gap = old.gap(hiding: after.owner) {
          return Row(
            name: pair.name, driver: driver, table: .unknown(gap), gaps: [gap], owner: owner)
        }
        row = Row(
          name: pair.name, driver: driver,
          table: old.passes(after.owner)
            ? .replaced(before: notTranslated, after: after.heading) : .new(after.heading),
          owner: owner)
      case (let before?, nil):
        if let gap = new.gap(hiding: before.owner) {
          return Row(
            name: pair.name, driver: driver, table: .unknown(gap), gaps: [gap], owner: owner)
        }
        row = Row(
          name: pair.name, driver: driver,
          table: new.passes(before.owner)
            ? .replaced(before: before.heading, after: notTranslated) : .gone(before.heading),
          owner: owner)
      case (let before?, let after?):
        row = Row(
          name: pair.name, driver: driver,
          table: before.heading == after.heading
            ? .kept : .replaced(before: before.heading, after: after.heading), owner: owner)
      case (nil, nil): return Row(name: pair.name, driver: driver, table: .kept)
      }
      compare(pair, &row)
      return row
    }

    /// Adds what differs between the tables of a pair, and what of them is not known.
    private mutating func compare(_ pair: TablePair, _ row: inout Row) {
      var key = key(of: pair)
      if row.isOfNoTable, pair.before == nil { key.before = .untranslated }
      if row.isOfNoTable, pair.after == nil { key.after = .untranslated }
      let comparison: Comparison
      if let same = known[key] {
        comparison = same
        if !same.differences.told.isEmpty || !same.gaps.isEmpty {
          row.sameAs = same.name
          row.sameTitle = same.title
        }
      } else {
        comparison = compared(key, row)
        known[key] = comparison
      }
      row.gaps = comparison.gaps
      row.differences = comparison.differences.told
      row.omittedDifferenceCount = comparison.differences.omittedCount
      for (change, tally) in comparison.differences.tallies {
        tallies[change, default: RunDifferences.Tally()].count += tally.count
        tallies[change, default: RunDifferences.Tally()].byteCount &+= tally.byteCount
      }
    }

    private mutating func compared(_ key: Key, _ row: Row) -> Comparison {
      var comparison = Comparison(name: row.name, title: row.title)
      let before = key.before.number.map { old.lookup.mappings($0) } ?? TableMappings()
      let after = key.after.number.map { new.lookup.mappings($0) } ?? TableMappings()
      let isKnown = Set(before.gaps)
      comparison.gaps = before.gaps + after.gaps.filter { !isKnown.contains($0) }
      guard key.isComparable else { return comparison }
      comparison.differences = RunDifferences(
        between: before.runs, after.runs, unknown: comparison.gaps.compactMap(\.addresses),
        limit: max(Self.leastRanges, rangesLeft))
      rangesLeft -= min(rangesLeft, comparison.differences.told.count)
      return comparison
    }
  }
}

extension TableGap {
  /// The addresses of which the dump says nothing, where it says that there is a table.
  fileprivate var addresses: Range<IOVA>? {
    if case .addresses(_, let range) = scope { range } else { nil }
  }
}
