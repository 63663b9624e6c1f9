import IOMMUFormats
import IOMMUTranslation

// What firmware's table of AMD-Vi units says of a device and of a number.

extension AMDVi.IVRS {
  /// What the table says of a fault: who its device is, which unit it is behind, and whether its number
  /// is memory that has to stay mapped.
  func hints(on record: FaultRecord) -> [String] {
    guard let device = record.device else { return [] }
    return hints(on: device) + (record.iova.map { hints(on: $0, of: device) } ?? [])
  }

  private func hints(on device: PCI.Function) -> [String] {
    let firmware = FirmwareSubject(isWhole: damage.isEmpty)
    // A block that is cut off does not stand for those before it.
    let blocks = (damage.isEmpty ? units : self.blocks.filter(\.type.isUnit))
      .filter { UInt32($0.segment) == device.segment }
    guard !blocks.isEmpty else {
      return [firmware.lacks("lists no unit for PCI segment \(hexadecimal(device.segment))")]
    }
    var hints: [String] = []
    func add(_ hint: String) {
      if !hints.contains(hint) { hints.append(hint) }
    }
    for block in blocks {
      let unit = "the unit \(block.deviceID) at \(block.base)"
      for entry in block.entries where entry.deviceID == device.requester {
        switch entry.type {
        case .special:
          let what = entry.variety == 2 ? ", a timer" : ""
          add("firmware: \(device) is \(entry.specialName)\(what), behind \(unit)")
        case .acpiDevice: add("firmware: \(device) is \(entry.acpiName), behind \(unit)")
        default: break
        }
      }
      let spans = block.spans
      let carried = spans.filter { $0.source == device.requester }
      if !carried.isEmpty {
        add(
          "firmware: requests of \(listText(carried.prefix(4).map(\.text))) carry this number, behind "
            + unit)
      }
      if hints.isEmpty, spans.contains(where: { $0.devices.contains(device.requester.rawValue) }) {
        add("firmware: \(device) is behind \(unit)")
      }
    }
    return hints.isEmpty ? [firmware.lacks("lists \(device) behind no unit")] : hints
  }

  private func hints(on iova: IOVA, of device: PCI.Function) -> [String] {
    blocks.compactMap { block in
      guard block.type.isMemory, UInt32(block.segment) == device.segment,
        let memory = block.memory, memory.contains(PhysicalAddress(iova.rawValue))
      else { return nil }
      let number = device.requester.rawValue
      let isOwn =
        switch block.type {
        case .memoryOfAll: true
        case .memoryOfOne: block.deviceID.rawValue == number
        default: block.deviceID.rawValue <= number && number <= block.lastDeviceID.rawValue
        }
      let whose = isOwn ? "this device" : "others"
      return "the number lies in \(memory.text), which firmware reserves for \(whose) (IVMD)"
        + (isOwn
          ? block.isExclusion
            ? ": it is excluded from translation" : ": it has to stay mapped to itself"
          : "")
    }
  }
}
