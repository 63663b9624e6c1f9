extension AMDVi.IVRS {
  /// A table of these blocks, each at its place, with lengths and checksum as they must be.
  ///
  /// - Precondition: the table is of less than 4 GiB.
  public init(header: ACPI.TableHeader, info: Info, blocks: [Block]) {
    var end = Self.headerByteCount
    let placed = blocks.map { block in
      defer { end += block.bytes.count }
      return block.placed(at: end)
    }
    let bytes = Self.bytes(header, info, placed)
    self.header = header
    self.info = info
    self.blocks = placed
    byteCount = end
    checksum = bytes[9]
    damage = []
  }

  /// The bytes of what was read or built, with length and checksum as they must be.
  ///
  /// What is read whole comes out again byte for byte, unknown blocks and reserved fields included, and
  /// a wrong checksum right.
  ///
  /// - Complexity: O(bytes).
  public var bytes: [UInt8] { Self.bytes(header, info, blocks) }

  private static func bytes(
    _ header: ACPI.TableHeader, _ info: Info, _ blocks: [Block]
  ) -> [UInt8] {
    header.table(signature: signature, body: blocks.reduce(into: info.bytes) { $0 += $1.bytes })
  }
}

extension AMDVi.IVRS.Info {
  /// The addresses that a platform's units take.
  ///
  /// - Parameters:
  ///   - physicalAddressWidth: Bits, at most 127.
  ///   - virtualAddressWidth: Bits of the addresses that devices use, at most 127.
  ///   - guestWidthCode: GVASize; 2 stands for 48 bits.
  ///   - hasExtendedFeatures: EFRSup.
  ///   - remapsDMA: Firmware has left the remapping of DMA on.
  ///   - reservesATS: The range of HyperTransport addresses that stand for translations is reserved.
  public init(
    physicalAddressWidth: Int, virtualAddressWidth: Int, guestWidthCode: Int = 0,
    hasExtendedFeatures: Bool = false, remapsDMA: Bool = false, reservesATS: Bool = false
  ) {
    precondition(
      0...127 ~= physicalAddressWidth && 0...127 ~= virtualAddressWidth && 0...7 ~= guestWidthCode,
      "a width of IVinfo has 7 bits, the guest's 3")
    var bytes = [UInt8](repeating: 0, count: 12)
    bytes.store(UInt64(physicalAddressWidth), in: Self.physicalWidth)
    bytes.store(UInt64(virtualAddressWidth), in: Self.virtualWidth)
    bytes.store(UInt64(guestWidthCode), in: Self.guestWidth)
    bytes.store(hasExtendedFeatures ? 1 : 0, in: Self.efr)
    bytes.store(remapsDMA ? 1 : 0, in: Self.remapsDMA)
    bytes.store(reservesATS ? 1 : 0, in: Self.reservesATS)
    self.init(bytes: bytes)
  }
}

extension AMDVi.IVRS {
  /// What a unit does on its links, and what it can: the flags of IVHD. Specification: AMD IOMMU 5.2.2.
  @frozen
  public struct UnitFlags: OptionSet, Hashable, Sendable {
    public let rawValue: UInt8
    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// HyperTransport tunnel translation is to be on.
    public static let hyperTransportTunnel = Self(rawValue: 0x01)
    /// Posted writes pass others.
    public static let passesPostedWrites = Self(rawValue: 0x02)
    /// Responses pass posted writes.
    public static let responsesPassPostedWrites = Self(rawValue: 0x04)
    /// The unit's own requests are isochronous.
    public static let isIsochronous = Self(rawValue: 0x08)
    /// Devices may have TLBs of their own.
    public static let hasDeviceTLBs = Self(rawValue: 0x10)
    /// The unit's own requests are coherent.
    public static let isCoherent = Self(rawValue: 0x20)
    /// Translations can be fetched ahead; of 10h only.
    public static let prefetches = Self(rawValue: 0x40)
    /// Devices may request pages; of 10h only.
    public static let takesPageRequests = Self(rawValue: 0x80)
  }

