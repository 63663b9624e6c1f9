import CIOMMU
import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

/// A live unit that C has a handle of.
final class CUnit: Handled {
  static var kind: HandleKind { .unit }

  enum Model {
    case vtd(RemappingUnit)
    case amdvi(AMDViUnit)
    case calgary(CalgaryUnit, firmware: [ClosedRange<UInt8>?])
    case gart(Northbridges)
  }

  let model: Model
  let memory: FlatMemory

  init(_ model: Model, in memory: FlatMemory) {
    self.model = model
    self.memory = memory
  }
}

/// The function that a unit's interrupts go to. Sendable: the caller says so, who lets several threads use
/// the unit.
private struct Interrupts: @unchecked Sendable {
  var call: (@convention(c) (UInt64, UInt32, UnsafeMutableRawPointer?) -> Void)?
  var context: UnsafeMutableRawPointer?

  func deliver(_ message: InterruptMessage) { call?(message.address, message.data, context) }
}

@_cdecl("iommu_unit_create")
public func createUnit(
  _ memory: Handle?, _ hardware: iommu_hardware, _ options: UnsafePointer<iommu_unit_options>?,
  _ unit: UnsafeMutablePointer<Handle?>?
) -> iommu_status {
  create(unit, "unit") {
    let memory = try object(memory, as: CMemory.self).flat
    let options = try structure(options, "iommu_unit_options")
    let model = options.model == nil ? nil : try string(options.model, "model")
    let interrupts = Interrupts(call: options.interrupt, context: options.context)
    switch Int(hardware) {
    case IOMMU_VTD:
      var configuration = try named(
        model,
        ["qemu": RemappingUnitConfiguration.qemu, "2008": .unit2008, "current": .currentServer]
      )
      if options.capability != 0 {
        configuration.capability = VTd.Capability(rawValue: options.capability)
      }
      if options.extended_capability != 0 {
        configuration.extendedCapability = VTd.ExtendedCapability(
          rawValue: options.extended_capability)
      }
      if options.has_no_caches != 0 { configuration.caches = .none }
      return CUnit(
        .vtd(
          try RemappingUnit(configuration, memory: memory, deliver: { interrupts.deliver($0) })),
        in: memory)
    case IOMMU_AMDVI:
      var configuration = try named(
        model, ["qemu": AMDViUnitConfiguration.qemu, "2008": .firstRevision, "current": .current])
      if options.capability != 0 {
        configuration.features = AMDVi.ExtendedFeatures(rawValue: options.capability)
      }
      if options.has_no_caches != 0 { configuration.caches = .none }
      return CUnit(
        .amdvi(try AMDViUnit(configuration, memory: memory, deliver: { interrupts.deliver($0) })),
        in: memory)
    case IOMMU_CALGARY:
      let chip = try named(
        model ?? "calgary", ["calgary": Calgary.Chip.Model.calgary, "calioc2": .calioc2])
      let firmware: [ClosedRange<UInt8>?] =
        options.bridges == nil
        ? [0...255] : try bridges(options.bridges, options.bridge_count).map(buses)
      let unit = CalgaryUnit(model: chip, base: PhysicalAddress(0xfe00_0000))
      unit.setUpBuses(firmware)
      return CUnit(.calgary(unit, firmware: firmware), in: memory)
    case IOMMU_GART:
      guard 0...8 ~= options.node_count else {
        throw CallError.argument("\(options.node_count) nodes: a machine has one to eight")
      }
      return CUnit(
        .gart(Northbridges(nodeCount: max(1, Int(options.node_count)))), in: memory)
    default:
      throw CallError.argument(
        "hardware is \(hardware): IOMMU_VTD, IOMMU_AMDVI, IOMMU_CALGARY and IOMMU_GART are possible"
      )
    }
  }
}

/// What a model's name stands for; without one the newest.
private func named<Configuration>(
  _ name: String?, _ all: [String: Configuration]
) throws -> Configuration {
  guard let found = all[name ?? "current"] else {
    throw CallError.argument(
      "there is no model '\(name ?? "")': \(all.keys.sorted().joined(separator: ", ")) are possible"
    )
  }
  return found
}

@_cdecl("iommu_unit_free")
public func freeUnit(_ unit: Handle?) -> iommu_status { free(unit, .unit) }

