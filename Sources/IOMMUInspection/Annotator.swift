import IOMMUFormats
import IOMMUTranslation

/// Knows for every byte of memory which table it belongs to, and puts its entries into words.
///
/// The tables are found by following them from the machine's registers; what nothing points to is
/// not known here. Takes a snapshot of where tables lie; entries are read when they are asked for.
public struct Annotator: Sendable {
  /// Every table found, ascending by address; tables of broken machines may overlap.
  public let regions: [TableRegion]

  /// Tables of which nobody knows where they lie, or that there are more of than are followed.
  public let gaps: [TableGap]

  /// `highestEnds[i]` is the largest end of regions 0 to i: where a search back may stop.
  private let highestEnds: [UInt64]

  /// Finds the tables of a machine, with a bound in proportion to its memory.
  ///
  /// - Complexity: O(entries of all tables in force).
  public init(
    _ machine: Machine, in memory: some PhysicalMemory, names: DeviceNames = .none
  ) {
    var budget = EnumerationBudget(for: memory)
    self.init(machine, in: memory, names: names, budget: &budget)
  }

  /// Finds the tables of a machine.
  public init(
    _ machine: Machine, in memory: some PhysicalMemory, names: DeviceNames = .none,
    budget: inout EnumerationBudget
  ) {
    var finder = RegionFinder(machine, names)
    finder.addUpperTables(in: memory)
    finder.addTables(in: memory, budget: &budget)
    finder.addInterruptTables(in: memory)
    gaps = finder.gaps
    regions = finder.regions.sorted { ($0.start, $0.place) < ($1.start, $1.place) }
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
    return found.sorted { ($0.address, $0.region.place) < ($1.address, $1.region.place) }
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
    var kind: String
    var entryByteCount: UInt64
    var start: PhysicalAddress
    var byteCount: UInt64
    var place: TablePlace
  }

  let machine: Machine
  let names: DeviceNames
  var regions: [TableRegion] = []
  var gaps: [TableGap] = []
  private var places: [Key: Int] = [:]

  init(_ machine: Machine, _ names: DeviceNames) {
    self.machine = machine
    self.names = names
  }

  /// Adds a table, or counts one more user of a table that is known.
  private mutating func add(
    _ content: TableRegion.Content, start: PhysicalAddress, byteCount: UInt64, place: TablePlace,
    name: String, device: PCI.Function? = nil, otherCount: Int = 0, address: UInt64 = 0,
    allowed: Permissions = .readWrite, isForGuest: Bool = false
  ) {
    let region = TableRegion(
      content: content, start: start, byteCount: byteCount, place: place, tableName: name,
      device: device, names: names, otherTableCount: otherCount, firstAddress: address,
      allowed: allowed, isForGuest: isForGuest)
    let key = Key(
      kind: region.kind, entryByteCount: region.entryByteCount, start: start, byteCount: byteCount,
      place: place)
    if let index = places[key] {
      regions[index].otherTableCount += 1 + otherCount
      regions[index].allowed.formUnion(allowed)
      // Requests of a table's own come at its numbers.
      regions[index].isForGuest = regions[index].isForGuest && isForGuest
    } else {
      places[key] = regions.count
      regions.append(region)
    }
  }

  mutating func addUpperTables(in memory: some PhysicalMemory) {
    for unit in machine.units {
      for table in unit.words.describedUpperTables(in: memory) {
        add(
          .upper(table), start: table.start, byteCount: table.byteCount,
          place: .upper(table.place), name: table.ownerText)
      }
    }
  }

  /// Those that ``InterruptReport`` lists, and what it says is not known of them.
  mutating func addInterruptTables(in memory: some PhysicalMemory) {
    for unit in machine.units {
      let all = machine.interruptTables(of: unit, in: memory)
      for mappings in all.tables {
        guard let table = unit.words.describedTable(of: mappings) else { continue }
        let deviceCount = mappings.devices?.reduce(0) { $0 + $1.count } ?? 1
        add(
          .upper(table), start: table.start, byteCount: table.byteCount,
          place: .upper(table.place), name: table.ownerText, device: table.device(at: 0),
          otherCount: deviceCount - 1)
        gaps += mappings.gaps
      }
      // What hides devices hides their page tables too, and was told with those.
      gaps += all.gaps.filter(\.cause.isLimit)
    }
  }

