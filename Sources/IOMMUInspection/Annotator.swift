import IOMMUFormats
import IOMMUTranslation

/// Knows for every byte of memory which table it belongs to, and puts its entries into words.
///
/// The tables are found by following them from the machine's registers; what nothing points to is
/// not known here. Takes a snapshot of where tables lie; entries are read when they are asked for.
public struct Annotator: Sendable {
  /// Every table found, ascending by address; tables of broken machines may overlap.
  public let regions: [TableRegion]

  /// Why some tables may be missing; `nil` when all were found.
  ///
  /// Tables that point at each other end the search, but not what is known until then.
  public let exhaustion: EnumerationExhausted?

  /// `highestEnds[i]` is the largest end of regions 0 to i: where a search back may stop.
  private let highestEnds: [UInt64]

  /// Finds the tables of a machine, with a bound in proportion to its memory.
  ///
  /// - Complexity: O(entries of all tables in force).
  public init(_ machine: Machine, in memory: some PhysicalMemory) {
    var budget = EnumerationBudget(for: memory)
    self.init(machine, in: memory, budget: &budget)
  }

  /// Finds the tables of a machine.
  public init(
    _ machine: Machine, in memory: some PhysicalMemory, budget: inout EnumerationBudget
  ) {
    var finder = RegionFinder()
    finder.addUpperTables(of: machine, in: memory)
    var exhaustion: EnumerationExhausted?
    do throws(EnumerationExhausted) {
      try finder.addTables(of: machine, in: memory, budget: &budget)
    } catch {
      exhaustion = error
    }
    self.exhaustion = exhaustion
    regions = finder.regions.sorted { ($0.start, $0.level) < ($1.start, $1.level) }
    var highest: UInt64 = 0
    highestEnds = regions.map { region in
      highest = max(highest, region.end)
      return highest
    }
  }

  /// The tables that have bytes in `range`, half-open; ascending.
  public func regions(overlapping range: Range<PhysicalAddress>) -> [TableRegion] {
    indices(overlapping: range.lowerBound.rawValue..<range.upperBound.rawValue).map { regions[$0] }
  }

  /// The entries that `address` lies in: none outside tables, several only where tables overlap.
  public func entries(
    at address: PhysicalAddress, in memory: some PhysicalMemory
  ) -> [EntryAnnotation] {
    guard address.rawValue < .max else { return [] }
    return indices(overlapping: address.rawValue..<address.rawValue + 1).compactMap { index in
      let region = regions[index]
      return region.annotation(
        index: (address.rawValue - region.start.rawValue) / region.entryByteCount, in: memory)
    }
  }

  /// Hands out the entries that begin in `range` and are not zero, ascending by address.
  ///
  /// Entries at the same address, where tables overlap, come one after the other.
  public func forEachEntry(
    in range: Range<PhysicalAddress>, of memory: some PhysicalMemory,
    _ body: (EntryAnnotation) throws -> Void
  ) rethrows {
    // Table by table would not be ascending where they overlap; a page at a time is, and is small.
    for answering in memory.backedRanges where answering.overlaps(range) {
      let part = answering.clamped(to: range)
      var start = part.lowerBound.rawValue
      let end = part.upperBound.rawValue
      while start < end {
        let stop = start | 4095 == .max ? end : min(end, (start | 4095) + 1)
        let found = indices(overlapping: start..<stop)
        if let next = nextRegionStart(from: start), found.isEmpty {
          start = max(stop, min(next, end))
          continue
        } else if found.isEmpty {
          break
        }
        for annotation in entries(beginningIn: start..<stop, indices: found, of: memory) {
          try body(annotation)
        }
        start = stop
      }
    }
  }

  /// Writes a hexdump of `range` with a line for every entry that is not zero.
  ///
  /// The words stand below the entry's first byte. Repeated lines are left out as in any hexdump,
  /// unless there is something to say about them.
  public func writeHexdump(
    _ range: Range<PhysicalAddress>, of memory: some PhysicalMemory,
    style: HexdumpStyle = HexdumpStyle(), to out: inout some TextOutputStream
  ) {
    Hexdump.write(
      range, of: memory, notes: EntryNotes(annotator: self, memory: memory), style: style, to: &out)
  }

