import IOMMUFormats
import IOMMUTranslation

extension ReachReport.Way {
  /// The way through a run of a table.
  fileprivate init(_ maps: TableMaps, _ run: MappingRun, to target: Range<PhysicalAddress>) {
    let part = run.physicalRange.clamped(to: target)
    let first = run.iova.lowerBound.rawValue + (part.lowerBound.rawValue - run.physical.rawValue)
    let (end, wraps) = first.addingReportingOverflow(part.byteCount)
    self.init(
      table: maps.table.name, driver: maps.driver, iova: IOVA(first)..<IOVA(wraps ? .max : end),
      physical: part, access: run.access, run: run)
  }
}

/// Who can reach physical memory: the tables read backwards.
public struct ReachReport: Sendable, StreamedEncodable {
  /// One way for a device to get there.
  public struct Way: Sendable, Hashable, Encodable {
    /// `bus:02`, `gart`, or the requester `00:03.0`; `any device` and the like past all tables.
    public var table: String
    /// The driver of the requester; `nil` where it is not known.
    public var driver: String?
    /// The numbers that the device has to put on the bus; `nil` where they are the addresses
    /// themselves.
    public var iova: Range<IOVA>?
    /// What is reached.
    public var physical: Range<PhysicalAddress>
    public var access: MappedAccess
    /// The run that the IOVAs lie in; `nil` where everything is reached.
    public var run: MappingRun?
    /// Why no table stands in the way; `nil` where one does.
    public var passage: String?

    /// The table's name, with the driver of the requester whose it is: `00:03.0 e1000e`.
    var title: String { DeviceNames.text(table, driver) }

    enum CodingKeys: String, CodingKey {
      case table, driver, iova, physical, bytes, access, privilege, run, passage
    }

