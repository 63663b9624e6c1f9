import IOMMUFormats
import IOMMUTranslation

// What firmware's table of VT-d units says of a device and of a number.

extension VTd.DMAR {
  /// What the table says of a fault: who its device is, and whether its number is reserved memory.
  ///
  /// - Parameter isWhole: Nothing of the table is missing; otherwise what it does not say is not known.
  func hints(on record: FaultRecord, isWhole: Bool) -> [String] {
    guard let device = record.device else { return [] }
    return hints(on: device, isWhole)
      + (record.iova.map { hints(on: $0, of: device, isWhole) } ?? [])
  }

  private func hints(on device: PCI.Function, _ isWhole: Bool) -> [String] {
    let firmware = FirmwareSubject(isWhole: isWhole)
    let units = hardwareUnits.filter { UInt32($0.segment) == device.segment }
    guard !units.isEmpty else {
      return [firmware.lacks("lists no unit for PCI segment \(hexadecimal(device.segment))")]
    }
    var hints: [String] = []
    for unit in units {
      for scope in unit.scopes where scope.isOneStep(device.requester) {
        hints.append(
          "firmware: \(device) is \(name(of: scope)), behind the unit at \(unit.base)")
      }
    }
    if !hints.isEmpty { return hints }
    let bridges = units.flatMap { unit in
      unit.scopes.filter { $0.type == .subHierarchy && $0.startBus != device.requester.bus }
        .map { "\($0.pathText) (unit at \(unit.base))" }
    }
    if !bridges.isEmpty, device.requester.bus != 0 {
      hints.append(
        firmware.name + " does not list \(device) itself; it may be behind a bridge that it lists: "
          + listText(Array(bridges.prefix(4))))
    }
    if let rest = units.first(where: \.includesAllPCI) {
      hints.append(
        firmware.lacks("does not list \(device)")
          + (bridges.isEmpty && isWhole ? ": " : ", and otherwise ")
          + "the unit at \(rest.base) has all that is listed nowhere")
    }
    return hints.isEmpty ? [firmware.lacks("does not list \(device)")] : hints
  }

  /// What a scope names, in words.
  private func name(of scope: DeviceScope) -> String {
    switch scope.type {
    case .endpoint: return "a PCI device"
    case .subHierarchy:
      return "a bridge; requests of conventional PCI devices behind it carry its number"
    case .ioapic: return "I/O APIC \(scope.enumerationID)"
    case .hpet: return "HPET \(scope.enumerationID), a timer"
    case .namespaceDevice:
      let device = structures.lazy.compactMap { structure -> NamespaceDevice? in
        guard case .namespaceDevice(let device) = structure else { return nil }
        return device.number == scope.enumerationID ? device : nil
      }.first
      return "ACPI device \(device?.name ?? "\(scope.enumerationID)")"
    default: return "of scope type \(scope.type.rawValue)"
    }
  }

  private func hints(on iova: IOVA, of device: PCI.Function, _ isWhole: Bool) -> [String] {
    structures.enumerated().compactMap { index, structure in
      guard case .reservedMemory(let region) = structure, let memory = region.memory,
        UInt32(region.segment) == device.segment,
        memory.contains(PhysicalAddress(iova.rawValue))
      else { return nil }
      let isOwn = region.scopes.contains { $0.isOneStep(device.requester) }
      // The last structure's devices may be missing in part.
      let isSure = isWhole || index < structures.count - 1
      var owners = region.scopes.prefix(4).map(\.pathText)
      if !isSure { owners.append("perhaps others") }
      return isOwn
        ? "the number lies in \(memory.text), which firmware reserves for this device (RMRR): it has "
          + "to stay mapped to itself"
        : "the number lies in \(memory.text), which firmware reserves for \(listText(owners)) (RMRR)"
    }
  }
}

/// How hints speak of firmware's table, of which a part may be missing.
struct FirmwareSubject {
  let isWhole: Bool

  var name: String { isWhole ? "firmware" : "what there is of firmware's table" }

  /// That the table does not say something, with the doubt that is left.
  func lacks(_ what: String) -> String {
    "\(name) \(what)" + (isWhole ? "" : "; the missing part may")
  }
}

extension VTd.DMAR.DeviceScope {
  fileprivate func isOneStep(_ requester: Requester) -> Bool {
    path.count == 1 && startBus == requester.bus && path[0].device == requester.device
      && path[0].function == requester.function
  }

  /// `00:1c.4`, and behind bridges the steps: `00:1c.4/00.0`.
  fileprivate var pathText: String {
    let steps = path.map { "\(hexadecimal($0.device, digits: 2)).\($0.function)" }
    return "\(hexadecimal(startBus, digits: 2)):" + steps.joined(separator: "/")
  }
}
