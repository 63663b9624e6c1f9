import IOMMUFormats
import IOMMUTranslation

/// How a device can be brought to rest.
public enum ResetBehaviour: String, Sendable, CaseIterable, Codable {
  /// Its driver resets it, and all that it was doing ends.
  case byDriver = "by its driver"
  /// The driver resets it only after it has mapped its rings: the common order.
  case afterMapping = "after mapping"
  /// It goes on whatever the driver does.
  case never = "never"
}

/// A device of the lab's machine: what it was doing when the machine crashed, and what becomes of it.
public struct CrashDevice: Sendable {
  public var device: Device
  /// Streams that go on after the crash.
  public var sources: [TrafficSource]
  public var reset: ResetBehaviour
  /// The capture kernel has a driver for it. Most devices have none: capture images are small.
  public var hasDriver: Bool
  /// It is part of the root complex: a reset of links does not reach it.
  public var isIntegrated: Bool
  /// Memory that firmware wants mapped to itself for it (RMRR, IVMD), whole pages.
  public var firmwareMemory: Range<PhysicalAddress>?

  public init(
    _ device: Device, sources: [TrafficSource], reset: ResetBehaviour = .afterMapping,
    hasDriver: Bool = true, isIntegrated: Bool = false,
    firmwareMemory: Range<PhysicalAddress>? = nil
  ) {
    self.device = device
    self.device.isNeededByKdump = hasDriver
    self.sources = sources
    self.reset = reset
    self.hasDriver = hasDriver
    self.isIntegrated = isIntegrated
    self.firmwareMemory = firmwareMemory
  }
}

/// Hardware that comes up in reports of failed dumps again and again.
public enum DeviceProfile: String, Sendable, CaseIterable, Codable {
  /// A RAID controller with its own firmware, as HP's Smart Array: status page, firmware memory.
  case raid
  /// A NIC that goes on receiving, as tg3 and bnx2.
  case nic
  /// The same with ATS-less rings that are reset before anything is mapped, as igb.
  case igb
  /// A SAS controller with commands in flight, as mpt3sas.
  case sas
  /// A SATA controller, part of the root complex.
  case ahci
  case nvme
  /// A graphics device without a driver in the capture kernel, with a TLB of its own.
  case gpu
  /// A management controller's mailbox, as hpilo: firmware memory, never at rest.
  case bmc
  /// A USB controller of the root complex.
  case usb

  /// Where firmware's memory of a device lies: below the PCI hole, a page pair for each.
  ///
  /// - Parameter number: As of ``device(number:)``.
  public static func firmwareMemory(number: Int) -> Range<PhysicalAddress> {
    let start = PhysicalAddress(0xbf00_0000 + UInt64(number) * 0x1_0000)
    return start..<PhysicalAddress(start.rawValue + 0x2000)
  }

  /// The device in a slot of its own.
  ///
  /// - Parameter number: Tells devices of one machine apart: its bus, below 250; those of the root
  ///   complex are on bus 0.
  public func device(number: Int) -> CrashDevice {
    precondition(0..<28 ~= number, "a machine of the lab has at most 28 devices")
    func device(_ mask: UInt64 = .max, integrated: Bool = false) -> Device {
      Device(
        name: rawValue,
        requester: integrated
          ? Requester(bus: 0, device: UInt8(number + 1), function: 0)
          : Requester(bus: UInt8(number + 1), device: 0, function: 0), dmaMask: mask)
    }
    let memory = Self.firmwareMemory(number: number)
    switch self {
    case .raid:
      return CrashDevice(
        device(), sources: [.storageCommand, .statusPage], firmwareMemory: memory)
    case .nic: return CrashDevice(device(), sources: [.receiveRing, .transmitRing])
    case .igb:
      return CrashDevice(device(), sources: [.receiveRing, .transmitRing], reset: .byDriver)
    case .sas: return CrashDevice(device(), sources: [.storageCommand, .statusPage])
    case .ahci:
      return CrashDevice(
        device(integrated: true), sources: [.storageCommand], isIntegrated: true)
    case .nvme: return CrashDevice(device(), sources: [.storageCommand], reset: .byDriver)
    case .gpu:
      return CrashDevice(
        device(), sources: [.graphics, .translatedRequests], reset: .never, hasDriver: false)
    case .bmc:
      return CrashDevice(
        device(0xffff_ffff), sources: [.mailbox], reset: .never, hasDriver: false,
        firmwareMemory: memory)
    case .usb:
      return CrashDevice(
        device(0xffff_ffff, integrated: true), sources: [.usbController], isIntegrated: true)
    }
  }
}

