extension Calgary {
  /// The Rio Grande table that xSeries firmware leaves in the EBDA: the chassis' nodes and chips.
  ///
  /// A header of three bytes, then the scalability nodes, then the RIO nodes, all packed and
  /// little-endian. The records of version 3 are longer than those of version 2. Of the RIO nodes
  /// those of two types are Calgary chips, and of these only the register base is used: which buses
  /// a chip has, it says itself.
  ///
  /// Source: Linux `rio.h`, `pci-calgary_64.c`.
  public struct RioTable: Sendable, Hashable {
    /// Which records the table has.
    public enum Version: UInt8, Sendable, CaseIterable {
      /// Shorter records, without chassis.
      case two = 2
      /// Records with chassis.
      case three = 3

      /// Bytes of a scalability node's record.
      public var scalabilityByteCount: Int { self == .two ? 11 : 12 }
      /// Bytes of a RIO node's record.
      public var rioByteCount: Int { self == .two ? 13 : 15 }
    }

    /// Where a port leads: a node and one of its ports; 0xff where it leads nowhere.
    public struct Port: Sendable, Hashable {
      /// The node's identifier.
      public var node: UInt8
      /// The port's number.
      public var port: UInt8

      /// A way to one port of a node.
      public init(node: UInt8, port: UInt8) {
        self.node = node
        self.port = port
      }

      /// Leads nowhere.
      public static let none = Port(node: 0xff, port: 0xff)
    }

    /// A chassis' scalability controller.
    public struct ScalabilityNode: Sendable, Hashable {
      /// The node's own number.
      public var identifier: UInt8
      /// CBAR: the physical base of its registers.
      public var base: UInt32
      /// Three.
      public var ports: [Port]
      /// 0 in version 2, which does not say.
      public var chassis: UInt8

      /// A controller with what the table says of it.
      public init(identifier: UInt8, base: UInt32, ports: [Port], chassis: UInt8 = 0) {
        precondition(ports.count == 3, "a scalability node has three ports")
        self.identifier = identifier
        self.base = base
        self.ports = ports
        self.chassis = chassis
      }
    }

    /// A chip on the Rio Grande interconnect.
    public struct RioNode: Sendable, Hashable {
      /// The chip's own number.
      public var identifier: UInt8
      /// BBAR: the physical base of its 1 MiB of registers.
      public var base: UInt32
      /// The chip's type as the table has it; see ``kind``.
      public var type: UInt8
      /// The scalability node that the chip belongs to.
      public var owner: UInt8
      /// Two.
      public var ports: [Port]
      /// The number of the first slot below the chip.
      public var firstSlot: UInt8
      /// Nobody knows what it says; firmware writes 1.
      public var status: UInt8
      /// 0 in version 2, as is the chassis.
      public var wpIndex: UInt8
      /// The chassis that the chip is in.
      public var chassis: UInt8

      /// A chip with what the table says of it.
      public init(
        identifier: UInt8, base: UInt32, type: UInt8, owner: UInt8, ports: [Port],
        firstSlot: UInt8 = 1, status: UInt8 = 1, wpIndex: UInt8 = 0, chassis: UInt8 = 0
      ) {
        precondition(ports.count == 2, "a RIO node has two ports")
        self.identifier = identifier
        self.base = base
        self.type = type
        self.owner = owner
        self.ports = ports
        self.firstSlot = firstSlot
        self.status = status
        self.wpIndex = wpIndex
        self.chassis = chassis
      }

      /// `nil` for a type that no source names.
      public var kind: RioKind? { RioKind(rawValue: type) }
    }

    /// The types of RIO nodes that a public source names.
    public enum RioKind: UInt8, Sendable, CaseIterable {
      /// A scalability controller.
      case hurricaneScalability = 0
      /// A bridge to the RIO interconnect.
      case hurricaneRIOIB = 2
      /// The chip with the compatibility bus.
      case compatibilityCalgary = 4
      /// A Calgary without the compatibility bus.
      case alternateCalgary = 5

      /// Whether the chip is a Calgary or a CalIOC2.
      public var isCalgary: Bool { self == .compatibilityCalgary || self == .alternateCalgary }
    }

    /// Which records the table has.
    public var version: Version
    /// The chassis' controllers.
    public var scalabilityNodes: [ScalabilityNode]
    /// The chips.
    public var rioNodes: [RioNode]

    /// A table of these nodes, at most 255 of each kind.
    public init(version: Version, scalabilityNodes: [ScalabilityNode], rioNodes: [RioNode]) {
      precondition(
        scalabilityNodes.count <= 255 && rioNodes.count <= 255, "the counts are bytes")
      self.version = version
      self.scalabilityNodes = scalabilityNodes
      self.rioNodes = rioNodes
    }

    /// The register bases of the Calgary chips, in table order.
    public var calgaryBases: [PhysicalAddress] {
      rioNodes.filter { $0.kind?.isCalgary == true }.map { PhysicalAddress(UInt64($0.base)) }
    }
  }
}

