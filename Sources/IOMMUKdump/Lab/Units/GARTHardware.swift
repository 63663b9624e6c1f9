import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

/// The GART in the lab: Linux 7.0 in the capture kernel, where it has a driver at all.
struct GARTHardware: CrashHardware {
  func boot(_ setup: CrashSetup) throws(SetUpError) -> PrimaryKernel {
    var configuration = setup.configuration(.gart)
    configuration.gart.model.cache = setup.caches == .none ? .off : .unlimited
    if setup.apertureOverRAM {
      configuration.gart.firmwareBase = 0
      configuration.gart.firmwareOrder = 0
    }
    return try PrimaryKernel(configuration)
  }

  func captureKernel(
    _ setup: CrashSetup, after primary: PrimaryKernel
  ) throws(SetUpError) -> any CaptureKernel {
    guard setup.strategy == .anew, let driver = primary.driver as? GARTDriver else {
      return try setup.blindKernel(primary.memory)
    }
    return try GARTCaptureKernel(
      on: driver.hardware, memory: primary.memory, crashKernel: setup.machine.map.crashKernel)
  }
}

/// A kdump kernel with today's GART driver: it clears what it finds, and starts anew where it needs to.
final class GARTCaptureKernel: CaptureKernel {
  private let map: MemoryMap
  private let pages: PagePool
  private let hardware: Northbridges
  private var driver: GARTDriver?

  /// - Parameters:
  ///   - hardware: The northbridges as the old kernel has left them.
  ///   - memory: The machine's memory.
  ///   - crashKernel: This kernel's memory, half-open; the first 640 KiB are its own as well.
  init(
    on hardware: Northbridges, memory: FlatMemory, crashKernel: [Range<PhysicalAddress>]
  ) throws(SetUpError) {
    self.hardware = hardware
    map = try MemoryMap(
      ram: [PhysicalAddress(0)..<PhysicalAddress(0xa_0000)] + crashKernel, crashKernel: [])
    // The register of the table has 40 bits.
    pages = PagePool(memory: memory, map: map, tableLimit: 1 << 40)
  }

  func takeOver(observing _: (CaptureStep) -> Void) throws(SetUpError) {
    driver = try GARTDriver(
      pages: pages, map: map, hardware: hardware, options: GARTOptions(version: .linux7_0))
  }

  func map(
    for device: Device, direction: DMADirection, page: PhysicalAddress?,
    observing _: (CaptureStep) -> Void
  ) throws(MappingFailure) -> MappedBuffer {
    guard let driver else { preconditionFailure("the GART is taken over before it is used") }
    return try driver.map(pages.bufferPage(page), for: device, direction: direction)
  }

  func unmap(_ buffer: MappedBuffer) { driver?.unmap(buffer) }
}
