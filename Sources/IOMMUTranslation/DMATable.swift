import IOMMUFormats

/// A table of mappings that some devices of a machine see, with the name people call it by.
public struct DMATable: Sendable {
  /// What the table is.
  public enum Content: Sendable {
    case tce(Calgary.TCETable)
    case gatt(GART.Window)
    case secondStage(VTd.SecondStageTable)
    case firstStage(VTd.FirstStageTable)
    case nested(VTd.NestedTables)
    /// No table: the device reaches all of physical memory.
    case passThrough
  }

  /// `bus:02`, `gart`, the requester's `00:03.0`, or in scalable mode requester and PASID,
  /// `00:03.0/0`.
  public var name: String
  public var content: Content
  /// What the VT-d unit allows in entries; `nil` for tables of other hardware.
  public var limits: VTd.Limits?

  /// - Parameter limits: Of the VT-d unit whose table this is.
  public init(name: String, content: Content, limits: VTd.Limits? = nil) {
    self.name = name
    self.content = content
    self.limits = limits
  }
}

extension DMATable.Content {
  /// The table behind a VT-d route; `nil` where there is none in force.
  init?(_ route: DeviceHandle.Route) {
    switch route {
    case .secondStage(let table): self = .secondStage(table)
    case .firstStage(let table): self = .firstStage(table)
    case .nested(let tables): self = .nested(tables)
    case .passThrough: self = .passThrough
    case .untranslated, .gart, .calgary, .blocked: return nil
    }
  }
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
  /// - Complexity: For VT-d, one root table and the context tables of the buses present; in scalable
  ///   mode the PASID directories and tables of all requesters too.
  public func tables(in memory: some PhysicalMemory) -> [DMATable] {
    var tables: [DMATable] = []
    var bridges: [UInt8: Calgary.Chip.HostBridge] = [:]
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
      let resolver = VTd.Resolver(unit)
      let requesters = unit.requesters(in: memory).filter { seen.insert($0).inserted }
      tables += resolver.tables(of: requesters, in: memory)
    }
    return tables
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
    case .firstStage(let table):
      var runs = RunCollector(base: 0, signBit: table.format.addressWidth - 1)
      try table.format.forEachEntry(
        from: table.root, in: memory, budget: &budget, visitor: &runs)
      return runs.runs
    case .nested(let tables):
      return try tables.runs(in: memory, budget: &budget)
    }
  }

  /// What tells two tables apart: where the root lies. Devices of one domain have the same.
  public var root: PhysicalAddress? {
    switch content {
    case .tce(let table): table.table
    case .gatt(let window): window.table
    case .secondStage(let table): table.root
    case .firstStage(let table): table.root
    case .nested(let tables): tables.firstStage.root
    case .passThrough: nil
    }
  }
}

/// Joins leaves into runs.
struct RunCollector: TableVisitor {
  let base: UInt64
  /// The highest bit of address that counts, where those above repeat it.
  var signBit: Int?
  var runs: [MappingRun] = []

  init(base: UInt64, signBit: Int? = nil) {
    self.base = base
    self.signBit = signBit
  }

  mutating func leaf(_ leaf: Leaf) {
    add(leaf, byteCount: 1 << UInt64(leaf.sizeLog2))
  }

  mutating func leaves(_ run: LeafRun) { add(run.first, byteCount: run.byteCount) }

  private mutating func add(_ leaf: Leaf, byteCount: UInt64) {
    // U/S says who may, not what: whoever may do nothing else has no mapping.
    let permissions = leaf.permissions.intersection(.readWrite)
    guard !permissions.isEmpty else { return }
    append(
      MappingRun(
        iova: range(from: leaf.address, byteCount: byteCount), physical: leaf.page,
        permissions: permissions))
  }

  /// The addresses of leaves, half-open; the last page of all ends one byte short, because no
  /// address follows it.
  func range(from address: UInt64, byteCount: UInt64) -> Range<IOVA> {
    var start = base &+ address
    if let signBit, start >> UInt64(signBit) & 1 != 0 { start |= ~0 << UInt64(signBit) }
    let end = start &+ byteCount
    return IOVA(start)..<IOVA(end < start ? .max : end)
  }

  /// Adds a run, to the last one where it goes on.
  mutating func append(_ run: MappingRun) {
    if let last = runs.last, last.iova.upperBound == run.iova.lowerBound,
      last.physicalRange.upperBound == run.physical, last.permissions == run.permissions
    {
      runs[runs.count - 1].iova = last.iova.lowerBound..<run.iova.upperBound
    } else {
      runs.append(run)
    }
  }
}
