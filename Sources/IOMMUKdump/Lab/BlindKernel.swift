import IOMMUFormats
import IOMMUTranslation

/// The kdump kernel that the Rule wants, in the lab: it knows of no hardware.
final class BlindKernel: CaptureKernel {
  private var kernel: KdumpKernel

  /// - Parameter pages: The memory that its drivers take buffers from: all of its own, or a part.
  init(_ pages: [Range<PhysicalAddress>]) { kernel = KdumpKernel(crashKernel: pages) }

  func takeOver(observing _: (CaptureStep) -> Void) {}

  func map(
    for device: Device, direction: DMADirection, page: PhysicalAddress?,
    observing _: (CaptureStep) -> Void
  ) throws(MappingFailure) -> MappedBuffer {
    guard let page else { return try kernel.map(for: device, direction: direction) }
    return try MappedBuffer(
      untranslated: page..<PhysicalAddress(page.rawValue + 4096), device, direction)
  }
}