  /// What of a device passes that is no memory: bits that go into its entry of the device table.
  ///
  /// Specification: AMD IOMMU 5.2.2.1.
  @frozen
  public struct DeviceSettings: OptionSet, Hashable, Sendable {
    public let rawValue: UInt8
    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// INIT messages pass.
    public static let passesINIT = Self(rawValue: 0x01)
    /// Interrupts of an old interrupt controller pass.
    public static let passesExternal = Self(rawValue: 0x02)
    /// NMI messages pass.
    public static let passesNMI = Self(rawValue: 0x04)
    /// System-management messages are forwarded, all of them: SysMgt 01.
    public static let forwardsManagement = Self(rawValue: 0x10)
    /// LINT0 messages pass.
    public static let passesLINT0 = Self(rawValue: 0x40)
    /// LINT1 messages pass.
    public static let passesLINT1 = Self(rawValue: 0x80)
  }

  /// For which devices memory is.
  public enum MemoryDevices: Hashable, Sendable {
    /// All devices of the segment.
    case all
    /// One device.
    case one(Requester)
    /// From one device to another, both included.
    case range(first: Requester, last: Requester)
  }
}

extension AMDVi.IVRS.Block {
  /// A unit: IVHD.
  ///
  /// - Parameters:
  ///   - type: 10h, 11h or 40h.
  ///   - deviceID: The function that the unit is.
  ///   - base: Physical address of its registers.
  ///   - capabilityOffset: Where its capability is in its configuration space.
  ///   - segment: The PCI segment group.
  ///   - flags: What the unit does on its links, and what it can.
  ///   - messageNumber: MsiNum, the message of its event log; 5 bits.
  ///   - features: Of 10h its features, of the others its attributes; bits 160 to 191 of the block.
  ///   - extendedFeatures: The image of the extended feature register; not of 10h.
  ///   - moreExtendedFeatures: The image of its second part; not of 10h.
  ///   - entries: The devices behind the unit. ``AMDVi/IVRS/EntryType/acpiDevice`` belongs in 40h.
  /// - Precondition: the type is one of a unit, and the block of at most 65,535 bytes.
  public init(
    _ type: AMDVi.IVRS.BlockType, deviceID: Requester, base: PhysicalAddress,
    capabilityOffset: UInt16 = 0x40, segment: UInt16 = 0, flags: AMDVi.IVRS.UnitFlags = [],
    messageNumber: Int = 0, features: UInt32 = 0, extendedFeatures: UInt64 = 0,
    moreExtendedFeatures: UInt64 = 0, entries: [AMDVi.IVRS.DeviceEntry]
  ) {
    precondition(type.isUnit, "a unit's block is IVHD")
    let isExtended = type != .unit
    precondition(
      isExtended || extendedFeatures | moreExtendedFeatures == 0, "IVHD 10h has no such registers")
    var bytes = [UInt8](repeating: 0, count: type.fixedByteCount)
    bytes.store(UInt64(type.rawValue), in: Self.typeField)
    bytes[1] = flags.rawValue
    bytes.store(UInt64(deviceID.rawValue), in: Self.device)
    bytes.store(UInt64(capabilityOffset), in: Self.capability)
    bytes.store(base.rawValue, in: Self.base)
    bytes.store(UInt64(segment), in: Self.segmentField)
    bytes.store(UInt64(messageNumber), in: Self.messageField)
    bytes.store(UInt64(features), in: Self.features)
    if isExtended {
      bytes.store(extendedFeatures, in: Self.efr)
      bytes.store(moreExtendedFeatures, in: Self.efr2)
    }
    for entry in entries { bytes += entry.bytes }
    precondition(bytes.count <= 0xffff, "a block has at most 65,535 bytes")
    bytes.store(UInt64(bytes.count), in: Self.length)
    self.init(offset: 0, bytes: bytes, entries: entries)
    self = placed(at: 0)
  }