@_cdecl("iommu_unit_reset")
public func resetUnit(_ unit: Handle?) -> iommu_status {
  call {
    switch try object(unit, as: CUnit.self).model {
    case .vtd(let unit): unit.reset()
    case .amdvi(let unit): unit.reset()
    case .calgary(let unit, let firmware):
      unit.powerOn()
      unit.setUpBuses(firmware)
    case .gart(let northbridges): northbridges.powerCycle()
    }
  }
}

// MARK: Registers

@_cdecl("iommu_unit_window_size")
public func unitWindowSize(_ unit: Handle?, _ size: UnsafeMutablePointer<UInt64>?) -> iommu_status {
  call {
    let unit = try object(unit, as: CUnit.self)
    let size = try require(size, "size")
    switch unit.model {
    case .vtd(let unit): size.pointee = unit.windowByteCount
    case .amdvi(let unit): size.pointee = unit.windowByteCount
    case .calgary: size.pointee = Calgary.registerSpaceByteCount
    case .gart: size.pointee = 0
    }
  }
}

/// - Throws: For widths that no processor has.
private func width(_ width: UInt32) throws -> Int {
  guard 1...8 ~= width else {
    throw CallError.argument("a width of \(width) bytes: loads and stores have 1 to 8")
  }
  return Int(width)
}

@_cdecl("iommu_unit_read")
public func readUnit(
  _ unit: Handle?, _ offset: UInt64, _ width: UInt32, _ value: UnsafeMutablePointer<UInt64>?
) -> iommu_status {
  call {
    let unit = try object(unit, as: CUnit.self)
    let value = try require(value, "value")
    let width = try IOMMUForC.width(width)
    switch unit.model {
    case .vtd(let unit): value.pointee = unit.read(offset, byteCount: width)
    case .amdvi(let unit): value.pointee = unit.read(offset, byteCount: width)
    case .calgary(let unit, _): value.pointee = unit.read(at: offset, byteCount: width)
    case .gart: throw CallError.noWindow
    }
  }
}

@_cdecl("iommu_unit_write")
public func writeUnit(
  _ unit: Handle?, _ offset: UInt64, _ width: UInt32, _ value: UInt64
) -> iommu_status {
  call {
    let unit = try object(unit, as: CUnit.self)
    let width = try IOMMUForC.width(width)
    switch unit.model {
    case .vtd(let unit): unit.write(value, at: offset, byteCount: width)
    case .amdvi(let unit): unit.write(value, at: offset, byteCount: width)
    case .calgary(let unit, _): unit.write(value, at: offset, byteCount: width)
    case .gart: throw CallError.noWindow
    }
  }
}

extension CallError {
  fileprivate static var noWindow: Self {
    .unsupported(
      "northbridges have no register window: iommu_unit_read_configuration() and its like reach them"
    )
  }
  fileprivate static var noConfiguration: Self {
    .unsupported(
      "the unit has no configuration space: iommu_unit_read() and iommu_unit_write() reach it")
  }
}

/// An offset in configuration space.
private func offset(_ offset: UInt32) throws -> Int {
  guard offset < 4096 else {
    throw CallError.argument(
      "offset \(hexadecimal(offset)) is behind configuration space, which has 4 KiB")
  }
  return Int(offset)
}

/// A doubleword of an AMD-Vi unit's function.
private func doublewordOffset(_ offset: UInt32, _ width: UInt32) throws -> Int {
  guard width == 4, offset % 4 == 0 else {
    throw CallError.argument(
      "the function is read and written in doublewords, width 4 at multiples of 4")
  }
  return try IOMMUForC.offset(offset)
}

@_cdecl("iommu_unit_read_configuration")
public func readUnitConfiguration(
  _ unit: Handle?, _ requester: UInt16, _ offset: UInt32, _ width: UInt32,
  _ value: UnsafeMutablePointer<UInt64>?
) -> iommu_status {
  call {
    let unit = try object(unit, as: CUnit.self)
    let value = try require(value, "value")
    switch unit.model {
    case .amdvi(let unit):
      value.pointee = UInt64(unit.readConfiguration(try doublewordOffset(offset, width)))
    case .gart(let northbridges):
      value.pointee = northbridges.readConfiguration(
        Requester(rawValue: requester), at: try IOMMUForC.offset(offset),
        byteCount: try IOMMUForC.width(width))
    case .vtd, .calgary: throw CallError.noConfiguration
    }
  }
}

