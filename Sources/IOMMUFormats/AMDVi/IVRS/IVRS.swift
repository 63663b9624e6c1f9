extension AMDVi {
  /// The ACPI table that tells a kernel which IOMMUs there are, and for which devices.
  ///
  /// A header of 48 bytes, then blocks of their own lengths: IVHD for a unit, with an entry for each
  /// device or range of devices, and IVMD for memory that devices use. Real tables name one unit several
  /// times, as blocks of several types; a kernel takes those of the last type that it knows.
  /// Specification: AMD IOMMU 5.2.
  public struct IVRS: Sendable, Hashable {
    /// What every ACPI table has.
    public let header: ACPI.TableHeader
    /// Bytes that the header states.
    public let byteCount: Int
    /// The header's checksum.
    public let checksum: UInt8
    /// Bytes 36 to 47.
    public let info: Info
    /// In the order of the table, up to where its bytes make no sense.
    public let blocks: [Block]
    /// Why the rest was not read; empty for a table that is whole.
    public let damage: [ACPI.Finding]
    /// Bytes from the table's start that were not read, up to its stated end; `nil` for a table that is
    /// whole.
    public var unread: Range<Int>? {
      guard !damage.isEmpty else { return nil }
      let readEnd =
        blocks.last.map { block in
          block.hasAllEntries
            ? block.offset + block.bytes.count
            : block.offset + block.type.fixedByteCount
              + block.entries.reduce(0) { $0 + $1.bytes.count }
        } ?? Self.headerByteCount
      return min(readEnd, byteCount)..<byteCount
    }

    /// The four characters that the table begins with.
    public static let signature = "IVRS"
    /// Bytes before the first block.
    public static let headerByteCount = 48
    /// The last revision that is known.
    public static let knownRevision: UInt8 = 2
  }
}

extension AMDVi.IVRS {
  /// IVinfo, and the reserved bytes behind it. Specification: AMD IOMMU 5.2.1.
  public struct Info: FirmwareStructure {
    public let bytes: [UInt8]
    public var offset: Int { ACPI.TableHeader.byteCount }

    static let efr = BitField(0...0, "EFRSup")
    static let remapsDMA = BitField(1...1, "DmaRemapSup")
    static let guestWidth = BitField(5...7, "GVASize")
    static let physicalWidth = BitField(8...14, "PASize")
    static let virtualWidth = BitField(15...21, "VASize")
    static let reservesATS = BitField(22...22, "HtAtsResv")

    public var fields: [BitField] {
      [
        Self.efr, Self.remapsDMA, .reserved(2...4), Self.guestWidth, Self.physicalWidth,
        Self.virtualWidth, Self.reservesATS, .reserved(23...31), .reserved(32...63),
        .reserved(64...95),
      ]
    }

    /// Bits in a physical address.
    public var physicalAddressWidth: Int { Int(self[Self.physicalWidth]) }
    /// Bits in an address that a device uses.
    public var virtualAddressWidth: Int { Int(self[Self.virtualWidth]) }
    /// Units may have an extended feature register.
    public var hasExtendedFeatures: Bool { self[Self.efr] != 0 }
    /// Firmware has left the remapping of DMA on.
    public var remapsDMA: Bool { self[Self.remapsDMA] != 0 }
  }

  /// What a block is. Open: types of later revisions keep their number.
  @frozen
  public struct BlockType: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt8
    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// IVHD 10h: a unit, with fields as the first units had them.
    public static let unit = Self(rawValue: 0x10)
    /// IVHD 11h: a unit with its extended features.
    public static let extendedUnit = Self(rawValue: 0x11)
    /// IVHD 40h: as 11h, and its entries may name ACPI devices.
    public static let acpiUnit = Self(rawValue: 0x40)
    /// IVMD 20h: memory of all devices.
    public static let memoryOfAll = Self(rawValue: 0x20)
    /// IVMD 21h: memory of one device.
    public static let memoryOfOne = Self(rawValue: 0x21)
    /// IVMD 22h: memory of a range of devices.
    public static let memoryOfRange = Self(rawValue: 0x22)

