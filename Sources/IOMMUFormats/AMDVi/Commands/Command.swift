extension AMDVi {
  /// What the feature registers say of commands: which optional fields exist.
  public struct CommandRules: Sendable, Hashable {
    /// EFR.GTSup: commands may name guest addresses.
    public var hasGuestTranslation: Bool
    /// EFR.InvIotlbTypeSup: an invalidation of a device's cache has a type.
    public var hasDeviceInvalidationType: Bool

    /// What a unit with these features takes.
    public init(hasGuestTranslation: Bool, hasDeviceInvalidationType: Bool) {
      self.hasGuestTranslation = hasGuestTranslation
      self.hasDeviceInvalidationType = hasDeviceInvalidationType
    }

    /// What a unit with these features takes.
    public init(_ features: ExtendedFeatures) {
      self.init(
        hasGuestTranslation: features.hasGuestTranslation,
        hasDeviceInvalidationType: features.hasDeviceInvalidationType)
    }

    /// Every optional field exists: for a unit whose features are not known.
    public static let permissive = CommandRules(
      hasGuestTranslation: true, hasDeviceInvalidationType: true)

    static var examples: [CommandRules] {
      [CommandRules(hasGuestTranslation: false, hasDeviceInvalidationType: false), .permissive]
    }
  }

  /// What a command is: bits 63:60. Open: a code without a name here is illegal.
  ///
  /// Specification: AMD IOMMU 2.4.
  @frozen
  public struct CommandCode: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt8
    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// COMPLETION_WAIT.
    public static let completionWait = Self(rawValue: 0x1)
    /// INVALIDATE_DEVTAB_ENTRY.
    public static let invalidateDeviceEntry = Self(rawValue: 0x2)
    /// INVALIDATE_IOMMU_PAGES.
    public static let invalidatePages = Self(rawValue: 0x3)
    /// INVALIDATE_IOTLB_PAGES.
    public static let invalidateDeviceTLB = Self(rawValue: 0x4)
    /// INVALIDATE_INTERRUPT_TABLE.
    public static let invalidateInterruptTable = Self(rawValue: 0x5)
    /// PREFETCH_IOMMU_PAGES.
    public static let prefetchPages = Self(rawValue: 0x6)
    /// COMPLETE_PPR_REQUEST.
    public static let completePageRequest = Self(rawValue: 0x7)
    /// INVALIDATE_IOMMU_ALL.
    public static let invalidateAll = Self(rawValue: 0x8)
    /// INSERT_GUEST_EVENT, of units with guests' units; its layout is not known here.
    public static let insertGuestEvent = Self(rawValue: 0x9)
    /// RESET_VMMIO, of units with guests' units; its layout is not known here.
    public static let resetGuestRegisters = Self(rawValue: 0xa)

    /// The code of the command whose first quadword is `low`.
    public init(command low: UInt64) { self.init(rawValue: UInt8(low >> 60)) }

    /// The command's layout; `nil` for one that is not known.
    public var format: (any AMDViCommand.Type)? {
      switch self {
      case .completionWait: CompletionWaitCommand.self
      case .invalidateDeviceEntry: InvalidateDeviceEntryCommand.self
      case .invalidatePages: InvalidatePagesCommand.self
      case .invalidateDeviceTLB: InvalidateDeviceTLBCommand.self
      case .invalidateInterruptTable: InvalidateInterruptTableCommand.self
      case .prefetchPages: PrefetchPagesCommand.self
      case .completePageRequest: CompletePageRequestCommand.self
      case .invalidateAll: InvalidateAllCommand.self
      default: nil
      }
    }
  }

  /// How a command names addresses: one page, or a naturally aligned block whose size is coded in
  /// the address.
  ///
  /// Specification: AMD IOMMU 2.4.3.
  enum CommandAddress {
    /// The bits of an address field, and S, for a block of 2^`sizeLog2` bytes at `address`.
    ///
    /// - Precondition: `sizeLog2` is 12 to 64.
    static func coded(_ address: IOVA, sizeLog2: Int) -> (bits: UInt64, isBlock: Bool) {
      precondition(12...64 ~= sizeLog2, "a block has 4 KiB to everything")
      guard sizeLog2 > 12 else { return (address.rawValue & ~0xfff, false) }
      let half: UInt64 = 1 << UInt64(sizeLog2 - 1)
      let start = sizeLog2 == 64 ? 0 : address.rawValue & ~(half << 1 - 1)
      return ((start | (half - 1)) & ~0xfff, true)
    }

    /// The addresses that an address field names.
    ///
    /// Twice the size that the lowest clear bit from bit 12 on has. Everything where none is clear:
    /// the manual leaves that undefined.
    static func addresses(_ bits: UInt64, isBlock: Bool) -> ClosedRange<IOVA> {
      guard isBlock else { return IOVA(bits)...IOVA(bits | 0xfff) }
      let clear = (~(bits | 0xfff)).trailingZeroBitCount
      guard clear < 63 else { return IOVA(0)...IOVA(.max) }
      let mask: UInt64 = 1 << UInt64(clear + 1) - 1
      return IOVA(bits & ~mask)...IOVA(bits | mask)
    }
  }
}

/// A command of the command buffer: sixteen bytes.
///
/// Specification: AMD IOMMU 2.4.
public protocol AMDViCommand: TableEntry where Variant == AMDVi.CommandRules {
  /// The code that its first quadword states.
  static var code: AMDVi.CommandCode { get }
}

extension AMDViCommand {
  @inlinable public static var bitCount: Int { 128 }
  /// Without optional fields, and with all.
  public static var exampleVariants: [AMDVi.CommandRules] { AMDVi.CommandRules.examples }

  static var opcode: BitField { BitField(60...63, "OpCode") }
  static var blockField: BitField { BitField(64...64, "S") }
  static var guestField: BitField { BitField(66...66, "GN") }
  static var addressField: BitField { BitField(76...127, "Address", .address) }

  /// GN as far as the unit has it.
  static func guest(_ rules: AMDVi.CommandRules) -> BitField {
    rules.hasGuestTranslation ? guestField : .reserved(66...66)
  }

  /// A command of this code, all else zero.
  static var empty: Self { Self(low: UInt64(code.rawValue) << 60, high: 0) }

  mutating func setAddresses(_ address: IOVA, sizeLog2: Int) {
    let (bits, isBlock) = AMDVi.CommandAddress.coded(address, sizeLog2: sizeLog2)
    self[Self.addressField] = bits >> 12
    self[Self.blockField] = isBlock ? 1 : 0
  }

  var addressRange: ClosedRange<IOVA> {
    AMDVi.CommandAddress.addresses(
      addressBits(Self.addressField), isBlock: self[Self.blockField] != 0)
  }
}
