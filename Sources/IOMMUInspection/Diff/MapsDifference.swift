import IOMMUFormats
import IOMMUTranslation

/// What two machines' tables translate differently, device by device.
///
/// Two dumps of one machine, or of two: before a crash and after, of the dead kernel and of the one
/// that dumps it. The containers they come in do not matter.
public struct MapsDifference: Sendable {
  /// One device's part.
  public struct Row: Sendable, Encodable {
    /// What became of the device's table.
    public enum Table: Sendable, Equatable {
      case kept
      /// Another table: its root lies elsewhere.
      case replaced(before: String, after: String)
      case gone(String)
      case new(String)
    }

    public var name: String
    public var table: Table
    public var differences: [RunDifference]

    /// Whether anything that a device could notice is different.
    public var isDifferent: Bool {
      switch table {
      case .kept: !differences.isEmpty
      case .replaced: !differences.isEmpty || isOtherKind
      case .gone, .new: true
      }
    }

    /// A table before and none now, or the reverse.
    var isOtherKind: Bool {
      guard case .replaced(let before, let after) = table else { return false }
      return (before == passThroughHeading) != (after == passThroughHeading)
    }

    enum CodingKeys: String, CodingKey { case table, status, before, after, differences }

    public func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(name, forKey: .table)
      switch table {
      case .kept: try container.encode("kept", forKey: .status)
      case .replaced(let before, let after):
        try container.encode("replaced", forKey: .status)
        try container.encode(before, forKey: .before)
        try container.encode(after, forKey: .after)
      case .gone(let before):
        try container.encode("gone", forKey: .status)
        try container.encode(before, forKey: .before)
      case .new(let after):
        try container.encode("new", forKey: .status)
        try container.encode(after, forKey: .after)
      }
      try container.encode(differences, forKey: .differences)
    }
  }

  /// Every device of either machine, in the order of the second and then of the first.
  public let rows: [Row]

  public var isEmpty: Bool { !rows.contains(where: \.isDifferent) }

  /// Compares two machines.
  ///
  /// - Throws: ``MapsError/exhausted(_:)`` when tables point at each other.
  public init(
    before: Machine, in beforeMemory: some PhysicalMemory, after: Machine,
    in afterMemory: some PhysicalMemory
  ) throws(MapsError) {
    let old = try Side(before, in: beforeMemory)
    let new = try Side(after, in: afterMemory)
    // A requester's own table is that of PASID 0 where only one of the two has PASIDs.
    let isMixed = old.hasPASIDs != new.hasPASIDs
    let oldTables = old.tables(droppingZeroPASID: isMixed)
    let newTables = new.tables(droppingZeroPASID: isMixed)
    let oldNames = Dictionary(oldTables.map { ($0.name, $0.maps) }) { first, _ in first }
    let newNames = Set(newTables.map(\.name))
    var rows: [Row] = []
    for (name, maps) in newTables {
      guard let earlier = oldNames[name] else {
        rows.append(
          Row(
            name: name, table: .new(maps.heading),
            differences: RunDifference.between([], maps.runs)))
        continue
      }
      let isSame = earlier.heading == maps.heading
      rows.append(
        Row(
          name: name,
          table: isSame ? .kept : .replaced(before: earlier.heading, after: maps.heading),
          differences: RunDifference.between(earlier.runs, maps.runs)))
    }
    for (name, maps) in oldTables where !newNames.contains(name) {
      rows.append(
        Row(
          name: name, table: .gone(maps.heading),
          differences: RunDifference.between(maps.runs, [])))
    }
    self.rows = rows
  }

  /// One machine's tables.
  private struct Side {
    private var maps: [TableMaps] = []
    var hasPASIDs: Bool { maps.contains { $0.table.name.contains("/") } }

    init(_ machine: Machine, in memory: some PhysicalMemory) throws(MapsError) {
      var maps: [TableMaps] = []
      try MapsReport(machine, in: memory).forEachTable(in: memory) { maps.append($0) }
      self.maps = maps
    }

    func tables(droppingZeroPASID drops: Bool) -> [(name: String, maps: TableMaps)] {
      maps.map { maps in
        let name = maps.table.name
        return (drops && name.hasSuffix("/0") ? String(name.dropLast(2)) : name, maps)
      }
    }
  }

  /// Writes a block for each device that differs, and a line that sums up.
  public func write(to out: inout some TextOutputStream, ink: Ink = .none) {
    for row in rows where row.isDifferent {
      out.write("\(ink.strong(row.name))  \(row.tableText)\n")
      for difference in row.differences {
        let text =
          switch difference.change {
          case .mapped: ink.good(difference.text)
          case .unmapped: ink.bad(difference.text)
          case .reaimed, .permissions: ink.warning(difference.text)
          }
        out.write("  \(text)\n")
      }
    }
    let moved = rows.count { if case .replaced = $0.table { !$0.isDifferent } else { false } }
    if moved > 0 {
      out.write("\(countText(moved, "table")) moved, with the same mappings\n")
    }
    let different = rows.count { $0.isDifferent }
    let same = rows.count - different
    out.write(
      "\(countText(different, "device")) different, \(same) the same: \(changesText)\n")
  }

  /// `3 mapped, 12 KiB; 1 unmapped, 4 KiB`.
  private var changesText: String {
    let all = rows.flatMap(\.differences)
    let parts = RunDifference.Change.allCases.compactMap { change -> String? in
      let ranges = all.filter { $0.change == change }
      guard !ranges.isEmpty else { return nil }
      let bytes = ranges.reduce(0) { $0 &+ $1.iova.byteCount }
      return "\(countText(ranges.count, "range")) \(change.rawValue), \(byteCountText(bytes))"
    }
    return parts.isEmpty ? "no range changed" : parts.joined(separator: "; ")
  }
}

/// What ``TableMaps/heading`` says of a device without a table.
private let passThroughHeading = "pass-through"

extension MapsDifference.Row {
  fileprivate var tableText: String {
    switch table {
    case .kept: "same table"
    case .replaced(let before, let after): "\(before) -> \(after)"
    case .gone(let before): "gone: \(before)"
    case .new(let after): "new: \(after)"
    }
  }
}

extension MapsDifference: Encodable {
  public func encode(to encoder: any Encoder) throws { try rows.encode(to: encoder) }
}
