extension VTd.DMAR {
  /// DRHD: a remapping unit and the devices it stands above. Specification: Intel VT-d 8.3.
  public struct HardwareUnit: Sendable, Hashable {
    var header: StructureHeader
    /// Physical address of the unit's registers.
    public var base: PhysicalAddress
    /// The devices that are meant.
    public var scopes: [DeviceScope]

    /// - Parameters:
    ///   - base: Physical address of the unit's registers.
    ///   - segment: The PCI segment group.
    ///   - includesAllPCI: The unit owns every PCI device of its segment that is listed nowhere
    ///     else; it is the last one of the segment, and its scopes are I/O APICs and HPETs.
    ///   - pageCountLog2: The registers take this power of two of pages, 0 to 15.
    ///   - scopes: The devices that the unit stands above.
    public init(
      base: PhysicalAddress, segment: UInt16 = 0, includesAllPCI: Bool = false,
      pageCountLog2: Int = 0, scopes: [DeviceScope] = []
    ) {
      header = StructureHeader(type: .hardwareUnit, segment: segment, flag: includesAllPCI)
      header[StructureHeader.size] = UInt64(pageCountLog2)
      self.base = base
      self.scopes = scopes
    }

    init(header: StructureHeader, base: PhysicalAddress, scopes: [DeviceScope]) {
      self.header = header
      self.base = base
      self.scopes = scopes
    }

    /// The PCI segment group.
    public var segment: UInt16 { header.segment }
    /// INCLUDE_PCI_ALL: every device of the segment that no other unit has.
    public var includesAllPCI: Bool { header[StructureHeader.includePCIAll] != 0 }
    /// Bytes of registers: 4 KiB to 128 MiB.
    public var registerByteCount: UInt64 { 4096 << header[StructureHeader.size] }
  }

  /// RMRR: memory that devices use on firmware's behalf, and that must stay mapped to itself.
  ///
  /// Specification: Intel VT-d 8.4.
  public struct ReservedMemoryRegion: Sendable, Hashable {
    var header: StructureHeader
    /// The first byte of the region.
    public var base: PhysicalAddress
    /// The last byte of the region.
    public var limit: PhysicalAddress
    /// The devices that are meant.
    public var scopes: [DeviceScope]

    /// - Parameters:
    ///   - memory: Half-open, multiples of 4 KiB.
    ///   - segment: The PCI segment group.
    ///   - scopes: The devices that use the memory.
    /// - Precondition: it is not empty.
    public init(_ memory: Range<PhysicalAddress>, segment: UInt16 = 0, scopes: [DeviceScope]) {
      precondition(!memory.isEmpty, "a reserved memory region holds at least a page")
      header = StructureHeader(type: .reservedMemory, segment: segment)
      base = memory.lowerBound
      limit = PhysicalAddress(memory.upperBound.rawValue - 1)
      self.scopes = scopes
    }

    init(
      header: StructureHeader, base: PhysicalAddress, limit: PhysicalAddress, scopes: [DeviceScope]
    ) {
      self.header = header
      self.base = base
      self.limit = limit
      self.scopes = scopes
    }

    /// The PCI segment group.
    public var segment: UInt16 { header.segment }
    /// The region, half-open; `nil` when its limit lies below its base or is the last byte of all.
    public var memory: Range<PhysicalAddress>? {
      guard limit > base, let end = limit.advanced(byBytes: 1) else { return nil }
      return base..<end
    }
    /// Base and limit are as the manual wants them: whole pages, at least one.
    public var isWellFormed: Bool {
      memory.map { $0.lowerBound.isAligned(to: 4096) && $0.upperBound.isAligned(to: 4096) } ?? false
    }
  }

  /// ATSR: root ports below which devices may use ATS. Specification: Intel VT-d 8.5.
  public struct RootPortATS: Sendable, Hashable {
    var header: StructureHeader
    /// Of type sub-hierarchy; none when all ports are meant.
    public var scopes: [DeviceScope]

    /// All root ports of a segment.
    public static func allPorts(segment: UInt16 = 0) -> RootPortATS {
      RootPortATS(
        header: StructureHeader(type: .rootPortATS, segment: segment, flag: true), scopes: [])
    }

