import IOMMUFormats

/// Part of a machine's tables of which nobody knows what it says: unknown, not empty.
public struct TableGap: Hashable, Sendable {
  /// Why it is not known.
  public enum Cause: Hashable, Sendable {
    /// The memory does not hold it.
    case absent
    /// The table leads to itself, or to one that it was reached from, and was not followed there.
    case loop(TableLoop)
    /// Tables refer to each other more often than any real ones do, and were followed no further.
    case tooManyReferences
    /// More of them than are looked at.
    case tooMany
    /// Nobody knows the registers that lead to it.
    case unseen
    /// Another unit has tables for the same device, and nothing says which of the two is above it.
    case severalUnits
    /// Another unit is off and lets everything pass, and nothing says which of the two is above the device.
    case unitOff
  }

  /// What depends on it.
  public enum Scope: Hashable, Sendable {
    /// Everything behind a unit.
    case unit
    /// Everything behind the unit with registers at the address, or at one of them.
    case units([PhysicalAddress])
    /// The requesters from one to another, both included.
    case requesters(ClosedRange<UInt16>)
    /// Address spaces of a requester.
    case addressSpaces(Requester, ClosedRange<UInt32>)
    /// Entries of a unit's interrupt remapping table: no DMA depends on them.
    case interrupts(ClosedRange<UInt32>)
    /// Addresses of a table, half-open.
    case addresses(TableOwner, Range<IOVA>)
  }

  public var cause: Cause
  public var scope: Scope
  /// The PCI segment of the devices in ``scope``.
  public var segment: UInt32 = 0
  /// The table that is not known, or whose entries are not.
  public var place: TablePlace
  /// The first byte that is not known.
  public var address: PhysicalAddress
  /// What the dump says of that byte, where it does not hold it.
  public var presence = Presence.absent

  public init(_ cause: Cause, _ scope: Scope, in place: TablePlace, at address: PhysicalAddress) {
    self.cause = cause
    self.scope = scope
    self.place = place
    self.address = address
  }

  /// Whether a device's requests may depend on it.
  public func concerns(_ device: PCI.Function) -> Bool {
    switch scope {
    case .addresses(let owner, _): owner.covers(device) ?? true
    case .interrupts: false
    case _ where device.segment != segment: false
    case .unit, .units: true
    case .requesters(let range): range.contains(device.requester.rawValue)
    case .addressSpaces(let owner, _): owner == device.requester
    }
  }
}

extension TableGap {
  /// Whose table it is and what is not known: `00:03.0 IOVA 0x0..<0x40000000`.
  public var subjectText: String {
    func device(_ rawValue: UInt16) -> PCI.Function {
      PCI.Function(segment: segment, Requester(rawValue: rawValue))
    }
    let ofSegment = segment == 0 ? "" : " of segment \(hexadecimal(segment))"
    return switch scope {
    case .unit: "all devices" + ofSegment
    case .units(let bases):
      "devices of the unit at " + bases.map { "\($0)" }.joined(separator: " or ")
    case .requesters(let range) where range.count == 1: "\(device(range.lowerBound))"
    case .requesters(let range):
      range.lowerBound >> 8 == range.upperBound >> 8 && range.count == 256
        ? "bus " + hexadecimal(range.lowerBound >> 8, digits: 2) + ofSegment
        : "\(device(range.lowerBound)) to \(device(range.upperBound))"
    case .addressSpaces(let requester, let pasids):
      "\(device(requester.rawValue)) PASIDs \(pasids.lowerBound) to \(pasids.upperBound)"
    case .interrupts(let range):
      "interrupts \(hexadecimal(range.lowerBound)) to \(hexadecimal(range.upperBound))" + ofSegment
    case .addresses(let owner, let range): "\(owner) IOVA \(range.text)"
    }
  }

  /// What the table is: `context table`, `table of level 3`.
  public var tableText: String {
    switch place {
    case .upper(let kind): "\(kind)"
    case .level(let level): "table of level \(level)"
    }
  }

  /// Why it is not known: `the context table at 0x6ab8000 is not in this dump`.
  public var causeText: String {
    let table = tableText
    return switch cause {
    case .absent: "the \(table) at \(address) is \(presence.whereabouts)"
    case .loop(let loop) where loop.table == loop.target:
      "the \(table) at \(loop.table) leads to itself (entry at \(address))"
    case .loop(let loop):
      "the \(table) at \(loop.table) leads back to the one at \(loop.target), above it (entry at "
        + "\(address))"
    case .tooManyReferences:
      "the \(table) at \(address) is reached too often: tables point at each other"
    case .tooMany where scope == .unit:
      "more places look like tables than are looked at, and not all of them were"
    case .tooMany: "there are more of them than are looked at"
    case .unseen: "the registers of the unit are not known"
    case .severalUnits:
      "another unit, whose \(table) lies at \(address), has tables for it too"
    case .unitOff:
      "it may be behind the unit at \(address), which is off and lets all requests pass"
    }
  }

  /// `00:03.0 IOVA 0x0..<0x40000000: unknown, the table of level 3 at 0x7538000 is not in this dump`.
  public var text: String { "\(subjectText): unknown, \(causeText)" }
}

