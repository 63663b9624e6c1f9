import IOMMUFormats

/// Whose requests a table translates.
public enum TableOwner: Hashable, Sendable {
  /// Every device on these buses: a Calgary PHB's.
  case buses(ClosedRange<UInt8>)
  /// Every device that uses a GART's aperture.
  case aperture
  /// One requester; in scalable mode one of its address spaces.
  case requester(PCI.Function, addressSpace: PASID? = nil)
  /// Nobody knows: a table found where it lies.
  case table(PhysicalAddress)

  /// Whether requests of a device go through the table; `nil` where nobody knows.
  public func covers(_ device: PCI.Function) -> Bool? {
    switch self {
    case .buses(let buses): device.segment == 0 && buses.contains(device.requester.bus)
    case .aperture: true
    case .requester(let owner, _): owner == device
    case .table: nil
    }
  }

  /// A device whose requests go through the table: of several one that may or may not exist.
  public var device: PCI.Function? {
    switch self {
    case .buses(let buses):
      PCI.Function(Requester(bus: buses.lowerBound, device: 0, function: 0))
    case .requester(let device, _): device
    case .aperture, .table: nil
    }
  }
}

extension TableOwner: CustomStringConvertible {
  /// `bus:02`, `gart`, the requester's `00:03.0`, with an address space `00:03.0/0`, or
  /// `table:0x3f400000`.
  public var description: String {
    switch self {
    case .buses(let buses): "bus:" + hexadecimal(buses.lowerBound, digits: 2)
    case .aperture: "gart"
    case .requester(let device, let pasid): "\(device)" + (pasid.map { "/\($0)" } ?? "")
    case .table(let address): "table:\(address)"
    }
  }
}

/// What some devices of a machine see: a table, or all of memory.
public struct DMATable: Sendable {
  public var owner: TableOwner
  /// What the requests carry; `nil` for requests without PASID.
  public var pasid: PASID?
  /// What the device sees; `nil` for one that passes untranslated.
  public var table: Table?
  /// What a device without a table may do with all of memory.
  public var permissions: Permissions = .readWrite
  /// The number by which hardware tells cached translations of this table from those of others;
  /// `nil` where it needs none.
  public var domainID: UInt16?

  /// - Parameters:
  ///   - owner: Whose requests go through the table.
  ///   - pasid: What the requests carry; `nil` for requests without PASID.
  ///   - table: What the device sees; `nil` for one that passes untranslated.
  ///   - domainID: The number by which hardware tells cached translations apart; `nil` where it
  ///     needs none.
  public init(
    owner: TableOwner, pasid: PASID? = nil, table: Table?, domainID: UInt16? = nil
  ) {
    self.owner = owner
    self.pasid = pasid
    self.table = table
    self.domainID = domainID
  }

  /// What people call it by: ``TableOwner/description``.
  public var name: String { "\(owner)" }

  /// The device reaches all of physical memory and has no table.
  public var isPassThrough: Bool { table == nil }

  /// Where the uppermost table lies; a guest's address for nested tables, `nil` without a table.
  public var root: PhysicalAddress? { table?.root }
}

/// What requests may do to a page.
public struct MappedAccess: Hashable, Sendable {
  /// Read, write, or both.
  public var permissions: Permissions
  /// Only requests of supervisor privilege may.
  public var needsSupervisor: Bool

  /// - Precondition: something is permitted.
  public init(_ permissions: Permissions, needsSupervisor: Bool = false) {
    precondition(!permissions.isDisjoint(with: .readWrite), "a mapping permits something")
    self.permissions = permissions.intersection(.readWrite)
    self.needsSupervisor = needsSupervisor
  }
}

/// Mappings next to each other: IOVA and physical address both go on, with the same permissions.
public struct MappingRun: Hashable, Sendable {
  public var iova: Range<IOVA>
  public var physical: PhysicalAddress
  public var access: MappedAccess

  public init(iova: Range<IOVA>, physical: PhysicalAddress, access: MappedAccess) {
    self.iova = iova
    self.physical = physical
    self.access = access
  }

  public init(iova: Range<IOVA>, physical: PhysicalAddress, permissions: Permissions) {
    self.init(iova: iova, physical: physical, access: MappedAccess(permissions))
  }

  /// Read, write, or both.
  public var permissions: Permissions { access.permissions }

  /// Bytes mapped. A run that ends with the last address of all has one more than its range can say.
  public var byteCount: UInt64 {
    iova.upperBound.rawValue == .max && iova.lowerBound.rawValue > 0
      ? iova.byteCount &+ 1 : iova.byteCount
  }

  /// The physical addresses reached, half-open.
  public var physicalRange: Range<PhysicalAddress> {
    physical..<PhysicalAddress(physical.rawValue &+ byteCount)
  }
}
