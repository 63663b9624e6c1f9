import IOMMUFormats

/// Joins the leaves of a table into runs, and keeps what is not known of it.
struct MappingCollector: TableVisitor {
  private let owner: TableOwner
  private let table: any IOTable
  private let space: IOVASpace
  private var runs: [MappingRun] = []
  private var gaps: [TableGap] = []

  // What is asked for each run, so that a table of single pages costs no look into a list for each.
  private let base: UInt64
  private let signMask: UInt64
  /// From the first hole to the last.
  private let holes: Range<UInt64>
  private let unreachable: Range<UInt64>
  private var lastPermissions = Permissions()
  private var lastAccess: MappedAccess?

  init(_ table: any IOTable, of owner: TableOwner) {
    self.owner = owner
    self.table = table
    let space = table.space
    self.space = space
    base = space.base
    signMask = space.signBit.map { 1 << UInt64($0) } ?? 0
    let first = space.holes.map(\.lowerBound).min() ?? 0
    holes = first..<(space.holes.map(\.upperBound).max() ?? first)
    unreachable = space.unreachable ?? 0..<0
    lastAccess = table.access(allowedBy: lastPermissions)
  }

  mutating func leaf(_ leaf: Leaf) {
    add(leaf, byteCount: 1 << UInt64(leaf.sizeLog2))
  }

  mutating func leaves(_ run: LeafRun) { add(run.first, byteCount: run.byteCount) }

  mutating func obstacle(_ obstacle: Obstacle) {
    let cause: TableGap.Cause
    switch obstacle.cause {
    case .malformed: return
    case .unreadable: cause = .absent
    case .loop(let loop): cause = .loop(loop)
    }
    addGap(
      cause, from: obstacle.address, byteCount: obstacle.byteCount, level: obstacle.level,
      at: obstacle.entryAddress)
  }

  private mutating func add(_ leaf: Leaf, byteCount: UInt64) {
    if leaf.permissions != lastPermissions {
      lastPermissions = leaf.permissions
      lastAccess = table.access(allowedBy: leaf.permissions)
    }
    add(leaf.address, byteCount: byteCount, to: leaf.page, access: lastAccess)
  }

  /// Adds addresses that lead to memory, as far as the unit's width reaches, in pieces around those that
  /// it does not look up and those that lead to none.
  mutating func add(
    _ address: UInt64, byteCount: UInt64, to page: PhysicalAddress, access: MappedAccess?
  ) {
    guard let access, address < space.byteCount else { return }
    // A large page may go on where no address of the table's width does.
    let byteCount = min(byteCount, space.byteCount &- address)
    var start = base &+ address
    if start & signMask != 0 { start |= 0 &- signMask }
    let (end, wraps) = start.addingReportingOverflow(byteCount)
    let run = MappingRun(
      iova: IOVA(start)..<IOVA(wraps ? .max : end), physical: page, access: access)
    guard holes.overlaps(run.iova.rawValues) || unreachable.overlaps(run.physicalRange.rawValues)
    else { return append(run) }
    for piece in space.pieces(of: run) { append(piece) }
  }

  /// Adds addresses of which nothing is known.
  mutating func addGap(
    _ cause: TableGap.Cause = .absent, from address: UInt64, byteCount: UInt64, level: Int,
    at place: PhysicalAddress
  ) {
    for range in space.ranges(from: address, byteCount: byteCount) {
      gaps.add(TableGap(cause, .addresses(owner, range), in: .level(level), at: place))
    }
  }

  /// Adds that the table was left before its end.
  mutating func add(_ error: EnumerationExhausted) {
    for gap in space.gaps(from: error, of: owner) { gaps.add(gap) }
  }

  /// Adds a run, to the last one where it goes on.
  private mutating func append(_ run: MappingRun) {
    if let last = runs.last, last.iova.upperBound == run.iova.lowerBound,
      last.physicalRange.upperBound == run.physical, last.access == run.access
    {
      runs[runs.count - 1].iova = last.iova.lowerBound..<run.iova.upperBound
    } else {
      runs.append(run)
    }
  }

  consuming func finish() -> TableMappings { TableMappings(runs: runs, gaps: gaps) }
}

extension IOVASpace {
  /// What was not gone through of a table when an enumeration ended.
  package func gaps(from error: EnumerationExhausted, of owner: TableOwner) -> [TableGap] {
    ranges(from: error.address, byteCount: .max).map {
      TableGap(.tooManyReferences, .addresses(owner, $0), in: .level(error.level), at: error.table)
    }
  }

  /// What is left of a run that is cut, ascending.
  func pieces(of run: MappingRun) -> [MappingRun] {
    var cuts = holes.map { $0.clamped(to: run.iova.rawValues) }
    if let unreachable {
      let part = unreachable.clamped(to: run.physicalRange.rawValues)
      let distance = run.iova.lowerBound.rawValue &- run.physical.rawValue
      cuts.append(part.lowerBound &+ distance..<part.upperBound &+ distance)
    }
    var pieces: [MappingRun] = []
    var start = run.iova.lowerBound.rawValue
    func add(upTo end: UInt64) {
      guard start < end else { return }
      var piece = run
      piece.iova = IOVA(start)..<IOVA(end)
      piece.physical = PhysicalAddress(
        run.physical.rawValue &+ (start - run.iova.lowerBound.rawValue))
      pieces.append(piece)
    }
    for cut in cuts.filter({ !$0.isEmpty }).sorted(by: { $0.lowerBound < $1.lowerBound }) {
      add(upTo: cut.lowerBound)
      start = max(start, cut.upperBound)
    }
    add(upTo: run.iova.upperBound.rawValue)
    return pieces
  }
}

extension Range where Bound: Address {
  /// The same bounds as numbers.
  var rawValues: Range<UInt64> { lowerBound.rawValue..<upperBound.rawValue }
}