extension TableGap.Cause {
  /// More could be known, and was not looked at: nothing that is missing, but a limit or a loop.
  public var isLimit: Bool {
    switch self {
    case .loop, .tooManyReferences, .tooMany: true
    case .absent, .unseen, .severalUnits, .unitOff: false
    }
  }
}

extension [TableGap] {
  /// Gaps of a table that are told one by one; of a broken table there may be millions.
  private static let limit = 1 << 16

  /// Adds a gap, to the last one where it goes on: entries next to each other that lead to the same
  /// table. Behind a limit all of a table's gaps are one, with the addresses between them.
  package mutating func add(_ gap: TableGap) {
    guard let last, case .addresses(let owner, let before) = last.scope,
      case .addresses(owner, let after) = gap.scope,
      before.upperBound <= after.lowerBound
    else { return append(gap) }
    let goesOn =
      before.upperBound == after.lowerBound && last.cause == gap.cause && last.place == gap.place
      && gap.cause.isLimit
    guard goesOn || count >= Self.limit else { return append(gap) }
    self[count - 1].scope = .addresses(owner, before.lowerBound..<after.upperBound)
    if !goesOn { self[count - 1].cause = .tooMany }
  }
}

/// Every table in force of a unit or of a machine, as far as it is known.
public struct TablesInForce: Sendable {
  /// In the order of their owners' kind: buses, the GART, requesters.
  public var tables: [DMATable]
  /// Tables of other units for owners of ``tables``, where nothing says which unit they are behind: the
  /// gaps tell so.
  public var others: [DMATable]
  /// Tables above the page tables that are not known, with the devices that depend on them.
  public var gaps: [TableGap]
  /// Tables above the page tables where the machine has no memory: hardware finds nothing there
  /// either. A unit, which does not know the machine, lists them among ``gaps``.
  public var unanswered: [TableGap]
  /// Different tables of a unit under one number.
  public var clashes: [DomainClash]
  /// Entries above the page tables that stop every request.
  public var damages: [TableDamage]
  /// More of them, which are not kept.
  public var omittedDamageCount: Int

  /// What is wrong with tables and no single mapping of them, in words.
  public var wrong: [String] { damages.map(\.text) + omittedDamageTexts + clashes.map(\.text) }

  /// That there are more damages than are told, where there are.
  package var omittedDamageTexts: [String] {
    omittedDamageCount == 0
      ? [] : ["\(omittedDamageCount) more entries above the page tables stop every request"]
  }

  public init(
    tables: [DMATable] = [], others: [DMATable] = [], gaps: [TableGap] = [],
    unanswered: [TableGap] = [], clashes: [DomainClash] = [], damages: [TableDamage] = [],
    omittedDamageCount: Int = 0
  ) {
    self.omittedDamageCount = omittedDamageCount
    self.damages = damages
    self.tables = tables
    self.others = others
    self.gaps = gaps
    self.unanswered = unanswered
    self.clashes = clashes
  }
}

/// Different tables that a unit cannot tell apart in its caches: what it has cached of one may
/// answer for another.
public struct DomainClash: Sendable {
  /// The number that all of them have.
  public var domainID: UInt16
  /// The first owner of each table, and the table's first byte; two at least.
  public var tables: [(owner: TableOwner, root: PhysicalAddress)]

  /// `domain 2 is that of different tables, 0x5281000 (00:00.0) and 0xe6f4000 (00:1f.2): ...`.
  public var text: String {
    let shown = tables.prefix(4).map { "\($0.root) (\($0.owner))" }
    let list =
      tables.count > shown.count
      ? shown.joined(separator: ", ") + " and \(tables.count - shown.count) more"
      : shown.dropLast().joined(separator: ", ") + " and " + shown[shown.count - 1]
    return "domain \(domainID) is that of different tables, \(list): what is cached of one answers "
      + "for the others"
  }
}

/// What one table maps, as far as it is known.
public struct TableMappings: Hashable, Sendable {
  /// Maximal runs, ascending by IOVA. A pass-through device has none.
  public var runs: [MappingRun]
  /// Page tables that are not known, with the addresses that depend on them.
  public var gaps: [TableGap]

  public init(runs: [MappingRun] = [], gaps: [TableGap] = []) {
    self.runs = runs
    self.gaps = gaps
  }
}

extension TableMappings {
  /// The same as mappings of another owner of the table.
  public func told(as owner: TableOwner) -> TableMappings {
    var mappings = self
    for index in gaps.indices {
      guard case .addresses(_, let range) = gaps[index].scope else { continue }
      mappings.gaps[index].scope = .addresses(owner, range)
    }
    return mappings
  }
}

extension Machine {
  /// Whether any unit translates any device's requests, as far as is known.
  public var translates: Bool { units.contains { $0.model.translates } }

  /// Whether nobody knows what lies at an address where an entry or a word does not answer: the dump left
  /// out a byte of it, and nothing says that the machine has no memory there.
  public func isAbsent(_ address: PhysicalAddress, in memory: some PhysicalMemory) -> Bool {
    let silent = memory.firstSilentByte(from: address)
    return memory.isAbsent(at: silent) && (ram.isEmpty || ram.contains { $0.contains(silent) })
  }

