import IOMMUFormats
import IOMMUTranslation

/// What becomes of the interrupts that devices send: each unit's interrupt remapping table.
public struct InterruptReport: Sendable, Encodable {
  /// One table of a unit, or a unit without one, and what it says.
  public struct Unit: Sendable {
    public var name: String
    /// The PCI segment of the devices behind it.
    var segment: UInt32
    /// What the unit does with interrupts, where it has no table that is known.
    var passage: InterruptPassage
    /// `nil` where no table is in force, or nobody knows.
    public var mappings: InterruptMappings?
    /// Why nobody knows which table is in force.
    var unknownTable: String?
    /// What is not known of which tables the unit has; told with its first.
    var gaps: [TableGap] = []
    /// Each present entry in words and raw, in the order of the table.
    var entries: [EntryWording] = []
    /// The drivers of those that send them; `nil` where there is no one sender, or it is not known.
    var drivers: [String?] = []

    /// Nothing is known of what the unit does with interrupts.
    public var isUnknown: Bool {
      if let mappings { return mappings.isUnknown }
      return unknownTable != nil || !gaps.isEmpty
    }
  }

  /// In the order of the machine's units; one with many tables is there once for each.
  public let units: [Unit]

  /// Reads every unit's tables.
  ///
  /// - Complexity: O(entries of all tables).
  public init(
    _ machine: Machine, in memory: some PhysicalMemory, names: DeviceNames = .none
  ) {
    units = machine.units.flatMap { unit -> [Unit] in
      let all = machine.interruptTables(of: unit, in: memory)
      let bare = Unit(
        name: unit.words.name, segment: UInt32(unit.model.segment ?? 0),
        passage: unit.model.interrupts(in: memory), unknownTable: unit.model.unknownInterruptTable,
        gaps: all.gaps)
      guard !all.tables.isEmpty else { return [bare] }
      return all.tables.enumerated().map { index, mappings in
        var report = bare
        if index > 0 { report.gaps = [] }
        report.mappings = mappings
        report.addEntries(of: unit.words.describedTable(of: mappings), in: memory, names)
        return report
      }
    }
  }

  /// What a unit does with interrupts is not known at all.
  public var isUnknown: Bool { units.contains(where: \.isUnknown) }

  /// Writes a block for each table and each unit without: a heading, and a line for each present entry.
  public func writeText(to out: inout some TextOutputStream, ink: Ink = .none) {
    if units.isEmpty { out.write("no unit remaps interrupts\n") }
    for (number, unit) in units.enumerated() {
      if number > 0 { out.write("\n") }
      unit.writeHeading(to: &out, ink)
      for gap in unit.gaps { out.write("  \(ink.warning(gap.text))\n") }
      guard let mappings = unit.mappings else { continue }
      let width = mappings.mappings.last.map { hexadecimal($0.index).count } ?? 0
      for (mapping, entry) in zip(mappings.mappings, unit.entries) {
        let index = hexadecimal(mapping.index).padded(to: width)
        let wrong = entry.entry.violations.map { ", " + $0 }.joined()
        out.write("  \(index)  \(entry.statement)\(ink.bad(wrong))\n")
      }
      for gap in mappings.gaps { out.write("  \(ink.warning(gap.text))\n") }
    }
  }

  /// Writes a line for each present entry, with tabs between; what is not known in lines that begin
  /// with `#unknown`.
  public func writeTSV(to out: inout some TextOutputStream) {
    out.write(
      "#unit\tindex\tsource\tvector\tdestination\tmode\tdelivery\ttrigger\thint\tposted\traw"
        + "\tguest_tag\n")
    for unit in units {
      for (mapping, entry) in zip(unit.mappings?.mappings ?? [], unit.entries) {
        let row = InterruptRow(mapping, entry)
        out.write(
          [
            unit.name, row.index, row.source, row.vector ?? row.fault ?? "-",
            row.destination ?? "-", row.mode ?? "-", row.delivery ?? "-", row.trigger ?? "-",
            row.hint.map { $0 ? "1" : "0" } ?? "-", row.posted ?? "-",
            row.raw.joined(separator: " "), row.guestTag ?? "-",
          ].joined(separator: "\t") + "\n")
      }
      if unit.mappings == nil, let reason = unit.unknownTable {
        out.write("#unknown\t\(unit.name)\twhich table is in force is not known: \(reason)\n")
      }
      for gap in unit.gaps + (unit.mappings?.gaps ?? []) {
        out.write("#unknown\t\(gap.subjectText)\t\(gap.causeText)\n")
      }
    }
  }
}