@_cdecl("iommu_unit_write_configuration")
public func writeUnitConfiguration(
  _ unit: Handle?, _ requester: UInt16, _ offset: UInt32, _ width: UInt32, _ value: UInt64
) -> iommu_status {
  call {
    switch try object(unit, as: CUnit.self).model {
    case .amdvi(let unit):
      unit.writeConfiguration(
        UInt32(truncatingIfNeeded: value), at: try doublewordOffset(offset, width))
    case .gart(let northbridges):
      northbridges.writeConfiguration(
        value, to: Requester(rawValue: requester), at: try IOMMUForC.offset(offset),
        byteCount: try IOMMUForC.width(width))
    case .vtd, .calgary: throw CallError.noConfiguration
    }
  }
}

// MARK: Interrupts

extension iommu_interrupt {
  fileprivate init(_ kind: iommu_interrupt_kind, fault: Int32 = -1) {
    self.init()
    size = MemoryLayout<Self>.size
    self.kind = kind
    vector = -1
    destination = -1
    self.fault = fault
  }

  fileprivate init(_ kind: iommu_interrupt_kind, _ delivery: InterruptDelivery?) {
    self.init(kind)
    guard let delivery else { return }
    vector = Int32(delivery.vector)
    destination = Int64(delivery.destination)
  }

  fileprivate static var passed: Self { Self(iommu_interrupt_kind(IOMMU_INTERRUPT_PASSED)) }
  fileprivate static func delivered(_ delivery: InterruptDelivery) -> Self {
    Self(iommu_interrupt_kind(IOMMU_INTERRUPT_DELIVERED), delivery)
  }
  fileprivate static func posted(_ notification: InterruptDelivery?) -> Self {
    Self(iommu_interrupt_kind(IOMMU_INTERRUPT_POSTED), notification)
  }
  fileprivate static func blocked(_ fault: UInt8?) -> Self {
    Self(
      iommu_interrupt_kind(IOMMU_INTERRUPT_BLOCKED), fault: fault.map(Int32.init) ?? -1)
  }
}

@_cdecl("iommu_unit_remap_interrupt")
public func remapInterrupt(
  _ unit: Handle?, _ device: iommu_device, _ address: UInt64, _ data: UInt32,
  _ interrupt: UnsafeMutablePointer<iommu_interrupt>?
) -> iommu_status {
  call {
    let unit = try object(unit, as: CUnit.self)
    let requester = try PCI.Function(device).requester
    let place = try require(interrupt, "interrupt")
    try checkSize(of: place, "iommu_interrupt")
    guard VTd.isInterruptAddress(address) else {
      throw CallError.argument(
        "\(hexadecimal(address)) is no address of interrupts, which are 0xfee00000 to 0xfeefffff")
    }
    switch unit.model {
    case .vtd(let unit):
      let request = VTd.InterruptRequest(
        address: VTd.InterruptAddress(rawValue: UInt32(address)),
        data: VTd.InterruptData(rawValue: data))
      place.pointee =
        switch unit.remap(request, from: requester) {
        case .passed: .passed
        case .delivered(let delivery): .delivered(delivery)
        case .posted(let notification): .posted(notification)
        case .blocked(let fault): .blocked(fault.reason.rawValue)
        }
    case .amdvi(let unit):
      place.pointee =
        switch unit.remap(AMDVi.InterruptRequest(address: address, data: data), from: requester) {
        case .passed: .passed
        case .delivered(let delivery): .delivered(delivery)
        case .guest: .posted(nil)
        case .blocked(let fault): .blocked(fault.fault.number)
        }
    case .calgary, .gart: throw CallError.unsupported("the unit remaps no interrupts")
    }
  }
}

// MARK: Ports

/// Where requests enter a unit.
final class CPort: Handled {
  static var kind: HandleKind { .port }

  enum Entrance {
    case vtd(TranslationPort)
    case other(any DMAPort)
  }

  let entrance: Entrance
  let memory: FlatMemory
  /// Kept: a Calgary's or northbridges' port is the unit itself.
  private let unit: CUnit

  init(_ unit: CUnit) {
    self.unit = unit
    memory = unit.memory
    entrance =
      switch unit.model {
      case .vtd(let unit): .vtd(unit.makePort())
      case .amdvi(let unit): .other(unit)
      case .calgary(let unit, _): .other(unit)
      case .gart(let northbridges): .other(northbridges)
      }
  }

