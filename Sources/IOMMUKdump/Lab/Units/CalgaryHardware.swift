import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

/// IBM Calgary in the lab.
struct CalgaryHardware: CrashHardware {
  func boot(_ setup: CrashSetup) throws(SetUpError) -> PrimaryKernel {
    var configuration = setup.configuration(.calgary)
    configuration.calgary = CalgaryConfiguration(tableSize: setup.tableSize)
    configuration.calgary.options.cache = setup.caches.calgary
    return try PrimaryKernel(configuration)
  }

  func captureKernel(
    _ setup: CrashSetup, after primary: PrimaryKernel
  ) throws(SetUpError) -> any CaptureKernel {
    guard let driver = primary.driver as? CalgaryDriver,
      let version = version(setup.strategy)
    else { return try setup.blindKernel(primary.memory) }
    let end = setup.machine.map.endOfRAM.rawValue
    return try CalgaryCaptureKernel(
      .init(
        version: version, isKdump: true, endOfRAM: end, savedEndOfRAM: end,
        tableSize: setup.tableSize),
      on: driver.machine, crashKernel: setup.machine.map.crashKernel)
  }

  /// The driver of the capture kernel; `nil` where it has none.
  private func version(_ strategy: CrashStrategy) -> LinuxCalgaryDriver.Version? {
    switch strategy {
    case .anew: .linux2_6_26
    case .reuseTables, .reuseTablesFreeing: .linux2_6_27
    default: nil
    }
  }

  /// Where freed numbers are handed out again, one that the allocator comes to before long.
  func unmappedNumber(_ setup: CrashSetup, _: PrimaryKernel) -> IOVA {
    IOVA(setup.strategy == .reuseTablesFreeing ? 0xa00_0000 : 0x7000_0000)
  }
}

/// A kdump kernel with Linux's Calgary driver, in memory of its own.
final class CalgaryCaptureKernel: CaptureKernel {
  private let pages: PagePool
  let kernel: LinuxCalgaryDriver

  /// - Parameters:
  ///   - configuration: What the driver knows and is told.
  ///   - machine: The chips as the old kernel has left them.
  ///   - crashKernel: All the memory that this kernel owns, half-open.
  init(
    _ configuration: LinuxCalgaryDriver.Configuration, on machine: CalgaryMachine,
    crashKernel: [Range<PhysicalAddress>]
  ) throws(SetUpError) {
    let pages = PagePool(
      memory: machine.memory, map: try MemoryMap(ram: crashKernel, crashKernel: []))
    self.pages = pages
    kernel = LinuxCalgaryDriver(
      configuration,
      platform: CalgaryMachine(machine) {
        (byteCount: UInt64, what: String) throws(SetUpError) -> PhysicalAddress in
        try pages.allocateTable(byteCount, alignment: byteCount, what: what)
      })
  }

  func takeOver(observing _: (CaptureStep) -> Void) throws(SetUpError) { try kernel.start() }

  func map(
    for device: Device, direction: DMADirection, page: PhysicalAddress?,
    observing _: (CaptureStep) -> Void
  ) throws(MappingFailure) -> MappedBuffer {
    let buffer = try pages.bufferPage(page)
    guard let index = kernel.busIndex(of: device.requester),
      let iova = kernel.map(
        buffer.lowerBound, byteCount: 4096,
        permissions: direction == .toDevice ? .read : .readWrite, on: index)
    else { throw .full("TCE table of \(device.requester)") }
    return MappedBuffer(buffer, at: iova, device, direction)
  }

  func unmap(_ buffer: MappedBuffer) {
    guard let index = kernel.busIndex(of: buffer.device.requester) else { return }
    kernel.unmap(buffer.iova, byteCount: buffer.byteCount, on: index)
  }
}

extension CacheLevel {
  /// What a Calgary chip remembers.
  fileprivate var calgary: CalgaryOptions.CacheGeometry? {
    switch self {
    case .none: nil
    case .hardware: CalgaryOptions.CacheGeometry(setCount: 64, wayCount: 4)
    // Nobody knows whether empty entries are kept; here they are not.
    case .everything: CalgaryOptions.CacheGeometry(setCount: 1024, wayCount: 16)
    }
  }
}