extension InterruptReport.Unit {
  fileprivate mutating func addEntries(
    of table: (any DescribedUpperTable)?, in memory: some PhysicalMemory, _ names: DeviceNames
  ) {
    for mapping in mappings?.mappings ?? [] {
      guard var entry = table?.words(at: UInt64(mapping.index), others: 0, in: memory) else {
        continue
      }
      let sender = mapping.source.onlySender.map { PCI.Function(segment: segment, $0) }
      entry.statement = names.naming(sender, in: entry.statement)
      entries.append(entry)
      drivers.append(sender.flatMap { names[$0] })
    }
  }

  fileprivate func writeHeading(to out: inout some TextOutputStream, _ ink: Ink) {
    guard let devices = mappings?.devices else {
      return out.write("\(ink.strong(name))  \(heading)\n")
    }
    let source = InterruptSource.requesters(devices, segment: segment)
    for (index, line) in "\(name), interrupts of \(source.text)".lines(of: 80, later: 78)
      .enumerated()
    {
      out.write((index == 0 ? "" : "  ") + ink.strong(line) + "\n")
    }
    out.write("  \(heading)\n")
  }

  /// What stands behind the unit's name.
  public var heading: String {
    guard let mappings else {
      if let unknownTable { return "which table is in force is not known: \(unknownTable)" }
      return switch passage {
      case .notRemapped: "remaps no interrupts"
      case .unknown(let text), .blocks(let text): text
      case .passesCompatibilityFormat: "lets interrupts in the compatibility format pass"
      }
    }
    let inUse =
      mappings.mappings.isEmpty
      ? (mappings.gaps.isEmpty ? "none in use" : "none as far as this dump says")
      : "\(mappings.mappings.count) in use"
    let compatibility =
      switch passage {
      case _ where mappings.devices != nil: ""
      case .passesCompatibilityFormat: ", the compatibility format passes"
      case .blocks: ", the compatibility format is blocked"
      case .notRemapped, .unknown: ""
      }
    return "interrupt remapping table \(mappings.table), "
      + "\(countText(mappings.entryCount, "entry", plural: "entries")), \(inUse)\(compatibility)"
  }
}

extension InterruptReport.Unit: Encodable {
  enum CodingKeys: String, CodingKey {
    case unit, devices, compatibility, table, entries, interrupts, unknown
    case reason = "unknown_table"
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(name, forKey: .unit)
    let compatibility =
      switch passage {
      case .notRemapped: "not remapped"
      case .unknown: "unknown"
      case .passesCompatibilityFormat: "passes"
      case .blocks: "blocked"
      }
    try container.encode(compatibility, forKey: .compatibility)
    if let unknownTable { try container.encode(unknownTable, forKey: .reason) }
    guard let mappings else {
      if !gaps.isEmpty { try container.encode(gaps, forKey: .unknown) }
      return
    }
    if let devices = mappings.devices {
      let source = InterruptSource.requesters(devices, segment: segment)
      try container.encode(source.rangeTexts, forKey: .devices)
    }
    try container.encode("\(mappings.table)", forKey: .table)
    try container.encode(mappings.entryCount, forKey: .entries)
    try container.encode(
      zip(zip(mappings.mappings, entries), drivers).map { InterruptRow($0.0, $0.1, driver: $1) },
      forKey: .interrupts)
    try container.encode(gaps + mappings.gaps, forKey: .unknown)
  }
}

