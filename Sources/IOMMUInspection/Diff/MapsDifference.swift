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
      /// One of the two dumps does not hold what says whether the device has a table.
      case unknown(TableGap)
    }

    public var name: String
    /// The driver of the requester: in the later dump, or where that does not say, in the earlier.
    public var driver: String?
    public var table: Table
    public var differences: [RunDifference]
    /// What of the table one of the dumps does not hold: it is not compared.
    public var gaps: [TableGap] = []
    /// It is about requests that no table stands in the way of.
    var isOfPassage = false

    /// Whether anything that a device could notice is different.
    public var isDifferent: Bool {
      switch table {
      case .kept: !differences.isEmpty
      case .replaced: !differences.isEmpty || isOtherKind || isOfPassage
      case .gone, .new: true
      case .unknown: false
      }
    }

    /// A table before and none now, or the reverse.
    var isOtherKind: Bool {
      guard case .replaced(let before, let after) = table else { return false }
      return passesAll(before) != passesAll(after)
    }

    enum CodingKeys: String, CodingKey {
      case table, driver, status, before, after, differences, unknown
    }

    /// The table's name, with the driver of the requester whose it is: `00:03.0 e1000e`.
    var title: String { DeviceNames.text(name, driver) }

    public func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(name, forKey: .table)
      try container.encodeIfPresent(driver, forKey: .driver)
      switch table {
      // The same as far as it is known.
      case .kept where differences.isEmpty && !gaps.isEmpty:
        try container.encode("unknown", forKey: .status)
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
      case .unknown:
        try container.encode("unknown", forKey: .status)
      }
      try container.encode(differences, forKey: .differences)
      try container.encode(gaps, forKey: .unknown)
    }
  }

  /// Every device of either machine, in the order of the second and then of the first.
  public let rows: [Row]

  /// What neither or only one of the dumps holds: nothing is said of it.
  public let blindness: Blindness

  /// Nothing that both dumps hold is different.
  public var isEmpty: Bool { !rows.contains(where: \.isDifferent) }

  /// Compares two machines.
  ///
  /// - Parameters:
  ///   - before: The earlier one.
  ///   - beforeMemory: Its memory.
  ///   - beforeNames: The drivers and devices of its requesters.
  ///   - after: The later one.
  ///   - afterMemory: Its memory.
  ///   - afterNames: The drivers and devices of its requesters.
  public init(
    before: Machine, in beforeMemory: some PhysicalMemory, names beforeNames: DeviceNames = .none,
    after: Machine, in afterMemory: some PhysicalMemory, names afterNames: DeviceNames = .none
  ) {
    let old = Side(before, in: beforeMemory, beforeNames)
    let new = Side(after, in: afterMemory, afterNames)
    // A requester's own table is that of PASID 0 where only one of the two has PASIDs.
    let isMixed = old.hasPASIDs != new.hasPASIDs
    let oldTables = old.tables(droppingZeroPASID: isMixed)
    let newTables = new.tables(droppingZeroPASID: isMixed)
    let oldNames = Dictionary(oldTables.map { ($0.name, $0.maps) }) { first, _ in first }
    let newNames = Set(newTables.map(\.name))
    var rows: [Row] = []
    for (name, maps) in newTables {
      guard let earlier = oldNames[name] else {
        if let gap = old.gap(hiding: maps.table.owner) {
          rows.append(Row(name: name, table: .unknown(gap), differences: [], gaps: [gap]))
        } else if old.passes(maps.table.owner) {
          rows.append(
            Row(
              name: name, table: .replaced(before: notTranslated, after: maps.heading),
              differences: [], gaps: maps.gaps))
        } else {
          rows.append(
            Row(
              name: name, table: .new(maps.heading),
              differences: RunDifference.between([], maps.runs, unknown: maps.unknownAddresses),
              gaps: maps.gaps))
        }
        continue
      }
      let isSame = earlier.heading == maps.heading
      // All of memory against some of it: no list of ranges says that.
      let isComparable = earlier.isPassThrough == maps.isPassThrough
      rows.append(
        Row(
          name: name,
          table: isSame ? .kept : .replaced(before: earlier.heading, after: maps.heading),
          differences: isComparable
            ? RunDifference.between(
              earlier.runs, maps.runs,
              unknown: earlier.unknownAddresses + maps.unknownAddresses) : [],
          gaps: earlier.gaps + maps.gaps.filter { !earlier.gaps.contains($0) }))
    }
    for (name, maps) in oldTables where !newNames.contains(name) {
      if let gap = new.gap(hiding: maps.table.owner) {
        rows.append(Row(name: name, table: .unknown(gap), differences: [], gaps: [gap]))
      } else if new.passes(maps.table.owner) {
        rows.append(
          Row(
            name: name, table: .replaced(before: maps.heading, after: notTranslated),
            differences: [], gaps: maps.gaps))
      } else {
        rows.append(
          Row(
            name: name, table: .gone(maps.heading),
            differences: RunDifference.between(maps.runs, [], unknown: maps.unknownAddresses),
            gaps: maps.gaps))
      }
    }
    for index in rows.indices {
      let name = rows[index].name
      rows[index].driver = new.drivers[name] ?? old.drivers[name]
    }
    self.rows =
      rows
      + Self.passages(before.passages(in: beforeMemory), after.passages(in: afterMemory))
    blindness = Blindness(
      old.gaps + new.gaps.filter { !old.gaps.contains($0) } + rows.filter(\.isKnown).flatMap(\.gaps)
    )
  }

  /// Whose requests pass the units, before and after, where that is not the same.
  private static func passages(_ before: [Passage], _ after: [Passage]) -> [Row] {
    func texts(_ passages: [Passage]) -> [(name: String, text: String)] {
      var all: [(name: String, text: String)] = []
      for passage in passages {
        let isWhole = passage.addresses == [0 ..< .max]
        let ranges = passage.addresses.map { IOVA($0.lowerBound)..<IOVA($0.upperBound) }
        let text = notTranslated + (isWhole ? "" : ": " + listText(ranges.map(\.text)))
        let name = "\(passage.devices)"
        if !all.contains(where: { $0.name == name && $0.text == text }) { all.append((name, text)) }
      }
      return all
    }
    let old = texts(before)
    let new = texts(after)
    let changed = new.filter { entry in !old.contains { $0 == entry } }
    let gone = old.filter { entry in !new.contains { $0 == entry } }
    return changed.map { entry in
      let earlier = gone.first { $0.name == entry.name }?.text
      return Row(
        name: entry.name,
        table: earlier.map { .replaced(before: $0, after: entry.text) } ?? .new(entry.text),
        differences: [], isOfPassage: true)
    }
      + gone.filter { entry in !changed.contains { $0.name == entry.name } }.map { entry in
        Row(name: entry.name, table: .gone(entry.text), differences: [], isOfPassage: true)
      }
  }

  /// One machine's tables.
  private struct Side {
    private var maps: [TableMaps] = []
    /// What lies above the page tables and is not known.
    private(set) var gaps: [TableGap] = []

    var hasPASIDs: Bool {
      maps.contains { if case .requester(_, _?) = $0.table.owner { true } else { false } }
    }

    /// Which owners' requests no table stands in the way of.
    private let passing: (TableOwner) -> Bool

    func passes(_ owner: TableOwner) -> Bool { passing(owner) }

    /// Drivers of the tables' requesters.
    private(set) var drivers: [String: String] = [:]

    init(_ machine: Machine, in memory: some PhysicalMemory, _ names: DeviceNames) {
      passing = { owner in
        guard let device = owner.device, let serving = try? machine.serving(device) else {
          return false
        }
        guard case .untranslated = serving.resolve(device.requester, in: memory).route else {
          return false
        }
        return true
      }
      let report = MapsReport(all: machine, in: memory, names: names)
      gaps = report.gaps
      report.forEachTable(in: memory) { maps.append($0) }
      for (name, maps) in tables(droppingZeroPASID: true) + tables(droppingZeroPASID: false) {
        if let driver = maps.driver { drivers[name] = driver }
      }
    }

    func tables(droppingZeroPASID drops: Bool) -> [(name: String, maps: TableMaps)] {
      maps.map { maps in
        guard drops, case .requester(let device, let pasid?) = maps.table.owner,
          pasid.rawValue == 0
        else { return (maps.table.name, maps) }
        return ("\(device)", maps)
      }
    }

    /// What is not known and may hide the table of an owner that is not among the tables.
    func gap(hiding owner: TableOwner) -> TableGap? {
      gaps.first { gap in owner.device.map { gap.concerns($0) } ?? (gap.scope == .unit) }
    }
  }

  /// Writes a block for each device that differs, and a line that sums up.
  public func write(to out: inout some TextOutputStream, ink: Ink = .none) {
    for row in rows where row.isDifferent {
      out.write("\(ink.strong(row.title))  \(row.tableText)\n")
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
    // What is the same as far as it is known may differ elsewhere.
    let unknown = rows.count { !$0.isKnown || !$0.isDifferent && !$0.gaps.isEmpty }
    let same = rows.count - different - unknown
    out.write(
      "\(countText(different, "device")) different, \(same) the same"
        + (unknown == 0 ? "" : ", \(unknown) unknown") + ": \(changesText)\n")
    blindness.write(to: &out, ink: ink)
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

/// What stands for a table where a device's requests meet none.
private let notTranslated = "not translated"

/// Whether a device with such a table reaches all of memory.
private func passesAll(_ heading: String) -> Bool {
  heading == DMATable.passThroughText || heading.hasPrefix(notTranslated)
}

extension TableMaps {
  /// The addresses of which the dump says nothing.
  fileprivate var unknownAddresses: [Range<IOVA>] {
    gaps.compactMap { if case .addresses(_, let range) = $0.scope { range } else { nil } }
  }
}

extension MapsDifference.Row {
  fileprivate var isKnown: Bool { if case .unknown = table { false } else { true } }

  fileprivate var tableText: String {
    switch table {
    case .kept: "same table"
    case .replaced(let before, let after): "\(before) -> \(after)"
    case .gone(let before): "gone: \(before)"
    case .new(let after): "new: \(after)"
    case .unknown(let gap): "unknown: \(gap.causeText)"
    }
  }
}

extension MapsDifference: Encodable {
  enum CodingKeys: String, CodingKey { case tables, unknown, incomplete }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(rows, forKey: .tables)
    try container.encode(blindness.gaps, forKey: .unknown)
    try container.encode(blindness.incomplete, forKey: .incomplete)
  }
}
