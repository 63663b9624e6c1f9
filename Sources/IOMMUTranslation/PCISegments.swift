import IOMMUFormats

/// A device in a PCI segment that no unit of a machine is known to serve.
public struct UnservedSegment: Error, Hashable, CustomStringConvertible {
  public let device: PCI.Function

  public init(_ device: PCI.Function) { self.device = device }

  public var description: String {
    // Source: Linux drivers/pci/controller/vmd.c and pci_real_dma_dev.
    let wayOut =
      device.segment >> 16 == 0
      ? "its tables are unknown"
      : "Linux makes such segments up for devices behind a VMD controller, whose DMA carries the "
        + "controller's own requester: ask for that one"
    let segment = hexadecimal(device.segment)
    return "\(device): no unit is known to serve PCI segment \(segment); \(wayOut)"
  }
}

extension Machine {
  /// The machine as devices in the segment of `device` see it: the units that serve the segment.
  ///
  /// - Throws: ``UnservedSegment`` when there are units, and none of them does as far as is known.
  public func serving(_ device: PCI.Function) throws(UnservedSegment) -> Machine {
    guard device.segment == 0 || units.isEmpty else { throw UnservedSegment(device) }
    return self
  }
}