/// One present entry as JSON and tables have it; `nil` what the entry does not say.
private struct InterruptRow: Encodable {
  var index: String
  var address: String
  var source: String
  /// Of the source.
  var driver: String?
  var vector: String?
  var destination: String?
  var mode: String?
  var delivery: String?
  var trigger: String?
  var hint: Bool?
  /// The descriptor, or the guest's virtual APIC, that the interrupt is posted in.
  var posted: String?
  /// What software calls the guest's processor.
  var guestTag: String?
  /// The guest runs, at the destination.
  var guestRuns: Bool?
  /// An interrupt while the guest does not run is logged.
  var guestIsLogged: Bool?
  /// What blocks the interrupt, whoever sends it.
  var fault: String?
  /// The entry's words, the lowest first.
  var raw: [String]
  var meaning: String
  /// What hardware would not have of the entry's bits.
  var wrong: [String]

  enum CodingKeys: String, CodingKey {
    case index, address, source, driver, vector, destination, mode, delivery, trigger, hint, posted
    case guestTag = "guest_tag"
    case guestRuns = "guest_runs"
    case guestIsLogged = "guest_logged"
    case fault, raw, meaning, wrong
  }

  init(_ mapping: InterruptMapping, _ entry: EntryWording, driver: String? = nil) {
    self.driver = driver
    index = hexadecimal(mapping.index)
    address = "\(mapping.entryAddress)"
    source = mapping.source.text
    raw = entry.entry.wordTexts
    meaning = entry.statement
    wrong = entry.entry.violations
    switch mapping.decision {
    case .passed: break
    case .delivered(let delivery):
      vector = hexadecimal(delivery.vector)
      destination = hexadecimal(delivery.destination)
      mode = delivery.isLogical ? "logical" : "physical"
      self.delivery = delivery.deliveryMode.words
      // Of these an AMD-Vi entry says nothing.
      if case .requesters = mapping.source { break }
      trigger = delivery.isLevelTriggered ? "level" : "edge"
      hint = delivery.hasRedirectionHint
    case .posted(let interrupt):
      vector = hexadecimal(interrupt.vector)
      posted = "\(interrupt.descriptor)"
    case .guest(let interrupt):
      vector = hexadecimal(interrupt.vector)
      posted = "\(interrupt.page)"
      destination = hexadecimal(interrupt.destination)
      guestTag = hexadecimal(interrupt.tag)
      guestRuns = interrupt.isRunning
      guestIsLogged = interrupt.isLogged
    case .blocked(let blocked):
      fault = "fault:" + hexadecimal(blocked.reason.rawValue)
    case .stopped(let stopped):
      fault = "fault" + (stopped.fault.number.map { ":" + hexadecimal($0) } ?? "")
    }
  }
}

extension InterruptSource {
  /// The one who may send; `nil` where there are several, or none.
  var onlySender: Requester? {
    switch self {
    case .requester(let requester, ignoring: 0): requester
    case .requesters(let ranges, _) where ranges.count == 1 && ranges[0].count == 1:
      Requester(rawValue: ranges[0].lowerBound)
    default: nil
    }
  }

  /// `00:03.0`, `00:03.0 to 00:04.7`: each range of requesters.
  var rangeTexts: [String] {
    guard case .requesters(let ranges, let segment) = self else { return [] }
    return ranges.map { range in
      let ends = [range.lowerBound, range.upperBound].map {
        "\(PCI.Function(segment: segment, Requester(rawValue: $0)))"
      }
      return range.count == 1 ? ends[0] : "\(ends[0]) to \(ends[1])"
    }
  }

  /// `00:1f.2`, `00:1f.*`, `buses 02 to 03`, `any`, `none`; of many ranges the first four.
  var text: String {
    switch self {
    case .anyone: return "any"
    case .nobody: return "none"
    case .requesters:
      let texts = rangeTexts
      let more = texts.count > 4 ? [countText(texts.count - 4, "more range")] : []
      return listText(Array(texts.prefix(4)) + more)
    case .buses(let buses):
      return "buses \(hexadecimal(buses.lowerBound, digits: 2)) to "
        + hexadecimal(buses.upperBound, digits: 2)
    case .requester(let requester, let ignored):
      return ignored == 0 ? "\(requester)" : "\(requester)/\(hexadecimal(~ignored))"
    }
  }
}
