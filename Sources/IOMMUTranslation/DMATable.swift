import IOMMUFormats

/// A table of mappings that some devices of a machine see, with the name people call it by.
public struct DMATable: Sendable {
  /// What the table is.
  public enum Content: Sendable {
    case tce(TCETable)
    case gatt(GARTWindow)
    case secondStage(SecondStageTable)
    /// No table: the device reaches all of physical memory.
    case passThrough
  }

  /// `bus:02`, `gart`, or the requester's `00:03.0`.
  public var name: String
  public var content: Content
}

/// Mappings next to each other: IOVA and physical address both go on, with the same permissions.
public struct MappingRun: Hashable, Sendable {
  public var iova: Range<IOVA>
  public var physical: PhysicalAddress
  public var permissions: Permissions

  public init(iova: Range<IOVA>, physical: PhysicalAddress, permissions: Permissions) {
    self.iova = iova
    self.physical = physical
    self.permissions = permissions
  }

  /// The physical addresses reached, half-open.
  public var physicalRange: Range<PhysicalAddress> {
    physical..<PhysicalAddress(physical.rawValue &+ iova.byteCount)
  }
}

extension Machine {
  /// Every table in force, in the order of its name's kind: buses, the GART, requesters.
  ///
  /// - Complexity: For VT-d, one root table and the context tables of the buses present.
  public func tables(in memory: some PhysicalMemory) -> [DMATable] {
    var tables: [DMATable] = []
    var bridges: [UInt8: CalgaryChip.HostBridge] = [:]
    for case .calgary(let chip) in units {
      for case .some(let bridge) in chip.hostBridges { bridges[bridge.buses.lowerBound] = bridge }
    }
    for (bus, bridge) in bridges.sorted(by: { $0.key < $1.key }) {
      guard let table = bridge.table else { continue }
      tables.append(DMATable(name: "bus:" + hexadecimal(bus, digits: 2), content: .tce(table)))
    }
    for case .gart(let node) in units {
      guard let window = node.window else { continue }
      tables.append(DMATable(name: "gart", content: .gatt(window)))
      break
    }
    var seen: Set<Requester> = []
    for case .vtd(let unit) in units where unit.status.translates {
      for requester in unit.requesters(in: memory) where seen.insert(requester).inserted {
        switch resolve(requester, in: memory).route {
        case .secondStage(let table):
          tables.append(DMATable(name: "\(requester)", content: .secondStage(table)))
        case .passThrough:
          tables.append(DMATable(name: "\(requester)", content: .passThrough))
        default: continue
        }
      }
    }
    return tables
  }
}

extension VTdUnit {
  /// The requesters whose root and context entries are present, ascending.
  public func requesters(in memory: some PhysicalMemory) -> [Requester] {
    (0...255).flatMap { (bus: UInt8) -> [Requester] in
      guard let root = VTd.RootEntry(from: memory, at: rootEntryAddress(bus: bus)), root.isPresent
      else { return [] }
      return (0...255).compactMap { (deviceFunction: UInt8) -> Requester? in
        let place = Self.contextEntryAddress(
          in: root.contextTable, deviceFunction: deviceFunction)
        guard let entry = VTd.ContextEntry(from: memory, at: place), entry.isPresent else {
          return nil
        }
        return Requester(rawValue: UInt16(bus) << 8 | UInt16(deviceFunction))
      }
    }
  }
}

extension DMATable {
  /// The table's mappings as maximal runs, ascending by IOVA. A pass-through device has none.
  ///
  /// Leaves that allow no access at all are left out.
  public func runs(
    in memory: some PhysicalMemory, budget: inout EnumerationBudget
  ) throws(EnumerationExhausted) -> [MappingRun] {
    switch content {
    case .passThrough:
      return []
    case .tce(let table):
      var runs = RunCollector(base: 0)
      try table.format.forEachEntry(
        from: table.table, in: memory, budget: &budget, visitor: &runs)
      return runs.runs
    case .gatt(let window):
      var runs = RunCollector(base: window.base)
      try window.format.forEachEntry(
        from: window.table, in: memory, budget: &budget, visitor: &runs)
      return runs.runs
    case .secondStage(let table):
      var runs = RunCollector(base: 0)
      try table.format.forEachEntry(
        from: table.root, in: memory, below: 1 << UInt64(table.addressWidth), budget: &budget,
        visitor: &runs)
      return runs.runs
    }
  }

  /// What tells two tables apart: where the root lies. Devices of one domain have the same.
  public var root: PhysicalAddress? {
    switch content {
    case .tce(let table): table.table
    case .gatt(let window): window.table
    case .secondStage(let table): table.root
    case .passThrough: nil
    }
  }
}

/// Joins leaves into runs.
struct RunCollector: TableVisitor {
  let base: UInt64
  var runs: [MappingRun] = []

  init(base: UInt64) { self.base = base }

  mutating func leaf(_ leaf: Leaf) {
    guard !leaf.permissions.isEmpty else { return }
    let start = IOVA(base &+ leaf.address)
    let end = IOVA(start.rawValue &+ 1 &<< UInt64(leaf.sizeLog2))
    if let last = runs.last, last.iova.upperBound == start,
      last.physicalRange.upperBound == leaf.page, last.permissions == leaf.permissions
    {
      runs[runs.count - 1].iova = last.iova.lowerBound..<end
    } else {
      runs.append(MappingRun(iova: start..<end, physical: leaf.page, permissions: leaf.permissions))
    }
  }
}