  mutating func addTables(
    in memory: some PhysicalMemory, budget: inout EnumerationBudget
  ) {
    // Devices that share a tree are one group, so that the tree is followed once.
    var groups: [(owner: TableOwner, table: Table, others: Int)] = []
    var known: [Table: Int] = [:]
    let inForce = machine.tables(in: memory)
    gaps = inForce.gaps
    for table in inForce.tables + inForce.others {
      guard let tree = table.table else { continue }
      if let index = known[tree.identity] {
        groups[index].others += 1
      } else {
        known[tree.identity] = groups.count
        groups.append((table.owner, tree, 0))
      }
    }
    var shares = EnumerationShares(budget, treeCount: groups.count)
    for (owner, table, others) in groups {
      shares.spend { follow(table, of: owner, others: others, in: memory, budget: &$0) }
    }
    budget = shares.rest
  }

  /// Both trees of nested tables are followed, the guest's where the host's has it.
  private mutating func follow(
    _ table: Table, of owner: TableOwner, others: Int, in memory: some PhysicalMemory,
    budget: inout EnumerationBudget
  ) {
    let stages = table.words.stages
    guard stages.count > 1 else {
      let tour = tour(table, of: owner, in: memory, budget: &budget)
      return add(tour, of: table.words, owner, others: others) { $0 }
    }
    let host = tour(table.host, of: owner, in: memory, budget: &budget)
    let guest = tour(table, of: owner, in: memory, budget: &budget)
    add(host, of: stages[0], owner, others: others, isForGuest: true) { $0 }
    add(guest, of: stages[1], owner, others: others) { table.hostAddress(of: $0, in: memory) }
  }

  /// The tables of one tree. A flat table points to no other, so that none of its entries has to be
  /// looked at.
  private mutating func tour(
    _ table: Table, of owner: TableOwner, in memory: some PhysicalMemory,
    budget: inout EnumerationBudget
  ) -> TablePages {
    var pages = TablePages()
    func levels<Tables: IOTable>(_ tables: Tables) -> Int { tables.format.levels }
    guard levels(table.any) > 1 else {
      func byteCount<Tables: IOTable>(_ tables: Tables) -> UInt64 {
        tables.format.entryCount(level: 1) * UInt64(Tables.Format.Entry.byteCount)
      }
      pages.enter(
        table: table.root, byteCount: byteCount(table.any), level: 1, address: 0,
        permissions: .readWrite)
      return pages
    }
    do throws(EnumerationExhausted) {
      try table.forEachEntry(in: memory, budget: &budget, visitor: &pages)
    } catch {
      gaps += table.space.gaps(from: error, of: owner)
    }
    // A guest's tables that are missing are told by ``Machine/mappings(of:in:budget:)``.
    if table.isNested { return pages }
    var own: [TableGap] = []
    for obstacle in pages.obstacles {
      let cause: TableGap.Cause =
        if case .loop(let loop) = obstacle.cause { .loop(loop) } else { .absent }
      for range in table.space.ranges(from: obstacle.address, byteCount: obstacle.byteCount) {
        let gap = TableGap(
          cause, .addresses(owner, range), in: .level(obstacle.level), at: obstacle.entryAddress)
        if let gap = machine.judged(gap, in: memory) { own.add(gap) }
      }
    }
    gaps += own
    return pages
  }

  private mutating func add(
    _ pages: TablePages, of table: any DescribedTable, _ owner: TableOwner, others: Int,
    isForGuest: Bool = false, at place: (PhysicalAddress) -> PhysicalAddress?
  ) {
    for found in pages.pages {
      guard let start = place(found.page.start) else { continue }
      add(
        .pages(table), start: start, byteCount: found.byteCount, place: .level(found.page.level),
        name: "\(owner)", device: owner.requester, otherCount: others, address: found.address,
        allowed: found.permissions, isForGuest: isForGuest)
    }
  }
}
