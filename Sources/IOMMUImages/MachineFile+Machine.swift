import IOMMUFormats
import IOMMUTranslation

// MARK: Registers to machine

extension MachineFile {
  /// The machine that the registers describe.
  ///
  /// - Throws: ``ImageError`` when a register is missing without which an answer would be a guess,
  ///   or when registers select what this version does not read.
  public func machine() throws(ImageError) -> Machine {
    var units: [TranslationUnit] = []
    for (index, unit) in self.units.enumerated() {
      let place = JSONPlace(file: path, path: "units[\(index)]")
      units.append(try unit.translationUnit(place))
    }
    return Machine(name: name, units: units, ram: ram, crashKernel: crashKernel)
  }
}

extension MachineFile.Unit {
  func translationUnit(_ place: JSONPlace) throws(ImageError) -> TranslationUnit {
    let registers = RegisterFile(unit: self, place: place)
    switch hardware {
    case .calgary(let model, let base):
      var bridges: [Calgary.Chip.HostBridge?] = []
      for phb in 0..<Calgary.hostBridgeCount { bridges.append(try registers.hostBridge(phb)) }
      return .calgary(Calgary.Chip(model: model, base: base, hostBridges: bridges))
    case .gart(let device, let hasErratum156):
      return .gart(try registers.node(device: device, hasErratum156: hasErratum156))
    case .vtd(let base, let hostAddressWidth, let hasTransientMappings, let segment):
      let limits = try registers.limits(
        hostAddressWidth: hostAddressWidth, hasTransientMappings: hasTransientMappings)
      return .vtd(try registers.remappingUnit(base: base, limits: limits, segment))
    }
  }
}

/// The registers of one unit, for reading: `nil` where the file is silent.
private struct RegisterFile {
  let unit: MachineFile.Unit
  let place: JSONPlace

  func quadword(_ offset: UInt64) -> UInt64? { unit.registers[offset] }

  /// - Throws: when the value has more than 32 bits, as one set by a program may.
  func doubleword(_ offset: UInt64) throws(ImageError) -> UInt32? {
    guard let value = unit.registers[offset] else { return nil }
    guard let word = UInt32(exactly: value) else {
      throw error(offset, "\"\(hexadecimal(value))\" does not fit 32 bits")
    }
    return word
  }

  func error(_ offset: UInt64, _ found: String, _ remedy: String? = nil) -> ImageError {
    place.register(unit.hardware.registerKey(offset)).error(found, remedy)
  }

  func missing(_ offset: UInt64, _ why: String) -> ImageError {
    error(offset, "is missing", why)
  }

  // MARK: Calgary

  /// A PHB; `nil` when the file does not say what it is, or when it has no buses.
  func hostBridge(_ phb: Int) throws(ImageError) -> Calgary.Chip.HostBridge? {
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

  // MARK: GART

  func node(device: Requester, hasErratum156: Bool) throws(ImageError) -> GART.Node {
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
      device: device, control: control, base: GART.ApertureBase(rawValue: base ?? 0),
      tableBase: GART.TableBase(rawValue: tableBase ?? 0), hasErratum156: hasErratum156)
  }

  // MARK: VT-d

  func remappingUnit(
    base: PhysicalAddress, limits: VTd.Limits, _ segment: UInt16?
  ) throws(ImageError) -> VTd.Unit {
    typealias Offset = VTd.RegisterOffset
    guard let rootValue = quadword(Offset.rootTableAddress) else {
      throw missing(Offset.rootTableAddress, "it tells where the root table is")
    }
    let root = VTd.RootTableAddress(rawValue: rootValue)
    let status = try doubleword(Offset.globalStatus).map(VTd.GlobalStatus.init(rawValue:))
    return VTd.Unit(
      base: base, rootTableAddress: root, status: status, limits: limits, segment: segment)
  }

  /// What the capability registers allow; everything that a missing one would restrict.
  func limits(hostAddressWidth: Int?, hasTransientMappings: Bool?) throws(ImageError) -> VTd.Limits
  {
    typealias Offset = VTd.RegisterOffset
    if let hostAddressWidth, !(32...52 ~= hostAddressWidth) {
      throw place["host_address_width"].error(
        "\(hostAddressWidth) bits", "host addresses have 32 to 52 bits")
    }
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
      hasTransientMappings ?? (extended == nil && permissive.hasTransientMappings)
    limits.toleratesUnsnoopedWalks = extended == nil && permissive.toleratesUnsnoopedWalks
    return limits
  }
}

// MARK: Machine to registers

extension MachineFile {
  /// Writes a machine down; reading it back gives an equal machine.
  ///
  /// Only what a ``Machine`` holds is listed. A Calgary chip comes back with all its four bridges,
  /// those that it did not have as `nil`; an empty window comes back as the empty one at 0.
  ///
  /// - Precondition: registers can hold it: a MEM_1 window that ends at 4 GiB at most, VT-d limits
  ///   that the capability registers can state, or in which ECAP_REG is not known.
  public init(machine: Machine, images: [String]) {
    self.init(
      name: machine.name, images: images, units: machine.units.map(Unit.init), ram: machine.ram,
      crashKernel: machine.crashKernel)
  }
}

extension MachineFile.Unit {
  init(_ unit: TranslationUnit) {
    switch unit.model {
    case let chip as Calgary.Chip:
      self.init(.calgary(chip.model, base: chip.base), registers: [:])
      for (phb, bridge) in chip.hostBridges.enumerated() {
        if let bridge { list(bridge, phb) }
      }
    case let node as GART.Node:
      self.init(
        .gart(device: node.device, hasErratum156: node.hasErratum156),
        registers: [
          GART.RegisterOffset.apertureControl: UInt64(node.control.rawValue),
          GART.RegisterOffset.apertureBase: UInt64(node.base.rawValue),
          GART.RegisterOffset.tableBase: UInt64(node.tableBase.rawValue),
        ])
    case let unit as VTd.Unit:
      self.init(unit)
    default: preconditionFailure("a unit of a kind that machine files know")
    }
  }

  private mutating func list(_ bridge: Calgary.Chip.HostBridge, _ phb: Int) {
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

  private init(_ unit: VTd.Unit) {
    typealias Offset = VTd.RegisterOffset
    var registers = [Offset.rootTableAddress: unit.rootTableAddress.rawValue]
    registers[Offset.globalStatus] = unit.status.map { UInt64($0.rawValue) }
    if unit.limits.majorVersion != VTd.Limits.permissive.majorVersion {
      registers[Offset.version] = UInt64(
        VTd.Version(major: unit.limits.majorVersion, minor: 0).rawValue)
    }
    // Of a unit that allows everything nothing was known; so it stays.
    guard unit.limits != .permissive else {
      self.init(.vtd(base: unit.base, segment: unit.segment), registers: registers)
      return
    }
    let (capability, extended) = (unit.limits.capability, unit.limits.extendedCapability)
    registers[Offset.capability] = capability.rawValue
    // What the register says would be held against tables: a unit that is not known has none.
    let isKnown = !unit.limits.toleratesUnsnoopedWalks
    if isKnown { registers[Offset.extendedCapability] = extended.rawValue }
    let stated = VTd.Limits(capability: capability, extendedCapability: extended)
    let hostAddressWidth = unit.limits.hostAddressWidth
    self.init(
      .vtd(
        base: unit.base,
        hostAddressWidth: hostAddressWidth == stated.hostAddressWidth ? nil : hostAddressWidth,
        hasTransientMappings: unit.limits.hasTransientMappings == isKnown
          ? unit.limits.hasTransientMappings : nil,
        segment: unit.segment),
      registers: registers)
  }
}
