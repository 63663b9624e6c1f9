import IOMMUFormats
import IOMMURule

/// The memory map of a PC server and the ranges kept for the crash kernel.
public struct MemoryMap: Sendable, Equatable {
  /// RAM, half-open, ascending: below 640 KiB, from 1 MiB to the PCI hole, above 4 GiB.
  public let ram: [Range<PhysicalAddress>]
  /// The crash kernel ranges, half-open; the first is where the capture kernel runs.
  public let crashKernel: [Range<PhysicalAddress>]

  /// The hole for PCI devices below 4 GiB; RAM that would lie in it appears above 4 GiB.
  public static let pciHole = PhysicalAddress(0xc000_0000)..<PhysicalAddress(0x1_0000_0000)

  /// RAM of a machine with `byteCount` bytes, as firmware lays it out.
  public static func ram(byteCount: UInt64) throws(SetUpError) -> [Range<PhysicalAddress>] {
    guard byteCount >= 64 << 20, byteCount <= 64 << 40, byteCount % 4096 == 0 else {
      throw .badRAM(byteCount: byteCount)
    }
    let low = min(byteCount, pciHole.lowerBound.rawValue)
    var ram = [
      PhysicalAddress(0)..<PhysicalAddress(0xa_0000),
      PhysicalAddress(0x10_0000)..<PhysicalAddress(low),
    ]
    if byteCount > low {
      let end = pciHole.upperBound.rawValue + (byteCount - low)
      ram.append(pciHole.upperBound..<PhysicalAddress(end))
    }
    return ram
  }

  /// Checks crash kernel ranges against RAM.
  public init(ram: [Range<PhysicalAddress>], crashKernel: [Range<PhysicalAddress>])
    throws(SetUpError)
  {
    for (index, range) in crashKernel.enumerated() {
      guard !range.isEmpty else { throw .emptyCrashKernel }
      guard range.lowerBound.isAligned(to: 4096), range.upperBound.isAligned(to: 4096) else {
        throw .unalignedCrashKernel(range)
      }
      if let other = crashKernel[..<index].first(where: { $0.overlaps(range) }) {
        throw .overlappingCrashKernels(other, range)
      }
      guard
        ram.contains(where: {
          $0.lowerBound <= range.lowerBound && range.upperBound <= $0.upperBound
        })
      else { throw .crashKernelOutsideRAM(range, ram: ram) }
    }
    self.ram = ram
    self.crashKernel = crashKernel
  }

  /// Finds room for a crash kernel, as Linux of the time did: upwards in steps of 16 MiB, below 4
  /// GiB.
  public static func place(
    crashKernelOf byteCount: UInt64, in ram: [Range<PhysicalAddress>]
  ) throws(SetUpError) -> Range<PhysicalAddress> {
    guard byteCount > 0 else { throw .emptyCrashKernel }
    let step: UInt64 = 16 << 20
    for area in ram where area.lowerBound < pciHole.upperBound {
      let start = max(step, (area.lowerBound.rawValue + step - 1) / step * step)
      if let range = Range(start: PhysicalAddress(start), byteCount: byteCount),
        range.upperBound <= area.upperBound
      {
        return range
      }
    }
    throw .noRoomForCrashKernel(byteCount: byteCount)
  }

  /// Finds room for a crash kernel that may lie above 4 GiB, as Linux does since 3.9: downwards from
  /// the end of RAM in steps of 16 MiB.
  public static func place(
    highCrashKernelOf byteCount: UInt64, in ram: [Range<PhysicalAddress>]
  ) throws(SetUpError) -> Range<PhysicalAddress> {
    guard byteCount > 0 else { throw .emptyCrashKernel }
    let step: UInt64 = 16 << 20
    for area in ram.reversed() where area.byteCount >= byteCount {
      let start = PhysicalAddress(area.upperBound.rawValue - byteCount).alignedDown(to: step)
      if start >= area.lowerBound, start.rawValue >= step {
        return start..<PhysicalAddress(start.rawValue + byteCount)
      }
    }
    throw .noRoomForCrashKernel(byteCount: byteCount)
  }

  /// Bytes below 4 GiB that Linux 7.0 reserves by itself beside a crash kernel above: room for the
  /// bounce buffers and 8 MiB, but at least 256 MiB.
  ///
  /// - Parameter bouncePool: Bytes of bounce buffers that the capture kernel will have.
  public static func automaticLowCrashKernel(bouncePool: UInt64) -> UInt64 {
    max(bouncePool + (8 << 20), 256 << 20)
  }

  /// Whether any byte of `range` belongs to the crash kernel.
  public func crashKernelOverlaps(_ range: Range<PhysicalAddress>) -> Bool {
    crashKernel.contains { $0.overlaps(range) }
  }

  /// The first address after all RAM.
  public var endOfRAM: PhysicalAddress { ram.last!.upperBound }
}

/// A PCI device that does DMA.
public struct Device: Sendable, Hashable {
  public var name: String
  /// The function that it is.
  public var requester: Requester
  /// The highest address the device can put on the bus: 2^32 − 1 for a 32-bit device.
  public var dmaMask: UInt64
  /// A driver of the primary kernel uses it.
  public var isUsedByPrimary: Bool
  /// The kdump kernel needs it.
  public var isNeededByKdump: Bool
  /// Whose number its requests carry where that is not its own: of a device of conventional PCI the
  /// bridge's that speaks for it.
  ///
  /// Specification: PCI Express to PCI/PCI-X Bridge 1.0, 2.3.
  public var alias: Requester?
  /// Stands for devices that nothing keeps apart (an IOMMU group): they have one domain. `nil` for a
  /// device that shares with those of its alias alone.
  public var group: Requester?

  public init(
    name: String, requester: Requester, dmaMask: UInt64 = .max, isUsedByPrimary: Bool = true,
    isNeededByKdump: Bool = true, alias: Requester? = nil, group: Requester? = nil
  ) {
    self.name = name
    self.requester = requester
    self.dmaMask = dmaMask
    self.isUsedByPrimary = isUsedByPrimary
    self.isNeededByKdump = isNeededByKdump
    self.alias = alias
    self.group = group
  }

  /// The source-id of its requests: what units look it up by.
  public var sourceID: Requester { alias ?? requester }

  /// The same for all devices that have one domain.
  var domainKey: Requester { group ?? sourceID }

  /// The numbers that a kernel writes entries for, so that the device's requests find its domain.
  var entryIDs: [Requester] { alias.map { [requester, $0] } ?? [requester] }
}

extension RuleEvidence.Device {
  /// Devices of which everything is known, as units tell them apart: those of one alias are one.
  static func all(_ devices: [Device]) -> [Self] {
    var all: [Self] = []
    for device in devices {
      let one = Self(
        PCI.Function(device.sourceID), name: device.name, dmaMask: device.dmaMask,
        isNeededByKdump: device.isNeededByKdump)
      if let place = all.firstIndex(where: { $0.function == one.function }) {
        all[place].join(one)
      } else {
        all.append(one)
      }
    }
    return all
  }

  /// Takes in another that units do not tell from this one.
  private mutating func join(_ other: Self) {
    name += ", " + other.name
    // What either cannot reach is beyond one of them.
    dmaMask = [dmaMask, other.dmaMask].compactMap(\.self).min()
    isNeededByKdump = isNeededByKdump || other.isNeededByKdump
  }
}
