extension VTd.DMAR {
  /// What a structure of the table is. Open: types of later revisions keep their number.
  ///
  /// Specification: Intel VT-d 8.2.
  @frozen
  public struct StructureType: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt16
    @inlinable public init(rawValue: UInt16) { self.rawValue = rawValue }

    /// DRHD: a remapping unit.
    public static let hardwareUnit = Self(rawValue: 0)
    /// RMRR: memory that a device uses on firmware's behalf.
    public static let reservedMemory = Self(rawValue: 1)
    /// ATSR: root ports that pass ATS requests.
    public static let rootPortATS = Self(rawValue: 2)
    /// RHSA: the memory node that a unit is near to.
    public static let hardwareAffinity = Self(rawValue: 3)
    /// ANDD: a device that only the ACPI name space knows.
    public static let namespaceDevice = Self(rawValue: 4)
    /// SATC: devices of the chip that have an address translation cache.
    public static let integratedATC = Self(rawValue: 5)
    /// SIDP: properties of devices of the chip.
    public static let integratedProperties = Self(rawValue: 6)

    static let known: [Self] = (0...6).map { Self(rawValue: $0) }

    /// The manual's short name; `type 7` where it has none.
    public var mnemonic: String {
      let names = ["DRHD", "RMRR", "ATSR", "RHSA", "ANDD", "SATC", "SIDP"]
      return names.indices.contains(Int(rawValue)) ? names[Int(rawValue)] : "type \(rawValue)"
    }
  }

  /// The quadword that a structure of the table starts with.
  ///
  /// Type and length, then flags, number and segment as the type has them. 64 bits. Specification:
  /// Intel VT-d 8.2 to 8.9.
  @frozen
  public struct StructureHeader: WordEntry {
    public var rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }

    public static var name: StaticString { "DMAR structure header" }
    public static var specification: StaticString { "Intel VT-d 8.2" }
    public static var exampleVariants: [StructureType] { StructureType.known }

    static var type: BitField { BitField(0...15, "Type") }
    static var length: BitField { BitField(16...31, "Length") }
    static var includePCIAll: BitField { BitField(32...32, "INCLUDE_PCI_ALL") }
    static var allPorts: BitField { BitField(32...32, "ALL_PORTS") }
    static var atcRequired: BitField { BitField(32...32, "ATC_REQUIRED") }
    static var size: BitField { BitField(40...43, "Size") }
    static var acpiDevice: BitField { BitField(56...63, "ACPI Device Number") }
    static var segmentField: BitField { BitField(48...63, "Segment Number") }

    public static func fields(_ variant: StructureType) -> [BitField] {
      let rest: [BitField] =
        switch variant {
        case .hardwareUnit:
          [includePCIAll, .reserved(33...39), size, .reserved(44...47), segmentField]
        case .rootPortATS: [allPorts, .reserved(33...39), .reserved(40...47), segmentField]
        case .integratedATC: [atcRequired, .reserved(33...39), .reserved(40...47), segmentField]
        case .reservedMemory, .integratedProperties: [.reserved(32...47), segmentField]
        case .namespaceDevice: [.reserved(32...55), acpiDevice]
        case .hardwareAffinity: [.reserved(32...63)]
        default: [.ignored(32...63)]
        }
      return [type, length] + rest
    }

    init(type: StructureType) { self.init(rawValue: UInt64(type.rawValue)) }

    init(type: StructureType, segment: UInt16, flag: Bool = false) {
      self.init(type: type)
      self[Self.segmentField] = UInt64(segment)
      // The one flag of DRHD, ATSR and SATC lies at the same place.
      self[Self.includePCIAll] = flag ? 1 : 0
    }

    /// What the structure is.
    public var structureType: StructureType { StructureType(rawValue: UInt16(self[Self.type])) }
    /// PCI segment group; meaningful for all but RHSA and ANDD.
    public var segment: UInt16 { UInt16(self[Self.segmentField]) }
    /// The bits that the structure's type reserves and that are set.
    public var violations: [BitField] { reservedViolations(structureType) }

    /// Its bytes, with the length of the whole structure.
    func stating(byteCount: Int) -> [UInt8] {
      precondition(byteCount <= 0xffff, "a DMAR structure has at most 65,535 bytes")
      var header = self
      header[Self.length] = UInt64(byteCount)
      return header.bytes
    }
  }
}