    public func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(table, forKey: .table)
      try container.encodeIfPresent(driver, forKey: .driver)
      try container.encodeIfPresent(iova.map { "\($0.lowerBound)" }, forKey: .iova)
      try container.encode("\(physical.lowerBound)", forKey: .physical)
      try container.encode(hexadecimal(physical.byteCount), forKey: .bytes)
      try container.encode("\(access.permissions)", forKey: .access)
      if access.needsSupervisor { try container.encode("supervisor", forKey: .privilege) }
      try container.encodeIfPresent(run.map { $0.iova.text }, forKey: .run)
      try container.encodeIfPresent(passage, forKey: .passage)
    }
  }

  /// What is asked about, half-open; an address alone is one byte.
  public let target: Range<PhysicalAddress>
  /// Only what can be written counts.
  public let isAboutWriting: Bool
  /// As many as are told: of each device one at least.
  public let ways: [Way]
  /// More of them, through the tables of devices of ``ways``.
  public let omittedWayCount: Int
  /// What an address is itself, when it lies in a table: `SS-PTE of 00:03.0 …`; of a range, how many
  /// tables it has part of.
  public let tables: [String]

  /// What could not be looked through: where this is not empty, others may get there.
  public let blindness: Blindness

  private let names: DeviceNames

  /// Who can reach one byte.
  public init(
    _ address: PhysicalAddress, writing: Bool = false, machine: Machine,
    in memory: some PhysicalMemory, names: DeviceNames = .none
  ) {
    // The last byte of all has no range, and no memory.
    let end = address.advanced(byBytes: 1) ?? address
    self.init(address..<end, writing: writing, machine: machine, in: memory, names: names)
  }

  /// Looks through every table in force, and at what passes them.
  ///
  /// - Complexity: O(entries of all tables).
  public init(
    _ target: Range<PhysicalAddress>, writing: Bool = false, machine: Machine,
    in memory: some PhysicalMemory, names: DeviceNames = .none
  ) {
    self.names = names
    let numbers = target.lowerBound.rawValue..<target.upperBound.rawValue
    var ways = machine.passages(in: memory).flatMap { passage in
      passage.addresses.filter { $0.overlaps(numbers) }.map { addresses in
        let part = addresses.clamped(to: numbers)
        return Way(
          table: "\(passage.devices)", iova: nil,
          physical: PhysicalAddress(part.lowerBound)..<PhysicalAddress(part.upperBound),
          access: MappedAccess(.readWrite), run: nil, passage: "not translated")
      }
    }
    let annotator = Annotator(machine, in: memory, names: names)
    var blindness = Blindness()
    var omitted = 0
    // By the number of the mappings: their ways in `ways`, and how many there are.
    var found: [Int: (told: Range<Int>, count: Int)] = [:]
    let report = MapsReport(all: machine, in: memory, names: names)
    blindness.add(report.gaps)
    report.forEachTable(in: memory) { maps in
      if maps.sharedWith == nil { blindness.add(maps.gaps) }
      if maps.isPassThrough, !writing || maps.table.permissions.contains(.write) {
        // Interrupt messages are none of its requests, and neither is what the host has no lines for.
        for addresses in machine.passing(maps.table, in: memory) where addresses.overlaps(numbers) {
          let part = addresses.clamped(to: numbers)
          ways.append(
            Way(
              table: maps.table.name, driver: maps.driver, iova: nil,
              physical: PhysicalAddress(part.lowerBound)..<PhysicalAddress(part.upperBound),
              access: MappedAccess(maps.table.permissions), run: nil,
              passage: DMATable.passThroughText))
        }
      }
      let start = ways.count
      if let number = maps.number, let (told, count) = found[number] {
        let (name, driver) = (maps.table.name, maps.driver)
        let room = max(min(told.count, 1), Self.wayLimit - start)
        for index in told.prefix(room) {
          var way = ways[index]
          way.table = name
          way.driver = driver
          ways.append(way)
        }
        omitted += count - (ways.count - start)
        return
      }
      var count = 0
      // A run may be without end for a broken table; what it reaches wraps nowhere.
      for run in maps.runs where run.physicalRange.overlaps(target) {
        guard !writing || run.permissions.contains(.write) else { continue }
        count += 1
        if ways.count < Self.wayLimit || count == 1 { ways.append(Way(maps, run, to: target)) }
      }
      omitted += count - (ways.count - start)
      if let number = maps.number { found[number] = (start..<ways.count, count) }
    }
    self.target = target
    isAboutWriting = writing
    self.ways = ways
    omittedWayCount = omitted
    self.blindness = blindness
    if target.byteCount <= 1 {
      tables =
        annotator.entries(at: target.lowerBound, in: memory).map(\.text)
        + Self.missing(at: target.lowerBound, blindness.gaps)
    } else {
      let inside = annotator.regions.filter { $0.range.overlaps(target) }.map(\.start).sorted()
      tables =
        inside.first.map { ["\(countText(inside.count, "table")), the first at \($0)"] } ?? []
    }
  }

  /// The tables that an address is a part of and that memory does not hold, each once.
  private static func missing(at address: PhysicalAddress, _ gaps: [TableGap]) -> [String] {
    var texts: [String] = []
    for gap in gaps where gap.cause == .absent {
      // From the first byte that is not there to the end of its page it is the same table.
      guard gap.address <= address, gap.address.rawValue | 4095 >= address.rawValue else {
        continue
      }
      let text = "part of a \(gap.tableText), and \(gap.presence.whereabouts)"
      if !texts.contains(text) { texts.append(text) }
    }
    return texts
  }

  /// Ways behind which all but the first of each device are counted and not told.
  private static let wayLimit = 1 << 17

  /// The address, or the range.
  private var targetText: String {
    target.byteCount <= 1 ? "\(target.lowerBound)" : target.text
  }

  enum CodingKeys: String, CodingKey {
    case address, bytes, ways, tables, unknown, incomplete
    case omittedWays = "omitted_ways"
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode("\(target.lowerBound)", forKey: .address)
    try container.encode(hexadecimal(max(1, target.byteCount)), forKey: .bytes)
    try container.encode(blindness.incomplete, forKey: .incomplete)
    if omittedWayCount > 0 { try container.encode(omittedWayCount, forKey: .omittedWays) }
    try container.encode(tables, forKey: .tables)
    try container.encode(blindness.gaps, forKey: .unknown)
    try container.encode(ways, forKey: .ways)
  }

  /// Writes a line per way, and what could not be looked through.
  public func write(to out: inout some TextOutputStream, ink: Ink = .none) {
    let isOne = target.byteCount <= 1
    for table in tables {
      out.write("\(targetText) \(isOne ? "is" : "has part of") \(ink.warning(table))\n")
    }
    if ways.isEmpty {
      let verb = isAboutWriting ? "writes" : "reaches"
      out.write(
        "no device \(verb) \(targetText)"
          + (blindness.isEmpty ? "\n" : " through what is in this dump\n"))
    }
    let name = ways.reduce(0) { max($0, $1.title.count) }
    func text(_ iova: Range<IOVA>) -> String { isOne ? "\(iova.lowerBound)" : iova.text }
    let width = ways.reduce(0) { max($0, $1.iova.map { text($0).count } ?? 0) }
    for way in ways {
      let table = ink.strong(way.title.padded(to: name))
      if let iova = way.iova, let run = way.run {
        let numbers = ink.address(text(iova).padded(to: width))
        let place =
          isOne
          ? "in \(run.iova.text) -> \(run.physicalRange.text)" : "-> \(way.physical.text)"
        out.write("\(table)  IOVA \(numbers)  \(way.access)  \(place)\n")
      } else {
        let part = isOne || way.physical == target ? "" : " in \(way.physical.text)"
        out.write(
          "\(table)  \(way.passage ?? ""): IOVA and address are the same\(part)  \(way.access)\n")
      }
    }
    if omittedWayCount > 0 {
      out.write("\(countText(omittedWayCount, "way")) more, through the tables of these devices\n")
    }
    blindness.write(to: &out, ink: ink, names: names)
  }
}
