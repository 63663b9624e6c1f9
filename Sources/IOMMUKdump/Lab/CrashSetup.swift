import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

/// What a unit remembers between two requests, whatever kind it is of.
public enum CacheLevel: String, Sendable, CaseIterable, Codable {
  /// Nothing.
  case none
  /// As much as such hardware has.
  case hardware
  /// All that it may.
  case everything
}

/// One crash to be played: where, how, and what goes wrong on the way.
public struct CrashSetup: Sendable {
  public var strategy: CrashStrategy
  public var unit: CrashUnit
  public var machine: CrashMachine
  public var caches: CacheLevel
  /// The capture kernel does not have dropped what the unit remembers of tables that it replaces.
  public var omitsFlushes: Bool
  /// Calgary: the size of the tables; `nil` for what the kernel chooses.
  public var tableSize: Calgary.TableSize?
  /// GART: the aperture lies over RAM that the kernel has taken for it.
  public var apertureOverRAM: Bool

  /// - Parameters:
  ///   - strategy: One of those that ``CrashUnit/strategies`` has for the unit.
  ///   - unit: What stands between devices and memory.
  ///   - machine: Memory, crash kernel and devices.
  ///   - caches: What the unit remembers.
  ///   - omitsFlushes: The capture kernel forgets to have that dropped.
  ///   - tableSize: Calgary: the size of the tables.
  ///   - apertureOverRAM: GART: the aperture lies over RAM.
  public init(
    _ strategy: CrashStrategy, on unit: CrashUnit, machine: CrashMachine,
    caches: CacheLevel = .hardware, omitsFlushes: Bool = false,
    tableSize: Calgary.TableSize? = nil, apertureOverRAM: Bool = false
  ) {
    self.strategy = strategy
    self.unit = unit
    self.machine = machine
    self.caches = caches
    self.omitsFlushes = omitsFlushes
    self.tableSize = tableSize
    self.apertureOverRAM = apertureOverRAM
  }
}

extension CrashSetup {
  /// The machine as a primary kernel boots on it, but for what is the unit's own.
  func configuration(_ mode: TranslationMode) -> MachineConfiguration {
    var configuration = MachineConfiguration(
      mode: mode, map: machine.map,
      devices: machine.devices.map { device in
        var device = device.device
        // The Rule is for every device, but where somebody has said which are enough.
        if strategy != .ruleForDevices { device.isNeededByKdump = true }
        return device
      })
    configuration.firmwareMemory = firmwareMemory.map(\.range)
    return configuration
  }

  /// Firmware's ranges, each with the ``Device/domainKey`` of its device.
  var firmwareMemory: [(device: Requester, range: Range<PhysicalAddress>)] {
    machine.devices.compactMap { device in
      device.firmwareMemory.map { (device.device.domainKey, $0) }
    }
  }

  /// Devices with a TLB of their own.
  var deviceTLBs: Set<Requester> {
    Set(
      machine.devices.filter { $0.sources.contains(.translatedRequests) }
        .map(\.device.requester))
  }

  /// The device that units are found by.
  var anyDevice: Device {
    machine.devices.first?.device
      ?? Device(name: "none", requester: Requester(bus: 1, device: 0, function: 0))
  }
}

/// What the lab has to know of a kind of hardware to play a crash on it.
protocol CrashHardware {
  /// Boots the primary kernel, with nothing mapped yet.
  func boot(_ setup: CrashSetup) throws(SetUpError) -> PrimaryKernel

  /// The kernel after it; it has done nothing yet.
  func captureKernel(
    _ setup: CrashSetup, after primary: PrimaryKernel
  ) throws(SetUpError) -> any CaptureKernel

  /// A number that leftover DMA uses although nobody mapped it: as a rule one that no allocator comes to
  /// before the crash is over.
  func unmappedNumber(_ setup: CrashSetup, _ primary: PrimaryKernel) -> IOVA
}

extension CrashHardware {
  /// b of the machine M1: RAM that the old kernel has freed.
  func unmappedNumber(_: CrashSetup, _: PrimaryKernel) -> IOVA { IOVA(0x7000_0000) }
}

extension CrashUnit {
  var hardware: any CrashHardware {
    switch self {
    case .nommu, .swiotlb: UntranslatedHardware(usesBounceBuffers: self == .swiotlb)
    case .vtd, .vtdScalable: VTdHardware(tableMode: self == .vtd ? .legacy : .scalable)
    case .amdvi: AMDViHardware()
    case .gart: GARTHardware()
    case .calgary: CalgaryHardware()
    case .pseries: ModelHardware(kind: .pseries)
    case .zx1: ModelHardware(kind: .zx1)
    case .smmuv3: ModelHardware(kind: .smmuv3)
    }
  }
}