/// Where devices are in a machine, and what they have in common there.
public enum DeviceSlot: Sendable, Hashable {
  /// A slot of its own.
  case alone(DeviceProfile)
  /// Behind one bridge to conventional PCI, whose number all their requests carry.
  case behindBridge([DeviceProfile])
  /// Functions of one card that nothing keeps apart: each has its own number, and all have one domain.
  case functions([DeviceProfile])

  /// What is in it, in its order.
  public var profiles: [DeviceProfile] {
    switch self {
    case .alone(let profile): [profile]
    case .behindBridge(let profiles), .functions(let profiles): profiles
    }
  }

  /// The most functions that a card has.
  public static let functionLimit = 8

  /// Its devices, on a bus of their own.
  ///
  /// - Parameter number: That of the first of them in the machine; the others follow.
  /// - Precondition: A machine has at most 28 devices, and a card eight functions.
  public func devices(number: Int) -> [CrashDevice] {
    profiles.enumerated().map { index, profile in
      var device = profile.device(number: number + index)
      let bus = UInt8(number + 1)
      switch self {
      case .alone: break
      case .behindBridge:
        device.device.requester = Requester(bus: bus, device: UInt8(index + 1), function: 0)
        device.device.alias = Requester(bus: bus, device: 0, function: 0)
        device.isIntegrated = false
        // Conventional PCI has no ATS.
        device.sources.removeAll { $0 == .translatedRequests }
      case .functions:
        precondition(index < Self.functionLimit, "a card has eight functions at most")
        device.device.requester = Requester(bus: bus, device: 0, function: UInt8(index))
        device.device.group = Requester(bus: bus, device: 0, function: 0)
        device.isIntegrated = false
      }
      return device
    }
  }
}

extension [DeviceSlot] {
  /// The devices of all slots, each with a number of its own; those of one kind have it in their names.
  public var devices: [CrashDevice] {
    var devices = reduce(into: [CrashDevice]()) { $0 += $1.devices(number: $0.count) }
    let names = devices.map(\.device.name)
    for (index, name) in names.enumerated() where names.count(where: { $0 == name }) > 1 {
      devices[index].device.name += "-\(names[...index].count { $0 == name })"
    }
    return devices
  }
}

/// A machine of the crash lab.
public struct CrashMachine: Sendable {
  public var map: MemoryMap
  public var devices: [CrashDevice]
  /// Milliseconds from the panic to the capture kernel's IOMMU code. *Assumed*.
  public var panicDuration: Double = 5000
  /// Milliseconds from there to the drivers. *Assumed*.
  public var bootDuration: Double = 20_000
  /// Milliseconds from the first mapping of a driver to the reboot. *Assumed*.
  public var dumpDuration: Double = 120_000

  public init(map: MemoryMap, devices: [CrashDevice]) {
    self.map = map
    self.devices = devices
  }

  /// The crash range of M1: 128 MiB at 16 MiB, as in the example of October 2008.
  public static let crashRange = PhysicalAddress(0x100_0000)..<PhysicalAddress(0x900_0000)
  /// A crash range above 4 GiB, and the low part that comes with one.
  public static let highCrashRange =
    PhysicalAddress(0x1_8000_0000)..<PhysicalAddress(0x1_8800_0000)
  public static let lowCrashRange = PhysicalAddress(0x2f00_0000)..<PhysicalAddress(0x3f00_0000)

  /// M1: 8 GiB of RAM, the PCI hole from 3 GiB to 4 GiB.
  ///
  /// - Parameters:
  ///   - crashKernel: Half-open, whole pages in RAM.
  ///   - devices: What the machine has.
  public static func m1(
    crashKernel: [Range<PhysicalAddress>] = [crashRange], devices: [CrashDevice]
  ) throws(SetUpError) -> CrashMachine {
    CrashMachine(
      map: try MemoryMap(ram: MemoryMap.ram(byteCount: 8 << 30), crashKernel: crashKernel),
      devices: devices)
  }

  /// M1 with the hardware that reports name.
  public static func m1() throws(SetUpError) -> CrashMachine {
    try m1(devices: DeviceProfile.allCases.map(DeviceSlot.alone).devices)
  }
}
