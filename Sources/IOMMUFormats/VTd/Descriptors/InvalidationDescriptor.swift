extension VTd {
  /// What the capability registers say of descriptors: which optional fields exist.
  public struct DescriptorRules: Sendable, Hashable {
    /// ECAP.DIT: device-TLB invalidations name a physical function.
    public var hasInvalidationThrottle: Bool
    /// ECAP.PDS: a wait may drain page requests.
    public var hasPageRequestDrain: Bool

    /// What a unit with these capabilities takes.
    public init(hasInvalidationThrottle: Bool, hasPageRequestDrain: Bool) {
      self.hasInvalidationThrottle = hasInvalidationThrottle
      self.hasPageRequestDrain = hasPageRequestDrain
    }

    /// Every optional field exists: for a unit whose capabilities are not known.
    public static let permissive = DescriptorRules(
      hasInvalidationThrottle: true, hasPageRequestDrain: true)

    static var examples: [DescriptorRules] {
      [
        DescriptorRules(hasInvalidationThrottle: false, hasPageRequestDrain: false), .permissive,
      ]
    }
  }

  /// The type of a descriptor in the invalidation queue: bits 3:0, and above them bits 11:9.
  ///
  /// Specification: Intel VT-d 6.5.2.
  public enum DescriptorType: UInt8, Sendable, CaseIterable {
    /// Drop context entries.
    case contextCache = 1
    /// Drop translations.
    case iotlb
    /// Ask a device to drop translations.
    case deviceTLB
    /// Drop interrupt entries.
    case interruptEntry
    /// Tell when all is done.
    case wait
    /// Drop translations of a PASID.
    case pasidIOTLB
    /// Drop PASID entries.
    case pasidCache
    /// Ask a device to drop translations of a PASID.
    case pasidDeviceTLB
    /// Answer page requests.
    case pageGroupResponse
    /// Drop host permissions.
    case hostPermissions

    /// The type of the descriptor whose first quadword is `low`; `nil` for one that is not known.
    public init?(descriptor low: UInt64) {
      // All types have it at the same place.
      let descriptor = WaitDescriptor(low: low, high: 0)
      self.init(
        rawValue: UInt8(
          descriptor[WaitDescriptor.typeHigh] << 4 | descriptor[WaitDescriptor.typeLow]))
    }

    /// Whether the type is one of scalable mode, in queues of 256-bit descriptors only.
    public var isScalableOnly: Bool { rawValue >= DescriptorType.pasidIOTLB.rawValue }

    /// Every type's layout.
    public var format: any InvalidationDescriptor.Type {
      switch self {
      case .contextCache: ContextCacheDescriptor.self
      case .iotlb: IOTLBDescriptor.self
      case .deviceTLB: DeviceTLBDescriptor.self
      case .interruptEntry: InterruptEntryDescriptor.self
      case .wait: WaitDescriptor.self
      case .pasidIOTLB: PASIDIOTLBDescriptor.self
      case .pasidCache: PASIDCacheDescriptor.self
      case .pasidDeviceTLB: PASIDDeviceTLBDescriptor.self
      case .pageGroupResponse: PageGroupResponseDescriptor.self
      case .hostPermissions: HostPermissionsDescriptor.self
      }
    }
  }
}

/// A descriptor of the invalidation queue.
///
/// All fields lie in its first 128 bits; in a queue of 256-bit descriptors the upper half is
/// reserved. Specification: Intel VT-d 6.5.2.
public protocol InvalidationDescriptor: TableEntry where Variant == VTd.DescriptorRules {
  /// The type that its first quadword states.
  static var type: VTd.DescriptorType { get }
}

extension InvalidationDescriptor {
  @inlinable public static var bitCount: Int { 128 }
  /// Without optional fields, and with all.
  public static var exampleVariants: [VTd.DescriptorRules] { VTd.DescriptorRules.examples }

  static var typeLow: BitField { BitField(0...3, "TYPE") }
  static var typeHigh: BitField { BitField(9...11, "TYPE[6:4]") }

  /// A descriptor of this type, all else zero.
  static var empty: Self { Self(low: UInt64(type.rawValue), high: 0) }
}
