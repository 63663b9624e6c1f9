import IOMMUFormats
import IOMMUTranslation

/// What two machines' tables translate differently, device by device.
///
/// Two dumps of one machine, or of two: before a crash and after, of the dead kernel and of the one
/// that dumps it. The containers they come in do not matter.
public struct MapsDifference: Sendable {
  /// One device's part.
  public struct Row: Sendable, StreamedEncodable {
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
    /// Ascending; of very many the first.
    public var differences: [RunDifference] = []
    /// More of them.
    public var omittedDifferenceCount = 0
    /// What of the table one of the dumps does not hold: it is not compared.
    public var gaps: [TableGap] = []
    /// The first device with the same table before and the same one after, where there is anything to be
    /// said of them; `nil` for that device itself.
    public var sameAs: String?
    /// The same with its driver.
    var sameTitle: String?
    /// Whose table it is; `nil` for requests that no table stands in the way of.
    package var owner: TableOwner?
    /// It is about requests that no table stands in the way of.
    var isOfPassage = false
    /// Devices that it is about; none where it is about a whole unit or bus, and other rows name them.
    var deviceCount = 1

    /// Whether anything that a device could notice is different.
    public var isDifferent: Bool {
      switch table {
      case .kept: !differences.isEmpty
      case .replaced: !differences.isEmpty || isOtherKind || isOfPassage
      case .gone, .new: true
      case .unknown: false
      }
    }

    /// A table stood in the way of the device's requests, and none does now, or the reverse.
    var isOfNoTable: Bool {
      guard case .replaced(let before, let after) = table else { return false }
      return before == notTranslated || after == notTranslated
    }

    /// A table before and none now, or the reverse.
    var isOtherKind: Bool {
      guard case .replaced(let before, let after) = table else { return false }
      return passesAll(before) != passesAll(after)
    }

    enum CodingKeys: String, CodingKey {
      case table, driver, status, before, after, differences, unknown
      case sameAs = "same_as"
      case omittedDifferences = "omitted_differences"
    }

    /// The table's name, with the driver of the requester whose it is: `00:03.0 e1000e`.
    var title: String { DeviceNames.text(name, driver) }

