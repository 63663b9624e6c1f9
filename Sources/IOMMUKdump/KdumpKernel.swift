import IOMMUFormats
import IOMMUTranslation

/// The kernel that runs after the crash, as the Rule wants it: blind to every IOMMU.
///
/// It is given the crash kernel ranges and the devices, and holds nothing through which an IOMMU
/// could be found: no units, no registers, no tables. A device gets the physical address of its
/// buffer.
public struct KdumpKernel: Sendable {
  /// Half-open; all memory that this kernel owns.
  public let crashKernel: [Range<PhysicalAddress>]
  /// Where its image lies: the start of the first range.
  public let image: Range<PhysicalAddress>
  /// What it has handed to devices.
  public private(set) var buffers: [MappedBuffer] = []
  private var pages: [UInt64]

  /// - Parameters:
  ///   - crashKernel: Half-open, at least one range; all memory that this kernel owns.
  ///   - imageByteCount: Bytes of the first range that hold the kernel and its initramfs; at most
  ///     half of it.
  public init(crashKernel: [Range<PhysicalAddress>], imageByteCount: UInt64 = 1 << 20) {
    precondition(!crashKernel.isEmpty, "a kdump kernel needs a crash kernel range")
    self.crashKernel = crashKernel
    let first = crashKernel[0]
    let size = min(imageByteCount, first.byteCount / 2) & ~4095
    let image = first.lowerBound..<PhysicalAddress(first.lowerBound.rawValue + size)
    self.image = image
    // Buffers at the ends of each range first, then spread over the middle: the ends are where an
    // identity map that is one page short shows.
    pages = crashKernel.enumerated().flatMap { number, range -> [UInt64] in
      let start = (number == 0 ? image.upperBound : range.lowerBound).pageNumber
      let end = range.upperBound.pageNumber
      guard end > start else { return [] }
      let step = max(1, (end - start) / 64)
      return [start, end - 1] + stride(from: start + step, to: end - 1, by: Int(step))
    }
    pages.reverse()
  }

  /// Hands a page of the crash kernel range to a device: the bus address is the physical address.
  public mutating func map(
    for device: Device, direction: DMADirection
  ) throws(MappingFailure) -> MappedBuffer {
    guard let page = pages.popLast() else { throw .full("crash kernel range") }
    let start = PhysicalAddress(page * 4096)
    let buffer = start..<PhysicalAddress(start.rawValue + 4096)
    guard buffer.upperBound.rawValue - 1 <= device.dmaMask else {
      throw .beyondDeviceMask(start, mask: device.dmaMask)
    }
    let mapped = MappedBuffer(
      device: device, iova: IOVA(start.rawValue), byteCount: 4096, direction: direction,
      buffer: buffer, target: buffer)
    buffers.append(mapped)
    return mapped
  }
}
