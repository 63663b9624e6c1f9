import IOMMUFormats
import IOMMUTranslation

/// Where a capture kernel's code stands between two states of the hardware, while devices go on.
public enum CaptureStep: String, Sendable, CaseIterable, Codable {
  /// Translation is off for a moment.
  case translationOff = "translation off"
  /// New tables are in force, and what the unit remembers of the old ones is not dropped yet.
  case notFlushed = "new tables, caches not flushed"
  /// What the old kernel had for a device is gone, and what the new one has is not there yet.
  case tornDown = "old domain gone, new one not there"
}

/// A kernel that runs after a crash: what it does with the hardware, and how its drivers get numbers.
protocol CaptureKernel: AnyObject {
  /// Runs the kernel's IOMMU code.
  ///
  /// - Parameter observe: Told of every state that the hardware is left in for a moment.
  func takeOver(observing observe: (CaptureStep) -> Void) throws(SetUpError)

  /// Hands a page of this kernel's memory to a device.
  ///
  /// - Parameters:
  ///   - device: Whose driver asks.
  ///   - direction: Which way data moves: decides what the device may do to the page.
  ///   - page: The page, 4 KiB aligned; `nil` for any that is free.
  ///   - observe: Told of every state that the hardware is left in for a moment.
  func map(
    for device: Device, direction: DMADirection, page: PhysicalAddress?,
    observing observe: (CaptureStep) -> Void
  ) throws(MappingFailure) -> MappedBuffer

  /// A driver takes a buffer back.
  func unmap(_ buffer: MappedBuffer)
}

extension CaptureKernel {
  /// Nothing: the number stays in use.
  func unmap(_: MappedBuffer) {}
}

/// A kdump kernel whose devices have domains of their own, of whatever kind.
protocol DomainCaptureKernel: CaptureKernel {
  var pages: PagePool { get }
  /// Devices see physical addresses.
  var passesThrough: Bool { get }

  /// Maps a page for a device that has a domain of its own, or gets one now.
  func mapThroughDomain(
    _ buffer: Range<PhysicalAddress>, _ device: Device, _ direction: DMADirection,
    observing observe: (CaptureStep) -> Void
  ) throws -> IOVA

  /// Ends what the old kernel has for a device whose requests are to pass.
  func letPass(_ device: Device, observing observe: (CaptureStep) -> Void) throws(SetUpError)
}

extension DomainCaptureKernel {
  func map(
    for device: Device, direction: DMADirection, page: PhysicalAddress?,
    observing observe: (CaptureStep) -> Void
  ) throws(MappingFailure) -> MappedBuffer {
    let buffer = try pages.bufferPage(page)
    do {
      guard !passesThrough else {
        let mapped = try MappedBuffer(untranslated: buffer, device, direction)
        try letPass(device, observing: observe)
        return mapped
      }
      let iova = try mapThroughDomain(buffer, device, direction, observing: observe)
      return MappedBuffer(buffer, at: iova, device, direction)
    } catch {
      throw MappingFailure(error)
    }
  }
}