// MARK: Bytes

extension Calgary.RioTable {
  /// Version and the two counts, a byte each.
  public static let headerByteCount = 3

  /// Bytes of the longest table there is: of version 3, with 255 nodes of either kind.
  static let byteCountLimit =
    headerByteCount + 255 * (Version.three.scalabilityByteCount + Version.three.rioByteCount)

  /// Bytes of the table.
  public var byteCount: Int {
    Self.headerByteCount + scalabilityNodes.count * version.scalabilityByteCount
      + rioNodes.count * version.rioByteCount
  }

  /// The table's bytes, in the order they lie in memory.
  public var bytes: [UInt8] {
    var bytes = [
      version.rawValue, UInt8(scalabilityNodes.count), UInt8(rioNodes.count),
    ]
    for node in scalabilityNodes {
      bytes += [node.identifier] + Self.little(node.base)
      bytes += node.ports.flatMap { [$0.node, $0.port] }
      if version == .three { bytes.append(node.chassis) }
    }
    for node in rioNodes {
      bytes += [node.identifier] + Self.little(node.base) + [node.type, node.owner]
      bytes += node.ports.flatMap { [$0.node, $0.port] }
      bytes += [node.firstSlot, node.status]
      if version == .three { bytes += [node.wpIndex, node.chassis] }
    }
    return bytes
  }

  private static func little(_ word: UInt32) -> [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: word >> UInt32(8 * $0)) }
  }

  /// Reads a table out of the bytes from its header on.
  ///
  /// - Parameters:
  ///   - bytes: The table, and whatever follows it.
  ///   - nodeLimit: More scalability nodes than this are refused, as by a kernel that has no room
  ///     for them.
  /// - Throws: ``RioTableError``.
  public init(bytes: [UInt8], nodeLimit: Int = 64) throws(Calgary.RioTableError) {
    guard bytes.count >= Self.headerByteCount else {
      throw .truncated(needed: Self.headerByteCount, found: bytes.count)
    }
    guard let version = Version(rawValue: bytes[0]) else { throw .unknownVersion(bytes[0]) }
    let (scalabilityCount, rioCount) = (Int(bytes[1]), Int(bytes[2]))
    guard scalabilityCount <= nodeLimit else {
      throw .tooManyNodes(scalabilityCount, limit: nodeLimit)
    }
    let rioStart = Self.headerByteCount + scalabilityCount * version.scalabilityByteCount
    let end = rioStart + rioCount * version.rioByteCount
    guard bytes.count >= end else { throw .truncated(needed: end, found: bytes.count) }
    func word(_ offset: Int) -> UInt32 {
      (0..<4).reduce(0) { $0 | UInt32(bytes[offset + $1]) << UInt32(8 * $1) }
    }
    func port(_ offset: Int) -> Port { Port(node: bytes[offset], port: bytes[offset + 1]) }
    let scalabilityNodes = (0..<scalabilityCount).map { index -> ScalabilityNode in
      let at = Self.headerByteCount + index * version.scalabilityByteCount
      return ScalabilityNode(
        identifier: bytes[at], base: word(at + 1),
        ports: [port(at + 5), port(at + 7), port(at + 9)],
        chassis: version == .three ? bytes[at + 11] : 0)
    }
    let rioNodes = (0..<rioCount).map { index -> RioNode in
      let at = rioStart + index * version.rioByteCount
      return RioNode(
        identifier: bytes[at], base: word(at + 1), type: bytes[at + 5], owner: bytes[at + 6],
        ports: [port(at + 7), port(at + 9)], firstSlot: bytes[at + 11], status: bytes[at + 12],
        wpIndex: version == .three ? bytes[at + 13] : 0,
        chassis: version == .three ? bytes[at + 14] : 0)
    }
    self.init(version: version, scalabilityNodes: scalabilityNodes, rioNodes: rioNodes)
  }
}

extension Calgary {
  /// Why a Rio table, or the EBDA it lies in, cannot be used.
  public enum RioTableError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The EBDA's list of blocks ends without a Rio table.
    case notFound(lastBlock: UInt16)
    /// Neither version 2 nor 3.
    case unknownVersion(UInt8)
    /// More scalability nodes than are accepted.
    case tooManyNodes(Int, limit: Int)
    /// The table needs more bytes than there are.
    case truncated(needed: Int, found: Int)
    /// No memory answers where the firmware's data should be.
    case unreadable(PhysicalAddress)

    public var description: String {
      switch self {
      case .notFound(let block):
        "the EBDA has no Rio table: its list of blocks ends at offset \(hexadecimal(block))"
      case .unknownVersion(let version):
        "Rio table version \(version); versions 2 and 3 are known"
      case .tooManyNodes(let count, let limit):
        "a Rio table with \(count) scalability nodes; at most \(limit) are accepted"
      case .truncated(let needed, let found):
        "a Rio table of \(needed) bytes, of which \(found) are there"
      case .unreadable(let address): "no memory at \(address), where firmware keeps its data"
      }
    }
  }
}