  /// Memory that devices use: IVMD.
  ///
  /// - Parameters:
  ///   - memory: Whole pages, or firmware's kernel will round them.
  ///   - devices: Whose it is.
  ///   - segment: The PCI segment group.
  ///   - permissions: What the devices may do there.
  ///   - isExclusion: Untranslated by the unit's exclusion range instead of mapped to itself.
  public init(
    memory: Range<PhysicalAddress>, for devices: AMDVi.IVRS.MemoryDevices, segment: UInt16 = 0,
    permissions: Permissions = .readWrite, isExclusion: Bool = false
  ) {
    let type: AMDVi.IVRS.BlockType
    var bytes = [UInt8](repeating: 0, count: AMDVi.IVRS.BlockType.memoryOfAll.fixedByteCount)
    switch devices {
    case .all: type = .memoryOfAll
    case .one(let device):
      type = .memoryOfOne
      bytes.store(UInt64(device.rawValue), in: Self.device)
    case .range(let first, let last):
      type = .memoryOfRange
      bytes.store(UInt64(first.rawValue), in: Self.device)
      bytes.store(UInt64(last.rawValue), in: Self.lastDevice)
    }
    bytes.store(UInt64(type.rawValue), in: Self.typeField)
    bytes.store(UInt64(bytes.count), in: Self.length)
    bytes.store(isExclusion ? 0 : 1, in: Self.unity)
    bytes.store(permissions.contains(.read) ? 1 : 0, in: Self.readable)
    bytes.store(permissions.contains(.write) ? 1 : 0, in: Self.writable)
    bytes.store(isExclusion ? 1 : 0, in: Self.exclusion)
    bytes.store(UInt64(segment), in: Self.memorySegment)
    bytes.store(memory.lowerBound.rawValue, in: Self.start)
    bytes.store(memory.upperBound.rawValue - memory.lowerBound.rawValue, in: Self.memoryLength)
    self.init(offset: 0, bytes: bytes)
  }

  /// IVMD: what devices may do with the memory.
  public var permissions: Permissions {
    Permissions(rawValue: UInt8(self[Self.readable] | self[Self.writable] << 1))
  }

  /// The same block at another place of a table.
  fileprivate func placed(at offset: Int) -> Self {
    var place = offset + type.fixedByteCount
    return Self(
      offset: offset, bytes: bytes,
      entries: entries.map { entry in
        defer { place += entry.bytes.count }
        return AMDVi.IVRS.DeviceEntry(offset: place, bytes: entry.bytes)
      })
  }
}

extension AMDVi.IVRS.DeviceEntry {
  /// An entry by itself; a block gives it its place.
  private init(
    _ type: AMDVi.IVRS.EntryType, _ device: Requester?, _ settings: AMDVi.IVRS.DeviceSettings = [],
    byteCount: Int? = nil, _ change: (inout [UInt8]) -> Void = { _ in }
  ) {
    var bytes = [UInt8](repeating: 0, count: byteCount ?? type.byteCount ?? Self.acpiByteCount)
    bytes.store(UInt64(type.rawValue), in: Self.typeField)
    if let device { bytes.store(UInt64(device.rawValue), in: Self.device) }
    bytes[3] = settings.rawValue
    change(&bytes)
    self.init(offset: 0, bytes: bytes)
  }

  /// Four bytes that say nothing.
  public static var padding: Self { Self(.padding, nil) }

  /// All devices.
  public static func all(_ settings: AMDVi.IVRS.DeviceSettings = []) -> Self {
    Self(.all, nil, settings)
  }

  /// One device. With `isWithoutATS` an extended entry: the device must not send translated requests.
  public static func select(
    _ device: Requester, _ settings: AMDVi.IVRS.DeviceSettings = [], isWithoutATS: Bool = false
  ) -> Self {
    guard isWithoutATS else { return Self(.select, device, settings) }
    return Self(.extendedSelect, device, settings) { $0.store(1, in: Self.noATS) }
  }

