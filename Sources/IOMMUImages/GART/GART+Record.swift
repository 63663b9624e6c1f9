import IOMMUFormats
import IOMMUTranslation

extension GART {
  /// Northbridges with a GART in machine files: function 3 and its registers.
  enum Record: UnitRecordFormat {
    static let kinds = ["amd-gart"]
    fileprivate static let device = "device"
    fileprivate static let erratum156 = "erratum_156"
    static var keys: [UnitRecordKey] {
      [
        UnitRecordKey(name: device, form: .function, isRequired: true),
        UnitRecordKey(name: erratum156, form: .flag),
      ]
    }
    static var registerSpace: UInt64 { 4096 }
    static func registerBits(at _: UInt64) -> Int { 32 }

    static func model(of record: UnitRecord) throws(ImageError) -> GART.Node { try record.node() }

    static func record(of node: GART.Node) -> MachineFile.Unit {
      .gart(
        device: node.device, hasErratum156: node.hasErratum156,
        registers: [
          GART.RegisterOffset.apertureControl: UInt64(node.control.rawValue),
          GART.RegisterOffset.apertureBase: UInt64(node.base.rawValue),
          GART.RegisterOffset.tableBase: UInt64(node.tableBase.rawValue),
        ])
    }

    static func warnings(
      about units: [(index: Int, unit: MachineFile.Unit)], firmware _: FirmwareTable?
    ) -> [String] {
      guard let first = units.first else { return [] }
      return units.dropFirst().compactMap { index, unit in
        let differing = [
          GART.RegisterOffset.apertureControl, GART.RegisterOffset.apertureBase,
          GART.RegisterOffset.tableBase,
        ].filter { unit.registers[$0] != first.unit.registers[$0] }
        guard !differing.isEmpty else { return nil }
        return "units[\(index)] and units[\(first.index)] differ in "
          + differing.map { "register \(hexadecimal($0))" }.joined(separator: ", ")
          + ": all nodes should have the same aperture and table; the first that translates counts"
      }
    }
  }
}

extension MachineFile.Unit {
  /// A northbridge as its registers stand; nothing is checked. `device` is its function 3.
  public static func gart(
    device: Requester, hasErratum156: Bool = false, registers: [UInt64: UInt64] = [:]
  ) -> MachineFile.Unit {
    var values: [String: Value] = [GART.Record.device: .function(device)]
    if hasErratum156 { values[GART.Record.erratum156] = .flag(true) }
    return MachineFile.Unit(kind: GART.Record.kinds[0], values: values, registers: registers)
  }
}

extension UnitRecord {
  fileprivate func node() throws(ImageError) -> GART.Node {
    typealias Offset = GART.RegisterOffset
    guard let controlValue = try doubleword(Offset.apertureControl) else {
      throw missing(Offset.apertureControl, "it tells whether the GART translates")
    }
    let control = GART.ApertureControl(rawValue: controlValue)
    if control.isEnabled, control.apertureByteCount == nil {
      throw error(
        Offset.apertureControl, "GartSize 7 is not defined", "orders are 0 (32 MiB) to 6 (2 GiB)")
    }
    let base = try doubleword(Offset.apertureBase)
    let tableBase = try doubleword(Offset.tableBase)
    if control.isEnabled {
      let why = "the GART is on: say where its aperture and its table are"
      guard base != nil else { throw missing(Offset.apertureBase, why) }
      guard tableBase != nil else { throw missing(Offset.tableBase, why) }
    }
    return GART.Node(
      device: function(GART.Record.device), control: control,
      base: GART.ApertureBase(rawValue: base ?? 0),
      tableBase: GART.TableBase(rawValue: tableBase ?? 0),
      hasErratum156: flag(GART.Record.erratum156) ?? false)
  }
}