    /// These root ports of a segment.
    public init(segment: UInt16 = 0, scopes: [DeviceScope]) {
      self.init(header: StructureHeader(type: .rootPortATS, segment: segment), scopes: scopes)
    }

    init(header: StructureHeader, scopes: [DeviceScope]) {
      self.header = header
      self.scopes = scopes
    }

    /// The PCI segment group.
    public var segment: UInt16 { header.segment }
    /// ALL_PORTS: every root port of the segment.
    public var meansAllPorts: Bool { header[StructureHeader.allPorts] != 0 }
  }

  /// RHSA: the memory node that a unit is near to. Specification: Intel VT-d 8.6.
  public struct HardwareAffinity: Sendable, Hashable {
    var header = StructureHeader(type: .hardwareAffinity)
    /// The unit, by the address of its registers.
    public var base: PhysicalAddress
    /// A domain of the SRAT.
    public var proximityDomain: UInt32

    /// The unit at `base` is near to this domain.
    public init(base: PhysicalAddress, proximityDomain: UInt32) {
      self.base = base
      self.proximityDomain = proximityDomain
    }

    init(header: StructureHeader, base: PhysicalAddress, proximityDomain: UInt32) {
      self.header = header
      self.base = base
      self.proximityDomain = proximityDomain
    }
  }

  /// ANDD: gives a device of the ACPI name space a number. Specification: Intel VT-d 8.7.
  public struct NamespaceDevice: Sendable, Hashable {
    var header: StructureHeader
    /// The name with the zero that ends it, and what may follow that.
    var nameBytes: [UInt8]

    /// - Parameters:
    ///   - number: What device scopes of type 5 call the device.
    ///   - name: An absolute name, such as `\_SB.I2C0`.
    public init(number: UInt8, name: String) {
      header = StructureHeader(type: .namespaceDevice)
      header[StructureHeader.acpiDevice] = UInt64(number)
      nameBytes = Array(name.utf8) + [0]
    }

    init(header: StructureHeader, nameBytes: [UInt8]) {
      self.header = header
      self.nameBytes = nameBytes
    }

    /// What device scopes of type 5 call the device.
    public var number: UInt8 { UInt8(header[StructureHeader.acpiDevice]) }
    /// Up to the zero that ends it; bytes that are no ASCII as a replacement character.
    public var name: String {
      String(
        decoding: nameBytes.prefix { $0 != 0 }.map { $0 < 0x80 ? $0 : 0xff }, as: UTF8.self)
    }
    /// A zero ends the name.
    public var isTerminated: Bool { nameBytes.contains(0) }
  }

  /// SATC: devices of the chip with an address translation cache. Specification: Intel VT-d 8.8.
  public struct IntegratedATC: Sendable, Hashable {
    var header: StructureHeader
    /// Endpoints with one step.
    public var scopes: [DeviceScope]

    /// Devices whose translation cache the kernel may, or has to, switch on.
    public init(isRequired: Bool, segment: UInt16 = 0, scopes: [DeviceScope]) {
      self.init(
        header: StructureHeader(type: .integratedATC, segment: segment, flag: isRequired),
        scopes: scopes)
    }

    init(header: StructureHeader, scopes: [DeviceScope]) {
      self.header = header
      self.scopes = scopes
    }

    /// The PCI segment group.
    public var segment: UInt16 { header.segment }
    /// The devices do not work without their caches.
    public var isRequired: Bool { header[StructureHeader.atcRequired] != 0 }
  }

  /// SIDP: properties of devices of the chip, in the flags of their scopes. Specification: Intel
  /// VT-d 8.9.
  public struct IntegratedProperties: Sendable, Hashable {
    var header: StructureHeader
    /// Endpoints and devices of the ACPI name space, with one step.
    public var scopes: [DeviceScope]

    /// Devices with what their scopes' flags say.
    public init(segment: UInt16 = 0, scopes: [DeviceScope]) {
      self.init(
        header: StructureHeader(type: .integratedProperties, segment: segment), scopes: scopes)
    }

    init(header: StructureHeader, scopes: [DeviceScope]) {
      self.header = header
      self.scopes = scopes
    }

    /// The PCI segment group.
    public var segment: UInt16 { header.segment }
  }

