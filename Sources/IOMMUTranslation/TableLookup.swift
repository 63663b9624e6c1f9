import IOMMUFormats

/// One of a machine's tables with what it maps, as ``Machine/forEachTable(_:in:budget:_:)`` hands it out.
public struct MappedTable: Sendable {
  public let table: DMATable
  /// Which mappings they are, counted from 0: tables with the same ones have the same number. `nil` for a
  /// pass-through device, which has none.
  public let number: Int?
  /// Who was met first with the same mappings; `nil` for that one itself.
  public let firstOwner: TableOwner?
  /// Told as those of the first owner: however many devices share a table, what it maps is kept once.
  public let mappings: TableMappings
}

/// Tables that are looked up when somebody asks for them, and those that are the same mappings once.
///
/// All draw on one budget, shared out so that one that uses it up leaves the others what they need
/// (``EnumerationShares``), and says so in its gaps. Mappings are kept as long as somebody needs them.
package struct TableLookup<Memory: PhysicalMemory> {
  package let tables: [DMATable]
  /// Of each of ``tables`` which mappings it has, counted from 0 in the order of those who have them first;
  /// `nil` for a pass-through device.
  package let numbers: [Int?]
  private let machine: Machine
  private let memory: Memory
  /// By number: the first of ``tables`` with these mappings, and how often somebody will still ask.
  private let firsts: [Int]
  private var usesLeft: [Int]
  private var kept: [Int: TableMappings] = [:]
  private var shares: EnumerationShares

  package init(
    _ tables: [DMATable], of machine: Machine, in memory: Memory, budget: EnumerationBudget
  ) {
    self.tables = tables
    self.machine = machine
    self.memory = memory
    var known: [Table: Int] = [:]
    var firsts: [Int] = []
    var numbers: [Int?] = []
    numbers.reserveCapacity(tables.count)
    for (index, table) in tables.enumerated() {
      guard let identity = table.table?.identity else {
        numbers.append(nil)
        continue
      }
      let number = known[identity] ?? firsts.count
      if number == firsts.count {
        known[identity] = number
        firsts.append(index)
      }
      numbers.append(number)
    }
    self.firsts = firsts
    self.numbers = numbers
    usesLeft = [Int](repeating: 0, count: firsts.count)
    shares = EnumerationShares(budget, treeCount: firsts.count)
  }

  /// What is left of the budget.
  package var rest: EnumerationBudget { shares.rest }

  /// Who was met first with the mappings of this number.
  package func firstOwner(_ number: Int) -> TableOwner { tables[firsts[number]].owner }

  /// Says that somebody will ask for mappings once more.
  package mutating func expect(_ number: Int) { usesLeft[number] += 1 }

  /// The mappings of a number, told as those of the first who has them. They are given up when nobody is
  /// expected to ask again.
  ///
  /// - Complexity: O(entries of all tables reached) for who asks first.
  package mutating func mappings(_ number: Int) -> TableMappings {
    let (machine, memory, table) = (machine, memory, tables[firsts[number]])
    let mappings =
      kept[number]
      ?? shares.spend { machine.mappings(of: table, in: memory, budget: &$0) }
    usesLeft[number] -= 1
    kept[number] = usesLeft[number] > 0 ? mappings : nil
    return mappings
  }
}

extension Machine {
  /// Hands out tables one by one with what they map.
  ///
  /// Tables that are the same mappings are looked up once. All draw on one budget, shared out so that one
  /// that uses it up leaves the others what they need (``EnumerationShares``), and says so in its gaps. No
  /// more than one table's runs are kept, and those that a later one shares.
  ///
  /// - Parameters:
  ///   - tables: As ``tables(in:)`` has them, or some of them.
  ///   - memory: Memory that holds the tables.
  ///   - budget: What may be gone through; less by what was.
  ///   - body: Told of each table, in order.
  /// - Complexity: O(tables, and entries of all that are reached).
  public func forEachTable(
    _ tables: [DMATable], in memory: some PhysicalMemory, budget: inout EnumerationBudget,
    _ body: (MappedTable) -> Void
  ) {
    var lookup = TableLookup(tables, of: self, in: memory, budget: budget)
    defer { budget = lookup.rest }
    for case let number? in lookup.numbers { lookup.expect(number) }
    var isMet: Set<Int> = []
    for (table, number) in zip(tables, lookup.numbers) {
      guard let number else {
        body(MappedTable(table: table, number: nil, firstOwner: nil, mappings: TableMappings()))
        continue
      }
      let first = isMet.insert(number).inserted ? nil : lookup.firstOwner(number)
      body(
        MappedTable(
          table: table, number: number, firstOwner: first, mappings: lookup.mappings(number)))
    }
  }
}
