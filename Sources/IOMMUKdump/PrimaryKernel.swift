import IOMMUFormats
import IOMMUHardware
import IOMMURule
import IOMMUTranslation

/// How a machine is built and which of the cases its primary kernel runs.
public struct MachineConfiguration: Sendable {
  public var mode: TranslationMode
  public var map: MemoryMap
  public var devices: [Device]
  /// RAM that firmware and its devices use by themselves (RMRR, IVMD), half-open, whole pages: no kernel
  /// takes it for anything.
  public var firmwareMemory: [Range<PhysicalAddress>] = []
  /// Which pages the identity map uses.
  public var pageSize: PageSizePolicy
  /// swiotlb: bytes of bounce buffers.
  public var bouncePoolByteCount: UInt64 = 64 << 20
  /// GART: northbridges, what firmware left in them, and the kernel's options.
  public var gart = GARTConfiguration()
  public var calgary: CalgaryConfiguration
  public var vtd: VTdConfiguration
  public var amdvi: AMDViConfiguration

  public init(
    mode: TranslationMode, map: MemoryMap, devices: [Device] = Device.usual,
    pageSize: PageSizePolicy = .largest, calgary: CalgaryConfiguration = CalgaryConfiguration(),
    vtd: VTdConfiguration = VTdConfiguration(), amdvi: AMDViConfiguration = AMDViConfiguration()
  ) {
    self.mode = mode
    self.map = map
    self.devices = devices
    self.pageSize = pageSize
    self.calgary = calgary
    self.vtd = vtd
    self.amdvi = amdvi
  }
}

extension Device {
  /// A disk and a NIC that reach all memory, and a controller with 32 address lines.
  public static let usual = [
    Device(name: "disk", requester: Requester(bus: 1, device: 1, function: 0)),
    Device(name: "NIC", requester: Requester(bus: 2, device: 1, function: 0)),
    Device(
      name: "32-bit controller", requester: Requester(bus: 0, device: 3, function: 0),
      dmaMask: 0xffff_ffff),
  ]
}

/// What the Rule took in all tables together.
public struct SetUpReport: Sendable, Equatable {
  public var tables: [TableSetUp]
  /// Wall time of the set-up.
  public var duration: Duration

  public var identityEntryCount: UInt64 { tables.reduce(0) { $0 + $1.identityEntryCount } }
  public var writtenEntryCount: UInt64 { tables.reduce(0) { $0 + $1.writtenEntryCount } }
}

/// The kernel that runs before the crash: owns the machine, its IOMMU and all RAM but the crash
/// kernel.
public final class PrimaryKernel {
  public let configuration: MachineConfiguration
  public let memory: FlatMemory
  /// Buffers in the hands of devices, in the order they were mapped.
  public private(set) var mapped: [MappedBuffer] = []
  /// The history of all numbers.
  public private(set) var events: [AllocatorEvent] = []
  /// VT-d: PCI, the remapping unit and firmware's table; they outlive the kernel.
  public private(set) var platform: RemappingPlatform?
  /// AMD-Vi: the unit and firmware's table; they outlive the kernel.
  public private(set) var amdviPlatform: AMDViPlatform?
  let driver: any DMADriver
  private let pages: PagePool

  /// Boots with a driver that belongs to no mode.
  ///
  /// - Parameters:
  ///   - configuration: The machine; its mode says nothing.
  ///   - makeDriver: Programs the hardware and gives its driver.
  init(
    _ configuration: MachineConfiguration,
    makeDriver: (PagePool) throws(SetUpError) -> any DMADriver
  ) throws(SetUpError) {
    self.configuration = configuration
    memory = try Self.makeMemory(configuration.map)
    pages = Self.makePages(memory, configuration)
    driver = try makeDriver(pages)
  }

  private static func makeMemory(_ map: MemoryMap) throws(SetUpError) -> FlatMemory {
    do {
      return try FlatMemory(ram: map.ram)
    } catch {
      throw .memory(error)
    }
  }

  private static func makePages(
    _ memory: FlatMemory, _ configuration: MachineConfiguration
  ) -> PagePool {
    let pages = PagePool(memory: memory, map: configuration.map)
    for range in configuration.firmwareMemory { pages.reserve(range) }
    return pages
  }

  /// Boots: lays out memory, allocates the tables of the mode, programs the hardware.
  public init(_ configuration: MachineConfiguration) throws(SetUpError) {
    self.configuration = configuration
    memory = try Self.makeMemory(configuration.map)
    pages = Self.makePages(memory, configuration)
    switch configuration.mode {
    case .nommu:
      driver = NommuDriver()
    case .swiotlb:
      driver = try SwiotlbDriver(pages: pages, byteCount: configuration.bouncePoolByteCount)
    case .gart:
      driver = try GARTDriver(
        pages: pages, map: configuration.map, hardware: configuration.gart.northbridges(),
        options: configuration.gart.options)
    case .calgary:
      driver = try CalgaryDriver(
        pages: pages, map: configuration.map, devices: configuration.devices,
        configuration: configuration.calgary)
    case .vtd:
      let platform = try RemappingPlatform(
        configuration.vtd.unit, memory: memory,
        requesters: configuration.devices.map(\.requester))
      self.platform = platform
      driver = try VTdDriver(
        pages: pages, platform: platform, devices: configuration.devices,
        configuration: configuration.vtd)
    case .amdvi:
      let platform = try AMDViPlatform(
        configuration.amdvi, memory: memory,
        aliases: configuration.devices.compactMap { device in
          device.alias.map { (device.requester, $0) }
        })
      amdviPlatform = platform
      driver = try configuration.amdvi.kernel.driver(
        pages: pages, platform: platform,
        device: configuration.devices.first?.requester ?? Requester(rawValue: 8),
        configuration: configuration.amdvi)
    }
  }