    public func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      let isFirst = sameAs == nil
      let (status, before, after): (String, String?, String?) =
        switch table {
        // The same as far as it is known.
        case .kept where differences.isEmpty && !gaps.isEmpty: ("unknown", nil, nil)
        case .kept: ("kept", nil, nil)
        case .replaced(let before, let after): ("replaced", before, after)
        case .gone(let before): ("gone", before, nil)
        case .new(let after): ("new", nil, after)
        case .unknown: ("unknown", nil, nil)
        }
      try container.encodeIfPresent(after, forKey: .after)
      try container.encodeIfPresent(before, forKey: .before)
      try container.encode(isFirst ? differences : [], forKey: .differences)
      try container.encodeIfPresent(driver, forKey: .driver)
      if isFirst, omittedDifferenceCount > 0 {
        try container.encode(omittedDifferenceCount, forKey: .omittedDifferences)
      }
      try container.encodeIfPresent(sameAs, forKey: .sameAs)
      try container.encode(status, forKey: .status)
      try container.encode(name, forKey: .table)
      try container.encode(isFirst ? gaps : [], forKey: .unknown)
    }
  }

  /// Every device of either machine, in the order of the second and then of the first.
  public let rows: [Row]

  /// What neither or only one of the dumps holds: nothing is said of it.
  public let blindness: Blindness

  /// What changed, all devices together.
  private let tallies: [RunDifference.Change: RunDifferences.Tally]

  /// Nothing that both dumps hold is different.
  public var isEmpty: Bool { !rows.contains(where: \.isDifferent) }

  /// Compares two machines: what devices have in common once.
  ///
  /// - Parameters:
  ///   - before: The earlier one.
  ///   - beforeMemory: Its memory.
  ///   - beforeNames: The drivers and devices of its requesters.
  ///   - after: The later one.
  ///   - afterMemory: Its memory.
  ///   - afterNames: The drivers and devices of its requesters.
  /// - Complexity: O(devices, and runs of every two tables that are compared).
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
    let oldIndices = Dictionary(oldTables.map { ($0.name, $0.index) }) { first, _ in first }
    let newNames = Set(newTables.map(\.name))
    let pairs =
      newTables.map { TablePair(name: $0.name, before: oldIndices[$0.name], after: $0.index) }
      + oldTables.filter { !newNames.contains($0.name) }
      .map { TablePair(name: $0.name, before: $0.index, after: nil) }
    var comparer = TableComparer(old, new, pairs)
    var rows: [Row] = []
    rows.reserveCapacity(pairs.count)
    for pair in pairs { rows.append(comparer.row(pair)) }
    let passages = Self.passages(
      before.passages(in: beforeMemory), after.passages(in: afterMemory), besides: rows)
    self.rows = rows + passages
    tallies = comparer.tallies
    let known = Set(old.gaps)
    blindness = Blindness(
      old.gaps + new.gaps.filter { !known.contains($0) }
        + rows.filter { $0.isKnown && $0.sameAs == nil }.flatMap(\.gaps))
  }

  /// Writes a block for each device that differs, and a line that sums up.
  public func write(to out: inout some TextOutputStream, ink: Ink = .none) {
    for row in rows where row.isDifferent {
      let same = row.sameTitle.map { ": the same as \($0)" } ?? ""
      out.write("\(ink.strong(row.title))  \(row.tableText)\(same)\n")
      guard row.sameAs == nil else { continue }
      for difference in row.differences {
        let text =
          switch difference.change {
          case .mapped: ink.good(difference.text)
          case .unmapped: ink.bad(difference.text)
          case .reaimed, .permissions: ink.warning(difference.text)
          }
        out.write("  \(text)\n")
      }
      if row.omittedDifferenceCount > 0 {
        out.write("  \(countText(row.omittedDifferenceCount, "range")) more\n")
      }
    }
    let moved = rows.count { if case .replaced = $0.table { !$0.isDifferent } else { false } }
    if moved > 0 {
      out.write("\(countText(moved, "table")) moved, with the same mappings\n")
    }
    func deviceCount(_ isIncluded: (Row) -> Bool) -> Int {
      rows.reduce(0) { $0 + (isIncluded($1) ? $1.deviceCount : 0) }
    }
    let different = deviceCount { $0.isDifferent }
    // What is the same as far as it is known may differ elsewhere.
    let unknown = deviceCount { !$0.isKnown || !$0.isDifferent && !$0.gaps.isEmpty }
    let same = deviceCount { _ in true } - different - unknown
    out.write(
      "\(countText(different, "device")) different, \(same) the same"
        + (unknown == 0 ? "" : ", \(unknown) unknown") + ": \(changesText)\n")
    blindness.write(to: &out, ink: ink)
  }

  /// `3 mapped, 12 KiB; 1 unmapped, 4 KiB`.
  private var changesText: String {
    let parts = RunDifference.Change.allCases.compactMap { change -> String? in
      tallies[change].map {
        "\(countText($0.count, "range")) \(change.rawValue), \(byteCountText($0.byteCount))"
      }
    }
    return parts.isEmpty ? "no range changed" : parts.joined(separator: "; ")
  }
}

/// What stands for a table where a device's requests meet none.
let notTranslated = "not translated"

/// Whether a device with such a table reaches all of memory.
private func passesAll(_ heading: String) -> Bool {
  heading == DMATable.passThroughText || heading.hasPrefix(notTranslated)
}

extension MapsDifference.Row {
  fileprivate var isKnown: Bool { if case .unknown = table { false } else { true } }

  /// What became of the table, in words.
  package var tableText: String {
    switch table {
    case .kept: "same table"
    case .replaced(let before, let after): "\(before) -> \(after)"
    case .gone(let before): "gone: \(before)"
    case .new(let after): "new: \(after)"
    case .unknown(let gap): "unknown: \(gap.causeText)"
    }
  }
}

extension MapsDifference: StreamedEncodable {
  enum CodingKeys: String, CodingKey { case tables, unknown, incomplete }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(blindness.incomplete, forKey: .incomplete)
    try container.encode(rows, forKey: .tables)
    try container.encode(blindness.gaps, forKey: .unknown)
  }
}
