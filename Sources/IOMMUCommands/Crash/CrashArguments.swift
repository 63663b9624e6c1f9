import ArgumentParser
import IOMMUFormats
import IOMMUImages
import IOMMUKdump
import IOMMUTranslation

extension CacheLevel: ExpressibleByArgument {}

/// Reads one of several names, whatever its case.
///
/// - Throws: an error with the name that was meant, or with all there are.
func choice<Value: RawRepresentable<String>>(
  _ text: String, of noun: String, among values: some Collection<Value>
) throws(NotationError) -> Value {
  let wanted = text.lowercased()
  if let value = values.first(where: { $0.rawValue.lowercased() == wanted }) { return value }
  let names = values.map(\.rawValue)
  let nearest = likelyName(for: wanted, among: names.map { $0.lowercased() })
    .flatMap { name in names.first { $0.lowercased() == name } }
  throw NotationError(
    "there is no \(noun) '\(text.visible)'"
      + (nearest.map { "; did you mean '\($0)'?" }
        ?? "; there are \(names.joined(separator: ", "))"))
}

/// When devices come to rest, as the command line says it.
package enum ResetArgument: String, ExpressibleByArgument, CaseIterable {
  case byDriver = "by-driver"
  case afterMapping = "after-mapping"

  var behaviour: ResetBehaviour {
    switch self {
    case .byDriver: .byDriver
    case .afterMapping: .afterMapping
    }
  }
}

/// `raid,nic+bmc,igb/igb:reset=never`: devices of the lab's machine, some of them in one slot.
package struct DeviceListArgument: Equatable {
  package var slots: [DeviceSlot] = []
  /// The devices of all slots, in their order.
  package var devices: [DeviceArgument] = []

  package init(_ text: String) throws(NotationError) {
    for slot in text.split(separator: ",", omittingEmptySubsequences: false) {
      slots.append(try self.slot(slot))
    }
  }

  private mutating func slot(_ text: Substring) throws(NotationError) -> DeviceSlot {
    guard !(text.contains("+") && text.contains("/")) else {
      throw NotationError(
        "'\(String(text).visible)': devices are behind one bridge (+) or functions of one card (/)")
    }
    var here: [DeviceArgument] = []
    for part in text.split(omittingEmptySubsequences: false, whereSeparator: { "+/".contains($0) })
    {
      here.append(try DeviceArgument(part))
    }
    devices += here
    let profiles = here.map(\.profile)
    if text.contains("+") {
      guard !here.contains(where: { $0.hasATS == true }) else {
        throw NotationError(
          "'\(String(text).visible)': behind a bridge to conventional PCI there is no ATS")
      }
      return .behindBridge(profiles)
    }
    guard text.contains("/") else { return .alone(profiles[0]) }
    guard profiles.count <= DeviceSlot.functionLimit else {
      throw NotationError("a card has at most \(DeviceSlot.functionLimit) functions")
    }
    return .functions(profiles)
  }
}

/// The machine of a crash that is played: M1, unless something else is said.
package struct CrashMachineOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp("RAM of the machine, such as 4G. Default: 8G.", valueName: "size"),
    transform: { try MachineOptions.ramByteCount($0) })
  package var ram: UInt64?

  @OptionGroup package var placement: CrashKernelPlacement

  @Option(
    help: ArgumentHelp(
      "A machine file: RAM, and the crash kernel where --crash-kernel says none.",
      valueName: "file"), completion: .file())
  package var machine: String?

  @Option(
    help: ArgumentHelp(
      "What the machine has, with commas between: "
        + DeviceProfile.allCases.map(\.rawValue).joined(separator: ", ")
        + ". With + between devices they are behind one PCI bridge, with / functions of one card that "
        + "have one domain: nic+bmc, igb/igb. What is other than in such hardware stands behind a colon: "
        + "mask=BITS, reset=by-driver, after-mapping or never, and driver, ats and firmware, which are yes "
        + "or no: nic:reset=never:mask=32. Default: one of each.",
      valueName: "devices"),
    completion: .list(DeviceProfile.allCases.map(\.rawValue)),
    transform: { try DeviceListArgument($0) })
  package var device: [DeviceListArgument] = []

  /// As many devices as buses and slots of the lab's machines are numbered for.
  static let deviceLimit = 28

  package init() {}

  /// M1 as it is, or the machine that the options say.
  ///
  /// - Throws: ``InputError`` when there can be no such machine.
  func crashMachine(reset: ResetArgument?) throws -> CrashMachine {
    let slots =
      device.isEmpty ? DeviceProfile.allCases.map(DeviceSlot.alone) : device.flatMap(\.slots)
    let changes = device.flatMap(\.devices)
    return try readingInput {
      var machine = CrashMachine(map: try memoryMap(), devices: slots.devices)
      for index in machine.devices.indices {
        if let reset, machine.devices[index].reset != .never {
          machine.devices[index].reset = reset.behaviour
        }
        if !changes.isEmpty { changes[index].apply(to: &machine.devices[index], number: index) }
        try machine.placeFirmwareMemory(of: index)
      }
      return machine
    }
  }

  private func memoryMap() throws -> MemoryMap {
    guard let path = machine else { return try placement.map(ramByteCount: ram ?? 8 << 30) }
    let file = try MachineFile(path: path)
    file.warnings.forEach(warn)
    guard !file.ram.isEmpty else {
      throw InputError("\(path): no RAM in it; give --ram instead of --machine")
    }
    guard !placement.crashKernel.isEmpty else {
      guard !file.crashKernel.isEmpty else {
        throw InputError("\(path): no crash kernel in it; give --crash-kernel, such as 128M@16M")
      }
      return try MemoryMap(ram: file.ram, crashKernel: file.crashKernel)
    }
    return try placement.map(
      ram: file.ram, byteCount: file.ram.reduce(0) { $0 + $1.byteCount })
  }
}

extension CrashMachine {
  /// Bytes at the end of RAM below the PCI hole that firmware keeps: where M1 has its ranges.
  private static let firmwareByteCount: UInt64 = 16 << 20

  /// Moves a device's firmware memory to where firmware has it on this machine: as far below the end of
  /// RAM below the PCI hole as on M1.
  ///
  /// - Throws: ``InputError`` when there is no such RAM, or the crash kernel has it.
  fileprivate mutating func placeFirmwareMemory(of index: Int) throws {
    guard let memory = devices[index].firmwareMemory else { return }
    let name = devices[index].device.name
    let hole = MemoryMap.pciHole.lowerBound
    let end = map.ram.filter { $0.lowerBound < hole }.map { min($0.upperBound, hole) }.max()
    let toEnd = hole.rawValue - memory.lowerBound.rawValue
    guard let end, end.rawValue >= toEnd, toEnd <= Self.firmwareByteCount else {
      throw InputError("no RAM below 3 GiB for firmware's memory of \(name): choose more RAM")
    }
    let start = PhysicalAddress(end.rawValue - toEnd)
    let range = start..<PhysicalAddress(start.rawValue + memory.byteCount)
    guard map.ram.contains(where: { $0.lowerBound <= start && range.upperBound <= $0.upperBound })
    else {
      throw InputError(
        "firmware's memory of \(name) at \(range.text) is not in RAM: choose more RAM, or leave the "
          + "device out with --device")
    }
    if let crash = map.crashKernel.first(where: { $0.overlaps(range) }) {
      throw InputError(
        "crash kernel \(crash.text) has firmware's memory of \(name) at \(range.text) in it: choose "
          + "another place, or leave the device out with --device")
    }
    devices[index].firmwareMemory = range
  }
}
