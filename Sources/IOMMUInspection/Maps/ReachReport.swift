import IOMMUFormats
import IOMMUTranslation

/// Who can reach a physical address: the tables read backwards.
public struct ReachReport: Sendable, Encodable {
  /// One way for a device to reach the address.
  public struct Way: Sendable, Hashable, Encodable {
    /// `bus:02`, `gart`, or the requester `00:03.0`; `any device` and the like past all tables.
    public var table: String
    /// The number that the device has to put on the bus; `nil` where it is the address itself.
    public var iova: IOVA?
    public var access: MappedAccess
    /// The run that the IOVA lies in; `nil` where everything is reached.
    public var run: MappingRun?
    /// Why no table stands in the way; `nil` where one does.
    public var passage: String?

    enum CodingKeys: String, CodingKey { case table, iova, access, privilege, run, passage }

    public func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(table, forKey: .table)
      try container.encodeIfPresent(iova.map { "\($0)" }, forKey: .iova)
      try container.encode("\(access.permissions)", forKey: .access)
      if access.needsSupervisor { try container.encode("supervisor", forKey: .privilege) }
      try container.encodeIfPresent(run.map { $0.iova.text }, forKey: .run)
      try container.encodeIfPresent(passage, forKey: .passage)
    }
  }

  public let address: PhysicalAddress
  public let ways: [Way]
  /// What the address is itself, when it lies in a table: `SS-PTE of 00:03.0 …`.
  public let tables: [String]

  /// What could not be looked through: where this is not empty, others may reach the address.
  public let blindness: Blindness

  /// Looks through every table in force, and at what passes them.
  ///
  /// - Complexity: O(entries of all tables).
  public init(_ address: PhysicalAddress, machine: Machine, in memory: some PhysicalMemory) {
    var ways = machine.passages.filter { $0.contains(address.rawValue) }.map {
      Way(
        table: "\($0.devices)", iova: nil, access: MappedAccess(.readWrite), run: nil,
        passage: "not translated")
    }
    let annotator = Annotator(machine, in: memory)
    var blindness = Blindness()
    let report = MapsReport(all: machine, in: memory)
    blindness.add(report.gaps)
    report.forEachTable(in: memory) { maps in
      blindness.add(maps.gaps)
      if maps.isPassThrough {
        ways.append(
          Way(
            table: maps.table.name, iova: nil, access: MappedAccess(.readWrite), run: nil,
            passage: DMATable.passThroughText))
      }
      // A run may be without end for a broken table; what it reaches wraps nowhere.
      for run in maps.runs where run.physicalRange.contains(address) {
        let offset = address.rawValue - run.physical.rawValue
        ways.append(
          Way(
            table: maps.table.name, iova: IOVA(run.iova.lowerBound.rawValue + offset),
            access: run.access, run: run))
      }
    }
    self.address = address
    self.ways = ways
    self.blindness = blindness
    tables = annotator.entries(at: address, in: memory).map(\.text)
  }

  enum CodingKeys: String, CodingKey { case address, ways, tables, unknown }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode("\(address)", forKey: .address)
    try container.encode(ways, forKey: .ways)
    try container.encode(tables, forKey: .tables)
    try container.encode(blindness.gaps, forKey: .unknown)
  }

  /// Writes a line per way, and what could not be looked through.
  public func write(to out: inout some TextOutputStream, ink: Ink = .none) {
    for table in tables { out.write("\(address) is \(ink.warning(table))\n") }
    if ways.isEmpty {
      out.write(
        blindness.isEmpty
          ? "no device reaches \(address)\n"
          : "no device reaches \(address) through what is in this dump\n")
    }
    let name = ways.reduce(0) { max($0, $1.table.count) }
    let iova = ways.reduce(0) { max($0, $1.iova.map { "\($0)".count } ?? 0) }
    for way in ways {
      let table = ink.strong(way.table.padded(to: name))
      if let number = way.iova, let run = way.run {
        out.write(
          "\(table)  IOVA \(ink.address("\(number)".padded(to: iova)))  \(way.access)  in "
            + "\(run.iova.text) -> \(run.physicalRange.text)\n")
      } else {
        out.write(
          "\(table)  \(way.passage ?? ""): IOVA and address are the same  \(way.access)\n")
      }
    }
    blindness.write(to: &out, ink: ink)
  }
}