  /// The entries that begin in a short range and are not zero, ascending.
  fileprivate func entries(
    beginningIn range: Range<UInt64>, indices: [Int]? = nil, of memory: some PhysicalMemory
  ) -> [EntryAnnotation] {
    let indices = indices ?? self.indices(overlapping: range)
    var found: [EntryAnnotation] = []
    for region in indices.map({ regions[$0] }) {
      let size = region.entryByteCount
      let start = region.start.rawValue
      let first = range.lowerBound <= start ? 0 : (range.lowerBound - start - 1) / size + 1
      let last = (min(range.upperBound, region.end) - start - 1) / size
      guard first <= last else { continue }
      for index in first...last {
        // Most entries are free: a look at the bytes is cheaper than words nobody reads.
        guard !isZero(start + index * size, byteCount: size, in: memory) else { continue }
        if let entry = region.annotation(index: index, in: memory) { found.append(entry) }
      }
    }
    guard indices.count > 1 else { return found }
    return found.sorted { ($0.address, $0.region.level) < ($1.address, $1.region.level) }
  }

  private func isZero(
    _ address: UInt64, byteCount: UInt64, in memory: some PhysicalMemory
  ) -> Bool {
    let address = PhysicalAddress(address)
    guard byteCount > 4 else { return memory.doubleword(at: address) == 0 }
    return stride(from: 0, to: byteCount, by: 8).allSatisfy {
      address.advanced(byBytes: $0).flatMap { memory.quadword(at: $0) } == 0
    }
  }

  private func nextRegionStart(from address: UInt64) -> UInt64? {
    let index = regions.partitioningIndex { $0.start.rawValue >= address }
    return index < regions.count ? regions[index].start.rawValue : nil
  }

  fileprivate func mayOverlap(_ range: Range<UInt64>) -> Bool {
    let end = regions.partitioningIndex { $0.start.rawValue >= range.upperBound }
    return end > 0 && highestEnds[end - 1] > range.lowerBound
  }

  private func indices(overlapping range: Range<UInt64>) -> [Int] {
    var found: [Int] = []
    var index = regions.partitioningIndex { $0.start.rawValue >= range.upperBound }
    while index > 0, highestEnds[index - 1] > range.lowerBound {
      index -= 1
      if regions[index].end > range.lowerBound { found.append(index) }
    }
    return found.reversed()
  }
}

/// Says of each line of a hexdump which entries begin in it.
private struct EntryNotes<Memory: PhysicalMemory>: LineNotes {
  let annotator: Annotator
  let memory: Memory

  func mayConcern(_ range: Range<UInt64>) -> Bool { annotator.mayOverlap(range) }

  func notes(at start: UInt64, byteCount: Int) -> [(offset: Int, text: String)] {
    let range = start..<start + UInt64(byteCount)
    return annotator.entries(beginningIn: range, of: memory).map {
      (Int($0.address.rawValue - start), $0.text)
    }
  }
}

/// Follows a machine's tables and keeps where they lie.
private struct RegionFinder {
  struct Key: Hashable {
    var kind: TableRegion.Kind
    var start: PhysicalAddress
    var byteCount: UInt64
    var level: Int
  }

  var regions: [TableRegion] = []
  private var places: [Key: Int] = [:]

  /// Adds a table, or counts one more user of a table that is known.
  private mutating func add(
    _ content: TableRegion.Content, start: PhysicalAddress, byteCount: UInt64, level: Int,
    name: String, otherCount: Int = 0, address: UInt64 = 0
  ) {
    let region = TableRegion(
      content: content, start: start, byteCount: byteCount, level: level, tableName: name,
      otherTableCount: otherCount, firstAddress: address)
    let key = Key(kind: region.kind, start: start, byteCount: byteCount, level: level)
    if let place = places[key] {
      regions[place].otherTableCount += 1 + otherCount
    } else {
      places[key] = regions.count
      regions.append(region)
    }
  }