  /// The machine as its registers stand.
  public var machine: Machine {
    Machine(
      name: configuration.mode.rawValue, units: driver.units, ram: configuration.map.ram,
      crashKernel: configuration.map.crashKernel)
  }

  /// Table pages that this kernel has given back.
  public var freedTables: [Range<PhysicalAddress>] { pages.freedTables }

  /// Does what the Kdump IO Rule demands of a primary kernel: in every table that the kdump
  /// kernel's devices may need, the crash kernel ranges are reserved and mapped to themselves.
  ///
  /// Doing it again writes nothing. An IOVA in the range that is in use already is an error, and
  /// nothing is changed.
  ///
  /// - Parameter ranges: Parts of the crash kernel ranges that are enough, half-open, whole pages; `nil`
  ///   for all of them.
  @discardableResult
  public func applyRule(
    to ranges: [Range<PhysicalAddress>]? = nil
  ) throws(SetUpError) -> SetUpReport {
    let clock = ContinuousClock()
    let start = clock.now
    let crashKernel = ranges ?? configuration.map.crashKernel
    // Every device: the kdump kernel may need one that no driver of this kernel ever used.
    let needed = configuration.devices.filter(\.isNeededByKdump)
    let tables = try driver.prepare(
      crashKernel: crashKernel, for: needed, pageSize: configuration.pageSize)
    let duration = clock.now - start
    for table in tables where table.writtenEntryCount > 0 {
      for range in crashKernel {
        for owner in [table.table] + table.sharers {
          events.append(.reserved(table: owner, range: range.mapBounds(to: IOVA.self)))
        }
      }
    }
    return SetUpReport(tables: tables, duration: duration)
  }

  /// Keeps the crash kernel's numbers from being handed out and maps nothing: the half of the Rule that
  /// the proposal calls necessary and not sufficient.
  public func reserveCrashKernelNumbers() throws(SetUpError) {
    try driver.reserve(
      crashKernel: configuration.map.crashKernel,
      for: configuration.devices.filter(\.isNeededByKdump))
  }

  /// Whether numbers of one device mean the same for the other: they have one table.
  func shareNumbers(_ one: Device, _ other: Device) -> Bool { driver.shareNumbers(one, other) }

  /// RAM for a driver's buffer, from the top; `nil` when none is left.
  ///
  /// - Parameters:
  ///   - byteCount: Bytes of the buffer, which takes whole pages.
  ///   - limit: The buffer ends at or below this address.
  public func allocateBuffer(
    byteCount: UInt64, below limit: UInt64 = .max
  ) -> Range<PhysicalAddress>? {
    let whole = (byteCount + 4095) & ~4095
    return pages.allocate(whole, below: limit).map {
      $0..<PhysicalAddress($0.rawValue + byteCount)
    }
  }

  /// Hands a buffer to a device, as a driver does through the DMA API.
  public func map(
    _ buffer: Range<PhysicalAddress>, for device: Device, direction: DMADirection
  ) throws(MappingFailure) -> MappedBuffer {
    let mapped = try driver.map(buffer, for: device, direction: direction)
    self.mapped.append(mapped)
    events.append(.mapped(requester: device.sourceID, range: mapped.iovas))
    return mapped
  }

  /// Hands a page to a device at a number that somebody else has chosen, as for a guest's device.
  ///
  /// - Parameters:
  ///   - page: 4 KiB aligned, in RAM.
  ///   - iova: 4 KiB aligned.
  ///   - device: Whose address space it is.
  ///   - direction: Which way data moves: decides what the device may do to the page.
  /// - Throws: ``MappingFailure/noChoice(_:)`` where devices have no tables, or their driver hands out what comes
  ///   next and nothing else.
  public func map(
    page: PhysicalAddress, at iova: IOVA, for device: Device, direction: DMADirection
  ) throws(MappingFailure) -> MappedBuffer {
    let mapped = try driver.map(page: page, at: iova, for: device, direction: direction)
    self.mapped.append(mapped)
    events.append(.mapped(requester: device.sourceID, range: mapped.iovas))
    return mapped
  }

  /// The bus that devices' DMA takes: through the mode's units and what their caches remember.
  public func makeBus() -> DMABus { DMABus(memory: memory, ports: driver.ports) }

  /// The machine goes on with another kernel, without a reset.
  func kexec() { driver.kexec() }

  /// The crash path switches translation off.
  func switchOff() { driver.switchOff() }

  /// Takes a buffer back from a device.
  public func unmap(_ buffer: MappedBuffer) {
    driver.unmap(buffer)
    mapped.removeAll { $0 == buffer }
    events.append(.unmapped(requester: buffer.device.sourceID, range: buffer.iovas))
  }

  /// A device's driver goes: its buffers are taken back and, where devices have tables of their
  /// own, its table too. What the Rule had set up there goes with it.
  public func unbind(_ device: Device) {
    for buffer in mapped where buffer.device == device { unmap(buffer) }
    driver.unbind(device)
  }

  /// Allocates and maps a buffer where the device reaches it.
  ///
  /// From the top of RAM first; where the mode cannot bring a device there, as low as it needs, as
  /// the kernel's block and network layers do.
  public func mapNewBuffer(
    byteCount: UInt64, for device: Device, direction: DMADirection
  ) throws(MappingFailure) -> MappedBuffer {
    for limit in [UInt64.max, min(device.dmaMask, .max - 1) + 1] {
      guard let buffer = allocateBuffer(byteCount: byteCount, below: limit) else { continue }
      do {
        return try map(buffer, for: device, direction: direction)
      } catch .beyondDeviceMask where limit == .max && device.dmaMask != .max {
        continue
      }
    }
    throw .full("RAM for buffers of \(device.name)")
  }
}