  /// A structure of a type that the manual does not know: kept, and skipped by its length.
  public struct UnknownStructure: Sendable, Hashable {
    /// The number that the table has.
    public var type: StructureType
    /// What follows type and length.
    public var body: [UInt8]

    /// A structure with these bytes after its type and length.
    public init(type: StructureType, body: [UInt8]) {
      self.type = type
      self.body = body
    }
  }

  /// One structure of the table.
  public enum Structure: Sendable, Hashable {
    /// DRHD.
    case hardwareUnit(HardwareUnit)
    /// RMRR.
    case reservedMemory(ReservedMemoryRegion)
    /// ATSR.
    case rootPortATS(RootPortATS)
    /// RHSA.
    case hardwareAffinity(HardwareAffinity)
    /// ANDD.
    case namespaceDevice(NamespaceDevice)
    /// SATC.
    case integratedATC(IntegratedATC)
    /// SIDP.
    case integratedProperties(IntegratedProperties)
    /// A type of a later revision.
    case unknown(UnknownStructure)

    /// Which structure it is.
    public var type: StructureType {
      switch self {
      case .hardwareUnit: .hardwareUnit
      case .reservedMemory: .reservedMemory
      case .rootPortATS: .rootPortATS
      case .hardwareAffinity: .hardwareAffinity
      case .namespaceDevice: .namespaceDevice
      case .integratedATC: .integratedATC
      case .integratedProperties: .integratedProperties
      case .unknown(let unknown): unknown.type
      }
    }

    /// The structure's first quadword; `nil` for an unknown one.
    public var header: StructureHeader? {
      switch self {
      case .hardwareUnit(let unit): unit.header
      case .reservedMemory(let region): region.header
      case .rootPortATS(let ports): ports.header
      case .hardwareAffinity(let affinity): affinity.header
      case .namespaceDevice(let device): device.header
      case .integratedATC(let devices): devices.header
      case .integratedProperties(let devices): devices.header
      case .unknown: nil
      }
    }

    /// The device scopes at the structure's end; none where it has none.
    public var scopes: [DeviceScope] {
      switch self {
      case .hardwareUnit(let unit): unit.scopes
      case .reservedMemory(let region): region.scopes
      case .rootPortATS(let ports): ports.scopes
      case .integratedATC(let devices): devices.scopes
      case .integratedProperties(let devices): devices.scopes
      case .hardwareAffinity, .namespaceDevice, .unknown: []
      }
    }

    /// What stands between the first quadword and the scopes, or after the first four bytes of an
    /// unknown structure.
    private var middle: [UInt8] {
      var bytes: [UInt8] = []
      switch self {
      case .hardwareUnit(let unit):
        bytes.append(littleEndian: unit.base.rawValue)
      case .reservedMemory(let region):
        bytes.append(littleEndian: region.base.rawValue)
        bytes.append(littleEndian: region.limit.rawValue)
      case .hardwareAffinity(let affinity):
        bytes.append(littleEndian: affinity.base.rawValue)
        bytes.append(littleEndian: affinity.proximityDomain)
      case .namespaceDevice(let device):
        bytes = device.nameBytes
      case .unknown(let unknown):
        bytes = unknown.body
      case .rootPortATS, .integratedATC, .integratedProperties: break
      }
      return bytes
    }

    /// Bytes before the first scope.
    public var fixedByteCount: Int { (header == nil ? 4 : 8) + middle.count }

    /// Bytes that the structure takes in the table.
    public var byteCount: Int { scopes.reduce(fixedByteCount) { $0 + $1.byteCount } }

    /// The structure's bytes, with the length that they have.
    public var bytes: [UInt8] {
      let count = byteCount
      let start =
        header?.stating(byteCount: count)
        ?? Array(StructureHeader(type: type).stating(byteCount: count)[..<4])
      return scopes.reduce(start + middle) { $0 + $1.bytes }
    }

    /// The scopes with the byte offsets, from the structure's start, at which they lie.
    public var placedScopes: [(offset: Int, scope: DeviceScope)] {
      var offset = fixedByteCount
      return scopes.map { scope in
        defer { offset += scope.byteCount }
        return (offset, scope)
      }
    }
  }
}