  func translate(_ request: DMARequest) -> Translation {
    let answer =
      switch entrance {
      case .vtd(let port): port.translate(request, in: memory)
      case .other(let port): port.translate(request, in: memory)
      }
    // Of a unit that does not stand above the device nothing is translated.
    return answer
      ?? .mapped(PhysicalAddress(request.address.rawValue), byteCount: request.byteCount)
  }
}

@_cdecl("iommu_port_create")
public func createPort(_ unit: Handle?, _ port: UnsafeMutablePointer<Handle?>?) -> iommu_status {
  create(port, "port") { CPort(try object(unit, as: CUnit.self)) }
}

@_cdecl("iommu_port_free")
public func freePort(_ port: Handle?) -> iommu_status { free(port, .port) }

@_cdecl("iommu_port_translate")
public func translatePort(
  _ port: Handle?, _ device: iommu_device, _ pasid: UInt32, _ iova: UInt64, _ byteCount: UInt64,
  _ access: iommu_access, _ translation: UnsafeMutablePointer<iommu_translation>?
) -> iommu_status {
  call {
    let port = try object(port, as: CPort.self)
    let place = try require(translation, "translation")
    try checkSize(of: place, "iommu_translation")
    let request = DMARequest(
      try Access(access), by: try PCI.Function(device).requester, pasid: try PASID.given(pasid),
      at: IOVA(iova), byteCount: try requestByteCount(byteCount))
    place.pointee = iommu_translation(port.translate(request))
  }
}

@_cdecl("iommu_port_translate_batch")
public func translatePortBatch(
  _ port: Handle?, _ device: iommu_device, _ iovas: UnsafePointer<UInt64>?, _ count: Int,
  _ access: iommu_access, _ answers: UnsafeMutablePointer<UInt64>?
) -> iommu_status {
  call {
    let port = try object(port, as: CPort.self)
    let requester = try PCI.Function(device).requester
    let access = try Access(access)
    try withBatch(iovas, answers, count) { iovas, answers in
      switch port.entrance {
      case .vtd(let port):
        iovas.withMemoryRebound(to: IOVA.self, capacity: count) { iovas in
          answers.withMemoryRebound(to: PackedTranslation.self, capacity: count) { answers in
            let source = Span(_unsafeStart: iovas, count: count)
            var target = MutableSpan(_unsafeStart: answers, count: count)
            port.translate(source, access, of: requester, into: &target)
          }
        }
      case .other:
        for index in 0..<count {
          let request = DMARequest(access, by: requester, at: IOVA(iovas[index]))
          answers[index] = PackedTranslation(port.translate(request)).rawValue
        }
      }
    } orNone: {
    }
  }
}

@_cdecl("iommu_port_dma")
public func portDMA(
  _ port: Handle?, _ device: iommu_device, _ pasid: UInt32, _ iova: UInt64,
  _ bytes: UnsafeMutableRawPointer?, _ byteCount: Int, _ access: iommu_access,
  _ done: UnsafeMutablePointer<Int>?, _ translation: UnsafeMutablePointer<iommu_translation>?
) -> iommu_status {
  call {
    let port = try object(port, as: CPort.self)
    let access = try Access(access)
    let requester = try PCI.Function(device).requester
    let pasid = try PASID.given(pasid)
    let done = try require(done, "done")
    if let translation { try checkSize(of: translation, "iommu_translation") }
    guard let bytes, byteCount > 0 else {
      throw CallError.argument("bytes is null, or byte_count no number of bytes that there can be")
    }
    guard UInt64(byteCount) - 1 <= .max - iova else {
      throw CallError.argument("the request goes on past the last address")
    }
    let buffer = UnsafeMutableRawBufferPointer(start: bytes, count: byteCount)
    var moved = 0
    while moved < byteCount {
      let request = DMARequest(
        access, by: requester, pasid: pasid, at: IOVA(iova + UInt64(moved)),
        byteCount: UInt64(byteCount - moved))
      let answer = port.translate(request)
      if let translation { translation.pointee = iommu_translation(answer) }
      guard case .mapped(let address, let granted) = answer else { break }
      let piece = Int(min(granted, UInt64(byteCount - moved)))
      let part = UnsafeMutableRawBufferPointer(rebasing: buffer[moved..<(moved + piece)])
      let count =
        access == .read
        ? port.memory.read(at: address, into: part)
        : port.memory.write(UnsafeRawBufferPointer(part), at: address)
      moved += count
      // The unit lets it pass, and no memory is there.
      guard count == piece else { break }
    }
    done.pointee = moved
  }
}
