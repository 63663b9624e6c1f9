import IOMMUFormats
import IOMMUHardware
import IOMMUTranslation

/// The primary kernel without an IOMMU: the device gets the physical address, or nothing.
///
/// Source: Linux 2.6.27 `pci-nommu.c`.
final class NommuDriver: DMADriver {
  var units: [TranslationUnit] { [] }
  var ports: [any DMAPort] { [] }

  func map(
    _ buffer: Range<PhysicalAddress>, for device: Device, direction: DMADirection
  ) throws(MappingFailure) -> MappedBuffer {
    guard !MappingRule.gartAndNommuLinux2_6_27.needsHelp(buffer, mask: device.dmaMask) else {
      throw .beyondDeviceMask(buffer.lowerBound, mask: device.dmaMask)
    }
    return MappedBuffer(
      device: device, iova: IOVA(buffer.lowerBound.rawValue), byteCount: buffer.byteCount,
      direction: direction, buffer: buffer, target: buffer)
  }

  func unmap(_: MappedBuffer) {}

  /// Nothing: devices reach the crash kernel range as they reach all memory.
  func prepare(
    crashKernel _: [Range<PhysicalAddress>], for _: [Device], pageSize _: PageSizePolicy
  ) throws(SetUpError) -> [TableSetUp] { [] }
}

/// The primary kernel with swiotlb: what a device does not reach goes through bounce buffers.
///
/// Source: Linux 2.6.27 `lib/swiotlb.c`.
final class SwiotlbDriver: DMADriver {
  private let pool: BouncePool

  /// - Parameter byteCount: Bytes of bounce buffers, a multiple of 256 KiB.
  init(pages: PagePool, byteCount: UInt64) throws(SetUpError) {
    // Below 4 GiB, with the overflow buffer behind it; not zeroed, so that it costs what is used.
    guard let start = pages.allocate(byteCount + BouncePool.overflowByteCount, below: 1 << 32)
    else {
      throw .outOfMemory(what: "\(byteCount >> 20) MiB of bounce buffers")
    }
    pool = BouncePool(memory: pages.memory, at: start, byteCount: byteCount, version: .linux2_6_27)
  }

  var units: [TranslationUnit] { [] }
  var ports: [any DMAPort] { [] }

  func map(
    _ buffer: Range<PhysicalAddress>, for device: Device, direction: DMADirection
  ) throws(MappingFailure) -> MappedBuffer {
    let address: PhysicalAddress
    switch pool.mapSingle(buffer, direction: direction, limits: DMALimits(mask: device.dmaMask)) {
    case .direct(let direct): address = direct
    case .bounced(let bounced): address = bounced
    case .overflow, .error, .panic: throw .full("bounce buffers")
    }
    let target = address..<PhysicalAddress(address.rawValue + buffer.byteCount)
    return MappedBuffer(
      device: device, iova: IOVA(address.rawValue), byteCount: buffer.byteCount,
      direction: direction, buffer: buffer, target: target)
  }

  func unmap(_ mapped: MappedBuffer) { pool.unmapSingle(mapped.target.lowerBound) }

  /// Nothing: the pool is the primary's own memory, and devices reach the crash kernel directly.
  func prepare(
    crashKernel _: [Range<PhysicalAddress>], for _: [Device], pageSize _: PageSizePolicy
  ) throws(SetUpError) -> [TableSetUp] { [] }
}
