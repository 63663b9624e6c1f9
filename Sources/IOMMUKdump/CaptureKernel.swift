import IOMMUFormats
import IOMMUTranslation

/// A kdump kernel that knows an IOMMU, of whatever kind: what it does with a page of its own.
protocol CaptureKernel: AnyObject {
  var pages: PagePool { get }
  /// Devices see physical addresses.
  var isSwitchedOff: Bool { get }

  /// Maps a page for a device that has a domain of its own, or gets one now.
  func mapThroughDomain(
    _ buffer: Range<PhysicalAddress>, _ device: Device, _ direction: DMADirection
  ) throws -> IOVA
}

extension CaptureKernel {
  /// Hands a page of this kernel's memory to a device; `nil` is any page that is free.
  func hand(
    _ page: PhysicalAddress?, to device: Device, _ direction: DMADirection
  ) throws(MappingFailure) -> MappedBuffer {
    guard let start = page ?? pages.allocate(4096) else { throw .full("crash kernel range") }
    let buffer = start..<PhysicalAddress(start.rawValue + 4096)
    let iova: IOVA
    if isSwitchedOff {
      iova = IOVA(start.rawValue)
      guard start.rawValue + 4095 <= device.dmaMask else {
        throw .beyondDeviceMask(start, mask: device.dmaMask)
      }
    } else {
      do {
        iova = try mapThroughDomain(buffer, device, direction)
      } catch {
        throw MappingFailure(error)
      }
    }
    return MappedBuffer(
      device: device, iova: iova, byteCount: 4096, direction: direction, buffer: buffer,
      target: buffer)
  }
}