  /// The devices from one to another, both included: a start and an end.
  public static func range(
    _ first: Requester, through last: Requester, _ settings: AMDVi.IVRS.DeviceSettings = [],
    isWithoutATS: Bool = false
  ) -> [Self] {
    let start =
      isWithoutATS
      ? Self(.extendedRangeStart, first, settings) { $0.store(1, in: Self.noATS) }
      : Self(.rangeStart, first, settings)
    return [start, Self(.rangeEnd, last)]
  }

  /// A device whose requests carry the number of another.
  public static func alias(
    _ device: Requester, carries source: Requester, _ settings: AMDVi.IVRS.DeviceSettings = []
  ) -> Self {
    Self(.aliasSelect, device, settings) { $0.store(UInt64(source.rawValue), in: Self.source) }
  }

  /// Devices from one to another whose requests carry the number of one: a start and an end.
  public static func aliasRange(
    _ first: Requester, through last: Requester, carries source: Requester,
    _ settings: AMDVi.IVRS.DeviceSettings = []
  ) -> [Self] {
    [
      Self(.aliasRangeStart, first, settings) {
        $0.store(UInt64(source.rawValue), in: Self.source)
      },
      Self(.rangeEnd, last),
    ]
  }

  /// The I/O APIC with an id of the MADT.
  public static func ioapic(
    _ id: UInt8, carries source: Requester, _ settings: AMDVi.IVRS.DeviceSettings = []
  ) -> Self { special(1, id, source, settings) }

  /// The timer (HPET) with a number.
  public static func hpet(
    _ number: UInt8, carries source: Requester, _ settings: AMDVi.IVRS.DeviceSettings = []
  ) -> Self { special(2, number, source, settings) }

  private static func special(
    _ variety: UInt64, _ handle: UInt8, _ source: Requester,
    _ settings: AMDVi.IVRS.DeviceSettings
  ) -> Self {
    Self(.special, nil, settings) {
      $0.store(UInt64(handle), in: handleField)
      $0.store(UInt64(source.rawValue), in: Self.source)
      $0.store(variety, in: varietyField)
    }
  }

  /// A device of the ACPI name space.
  ///
  /// - Parameters:
  ///   - device: The number that its requests carry.
  ///   - hardwareID: At most eight characters of ASCII.
  ///   - compatibleID: Likewise; empty without one.
  ///   - path: Its unique ID as a text; at most 255 characters of ASCII.
  ///   - settings: What the kernel puts into the device's entry.
  public static func acpi(
    _ device: Requester, hardwareID: String, compatibleID: String = "", path: String,
    _ settings: AMDVi.IVRS.DeviceSettings = []
  ) -> Self {
    let name = Array(path.utf8)
    precondition(
      name.count <= 255 && [hardwareID, compatibleID].allSatisfy { $0.utf8.count <= 8 },
      "the names of an ACPI device have room for 8 characters, its path for 255")
    return Self(.acpiDevice, device, settings, byteCount: acpiByteCount + name.count) { bytes in
      for (start, text) in [(4, hardwareID), (12, compatibleID)] {
        for (index, byte) in text.utf8.enumerated() { bytes[start + index] = byte }
      }
      bytes.store(2, in: uidFormat)
      bytes.store(UInt64(name.count), in: uidLength)
      bytes.replaceSubrange(acpiByteCount..., with: name)
    }
  }

  /// What of the device passes that is no memory; nothing for the end of a range.
  public var settings: AMDVi.IVRS.DeviceSettings {
    type == .rangeEnd || type == .padding || type == .longPadding
      ? [] : AMDVi.IVRS.DeviceSettings(rawValue: bytes[3])
  }
}

extension [UInt8] {
  /// Writes a field of a firmware structure; bits that the field does not have are left out.
  fileprivate mutating func store(_ value: UInt64, in field: BitField) {
    let start = field.quadwordIndex * 8
    let word = (value & field.valueMask) << field.shift
    for index in 0..<8 where start + index < count {
      let shift = UInt64(index * 8)
      let mask = UInt8(truncatingIfNeeded: field.mask >> shift)
      let part = UInt8(truncatingIfNeeded: word >> shift)
      self[start + index] = self[start + index] & ~mask | part & mask
    }
  }
}
