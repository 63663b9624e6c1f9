import IOMMUFormats
import IOMMUTranslation

extension Calgary {
  /// Calgary and CalIOC2 chips in machine files: the place of their registers, BBAR, and those of
  /// their host bridges.
  enum Record: UnitRecordFormat {
    static let kinds = [Chip.Model.calgary.rawValue, Chip.Model.calioc2.rawValue]
    fileprivate static let bbar = "bbar"
    static var keys: [UnitRecordKey] {
      [UnitRecordKey(name: bbar, form: .registerBase, isRequired: true)]
    }
    static var registerSpace: UInt64 { 1 << 20 }

    static func registerBits(at offset: UInt64) -> Int {
      let register = Calgary.Register(containing: offset)
      return register.map { $0.offset == offset ? 8 * $0.byteCount : 64 } ?? 64
    }

    static func model(of record: UnitRecord) throws(ImageError) -> Calgary.Chip {
      var bridges: [Calgary.Chip.HostBridge?] = []
      for phb in 0..<Calgary.hostBridgeCount { bridges.append(try record.hostBridge(phb)) }
      return Calgary.Chip(
        model: Chip.Model(rawValue: record.unit.kind) ?? .calgary, base: record.address(bbar),
        hostBridges: bridges)
    }

    static func record(of chip: Calgary.Chip) -> MachineFile.Unit {
      var unit = MachineFile.Unit.calgary(chip.model, base: chip.base)
      for (phb, bridge) in chip.hostBridges.enumerated() {
        if let bridge { unit.list(bridge, phb) }
      }
      return unit
    }
  }
}

extension MachineFile.Unit {
  /// A Calgary or CalIOC2 chip as its registers stand; nothing is checked. `base` is BBAR.
  public static func calgary(
    _ model: Calgary.Chip.Model, base: PhysicalAddress, registers: [UInt64: UInt64] = [:]
  ) -> MachineFile.Unit {
    MachineFile.Unit(
      kind: model.rawValue, values: [Calgary.Record.bbar: .address(base)], registers: registers)
  }

  fileprivate mutating func list(_ bridge: Calgary.Chip.HostBridge, _ phb: Int) {
    typealias Offset = Calgary.RegisterOffset
    let buses = Calgary.BusRangeRegister(
      firstBus: bridge.buses.lowerBound, lastBus: bridge.buses.upperBound)
    registers[Offset.stuff(phb)] = UInt64(buses.rawValue)
    registers[Offset.tableAddress(phb)] = bridge.tableAddress.rawValue
    registers[Offset.configuration(phb)] = UInt64(bridge.configuration.rawValue)
    if !bridge.memory1.isEmpty {
      let last = bridge.memory1.upperBound.rawValue - 1
      precondition(last >> 32 == 0 && last != 0, "MEM_1 ends at 4 GiB at most")
      registers[Offset.memory1Low(phb)] = bridge.memory1.lowerBound.rawValue & 0xffff_ffff
      registers[Offset.memory1High(phb)] = bridge.memory1.lowerBound.rawValue >> 32
      registers[Offset.memory1Last(phb)] = last
    }
    if !bridge.memory2.isEmpty {
      let last = bridge.memory2.upperBound.rawValue - 1
      registers[Offset.memory2Low(phb)] = bridge.memory2.lowerBound.rawValue & 0xffff_ffff
      registers[Offset.memory2High(phb)] = bridge.memory2.lowerBound.rawValue >> 32
      registers[Offset.memory2LastHigh(phb)] = last >> 32
      registers[Offset.memory2LastLow(phb)] = last & 0xffff_ffff
    }
  }
}

extension UnitRecord {
  /// A PHB; `nil` when the file does not say what it is, or when it has no buses.
  fileprivate func hostBridge(_ phb: Int) throws(ImageError) -> Calgary.Chip.HostBridge? {
    typealias Offset = Calgary.RegisterOffset
    let tableAddress = quadword(Offset.tableAddress(phb)).map(
      Calgary.TableAddressRegister.init(rawValue:))
    let hasTable = tableAddress.map { $0.table.rawValue != 0 } ?? false
    var configuration = try doubleword(Offset.configuration(phb)).map(
      Calgary.ConfigurationRegister.init(rawValue:))
    // Drivers set the table before they switch translation on: with a table, assume that it is.
    if configuration == nil {
      let off = Calgary.ConfigurationRegister(rawValue: 0)
      configuration = hasTable ? off.enablingTranslation : off
    }
    let translates = configuration?.translates ?? false
    guard tableAddress != nil || !translates else {
      throw missing(Offset.tableAddress(phb), "PHB \(phb) translates: say where its table is")
    }
    guard let stuff = try doubleword(Offset.stuff(phb)) else {
      guard !hasTable, !translates else {
        throw missing(Offset.stuff(phb), "PHB \(phb) has a table: say which buses use it")
      }
      return nil
    }
    guard let configuration, let buses = Calgary.BusRangeRegister(rawValue: stuff).buses else {
      return nil
    }
    return Calgary.Chip.HostBridge(
      buses: buses,
      tableAddress: tableAddress ?? Calgary.TableAddressRegister(rawValue: 0),
      configuration: configuration, memory1: try memory1(phb), memory2: try memory2(phb))
  }

  private func memory1(_ phb: Int) throws(ImageError) -> Range<IOVA>? {
    typealias Offset = Calgary.RegisterOffset
    guard let low = try doubleword(Offset.memory1Low(phb)),
      let high = try doubleword(Offset.memory1High(phb)),
      let last = try doubleword(Offset.memory1Last(phb))
    else { return nil }
    return Calgary.HostBridgeWindow.memory1(low: low, high: high, last: last)
  }

  private func memory2(_ phb: Int) throws(ImageError) -> Range<IOVA>? {
    typealias Offset = Calgary.RegisterOffset
    guard let low = try doubleword(Offset.memory2Low(phb)),
      let high = try doubleword(Offset.memory2High(phb)),
      let lastHigh = try doubleword(Offset.memory2LastHigh(phb)),
      let lastLow = try doubleword(Offset.memory2LastLow(phb))
    else { return nil }
    return Calgary.HostBridgeWindow.memory2(
      low: low, high: high, lastLow: lastLow, lastHigh: lastHigh)
  }
}