  /// A gap that a unit found, with what the dump says of it; `nil` where the machine has no memory
  /// there, so that hardware finds nothing either.
  package func judged(_ gap: TableGap, in memory: some PhysicalMemory) -> TableGap? {
    guard gap.cause == .absent else { return gap }
    guard isAbsent(gap.address, in: memory) else { return nil }
    var gap = gap
    gap.presence = memory.presence(of: memory.firstSilentByte(from: gap.address))
    return gap
  }

  /// Every table in force: what all that goes over a machine's tables begins with.
  ///
  /// - Complexity: For VT-d, one root table and the context tables of the buses present; in scalable
  ///   mode the PASID directories and tables of all requesters too.
  public func tables(in memory: some PhysicalMemory) -> TablesInForce {
    var all = TablesInForce()
    var found: [(unit: Int, table: DMATable)] = []
    for (index, unit) in units.enumerated() {
      let own = unit.model.tables(in: memory)
      found += own.tables.map { (index, $0) }
      all.clashes += own.clashes
      all.damages += own.damages
      all.omittedDamageCount += own.omittedDamageCount
      for gap in own.gaps {
        if let gap = judged(gap, in: memory) {
          all.gaps.append(gap)
        } else {
          all.unanswered.append(gap)
        }
      }
    }
    guard units.count > 1 else {
      all.tables = found.map(\.table)
      return all
    }
    // Of units that know the same device that one counts which a walk goes through, and another table
    // is told.
    let rivals = Dictionary(
      found.map { (RivalKey(unit: $0.unit, owner: $0.table.owner), $0.table) },
      uniquingKeysWith: { first, _ in first })
    var told: Set<TableOwner> = []
    for (index, table) in found {
      guard let owners = owners(of: table, among: found, in: memory) else {
        all.tables.append(table)
        continue
      }
      if owners.owner == index { all.tables.append(table) }
      guard told.insert(table.owner).inserted else { continue }
      for other in owners.others {
        let rival = rivals[RivalKey(unit: other, owner: table.owner)]
        if let rival { all.others.append(rival) }
        if let gap = units[other].model.ambiguity(of: table.owner) {
          all.gaps.append(gap)
        } else if let another = rival?.table {
          all.gaps += another.space.ranges(from: 0, byteCount: another.space.byteCount).map {
            TableGap(
              .severalUnits, .addresses(table.owner, $0), in: .level(another.any.format.levels),
              at: another.root)
          }
        }
      }
    }
    return all
  }

  private struct RivalKey: Hashable {
    var unit: Int
    var owner: TableOwner
  }

  /// The addresses that the requests of a table's owner reach as they are, past the table; half-open,
  /// ascending.
  package func passing(
    _ table: DMATable, in memory: some PhysicalMemory
  ) -> [Range<UInt64>] {
    let route = table.owner.device.flatMap { device in
      try? serving(device).resolve(device.requester, pasid: table.pasid, in: memory).route
    }
    return route?.passing ?? []
  }

  /// The units that may have a table's owner behind them; `nil` where nobody knows whose it is.
  private func owners(
    of table: DMATable, among found: [(unit: Int, table: DMATable)], in memory: some PhysicalMemory
  ) -> (owner: Int?, others: [Int])? {
    switch table.owner {
    case .table: return nil
    case .aperture:
      // No device's own: the first node answers for all that no other unit has.
      let nodes = found.filter { $0.table.owner == table.owner }
      let others = nodes.filter { $0.table.table != nodes[0].table.table }
      return (nodes[0].unit, others.map(\.unit))
    case .buses, .requester:
      return table.owner.device.flatMap { device in
        let owners = (try? serving(device))?
          .owners(of: device.requester, pasid: table.pasid, in: memory)
        return owners.map { ($0.owner, $0.others) }
      }
    }
  }

  /// What a table maps: as much as a walk of every address would find, in runs.
  ///
  /// Mappings that allow no request anything are left out, those that allow requests of supervisor
  /// privilege alone are not.
  ///
  /// - Complexity: O(entries of all tables reached).
  public func mappings(
    of table: DMATable, in memory: some PhysicalMemory, budget: inout EnumerationBudget
  ) -> TableMappings {
    var mappings = table.mappings(in: memory, budget: &budget)
    mappings.gaps = mappings.gaps.compactMap { judged($0, in: memory) }
    return mappings
  }
}

extension DMATable {
  /// The same where no machine says which memory there is: each table where none answers is a gap.
  func mappings(
    in memory: some PhysicalMemory, budget: inout EnumerationBudget
  ) -> TableMappings {
    guard let table else { return TableMappings() }
    var collector = MappingCollector(table.any, of: owner)
    if let tables = table.any as? any TwoStageTables {
      tables.collect(into: &collector, from: memory, budget: &budget)
    } else {
      do throws(EnumerationExhausted) {
        try table.forEachEntry(in: memory, budget: &budget, visitor: &collector)
      } catch {
        collector.add(error)
      }
    }
    return collector.finish()
  }
}
