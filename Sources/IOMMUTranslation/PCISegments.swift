import IOMMUFormats

/// A device in a PCI segment that no unit of a machine is known to serve.
public struct UnservedSegment: Error, Hashable, CustomStringConvertible {
  public let device: PCI.Function

  public init(_ device: PCI.Function) { self.device = device }

  public var description: String {
    // Source: Linux drivers/pci/controller/vmd.c and pci_real_dma_dev.
    let wayOut =
      device.segment >> 16 == 0
      ? "its tables are unknown, unless a unit of the machine file has \"segment\": \(device.segment)"
      : "Linux makes such segments up for devices behind a VMD controller, whose DMA carries the "
        + "controller's own requester: ask for that one"
    let segment = hexadecimal(device.segment)
    return "\(device): no unit is known to serve PCI segment \(segment); \(wayOut)"
  }
}

extension TranslationUnit {
  /// Whether devices of a PCI segment are behind the unit. One of which nobody knows the segment
  /// serves segment 0: most machines have no other.
  func serves(_ segment: UInt32) -> Bool { UInt32(model.segment ?? 0) == segment }
}

extension Machine {
  /// The machine with requesters looked up in the segment of `device`.
  ///
  /// - Throws: ``UnservedSegment`` when there are units, and none serves the segment as far as is
  ///   known.
  public func serving(_ device: PCI.Function) throws(UnservedSegment) -> Machine {
    guard units.isEmpty || units.contains(where: { $0.serves(device.segment) }) else {
      throw UnservedSegment(device)
    }
    var machine = self
    machine.segment = device.segment
    return machine
  }
}
