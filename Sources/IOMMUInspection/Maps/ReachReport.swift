import IOMMUFormats
import IOMMUTranslation

/// Who can reach a physical address: the tables read backwards.
public struct ReachReport: Sendable, Encodable {
  /// One way for a device to reach the address.
  public struct Way: Sendable, Hashable, Encodable {
    /// `bus:02`, `gart`, or the requester `00:03.0`.
    public var table: String
    /// The number that the device has to put on the bus; `nil` where it is the address itself.
    public var iova: IOVA?
    public var permissions: Permissions
    /// The run that the IOVA lies in; `nil` where everything is reached.
    public var run: MappingRun?

    enum CodingKeys: String, CodingKey { case table, iova, access, run }

    public func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(table, forKey: .table)
      try container.encodeIfPresent(iova.map { "\($0)" }, forKey: .iova)
      try container.encode("\(permissions)", forKey: .access)
      try container.encodeIfPresent(run.map { $0.iova.text }, forKey: .run)
    }
  }

  public let address: PhysicalAddress
  public let ways: [Way]
  /// What the address is itself, when it lies in a table: `SS-PTE of 00:03.0 …`.
  public let tables: [String]

  /// Looks through every table in force.
  ///
  /// - Throws: ``MapsError/exhausted(_:)`` when tables point at each other.
  /// - Complexity: O(entries of all tables).
  public init(
    _ address: PhysicalAddress, machine: Machine, in memory: some PhysicalMemory
  ) throws(MapsError) {
    var ways: [Way] = []
    try MapsReport(machine, in: memory).forEachTable(in: memory) { maps in
      if maps.isPassThrough {
        ways.append(Way(table: maps.table.name, iova: nil, permissions: .readWrite, run: nil))
      }
      // A run may be without end for a broken table; what it reaches wraps nowhere.
      for run in maps.runs where run.physicalRange.contains(address) {
        let offset = address.rawValue - run.physical.rawValue
        ways.append(
          Way(
            table: maps.table.name, iova: IOVA(run.iova.lowerBound.rawValue + offset),
            permissions: run.permissions, run: run))
      }
    }
    self.address = address
    self.ways = ways
    tables = Annotator(machine, in: memory).entries(at: address, in: memory).map(\.text)
  }

  enum CodingKeys: String, CodingKey { case address, ways, tables }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode("\(address)", forKey: .address)
    try container.encode(ways, forKey: .ways)
    try container.encode(tables, forKey: .tables)
  }

  /// Writes a line per way.
  public func write(to out: inout some TextOutputStream, ink: Ink = .none) {
    for table in tables { out.write("\(address) is \(ink.warning(table))\n") }
    guard !ways.isEmpty else {
      out.write("no device reaches \(address) through a table\n")
      return
    }
    let name = ways.reduce(0) { max($0, $1.table.count) }
    let iova = ways.reduce(0) { max($0, $1.iova.map { "\($0)".count } ?? 0) }
    for way in ways {
      let table = ink.strong(way.table.padded(to: name))
      if let number = way.iova, let run = way.run {
        out.write(
          "\(table)  IOVA \(ink.address("\(number)".padded(to: iova)))  \(way.permissions)  in "
            + "\(run.iova.text) -> \(run.physicalRange.text)\n")
      } else {
        out.write("\(table)  pass-through: IOVA and address are the same  \(way.permissions)\n")
      }
    }
  }
}
