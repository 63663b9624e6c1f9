import IOMMUFormats
import IOMMUTranslation

/// A kdump kernel with bounce buffers, where its memory has room for them below 4 GiB: what a device
/// does not reach goes through them.
final class BouncingKernel: CaptureKernel {
  private let pages: PagePool
  private let driver: SwiotlbDriver?

  /// - Parameters:
  ///   - crashKernel: All the memory that this kernel owns, half-open.
  ///   - memory: The machine's memory.
  ///   - poolByteCount: Bytes of bounce buffers, a multiple of 256 KiB; none are made where they do not
  ///     fit.
  init(
    _ crashKernel: [Range<PhysicalAddress>], memory: FlatMemory, poolByteCount: UInt64 = 64 << 20
  ) throws(SetUpError) {
    pages = PagePool(memory: memory, map: try MemoryMap(ram: crashKernel, crashKernel: []))
    driver = try? SwiotlbDriver(pages: pages, byteCount: poolByteCount)
  }

  func takeOver(observing _: (CaptureStep) -> Void) {}

  func map(
    for device: Device, direction: DMADirection, page: PhysicalAddress?,
    observing _: (CaptureStep) -> Void
  ) throws(MappingFailure) -> MappedBuffer {
    let buffer = try pages.bufferPage(page)
    guard let driver else { return try MappedBuffer(untranslated: buffer, device, direction) }
    return try driver.map(buffer, for: device, direction: direction)
  }
}
