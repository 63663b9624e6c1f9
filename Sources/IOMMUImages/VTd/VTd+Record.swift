import IOMMUFormats
import IOMMUTranslation

extension VTd {
  /// Remapping units in machine files: the place of their registers, and what firmware says of them.
  enum Record: UnitRecordFormat {
    static let kinds = ["intel-vtd"]
    fileprivate static let base = "base"
    fileprivate static let hostAddressWidth = "host_address_width"
    fileprivate static let transientMappings = "transient_mappings"
    fileprivate static let segment = "segment"
    static var keys: [UnitRecordKey] {
      [
        UnitRecordKey(
          name: hostAddressWidth,
          form: .number(
            32...52, found: { "\($0) bits" }, remedy: "host addresses have 32 to 52 bits")),
        UnitRecordKey(name: base, form: .registerBase, isRequired: true),
        UnitRecordKey(name: transientMappings, form: .flag),
        UnitRecordKey(
          name: segment,
          form: .number(
            0...0xffff, found: { hexadecimal($0) },
            remedy: "PCI segments of units have 16 bits; leave it out if not known")),
      ]
    }
    static var registerSpace: UInt64 { 1 << 20 }
    /// As the manual has them: `0x01c`.
    static var offsetDigits: Int { 3 }

    static func registerBits(at offset: UInt64) -> Int {
      let narrow = [
        VTd.RegisterOffset.version, VTd.RegisterOffset.globalCommand,
        VTd.RegisterOffset.globalStatus,
      ]
      return narrow.contains(offset) ? 32 : 64
    }

    static func model(of record: UnitRecord) throws(ImageError) -> VTd.Unit {
      try record.remappingUnit()
    }

    static var firmwareKey: String? { "dmar" }

    static func complete(
      _ units: [TranslationUnit], records: [MachineFile.Unit], with firmware: FirmwareTable,
      _ place: JSONPlace
    ) throws(ImageError) -> [TranslationUnit] {
      do {
        return try VTd.DMAR(parsing: firmware.bytes).completing(units) { index in
          records[index].values[hostAddressWidth] != nil
        }
      } catch {
        switch error {
        case .table(.checksum):
          throw place.error(
            "is no DMAR table: the sum of its bytes is not zero", "copy the table again")
        default: throw place.error("\(error)")
        }
      }
    }

    static func firmware(of units: [TranslationUnit]) -> FirmwareTable? {
      units.lazy.compactMap { $0.as(VTd.Unit.self)?.scope ?? $0.as(VTd.UnseenUnit.self)?.scope }
        .first.map { FirmwareTable(bytes: $0.table.bytes) }
    }

    static func isImplied(_ unit: TranslationUnit) -> Bool {
      unit.as(VTd.UnseenUnit.self) != nil
    }

    /// Where file and firmware differ, and what only one of them has. What the file says counts.
    static func warnings(
      about units: [(index: Int, unit: MachineFile.Unit)], firmware: FirmwareTable?
    ) -> [String] {
      guard let firmware, let table = try? VTd.DMAR(parsing: firmware.bytes) else { return [] }
      var warnings: [String] = []
      var bases: Set<PhysicalAddress> = []
      for (index, unit) in units {
        guard case .address(let base) = unit.values[Self.base] else { continue }
        bases.insert(base)
        guard let listed = table.hardwareUnits.first(where: { $0.base == base }) else {
          warnings.append(
            "units[\(index)]: the DMAR table lists no unit at \(base), and says of no device that it "
              + "is behind it")
          continue
        }
        if case .number(let segment) = unit.values[Self.segment], segment != listed.segment {
          warnings.append(
            "units[\(index)].segment: \(segment), and the DMAR table says \(listed.segment); the "
              + "machine file counts")
        }
        if case .number(let width) = unit.values[hostAddressWidth],
          width != table.platform.hostAddressWidth
        {
          warnings.append(
            "units[\(index)].host_address_width: \(width), and the DMAR table says "
              + "\(table.platform.hostAddressWidth); the machine file counts")
        }
      }
      for base in table.hardwareUnits.map(\.base) where bases.insert(base).inserted {
        warnings.append(
          "the DMAR table lists a unit at \(base), which the machine file does not have: what becomes "
            + "of requests of devices behind it is unknown")
      }
      return warnings
    }

