import CReference
import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation
import IOMMUWorkloads

extension Subject {
  /// Finding every mapping of a table.
  public static let maps = Subject(
    "Maps", "runs of mappings out of full tables, against one look at their bytes"
  ) {
    let tables = try IdentityTables()
    let calgary = try CalgaryBus()
    calgary.driver.installIdentity(0..<CalgaryBus.pageCount, on: 0)
    let scattered = try WorkloadTables(span: 1 << 30)
    return try [
      comparison(
        "VT-d, 4 KiB, 16 GiB mapped to itself", tables.machine, tables.memory,
        bytes: tables.bytes, entryCount: IdentityTables.pageCount,
        // The interrupt range lies between the two.
        outOfUse: Int(VTd.interruptAddresses.count >> 12), runCount: 2, goal: .atMost(2)),
      comparison(
        "TCE, 4 GiB mapped to itself", calgary.inspected, calgary.memory,
        bytes: UnsafeBufferPointer(start: calgary.table, count: CalgaryBus.pageCount * 8),
        entryCount: CalgaryBus.pageCount,
        // A chip does not translate 640 KiB to 1 MiB, nor the window of the bridge, nor the 256 pages of
        // interrupt messages.
        outOfUse: 93_280 + 256, runCount: 4, goal: .atMost(2)),
      comparison(
        "VT-d, 4 KiB, 1 GiB, every page elsewhere",
        legacyMachine(rootTable: scattered.rootTable), scattered.memory,
        bytes: UnsafeBufferPointer(
          start: scattered.memory.start + Int(scattered.firstLeaf.rawValue), count: 2 << 20),
        entryCount: 1 << 18, runCount: 1 << 18, goal: nil),
    ]
  }
}

/// - Parameters:
///   - machine: Has one table.
///   - bytes: What C looks at: as many as the entries have.
///   - outOfUse: Entries for addresses that the unit does not look up.
///   - runCount: How many runs there are.
private func comparison(
  _ title: String, _ machine: Machine, _ memory: FlatMemory, bytes: UnsafeBufferPointer<UInt8>,
  entryCount: Int, outOfUse: Int = 0, runCount: Int, goal: Ratio.Goal?
) throws -> Comparison {
  let result = Sink()
  guard let table = machine.tables(in: memory).tables.first else {
    throw WrongAnswer("runs", "\(title): no table")
  }
  func runs() -> [MappingRun] {
    var budget = EnumerationBudget(for: memory)
    return machine.mappings(of: table, in: memory, budget: &budget).runs
  }
  let found = runs()
  let pages = found.reduce(0) { $0 + $1.iova.byteCount / 4096 }
  guard found.count == runCount, Int(pages) == entryCount - outOfUse,
    found[0].iova.lowerBound == IOVA(0)
  else {
    throw WrongAnswer("runs", "\(title): \(found.count) runs of \(pages) pages")
  }
  return Comparison(
    title, unit: "entry", units: entryCount,
    contenders: [
      Contender("C, one look") { result.add(reference_stream(bytes.baseAddress, bytes.count)) },
      Contender("runs") { result.add(UInt64(runs().count)) },
    ],
    ratios: [Ratio("runs", to: "C, one look", goal)])
}

/// Tables of four levels that map 16 GiB to themselves: 32 MiB of leaf entries.
private final class IdentityTables {
  let memory: FlatMemory
  private let rootTable = PhysicalAddress(0)
  private let contextTable = PhysicalAddress(0x1000)
  private let root: UInt64 = 0x2000
  private let firstTable: UInt64 = 0x3000

  static let pageCount = 4 << 20

  init() throws {
    memory = try FlatMemory(byteCount: 40 << 20)
    VTd.RootEntry(contextTable: contextTable).store(to: memory, at: rootTable)
    VTd.ContextEntry(secondStageTable: PhysicalAddress(root), levels: 4, domainID: 1)
      .store(
        to: memory,
        at: VTd.Unit.contextEntryAddress(
          in: contextTable, deviceFunction: WorkloadTables.requester.deviceFunction))
    var next = firstTable
    reference_store_second_stage(memory.start, root, &next, 0, Self.pageCount)
  }

  var machine: Machine { legacyMachine(rootTable: rootTable) }

  /// As many bytes as the leaf entries have: tables, from the first one on.
  var bytes: UnsafeBufferPointer<UInt8> {
    UnsafeBufferPointer(start: memory.start + Int(firstTable), count: Self.pageCount * 8)
  }
}

/// A machine with the one device that a root table in legacy mode knows.
private func legacyMachine(rootTable: PhysicalAddress) -> Machine {
  Machine(
    name: "VT-d",
    units: [
      .vtd(
        VTd.Unit(
          base: PhysicalAddress(0), rootTableAddress: VTd.RootTableAddress(rootTable: rootTable),
          status: VTd.GlobalStatus(translates: true), limits: .permissive))
    ]
  )
}
