import IOMMUFormats
import IOMMUTranslation

/// What the tables in force have to do with the crash kernel: one look at all of them.
struct TableSurvey {
  /// In the order of their owners.
  let tables: [DMATable]
  /// Each of ``tables`` once, in the order of their first owners; no pass-through devices.
  let distinct: [SharedTable]
  /// What lies above the page tables and is not known.
  let gaps: [TableGap]
  /// Tables above the page tables where the machine has no memory.
  let unanswered: [TableGap]
  /// Different tables under one number.
  let clashes: [DomainClash]
  /// Entries above the page tables that stop every request.
  let damages: [TableDamage]
  /// More of them, which are not kept.
  let omittedDamageCount: Int
  /// One for all tables that are the same mappings: a broken dump may have thousands of them.
  private let findings: [Table: Findings]

  /// A table with all who have it.
  struct SharedTable {
    /// As the first owner's.
    var table: DMATable
    var others: [TableOwner] = []
  }

  /// What one table has to do with the crash kernel.
  struct Findings {
    /// Runs whose numbers are the addresses themselves.
    var identities: [MappingRun] = []
    /// Runs whose numbers are others.
    var strays: [MappingRun] = []
    /// Runs of either kind that can be written.
    var writable: [MappingRun] = []
    /// What of the table is not known.
    var gaps: [TableGap] = []

    /// Runs of one table for which there is room, whatever others have.
    static let leastRuns = 16

    /// Keeps the runs with a number or a byte of the crash kernel, as many as there is room for; the
    /// numbers of the rest are a gap.
    ///
    /// - Parameters:
    ///   - mappings: What `table` maps.
    ///   - room: Runs that may still be kept of all tables together.
    init(
      _ mappings: TableMappings, of table: DMATable, _ crashKernel: [Range<PhysicalAddress>],
      room: inout Int
    ) {
      gaps = mappings.gaps
      var left = max(room, Self.leastRuns)
      var rest: Range<IOVA>?
      for run in mappings.runs {
        let numbers = run.iova.mapBounds(to: PhysicalAddress.self)
        guard
          crashKernel.contains(where: { $0.overlaps(run.physicalRange) || $0.overlaps(numbers) })
        else { continue }
        guard left > 0 else {
          let start = rest?.lowerBound ?? run.iova.lowerBound
          rest = start..<max(start, run.iova.upperBound)
          continue
        }
        left -= 1
        if run.isIdentity { identities.append(run) } else { strays.append(run) }
        if run.permissions.contains(.write) { writable.append(run) }
      }
      room = min(room, left)
      guard let rest, let tree = table.table else { return }
      func levels<Tables: IOTable>(_ tables: Tables) -> Int { tables.format.levels }
      gaps.add(
        TableGap(
          .tooMany, .addresses(table.owner, rest), in: .level(levels(tree.any)), at: tree.root))
    }
  }

  /// Runs in a crash kernel that are kept of all tables: sound ones have few, and broken ones are broken
  /// for any of them.
  static let runLimit = 1 << 21

  init(_ machine: Machine, in memory: some PhysicalMemory, runLimit: Int = Self.runLimit) {
    let all = machine.tables(in: memory)
    var budget = EnumerationBudget(for: memory)
    var findings: [Table: Findings] = [:]
    var room = runLimit
    machine.forEachTable(all.tables, in: memory, budget: &budget) { mapped in
      guard mapped.firstOwner == nil, let identity = mapped.table.table?.identity else { return }
      findings[identity] = Findings(
        mapped.mappings, of: mapped.table, machine.crashKernel, room: &room)
    }
    tables = all.tables
    distinct = Self.distinct(all.tables, by: \.self)
    gaps = all.gaps
    unanswered = all.unanswered
    clashes = all.clashes
    damages = all.damages
    omittedDamageCount = all.omittedDamageCount
    self.findings = findings
  }

  /// What a table has to do with the crash kernel; `nil` for a pass-through device, and for tables that
  /// are none of ``tables``.
  subscript(table: Table?) -> Findings? { table.flatMap { findings[$0.identity] } }

  /// Tables that have something in common once each, with the owners of the others.
  ///
  /// - Parameter common: What it is of a table.
  static func distinct(_ tables: [DMATable], by common: (Table) -> Table) -> [SharedTable] {
    var indices: [Table: Int] = [:]
    var distinct: [SharedTable] = []
    for table in tables {
      guard let identity = table.table.map(common)?.identity else { continue }
      if let index = indices[identity] {
        distinct[index].others.append(table.owner)
      } else {
        indices[identity] = distinct.count
        distinct.append(SharedTable(table: table))
      }
    }
    return distinct
  }

  /// Whether a device has a table, or passes all of them.
  func has(_ device: PCI.Function) -> Bool {
    tables.contains { $0.owner.covers(device) == true }
  }

  /// What of a table is not known, told as its owner's.
  func gaps(of table: DMATable) -> [TableGap] {
    self[table.table].map { TableMappings(gaps: $0.gaps).told(as: table.owner).gaps } ?? []
  }
}

extension MappingRun {
  /// Its numbers are the addresses themselves.
  var isIdentity: Bool { iova.lowerBound.rawValue == physical.rawValue }

  /// The numbers that lead to these addresses of the run.
  ///
  /// - Precondition: `range` lies in ``physicalRange``.
  func numbers(of range: Range<PhysicalAddress>) -> Range<IOVA> {
    let start = iova.lowerBound.rawValue + (range.lowerBound.rawValue - physical.rawValue)
    return IOVA(start)..<IOVA(start + range.byteCount)
  }
}
