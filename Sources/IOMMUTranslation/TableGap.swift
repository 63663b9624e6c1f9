import IOMMUFormats

/// Part of a machine's tables of which nobody knows what it says: unknown, not empty.
public struct TableGap: Hashable, Sendable {
  /// Why it is not known.
  public enum Cause: Hashable, Sendable {
    /// The memory does not hold it.
    case absent
    /// Tables refer to each other more often than any real ones do, and were followed no further.
    case tooManyReferences
    /// More of them than are looked at.
    case tooMany
  }

  /// What depends on it.
  public enum Scope: Hashable, Sendable {
    /// Everything behind a unit.
    case unit
    /// The requesters from one to another, both included.
    case requesters(ClosedRange<UInt16>)
    /// Address spaces of a requester.
    case addressSpaces(Requester, ClosedRange<UInt32>)
    /// Addresses of a table, half-open.
    case addresses(TableOwner, Range<IOVA>)
  }

  public var cause: Cause
  public var scope: Scope
  /// The table that is not known, or whose entries are not.
  public var place: TablePlace
  /// The first byte that is not known.
  public var address: PhysicalAddress

  public init(_ cause: Cause, _ scope: Scope, in place: TablePlace, at address: PhysicalAddress) {
    self.cause = cause
    self.scope = scope
    self.place = place
    self.address = address
  }

  /// Whether a requester's requests may depend on it; `nil` asks for any.
  public func concerns(_ requester: Requester) -> Bool {
    switch scope {
    case .unit: true
    case .requesters(let range): range.contains(requester.rawValue)
    case .addressSpaces(let owner, _): owner == requester
    case .addresses(let owner, _): owner.covers(requester) ?? true
    }
  }
}

/// Every table in force of a unit or of a machine, as far as it is known.
public struct TablesInForce: Sendable {
  /// In the order of their owners' kind: buses, the GART, requesters.
  public var tables: [DMATable]
  /// Tables above the page tables that are not known, with the devices that depend on them.
  public var gaps: [TableGap]

  public init(tables: [DMATable] = [], gaps: [TableGap] = []) {
    self.tables = tables
    self.gaps = gaps
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

extension Machine {
  /// Whether nobody knows what lies at an address where no word answers: the dump left it out, and
  /// nothing says that the machine has no memory there.
  public func isAbsent(_ address: PhysicalAddress, in memory: some PhysicalMemory) -> Bool {
    memory.isAbsent(at: address)
      && (ram.isEmpty || ram.contains { $0.contains(address) })
  }

  /// Every table in force: what all that goes over a machine's tables begins with.
  ///
  /// - Complexity: For VT-d, one root table and the context tables of the buses present; in scalable
  ///   mode the PASID directories and tables of all requesters too.
  public func tables(in memory: some PhysicalMemory) -> TablesInForce {
    var all = TablesInForce()
    var owners: Set<TableOwner> = []
    for unit in units {
      let found = unit.model.tables(in: memory)
      // Of units that know the same device the first counts, as in a walk.
      all.tables += found.tables.filter { owners.insert($0.owner).inserted }
      all.gaps += found.gaps.filter { $0.cause != .absent || isAbsent($0.address, in: memory) }
    }
    return all
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
    mappings.gaps.removeAll { $0.cause == .absent && !isAbsent($0.address, in: memory) }
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
    if case .nested(let tables) = table {
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