  mutating func addUpperTables(of machine: Machine, in memory: some PhysicalMemory) {
    for case .vtd(let unit) in machine.units where unit.status.translates {
      for table in unit.upperTables(in: memory) {
        add(
          .upper(table, unit.limits), start: table.start, byteCount: table.byteCount,
          level: table.level, name: table.ownerName)
      }
    }
  }

  mutating func addTables(
    of machine: Machine, in memory: some PhysicalMemory, budget: inout EnumerationBudget
  ) throws(EnumerationExhausted) {
    // Devices that share a tree are one group, so that the tree is followed once.
    var groups: [(table: DMATable, others: Int)] = []
    var known: [TableIdentity: Int] = [:]
    for table in machine.tables(in: memory) {
      guard let identity = TableIdentity(table) else { continue }
      if let index = known[identity] {
        groups[index].others += 1
      } else {
        known[identity] = groups.count
        groups.append((table, 0))
      }
    }
    for (table, others) in groups {
      try follow(table, others: others, in: memory, budget: &budget)
    }
  }

  private mutating func follow(
    _ table: DMATable, others: Int, in memory: some PhysicalMemory,
    budget: inout EnumerationBudget
  ) throws(EnumerationExhausted) {
    let limits = table.limits ?? .permissive
    if case .nested(let trees) = table.content {
      return try follow(table, nested: trees, others: others, in: memory, budget: &budget)
    }
    var collector = TableCollector()
    let content: TableRegion.Content
    var base: UInt64 = 0
    var failure: EnumerationExhausted?
    do throws(EnumerationExhausted) {
      switch table.content {
      case .passThrough, .nested: return
      // A flat table points to no other, so none of its entries has to be looked at.
      case .tce(let tce):
        content = .tce(tce)
        try tce.format.forEachEntry(
          from: tce.table, in: memory, below: 0, budget: &budget, visitor: &collector)
      case .gatt(let window):
        content = .gatt(window)
        base = window.base
        try window.format.forEachEntry(
          from: window.table, in: memory, below: 0, budget: &budget, visitor: &collector)
      case .secondStage(let tree):
        content = .secondStage(tree, limits)
        try tree.format.forEachEntry(
          from: tree.root, in: memory, below: 1 << UInt64(tree.addressWidth), budget: &budget,
          visitor: &collector)
      case .firstStage(let tree):
        content = .firstStage(tree, isNested: false, limits)
        try tree.format.forEachEntry(
          from: tree.root, in: memory, budget: &budget, visitor: &collector)
      }
    } catch {
      failure = error
    }
    for (page, byteCount, address) in collector.pages {
      add(
        content, start: page.start, byteCount: byteCount, level: page.level, name: table.name,
        otherCount: others, address: base &+ address)
    }
    if let failure { throw failure }
  }

  /// Both trees of a nested translation; the first one's tables where the second one has them.
  private mutating func follow(
    _ table: DMATable, nested trees: VTd.NestedTables, others: Int, in memory: some PhysicalMemory,
    budget: inout EnumerationBudget
  ) throws(EnumerationExhausted) {
    let limits = table.limits ?? .permissive
    let stage = trees.secondStage
    var second = TableCollector()
    var first = TableCollector()
    var failure: EnumerationExhausted?
    let guest = GuestMemory(stage, memory: memory)
    do throws(EnumerationExhausted) {
      try stage.format.forEachEntry(
        from: stage.root, in: memory, below: 1 << UInt64(stage.addressWidth), budget: &budget,
        visitor: &second)
      try trees.firstStage.format.forEachEntry(
        from: trees.firstStage.root, in: guest, budget: &budget, visitor: &first)
    } catch {
      failure = error
    }
    for (page, byteCount, address) in second.pages {
      add(
        .secondStage(stage, limits), start: page.start, byteCount: byteCount, level: page.level,
        name: table.name, otherCount: others, address: address)
    }
    for (page, byteCount, address) in first.pages {
      guard let host = guest.hostAddress(of: page.start) else { continue }
      add(
        .firstStage(trees.firstStage, isNested: true, limits), start: host, byteCount: byteCount,
        level: page.level, name: table.name, otherCount: others, address: address)
    }
    if let failure { throw failure }
  }
}
