import IOMMUFormats
import IOMMUTranslation

extension MachineFile {
  /// The machine that the registers describe.
  ///
  /// - Throws: ``ImageError`` when a register is missing without which an answer would be a guess,
  ///   or when registers select what this version does not read.
  public func machine() throws(ImageError) -> Machine {
    var units: [TranslationUnit] = []
    for (index, unit) in self.units.enumerated() {
      units.append(
        try unit.translationUnit(JSONPlace(file: path, path: "units[\(index)]")))
    }
    for format in UnitRecords.all {
      guard let key = format.firmwareKey, let table = firmware[key] else { continue }
      let place =
        table.path.map { JSONPlace(file: Self.resolve($0, beside: path), path: "") }
        ?? JSONPlace(file: path, path: key)
      units = try format.complete(units, records: self.units, with: table, place)
    }
    return Machine(name: name, units: units, ram: ram, crashKernel: crashKernel)
  }

  /// Writes a machine down; reading it back gives an equal machine.
  ///
  /// Only what a `Machine` holds is listed; tables of firmware are written down in the file. A
  /// Calgary chip comes back with all its four bridges, those that it did not have as `nil`; an
  /// empty window comes back as the empty one at 0.
  ///
  /// - Precondition: registers can hold it: units of kinds that machine files have, a MEM_1 window
  ///   that ends at 4 GiB at most, VT-d limits that the capability registers can state, or in which
  ///   ECAP_REG is not known.
  public init(machine: Machine, images: [String]) {
    self.init(
      name: machine.name, images: images,
      units: machine.units.filter { unit in !UnitRecords.all.contains { $0.isImplied(unit) } }
        .map(Unit.init),
      ram: machine.ram, crashKernel: machine.crashKernel)
    for format in UnitRecords.all {
      guard let key = format.firmwareKey else { continue }
      firmware[key] = format.firmware(of: machine.units)
    }
  }
}

extension MachineFile.Unit {
  func translationUnit(_ place: JSONPlace) throws(ImageError) -> TranslationUnit {
    func unit<Format: UnitRecordFormat>(_ format: Format.Type) throws(ImageError) -> TranslationUnit
    {
      TranslationUnit(try format.model(of: UnitRecord(self, format, place)))
    }
    return try unit(try Self.format(of: kind, place))
  }

  init(_ unit: TranslationUnit) {
    for format in UnitRecords.all {
      guard let record = format.record(ofUnit: unit) else { continue }
      self = record
      return
    }
    preconditionFailure("a unit of a kind that machine files have")
  }
}
