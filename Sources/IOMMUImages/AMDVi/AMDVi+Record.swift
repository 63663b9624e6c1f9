import IOMMUFormats
import IOMMUTranslation

extension AMDVi {
  /// AMD-Vi units in machine files: the place of their registers, and what firmware says of them.
  enum Record: UnitRecordFormat {
    static let kinds = ["amd-vi"]
    fileprivate static let base = "base"
    fileprivate static let segment = "segment"
    static var keys: [UnitRecordKey] {
      [
        UnitRecordKey(name: base, form: .registerBase, isRequired: true),
        UnitRecordKey(
          name: segment,
          form: .number(
            0...0xffff, found: { hexadecimal($0) },
            remedy: "PCI segments of units have 16 bits; leave it out if not known")),
      ]
    }
    static var registerSpace: UInt64 { 1 << 19 }
    static var offsetDigits: Int { 3 }

    static func registerBits(at offset: UInt64) -> Int {
      AMDVi.registerMap.first { $0.offset == offset }?.format.bitCount ?? 64
    }

    static func model(of record: UnitRecord) throws(ImageError) -> AMDVi.Unit {
      try record.amdviUnit()
    }

    static var firmwareKey: String? { "ivrs" }

    static func complete(
      _ units: [TranslationUnit], records _: [MachineFile.Unit], with firmware: FirmwareTable,
      _ place: JSONPlace
    ) throws(ImageError) -> [TranslationUnit] {
      do {
        return try AMDVi.IVRS(parsing: firmware.bytes).completing(units)
      } catch {
        throw place.error("\(error)")
      }
    }

    static func firmware(of units: [TranslationUnit]) -> FirmwareTable? {
      units.lazy.compactMap { unit -> AMDVi.UnitScope? in
        unit.as(AMDVi.Unit.self)?.scope ?? unit.as(AMDVi.UnseenUnit.self)?.scope
      }.first.map { FirmwareTable(bytes: $0.table.bytes) }
    }

    static func isImplied(_ unit: TranslationUnit) -> Bool {
      unit.as(AMDVi.UnseenUnit.self) != nil
    }

    /// Where file and firmware differ, and what only one of them has. What the file says counts.
    static func warnings(
      about units: [(index: Int, unit: MachineFile.Unit)], firmware: FirmwareTable?
    ) -> [String] {
      guard let firmware, let table = try? AMDVi.IVRS(parsing: firmware.bytes) else { return [] }
      var warnings: [String] = []
      var bases: Set<PhysicalAddress> = []
      for (index, unit) in units {
        guard case .address(let base) = unit.values[Self.base] else { continue }
        bases.insert(base)
        guard let listed = table.units.first(where: { $0.base == base }) else {
          warnings.append(
            "units[\(index)]: the IVRS table lists no unit at \(base), and says of no device that it "
              + "is behind it")
          continue
        }
        if case .number(let segment) = unit.values[Self.segment], segment != listed.segment {
          warnings.append(
            "units[\(index)].segment: \(segment), and the IVRS table says \(listed.segment); the "
              + "machine file counts")
        }
      }
      for base in table.units.map(\.base) where bases.insert(base).inserted {
        warnings.append(
          "the IVRS table lists a unit at \(base), which the machine file does not have: what becomes "
            + "of requests of devices behind it is unknown")
      }
      return warnings
    }

    static func record(of unit: AMDVi.Unit) -> MachineFile.Unit {
      typealias Offset = AMDVi.RegisterOffset
      var registers = [Offset.deviceTableBase: unit.deviceTable.rawValue]
      registers[Offset.control] = unit.control?.rawValue
      registers[Offset.extendedFeatures] = unit.features?.rawValue
      registers[Offset.extendedFeatures2] = unit.features2?.rawValue
      if unit.exclusionBase.rawValue != 0 || unit.exclusionLimit.rawValue != 0 {
        registers[Offset.exclusionBase] = unit.exclusionBase.rawValue
        registers[Offset.exclusionLimit] = unit.exclusionLimit.rawValue
      }
      for (index, base) in unit.furtherSegments.enumerated() {
        registers[Offset.deviceTableSegmentBase + 8 * UInt64(index)] = base?.rawValue
      }
      return .amdvi(
        base: unit.base, segment: unit.segment == unit.scope?.segment ? nil : unit.segment,
        registers: registers)
    }
  }
}

extension MachineFile.Unit {
  /// An AMD-Vi unit as its registers stand; nothing is checked. `nil`s are what nobody knows.
  ///
  /// - Parameters:
  ///   - base: Physical address of the unit's registers.
  ///   - segment: The PCI segment group.
  ///   - registers: What registers hold, by their offsets in bytes.
  public static func amdvi(
    base: PhysicalAddress, segment: UInt16? = nil, registers: [UInt64: UInt64] = [:]
  ) -> MachineFile.Unit {
    var values: [String: Value] = [AMDVi.Record.base: .address(base)]
    values[AMDVi.Record.segment] = segment.map { .number(UInt64($0)) }
    return MachineFile.Unit(kind: AMDVi.Record.kinds[0], values: values, registers: registers)
  }
}

extension UnitRecord {
  fileprivate func amdviUnit() throws(ImageError) -> AMDVi.Unit {
    typealias Offset = AMDVi.RegisterOffset
    guard let table = quadword(Offset.deviceTableBase) else {
      throw missing(Offset.deviceTableBase, "it tells where the device table is")
    }
    let control = quadword(Offset.control).map(AMDVi.Control.init(rawValue:))
    var unit = AMDVi.Unit(
      base: address(AMDVi.Record.base), deviceTable: AMDVi.DeviceTableBase(rawValue: table),
      control: control,
      features: quadword(Offset.extendedFeatures).map(AMDVi.ExtendedFeatures.init(rawValue:)),
      features2: quadword(Offset.extendedFeatures2).map(AMDVi.ExtendedFeatures2.init(rawValue:)),
      segment: number(AMDVi.Record.segment).map { UInt16($0) })
    if let base = quadword(Offset.exclusionBase) {
      unit.exclusionBase = AMDVi.ExclusionBase(rawValue: base)
      if unit.exclusionBase.isEnabled, quadword(Offset.exclusionLimit) == nil {
        throw missing(Offset.exclusionLimit, "the exclusion range is on: say where it ends")
      }
    }
    unit.exclusionLimit = AMDVi.ExclusionLimit(rawValue: quadword(Offset.exclusionLimit) ?? 0)
    let count = 1 << min(3, control?.segmentCode ?? 0)
    unit.furtherSegments = (1..<max(1, count)).map {
      quadword(Offset.deviceTableSegmentBase + 8 * UInt64($0 - 1))
        .map(AMDVi.DeviceTableSegmentBase.init(rawValue:))
    }
    return unit
  }
}