    static func record(of unit: VTd.Unit) -> MachineFile.Unit {
      typealias Offset = VTd.RegisterOffset
      var registers = [Offset.rootTableAddress: unit.rootTableAddress.rawValue]
      registers[Offset.globalStatus] = unit.status.map { UInt64($0.rawValue) }
      registers[Offset.interruptTableAddress] = unit.interruptTableAddress?.rawValue
      if unit.limits.majorVersion != VTd.Limits.permissive.majorVersion {
        registers[Offset.version] = UInt64(
          VTd.Version(major: unit.limits.majorVersion, minor: 0).rawValue)
      }
      // Of a unit that allows everything nothing was known; so it stays. Firmware may know the width.
      var unknown = VTd.Limits.permissive
      let firmwareWidth = unit.scope?.hostAddressWidth
      unknown.hostAddressWidth = firmwareWidth ?? unknown.hostAddressWidth
      let segment = unit.segment == unit.scope?.segment ? nil : unit.segment
      guard unit.limits != unknown else {
        return .vtd(base: unit.base, segment: segment, registers: registers)
      }
      let (capability, extended) = (unit.limits.capability, unit.limits.extendedCapability)
      registers[Offset.capability] = capability.rawValue
      // What the register says would be held against tables: a unit that is not known has none.
      let isKnown = !unit.limits.toleratesUnsnoopedWalks
      if isKnown { registers[Offset.extendedCapability] = extended.rawValue }
      let stated = VTd.Limits(capability: capability, extendedCapability: extended)
      let hostAddressWidth = unit.limits.hostAddressWidth
      return .vtd(
        base: unit.base,
        hostAddressWidth: hostAddressWidth == (firmwareWidth ?? stated.hostAddressWidth)
          ? nil : hostAddressWidth,
        hasTransientMappings: unit.limits.hasTransientMappings == isKnown
          ? unit.limits.hasTransientMappings : nil,
        segment: segment, registers: registers)
    }
  }
}

extension MachineFile.Unit {
  /// A remapping unit as its registers stand; nothing is checked. `nil`s are what nobody knows.
  ///
  /// - Parameters:
  ///   - base: Physical address of the unit's registers.
  ///   - hostAddressWidth: In bits, 32 to 52.
  ///   - hasTransientMappings: Whether bit 62 of a leaf is the TM bit of revisions before 4.0.
  ///   - segment: The PCI segment group.
  ///   - registers: What registers hold, by their offsets in bytes.
  /// - Precondition: the width is not negative.
  public static func vtd(
    base: PhysicalAddress, hostAddressWidth: Int? = nil, hasTransientMappings: Bool? = nil,
    segment: UInt16? = nil, registers: [UInt64: UInt64] = [:]
  ) -> MachineFile.Unit {
    var values: [String: Value] = [VTd.Record.base: .address(base)]
    values[VTd.Record.hostAddressWidth] = hostAddressWidth.map { .number(UInt64($0)) }
    values[VTd.Record.transientMappings] = hasTransientMappings.map { .flag($0) }
    values[VTd.Record.segment] = segment.map { .number(UInt64($0)) }
    return MachineFile.Unit(kind: VTd.Record.kinds[0], values: values, registers: registers)
  }
}

extension UnitRecord {
  fileprivate func remappingUnit() throws(ImageError) -> VTd.Unit {
    typealias Offset = VTd.RegisterOffset
    guard let rootValue = quadword(Offset.rootTableAddress) else {
      throw missing(Offset.rootTableAddress, "it tells where the root table is")
    }
    let root = VTd.RootTableAddress(rawValue: rootValue)
    let status = try doubleword(Offset.globalStatus).map(VTd.GlobalStatus.init(rawValue:))
    return VTd.Unit(
      base: address(VTd.Record.base), rootTableAddress: root, status: status, limits: try limits(),
      interruptTableAddress: quadword(Offset.interruptTableAddress).map(
        VTd.InterruptTableAddress.init(rawValue:)),
      segment: number(VTd.Record.segment).map { UInt16($0) })
  }

  /// What the capability registers allow; everything that a missing one would restrict.
  private func limits() throws(ImageError) -> VTd.Limits {
    typealias Offset = VTd.RegisterOffset
    let hostAddressWidth = number(VTd.Record.hostAddressWidth).map { Int($0) }
    let permissive = VTd.Limits.permissive
    let capability = quadword(Offset.capability).map(VTd.Capability.init(rawValue:))
    let extended = quadword(Offset.extendedCapability).map(VTd.ExtendedCapability.init(rawValue:))
    var limits = VTd.Limits(
      capability: capability ?? permissive.capability,
      extendedCapability: extended ?? permissive.extendedCapability,
      hostAddressWidth: hostAddressWidth ?? (capability == nil ? permissive.hostAddressWidth : nil))
    if let version = try doubleword(Offset.version) {
      limits.majorVersion = VTd.Version(rawValue: version).major
    }
    // Bit 62 changed its meaning with the revisions; a unit of which nothing is said may be old.
    limits.hasTransientMappings =
      flag(VTd.Record.transientMappings) ?? (extended == nil && permissive.hasTransientMappings)
    limits.toleratesUnsnoopedWalks = extended == nil && permissive.toleratesUnsnoopedWalks
    return limits
  }
}