    /// IVHD of some kind.
    public var isUnit: Bool { [.unit, .extendedUnit, .acpiUnit].contains(self) }
    /// IVMD of some kind.
    public var isMemory: Bool { 0x20...0x22 ~= rawValue }
    /// `IVHD 10h`; `type 51h` where the manual has no name.
    public var mnemonic: String {
      let number = String(rawValue, radix: 16, uppercase: true).paddedWithZero + "h"
      return (isUnit ? "IVHD " : isMemory ? "IVMD " : "type ") + number
    }

    /// Bytes before the first entry, or all of a block of fixed length.
    var fixedByteCount: Int {
      switch self {
      case .unit: 24
      case .extendedUnit, .acpiUnit: 40
      default: isMemory ? 32 : 4
      }
    }
  }

  /// IVHD, IVMD, or a block of a type that nobody knows. Specification: AMD IOMMU 5.2.2.
  public struct Block: FirmwareStructure {
    public let offset: Int
    /// All of the block, or what is there of one in which the table is cut off.
    public let bytes: [UInt8]
    /// The devices behind a unit, in their order; none of other blocks.
    public internal(set) var entries: [DeviceEntry] = []

    static let typeField = BitField(0...7, "Type")
    static let length = BitField(16...31, "Length")
    static let device = BitField(32...47, "DeviceID")
    static let capability = BitField(48...63, "Capability Offset")
    static let base = BitField(64...127, "IOMMU Base Address", .address)
    static let segmentField = BitField(128...143, "PCI Segment Group")
    static let lastDevice = BitField(48...63, "Last DeviceID")
    static let memorySegment = BitField(64...79, "PCI Segment Group")
    static let start = BitField(128...191, "IVMD Start Address", .address)
    static let memoryLength = BitField(192...255, "IVMD Memory Block Length")
    static let efr = BitField(192...255, "EFR Image")
    static let efr2 = BitField(256...319, "EFR2 Image")
    static let unity = BitField(8...8, "Unity")
    static let readable = BitField(9...9, "IR")
    static let writable = BitField(10...10, "IW")
    static let exclusion = BitField(11...11, "Exclusion range")
    static let messageField = BitField(144...148, "MsiNum")
    /// Features of 10h, attributes of the others, by themselves in ``fields``.
    static let features = BitField(160...191, "Features")

    /// Bits 8 to 15 of IVHD.
    private static let unitFlags = [
      BitField(8...8, "HtTunEn"), BitField(9...9, "PassPW"), BitField(10...10, "ResPassPW"),
      BitField(11...11, "Isoc"), BitField(12...12, "IotlbSup"), BitField(13...13, "Coherent"),
    ]
    private static let counters = [
      BitField(173...176, "PNCounters"), BitField(177...182, "PNBanks"),
      BitField(183...187, "MsiNumPPR"),
    ]

    public var fields: [BitField] {
      guard type.isUnit else {
        return type.isMemory ? memoryFields : [Self.typeField, flagBits, Self.length]
      }
      let first = type == .unit
      // Firmware copies flags and features of 10h into 11h and 40h, where the manual has none at some of
      // these places.
      let last = [
        first ? BitField(14...14, "PreFSup") : .ignored(14...14),
        first ? BitField(15...15, "PPRSup") : .ignored(15...15),
      ]
      let features =
        first
        ? [
          BitField(160...160, "XTSup"), BitField(161...161, "NXSup"), BitField(162...162, "GTSup"),
          BitField(163...164, "GLXSup"), BitField(165...165, "IASup"), BitField(166...166, "GASup"),
          BitField(167...167, "HESup"), BitField(168...172, "PASmax"),
        ] + Self.counters + [BitField(188...189, "GATS"), BitField(190...191, "HATS")]
        : [BitField(160...160, "HATDis"), .ignored(161...172)] + Self.counters
          + [.ignored(188...191), Self.efr, Self.efr2]
      return [Self.typeField] + Self.unitFlags + last
        + [Self.length, Self.device, Self.capability, Self.base, Self.segmentField]
        + [Self.messageField, .reserved(149...151), BitField(152...156, "UnitID")]
        + [.reserved(157...159)] + features
    }

    private var flagBits: BitField { BitField(8...15, "Flags") }

    private var memoryFields: [BitField] {
      [
        Self.typeField, Self.unity, Self.readable, Self.writable, Self.exclusion,
        .reserved(12...15), Self.length,
        type == .memoryOfAll ? .ignored(32...47) : Self.device,
        type == .memoryOfRange ? Self.lastDevice : .ignored(48...63), Self.memorySegment,
        .reserved(80...127), Self.start, Self.memoryLength,
      ]
    }

    /// What the block is.
    public var type: BlockType { BlockType(rawValue: bytes[0]) }
    /// Bytes that the block has by its own word.
    public var statedByteCount: Int { Int(self[Self.length]) }
    /// The table is cut off inside of it.
    public var isCut: Bool { bytes.count < statedByteCount }
    /// Every entry of a unit was read.
    public var hasAllEntries: Bool {
      !type.isUnit
        || entries.reduce(type.fixedByteCount) { $0 + $1.bytes.count } == statedByteCount
    }
    /// Of a unit itself, of a device, or the first of a range.
    public var deviceID: Requester { Requester(rawValue: UInt16(self[Self.device])) }
    /// The last of a range of IVMD 22h.
    public var lastDeviceID: Requester { Requester(rawValue: UInt16(self[Self.lastDevice])) }
    /// Where a unit's capability is in its configuration space.
    public var capabilityOffset: Int { Int(self[Self.capability]) }
    /// Physical address of a unit's registers.
    public var base: PhysicalAddress { PhysicalAddress(self[Self.base]) }
    /// The PCI segment group.
    public var segment: UInt16 {
      UInt16(self[type.isUnit ? Self.segmentField : Self.memorySegment])
    }
    /// The memory of IVMD, half-open; `nil` when it has no bytes or runs past the last address.
    public var memory: Range<PhysicalAddress>? {
      let first = PhysicalAddress(self[Self.start])
      let count = self[Self.memoryLength]
      let (end, overflow) = first.rawValue.addingReportingOverflow(count)
      return overflow || count == 0 ? nil : first..<PhysicalAddress(end)
    }
    /// IVMD: the memory is excluded from translation, not mapped to itself.
    public var isExclusion: Bool { self[Self.exclusion] != 0 }
    /// The names of single bits that are set: what a unit can do, or what a device may.
    public var flagNames: [String] {
      fields.filter { $0.use == .value && $0.bits.count == 1 && self[$0] != 0 }
        .map { "\($0.name)" }
    }
  }

  /// What an entry of IVHD is. Open: others keep their number.
  @frozen
  public struct EntryType: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt8
    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Four bytes of padding.
    public static let padding = Self(rawValue: 0x00)
    /// All devices.
    public static let all = Self(rawValue: 0x01)
    /// One device.
    public static let select = Self(rawValue: 0x02)
    /// The first device of a range.
    public static let rangeStart = Self(rawValue: 0x03)
    /// The last device of a range.
    public static let rangeEnd = Self(rawValue: 0x04)
    /// Eight bytes of padding.
    public static let longPadding = Self(rawValue: 0x40)
    /// A device whose requests carry another's number.
    public static let aliasSelect = Self(rawValue: 0x42)
    /// The first of a range of such devices.
    public static let aliasRangeStart = Self(rawValue: 0x43)
    /// One device, with more settings.
    public static let extendedSelect = Self(rawValue: 0x46)
    /// The first of a range of devices with more settings.
    public static let extendedRangeStart = Self(rawValue: 0x47)
    /// An I/O APIC or a timer.
    public static let special = Self(rawValue: 0x48)
    /// A device that the ACPI name space knows.
    public static let acpiDevice = Self(rawValue: 0xf0)

    /// It begins a range, which an end closes.
    public var startsRange: Bool {
      [.rangeStart, .aliasRangeStart, .extendedRangeStart].contains(self)
    }
    /// It names another device whose number requests carry.
    public var isAlias: Bool { self == .aliasSelect || self == .aliasRangeStart }

    /// Bytes of an entry: the two uppermost bits say it, but for the last types; `nil` where the entry
    /// says it itself, or nobody knows.
    var byteCount: Int? { rawValue < 0xf0 ? 4 << Int(rawValue >> 6) : nil }
  }

  /// An entry of IVHD: a device, one end of a range, or something else with a number of its own.
  ///
  /// Specification: AMD IOMMU 5.2.2.1.
  public struct DeviceEntry: FirmwareStructure {
    public let offset: Int
    public let bytes: [UInt8]

    /// Bytes of an ACPI device before its unique ID.
    static let acpiByteCount = 22

    static let typeField = BitField(0...7, "Type")
    static let device = BitField(8...23, "DeviceID")
    static let handleField = BitField(32...39, "Handle")
    static let source = BitField(40...55, "Source DeviceID")
    static let varietyField = BitField(56...63, "Variety")
    static let noATS = BitField(63...63, "ATSDisabled")
    static let uidFormat = BitField(160...167, "UID Format")
    static let uidLength = BitField(168...175, "UID Length")
    private static let settings = [
      BitField(24...24, "INITPass"), BitField(25...25, "EIntPass"), BitField(26...26, "NMIPass"),
      .reserved(27...27), BitField(28...29, "SysMgt"), BitField(30...30, "Lint0Pass"),
      BitField(31...31, "Lint1Pass"),
    ]

    public var fields: [BitField] {
      switch type {
      case .all: [Self.typeField, .ignored(8...23)] + Self.settings
      case .select, .rangeStart: [Self.typeField, Self.device] + Self.settings
      case .rangeEnd: [Self.typeField, Self.device, .ignored(24...31)]
      case .aliasSelect, .aliasRangeStart:
        [Self.typeField, Self.device] + Self.settings
          + [.reserved(32...39), Self.source, .reserved(56...63)]
      case .extendedSelect, .extendedRangeStart:
        [Self.typeField, Self.device] + Self.settings
          + [.reserved(32...62), Self.noATS]
      case .special:
        [Self.typeField, .ignored(8...23)] + Self.settings
          + [Self.handleField, Self.source, Self.varietyField]
      case .acpiDevice:
        [Self.typeField, Self.device] + Self.settings
          + [
            BitField(32...63, "HID"), BitField(64...95, "HID"), BitField(96...127, "CID"),
            BitField(128...159, "CID"), Self.uidFormat, Self.uidLength,
          ]
      default: [Self.typeField]
      }
    }

    /// What the entry is.
    public var type: EntryType { EntryType(rawValue: bytes[0]) }
    /// The device, or one end of a range; of a special device the number that its requests carry.
    public var deviceID: Requester {
      Requester(rawValue: UInt16(self[type == .special ? Self.source : Self.device]))
    }
    /// Of an alias, whose number the requests carry.
    public var sourceID: Requester { Requester(rawValue: UInt16(self[Self.source])) }
    /// An I/O APIC's id in the MADT, or a timer's number.
    public var handle: UInt8 { UInt8(self[Self.handleField]) }
    /// 1 for an I/O APIC, 2 for a timer (HPET).
    public var variety: UInt8 { UInt8(self[Self.varietyField]) }
    /// The hardware ID of an ACPI device.
    public var hardwareID: String { text(at: 4, count: 8) }
    /// The compatible ID of an ACPI device; mostly empty.
    public var compatibleID: String { text(at: 12, count: 8) }
    /// The unique ID of an ACPI device, a number or a text; `nil` where it has none.
    public var uniqueID: String? {
      let start = Self.acpiByteCount
      switch self[Self.uidFormat] {
      case 1 where bytes.count >= start + 8:
        return "\(LittleEndianBytes(bytes).integer(at: start, as: UInt64.self))"
      case 2: return text(at: start)
      default: return nil
      }
    }
    /// What goes into the device's table entry beside its tables: the settings that are not zero.
    public var settingNames: [String] {
      fields.filter { field in
        field.use == .value && self[field] != 0
          && (24...31 ~= field.bits.lowerBound || field.bits == Self.noATS.bits)
      }.map { $0.bits.count == 1 ? "\($0.name)" : "\($0.name) \(self[$0])" }
    }
  }
}

extension String {
  fileprivate var paddedWithZero: String { count < 2 ? "0" + self : self }
}
