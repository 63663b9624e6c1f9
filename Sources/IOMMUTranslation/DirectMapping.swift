import IOMMUFormats

/// nommu: the device is given the physical address, or nothing.
///
/// No table, no state, nothing to unmap. A DMA under way goes to its physical page whatever becomes
/// of the kernel that asked for it; nothing can stop or turn it.
///
/// Source: Linux 2.6.27 `pci-nommu.c`; Linux 7.0 `kernel/dma/direct.c`.
public struct DirectMapping: Sendable, Hashable {
  /// Whose kernel maps.
  public enum Version: Sendable, Hashable, CaseIterable {
    case linux2_6_27
    case linux7_0
  }

  /// What becomes of a mapping. A value, not an error: a refusal is the modelled kernel's answer.
  public enum Outcome: Sendable, Hashable {
    /// The device uses this number as its IOVA.
    case mapped(PhysicalAddress)
    /// The device does not reach all of the buffer. `isLogged` when the kernel says so in its log.
    case beyondMask(isLogged: Bool)
  }

  public var version: Version

  public init(version: Version) { self.version = version }

  /// How this kernel decides.
  public var rule: MappingRule {
    switch version {
    case .linux2_6_27: .gartAndNommuLinux2_6_27
    case .linux7_0: .linux7_0
    }
  }

  /// The number that a refused driver gets in place of an address: 0, later all ones.
  public var errorValue: UInt64 {
    switch version {
    case .linux2_6_27: 0
    case .linux7_0: .max
    }
  }

  /// Whether a driver may set this mask at all; 2.6.27 refuses masks below 24 bits, which leave not
  /// even all of the zone below 16 MiB. 7.0 decides by where memory is, and is taken to accept.
  ///
  /// Source: Linux 2.6.27 `arch/x86/kernel/pci-dma.c`.
  public func supports(mask: UInt64) -> Bool {
    switch version {
    case .linux2_6_27: mask >= 0xff_ffff
    case .linux7_0: mask > 0
    }
  }

  /// Maps one buffer.
  ///
  /// 2.6.27 logs a refusal when the mask has 32 bits or more and is silent about narrower devices.
  ///
  /// - Parameters:
  ///   - buffer: Bytes, half-open, not empty.
  ///   - mask: The highest address the device can put on the bus.
  public func map(_ buffer: Range<PhysicalAddress>, mask: UInt64) -> Outcome {
    precondition(!buffer.isEmpty, "a mapping has at least one byte")
    guard rule.needsHelp(buffer, mask: mask) else { return .mapped(buffer.lowerBound) }
    return .beyondMask(isLogged: version == .linux7_0 || mask >= 0xffff_ffff)
  }

  /// Maps a scatter list, all of it or nothing.
  ///
  /// - Returns: One address for each buffer, or `nil` when any of them is refused.
  public func map(list buffers: [Range<PhysicalAddress>], mask: UInt64) -> [PhysicalAddress]? {
    var addresses: [PhysicalAddress] = []
    for buffer in buffers {
      guard case .mapped(let address) = map(buffer, mask: mask) else { return nil }
      addresses.append(address)
    }
    return addresses
  }
}
